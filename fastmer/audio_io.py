"Any audio file -> mono float32 at one rate, block by block: the only way by which sound enters fastmer"
import re
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from . import decoders
from .decoders import AudioError, cut_off
from .wav import missing_bytes

FRAGMENT = re.compile(r'^(?P<path>.+)#t=(?P<start>\d{1,9}\.?\d*|\.\d+),(?P<end>\d{1,9}\.?\d*|\.\d+)$')  # seconds, https://www.w3.org/TR/media-frags/
SUFFIXES = ('.wav', '.wave', '.flac', '.ogg', '.oga', '.opus', '.spx', '.mp3', '.mp2', '.m4a', '.mp4', '.mov', '.3gp', '.aac', '.aif',
            '.aiff', '.aifc', '.au', '.snd', '.caf', '.w64', '.rf64', '.webm', '.mka', '.mkv', '.wma', '.amr', '.awb', '.ac3', '.wv',
            '.tta', '.sph', '.voc')
LONGEST = 24*3600                # seconds that are decoded at once: 5.5 GB at 16 kHz
LOUDEST = 2.**32                 # samples beyond are no sound, nor are NaN and infinity: they become 0
CANCELS = 0.1                    # upside-down channels: their average holds less than this share of what unrelated ones leave


def split_fragment(audio):
    "`'a.wav#t=1.5,2.25'` -> `('a.wav', 1.5, 2.25)`; without a fragment start is 0 and end `None`"
    hit = FRAGMENT.match(str(audio))
    return (hit['path'], float(hit['start']), float(hit['end'])) if hit else (str(audio), 0., None)


def audio_path(audio, root=None):
    "The file that a manifest's `audio` entry names, its fragment taken off"
    return Path(root or '.')/Path(split_fragment(audio)[0]).expanduser()


def load_audio(audio, rate=16000, root=None):
    """Decode `audio` (a path, with an optional `#t=start,end` in seconds) to mono `float32` of shape `(samples,)` at `rate` Hz.

    What the file is called does not matter. Channels are averaged; where they cancel each other, one being the other upside down, the
    louder is taken. Rates are converted by soxr (HQ), samples that are no numbers set to 0; offset, level and clipping stay as they are
    (`fastmer.check.inspect_audio` tells of all this, `load_audio` is quiet). A file that holds less than its header promises was cut off
    and is refused; where an encoder could not know the length (0 or all ones in the header), it is read to the end. Takes memory for
    the result and little more. Raises `AudioError` where the file is not there, is no audio, is cut off, changes while it is read,
    or holds no sample.
    """
    return hear(audio, rate, root)[0]


def hear(audio, rate=16000, root=None, mix=None):
    "What `load_audio` gives, and the `Mix` that made it: that of `mix(sound)`, which may remember more than `Mix` does"
    wave, heard = _mono(audio, rate, root, mix or Mix)
    if heard.cancels:
        del wave
        wave, _ = _mono(audio, rate, root, lambda sound: Mix(sound, heard.loudest))
    if not len(wave): raise AudioError(f'{audio_path(audio, root)} holds no sample' + _between(audio))
    return wave, heard


def resample(wave, source, target):
    "`wave` (samples,) from `source` to `target` Hz by soxr, high quality"
    if source == target: return np.ascontiguousarray(wave, dtype=np.float32)
    import soxr
    return soxr.resample(wave, source, target, quality='HQ').astype(np.float32)


def _between(audio):
    _, start, end = split_fragment(audio)
    return f' between {start} and {end} s' if end is not None else ''


def _mono(audio, rate, root, mix):
    "The sound at `rate`, of one channel or of their average, and what `mix(sound)` gave, which made it"
    parts = decode(audio, root)
    sound = next(parts)
    heard = mix(sound)
    blocks = _resampled(map(heard, parts), sound.rate, rate)
    first, rest = next(blocks, np.zeros(0, np.float32)), bytearray()
    for block in blocks:
        if not rest: rest += first.data
        rest += block.data
    return np.frombuffer(rest, np.float32) if rest else first, heard


def _resampled(blocks, source, target):
    if source == target:
        yield from (np.ascontiguousarray(block, dtype=np.float32) for block in blocks)
        return
    import soxr
    stream = soxr.ResampleStream(source, target, 1, dtype='float32', quality='HQ')  # gives what resample gives, to the bit
    waiting = None
    for block in blocks:
        if waiting is not None: yield stream.resample_chunk(waiting)
        waiting = block
    if waiting is not None: yield stream.resample_chunk(waiting, last=True)


def numbers(block):
    "`block` with 0 for samples that are no numbers, or none that a sound can have"
    if np.abs(block).max(initial=0.) <= LOUDEST: return block
    return np.where(np.abs(block) <= LOUDEST, block, np.float32(0))


class Mix:
    "Blocks `(frames, channels)` of a `Sound` -> `(frames,)`: their average, or one channel; remembers whether they cancel each other in it"
    def __init__(self, sound, channel=None):
        self.source, self.channel, self.n = sound, channel, 0
        self.sum, self.square = np.zeros((2, sound.channels + 1))

    def __call__(self, block): return self.mono(numbers(block))

    def mono(self, block):
        if block.shape[1] == 1 or self.channel is not None: return np.ascontiguousarray(block[:, self.channel or 0])
        mono = block.mean(axis=1)
        self.n += len(block)
        self.sum += [*block.sum(axis=0, dtype=np.float64), mono.sum(dtype=np.float64)]
        self.square += [*np.einsum('ij,ij->j', block, block, dtype=np.float64), np.einsum('i,i->', mono, mono, dtype=np.float64)]
        return mono

    @property
    def power(self):
        "Of each channel and of the average, without its offset"
        return np.maximum(self.square/max(1, self.n) - (self.sum/max(1, self.n))**2, 0)
    @property
    def cancels(self):
        *each, average = self.power
        return sum(each) > 1e-10 and average*len(each)**2 < CANCELS*sum(each)
    @property
    def loudest(self): return int(np.argmax(self.power[:-1] >= 0.99*self.power[:-1].max()))  # the first of equals


@contextmanager
def audio_file(audio, root=None):
    "The path of a file that is there and holds something; `AudioError` where it is not so, or another when done"
    try:
        path = audio_path(audio, root)
        if not path.is_file(): raise AudioError(f'{path} is not there' if not path.exists() else f'{path} is not a file')
        before = path.stat()
    except (OSError, RuntimeError, ValueError) as e:
        raise AudioError(f'{audio} cannot be read ({getattr(e, "strerror", None) or e})') from None
    if before.st_size == 0: raise AudioError(f'{path} is empty')
    try: yield path
    except AudioError:
        _unchanged(path, before)
        raise
    except OSError as e:
        _unchanged(path, before)
        raise AudioError(f'{path} cannot be read ({e.strerror or e})') from None
    _unchanged(path, before)


def _unchanged(path, before):
    of = lambda s: (s.st_ino, s.st_size, s.st_mtime_ns)
    try: same = of(path.stat()) == of(before)
    except OSError: same = False
    if not same: raise AudioError(f'{path} changed while it was read: try again when it is complete') from None


def decode(audio, root=None):
    """A generator: first the `Sound` that `audio` is, then its blocks, `float32 (frames, channels)` at its own rate

    Each as the decoder has it, with samples that are no numbers. Raises `AudioError` for the reasons that `load_audio` names.
    """
    _, start, end = split_fragment(audio)
    with audio_file(audio, root) as path:
        if (lost := missing_bytes(path)) > 8: raise cut_off(path, f'{lost} bytes')
        parts, spent = decoders.opened(path, start, end), 0.
        sound, seconds = next(parts), 0.
        allowed = decoders.PATIENCE + path.stat().st_size/decoders.BYTES_A_SECOND
        yield sound
        while True:
            began = time.monotonic()
            if (block := next(parts, None)) is None: break
            spent, seconds = spent + time.monotonic() - began, seconds + len(block)/sound.rate
            if spent > allowed: raise AudioError(f'{path} took over {allowed:.0f} s to decode: convert it to WAV or FLAC first')
            if seconds > LONGEST: raise AudioError(f'{path} lasts over {LONGEST//3600} hours: name a part, as in file.wav#t=0,3600')
            yield block
        if not seconds: raise AudioError(f'{path} holds no sample' + _between(audio))
