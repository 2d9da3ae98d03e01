"Any audio file -> mono float32 at one rate: the only way by which sound enters fastmer"
import re
import struct
from pathlib import Path

import numpy as np

from .errors import FastmerError

FRAGMENT = re.compile(r'^(?P<path>.+)#t=(?P<start>\d+\.?\d*|\.\d+),(?P<end>\d+\.?\d*|\.\d+)$')  # seconds, https://www.w3.org/TR/media-frags/
SUFFIXES = ('.wav', '.flac', '.ogg', '.oga', '.opus', '.mp3', '.aif', '.aiff', '.au', '.caf', '.w64', '.rf64')
STREAMED = 0x7FFFF000  # data sizes from here on, and 0, are what encoders write that could not know the length


class AudioError(FastmerError):
    "A file that cannot be decoded, or holds nothing to decode"


def split_fragment(audio):
    "`'a.wav#t=1.5,2.25'` -> `('a.wav', 1.5, 2.25)`; without a fragment start is 0 and end `None`"
    hit = FRAGMENT.match(str(audio))
    return (hit['path'], float(hit['start']), float(hit['end'])) if hit else (str(audio), 0., None)


def audio_path(audio, root=None):
    "The file that a manifest's `audio` entry names, its fragment taken off"
    return Path(root or '.')/Path(split_fragment(audio)[0]).expanduser()


def missing_bytes(path):
    "How many bytes a RIFF WAVE file's `data` chunk lacks of what its header promises (a copy that was cut off); 0 for other files"
    with open(path, 'rb') as f:
        if f.read(4) != b'RIFF' or f.seek(8) != 8 or f.read(4) != b'WAVE': return 0
        size = path.stat().st_size
        while len(head := f.read(8)) == 8:
            name, n = struct.unpack('<4sI', head)
            if name == b'data': return max(0, n - (size - f.tell())) if 0 < n < STREAMED else 0
            f.seek(n + n % 2, 1)
    return 0


def load_audio(audio, rate=16000, root=None):
    """Decode `audio` (a path, with an optional `#t=start,end` in seconds) to mono `float32` of shape `(samples,)` at `rate` Hz.

    Channels are averaged, rates converted by soxr (HQ), samples that are no numbers set to 0. Raises `AudioError` where the file is
    not there, is no audio, is cut off or holds no sample.
    """
    import soundfile as sf
    _, start, end = split_fragment(audio)
    path = audio_path(audio, root)
    if not path.is_file(): raise AudioError(f'{path} is not there' if not path.exists() else f'{path} is not a file')
    if path.stat().st_size == 0: raise AudioError(f'{path} is empty')
    try:
        with sf.SoundFile(path) as f:
            sr, promised = f.samplerate, f.frames
            first, last = round(start*sr), promised if end is None else min(round(end*sr), promised)
            if first: f.seek(min(first, promised))
            wave = f.read(max(0, last - first), dtype='float32', always_2d=True)
    except (sf.LibsndfileError, RuntimeError, OSError) as e:
        raise AudioError(f'{path} cannot be decoded as audio ({str(e).rstrip(".")})') from None
    lost = missing_bytes(path)
    if lost > 8 or len(wave) < last - first:
        raise AudioError(f'{path} is cut off: {f"{lost} bytes" if lost > 8 else f"{last - first - len(wave)} samples"} of sound that its '
                         'header promises are not there; copy the file again')
    if not len(wave): raise AudioError(f'{path} holds no sample' + (f' between {start} and {end} s' if end is not None else ''))
    return resample(np.nan_to_num(wave.mean(axis=1), nan=0., posinf=0., neginf=0.), sr, rate)


def resample(wave, source, target):
    "`wave` (samples,) from `source` to `target` Hz by soxr, high quality"
    if source == target: return np.ascontiguousarray(wave, dtype=np.float32)
    import soxr
    return soxr.resample(wave, source, target, quality='HQ').astype(np.float32)
