"""The decoders behind `load_audio`: libsndfile decodes what it knows, PyAV (where it is installed) or the ffmpeg program the rest

Each is a generator of a path and the stretch of it in seconds: first a `Sound`, then blocks `float32 (frames, channels)`.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .errors import FastmerError
from .wav import is_mp3, mp3_tag, ogg_pages, read_wav

BLOCK = 1 << 21                  # samples, all channels together, that are decoded at a time
RATES = 1000, 1_000_000          # Hz; a header that says something else is broken
PATIENCE, BYTES_A_SECOND = 60, 200_000  # a decoder has so many seconds, and one more for every so many bytes
DEMUXERS = ('aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,g722,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,'
            'mpc8,mpeg,mpegts,nut,oga,ogg,oma,qcp,rm,sln,sox,spdif,tak,tta,voc,w64,wav,wsd,wv,xwma')  # no playlists: they name other files
DAMAGE = re.compile(r'error while decoding|invalid data|partial file|ended prematurely|truncat|corrupt|end of file', re.IGNORECASE)
HELP = 'libsndfile does not know it: to decode AAC, WebM, AMR and others, pip install "fastmer[av]" or put ffmpeg on the PATH'


class AudioError(FastmerError):
    "A file that cannot be decoded, or holds nothing to decode"


class Unknown(Exception):
    "What one decoder cannot open; another may"


class Sound(NamedTuple):
    "What a decoder says of a file before it decodes it"
    decoder: str
    format: str
    encoding: str
    rate: int
    channels: int
    frames: int | None  # as the header has them; `None` where it does not know


def opened(path, start, end):
    "`Sound` and blocks from the first decoder that can open `path`"
    why = {}
    for name, decoder in DECODERS.items():
        parts = decoder(path, start, end)
        try: sound = next(parts)
        except Unknown as e:
            if str(e): why[name] = ' '.join(str(e).rstrip('. ').split()).replace(f'file:{path}', 'the file')
            continue
        if not RATES[0] <= sound.rate <= RATES[1] or sound.channels < 1:
            raise AudioError(f'{path} cannot be decoded as audio (its header says {sound.rate} Hz and {sound.channels} channels)')
        yield sound
        yield from parts
        return
    reasons = '; '.join(f'{name}: {reason}' for name, reason in why.items())
    raise AudioError(f'{path} cannot be decoded as audio ({reasons})' + ('' if len(why) > 1 else f'; {HELP}'))


def cut_off(path, what):
    return AudioError(f'{path} is cut off: {what} of sound that its header promises are not there; copy the file again')


def broken(path, e):
    return AudioError(f'{path} cannot be decoded as audio ({" ".join(str(e).split()).rstrip(".")}): it is damaged or cut off')


@lru_cache
def _reader():
    import soundfile as sf

    class Reader(sf.SoundFile):
        "Reads on, where `SoundFile` seeks after every block"
        def seekable(self): return False
    return Reader


def _sndfile(source, stack, **how):
    "A libsndfile reader of an open file, a file descriptor or a `Part`"
    import soundfile as sf
    if hasattr(source, 'fileno') and os.name == 'posix': source = source.fileno()  # by its name, libsndfile would guess formats from it
    try: return stack.enter_context(_reader()(source, closefd=False, **how))
    except sf.LibsndfileError as e: raise Unknown(_words(e)) from None
    except (RuntimeError, TypeError, ValueError, AssertionError, OverflowError) as e: raise Unknown(e) from None


def _words(e): return getattr(e, 'error_string', None) or str(e)


class Part:
    "A file from the byte `start` on, as far as libsndfile needs one"
    def __init__(self, f, start):
        self.f, self.start = f, start
        f.seek(start)

    def tell(self): return self.f.tell() - self.start
    def seek(self, n, whence=os.SEEK_SET): return self.f.seek(n + self.start*(whence == os.SEEK_SET), whence) - self.start
    def read(self, n): return self.f.read(n)
    def readinto(self, buffer): return self.f.readinto(buffer)


def _open_sndfile(f, header, stack):
    "A reader of the file open as `f`, how many frames it shall hold (`None`: nobody knows), and how many of them may lack"
    tag = mp3_tag(header) if is_mp3(header) else None
    if tag and not tag.tells and os.name == 'posix': return _sndfile(_piped(f.name, tag, stack), stack), None, 0
    opened, why = None, None
    try: opened = _sndfile(Part(header, tag.begin) if tag and tag.begin else f, stack)  # libmpg123 prints warnings of large ID3 tags
    except Unknown as e: why = e
    if (opened is None or not opened.frames) and (wav := read_wav(header)) and wav.subtype and wav.size:
        how = dict(subtype=wav.subtype, endian={'<': 'LITTLE', '>': 'BIG'}[wav.order], samplerate=wav.rate, channels=wav.channels)
        return _sndfile(Part(header, wav.start), stack, format='RAW', **how), wav.frames, 0
    if why: raise why
    if opened.format == 'OGG' and ogg_pages(header)[1]: raise Unknown('several streams follow upon one another')
    if opened.subtype == 'GSM610' and (wav := read_wav(header)): return opened, wav.size//65*320, float('inf')  # makes noise of a pad byte
    counted = dict(FLAC=0, OGG=0, MP3=2*1152)  # the others' bytes were counted
    return opened, opened.frames if opened.frames < 1 << 60 else None, counted.get(opened.format, float('inf'))


def _piped(path, tag, stack):
    "The reading end of a pipe through which an MP3 comes without its tag: libsndfile then cannot guess the length, often wrongly"
    out, into = os.pipe()

    def feed():
        try:
            with open(into, 'wb') as pipe, open(path, 'rb') as source:
                source.seek(tag.begin)
                block = source.read(4096)
                if tag.at is not None: block = block[:tag.at - tag.begin] + bytes(4) + block[tag.at - tag.begin + 4:]
                while block:
                    pipe.write(block)
                    block = source.read(1 << 16)
        except OSError: pass  # nobody listens any more
    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(os.close, out)
    return out


def _skip(opened, n):
    "Go to frame `n`, by reading where that cannot be done otherwise"
    if n == 0: return
    import soundfile as sf
    try: opened.seek(n)
    except (sf.LibsndfileError, RuntimeError):
        while n > 0 and (got := len(opened.read(min(n, 1 << 16), dtype='float32', always_2d=True))): n -= got


def _by_libsndfile(path, start, end):
    import soundfile as sf
    with open(path, 'rb', buffering=0) as f, open(path, 'rb') as header, ExitStack() as stack:  # libsndfile minds where its own stands
        opened, frames, slack = _open_sndfile(f, header, stack)
        sr, channels = opened.samplerate, opened.channels
        yield Sound('libsndfile', opened.format.replace('RAW', 'WAV'), opened.subtype, sr, channels, frames)
        there = float('inf') if frames is None else frames
        at, last = min(round(start*sr), there), there if end is None else min(round(end*sr), there)
        try:
            _skip(opened, at)
            while at < last and len(block := opened.read(int(min(BLOCK//channels + 1, last - at)), dtype='float32', always_2d=True)):
                at += len(block)
                yield block
        except (sf.LibsndfileError, RuntimeError, ValueError) as e: raise broken(path, _words(e)) from None
        if slack < last - at < float('inf') and frames is not None: raise cut_off(path, f'{last - at} samples')


def _by_av(path, start, end):
    try:
        import av
    except (ImportError, OSError): raise Unknown('') from None
    with ExitStack() as stack:
        options = dict(protocol_whitelist='file', format_whitelist=DEMUXERS)
        try:
            box = stack.enter_context(av.open(f'file:{path}', options=options, metadata_errors='ignore', timeout=PATIENCE))
            if not box.streams.audio: raise Unknown('it has no sound in it')
            stream = box.streams.audio[0]
            if stream.codec_context is None: raise Unknown('there is no decoder for what is in it')
            sr, layout = stream.rate, stream.layout
            zero = float((stream.start_time or 0)*stream.time_base)
            if start > 1: box.seek(int((zero + start - 1)/stream.time_base), stream=stream)
        except (av.FFmpegError, OSError, ValueError) as e: raise Unknown(getattr(e, 'strerror', None) or e) from None
        if not sr or not layout.nb_channels: raise Unknown('it does not say its rate or its channels')
        yield Sound('PyAV', box.format.name, stream.codec_context.name, sr, layout.nb_channels, None)
        pieces = _av_pieces(box, stream, av.AudioResampler(format='flt', layout=layout, rate=sr), zero)
        try: yield from _batched(_stretch(pieces, start, end, sr), BLOCK//layout.nb_channels)
        except (av.FFmpegError, OSError, ValueError) as e: raise broken(path, getattr(e, 'strerror', None) or e) from None


def _av_pieces(box, stream, resampler, zero):
    "`(second or None, samples)` of every frame that PyAV decodes"
    for frame in box.decode(stream):
        second = None if frame.time is None else frame.time - zero
        for part in resampler.resample(frame): yield second, part.to_ndarray().reshape(-1, stream.layout.nb_channels)
    for part in resampler.resample(None): yield None, part.to_ndarray().reshape(-1, stream.layout.nb_channels)


def _stretch(pieces, start, end, sr):
    "What lies between `start` and `end` seconds of `(second, samples)`, the first of which says where it stands"
    at, first, last = None, round(start*sr), float('inf') if end is None else round(end*sr)
    for second, x in pieces:
        if at is None: at = round((second or 0)*sr) if start > 1 else 0
        if at >= last: return
        x, at = x[max(0, first - at):max(0, min(last - at, len(x)))], at + len(x)
        if len(x): yield x


def _batched(pieces, n):
    "Pieces put together to blocks of about `n` frames"
    held, frames = [], 0
    for x in pieces:
        held, frames = [*held, x] if frames else [x], frames + len(x)
        if frames >= n:
            yield np.concatenate(held)
            held, frames = [], 0
    if held: yield np.concatenate(held)


def _run(command):
    try: return subprocess.run(command, capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired: raise Unknown(f'it did not understand the file within {PATIENCE} s') from None


def _by_ffmpeg(path, start, end):
    ffmpeg, ffprobe = shutil.which('ffmpeg'), shutil.which('ffprobe')
    if not ffmpeg or not ffprobe: raise Unknown('')
    careful, source = ['-v', 'error', '-protocol_whitelist', 'file', '-format_whitelist', DEMUXERS], f'file:{path}'
    probed = _run([ffprobe, *careful, '-select_streams', 'a:0', '-show_streams', '-show_format', '-of', 'json', source])
    about = json.loads(probed.stdout.decode(errors='replace') or '{}') if probed.returncode == 0 else {}
    if not about.get('streams'): raise Unknown(_last_line(probed.stderr) or 'it has no sound in it')
    stream, form = about['streams'][0], about.get('format', {}).get('format_name', '')
    sr, channels = int(stream.get('sample_rate') or 0), int(stream.get('channels') or 0)
    if not sr or not channels: raise Unknown('it does not say its rate or its channels')
    yield Sound('ffmpeg', form, stream.get('codec_name', ''), sr, channels, None)
    part = [*(['-ss', f'{start:.6f}'] if start else []), *(['-t', f'{max(0., end - start):.6f}'] if end is not None else [])]
    command = [ffmpeg, '-nostdin', *careful, *part, '-i', source, '-map', '0:a:0', '-f', 'f32le', '-ar', str(sr), '-ac', str(channels), '-']
    allowed = 2*PATIENCE + path.stat().st_size/BYTES_A_SECOND
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL) as p:
        timer = threading.Timer(allowed, p.kill)
        timer.start()
        try:
            n = max(1, BLOCK//channels)*channels*4
            while got := p.stdout.read(n): yield np.frombuffer(got[:len(got)//(channels*4)*channels*4], np.float32).reshape(-1, channels)
            code = p.wait()
        finally:
            timer.cancel()
            p.kill()
        log.seek(0)
        said = log.read(1 << 20).decode(errors='replace')
        if code or DAMAGE.search(said): raise broken(path, _last_line(said.encode()) or f'ffmpeg ended with {code}')


def _last_line(text): return next((line for line in reversed(text.decode(errors='replace').splitlines()) if line.strip()), '')


DECODERS = {'libsndfile': _by_libsndfile, 'PyAV': _by_av, 'ffmpeg': _by_ffmpeg}  # in the order in which they are asked
