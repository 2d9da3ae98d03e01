"""What the headers of sound files promise, read by ourselves

Decoders take a copy that was cut off for a short recording, and libsndfile gives up on WAVE files whose chunks are out of order.
"""
import os
import re
import struct
from typing import NamedTuple

CHUNKS, PAGES = 10_000, 2_000_000  # no more of them are walked through, whatever a broken header says
RAW = {(1, 8): 'PCM_U8', (1, 16): 'PCM_16', (1, 24): 'PCM_24', (1, 32): 'PCM_32', (3, 32): 'FLOAT', (3, 64): 'DOUBLE', (6, 8): 'ALAW',
       (7, 8): 'ULAW'}  # (format tag, bits): what libsndfile calls it
WIDTH = {name: bits//8 for (_, bits), name in RAW.items()}
EXTENSIBLE = 0xFFFE
XING = re.compile(rb'(?:Xing|Info)\0\0\0([\0-\x0f])', re.DOTALL)  # and which fields follow
MP3 = (b'ID', b'\xff\xfa', b'\xff\xfb', b'\xff\xf2', b'\xff\xf3', b'\xff\xe2', b'\xff\xe3')  # an ID3 tag, or a frame of layer III


class Wav(NamedTuple):
    "Where a WAVE file's sound lies and how it is coded"
    rate: int
    channels: int
    subtype: str | None   # as libsndfile calls it; `None`: nothing that lies there sample by sample
    order: str            # `<` or `>`
    start: int            # of the sound, bytes from the start of the file
    promised: int | None  # bytes, as the header has it; `None`: it was written by an encoder that could not know
    size: int             # bytes of it that are there
    stray: int            # bytes behind it that are no chunk

    @property
    def frames(self): return self.size//(self.channels*WIDTH[self.subtype])


def unknown(n):
    "Whether a length of `n` is what encoders write that cannot go back: 0, all ones, the largest signed number, or a little less"
    return n == 0 or n >= 0xFFFFFF00 or 0x7FFFF000 <= n <= 0x80000000


def _is_name(name): return len(name) == 4 and all(32 <= c < 127 for c in name)


def _after(f, end, n):
    "Where the chunk behind one of `n` bytes that ends at `end` begins: odd ones have a pad byte, unless their writer forgot it"
    if n % 2 == 0: return end
    f.seek(end)
    return end + (0 if _is_name(f.read(4)) else 1)


def _chunks(f, order, at, size):
    "`(name, n, start)` of the chunks from `at` on; at what is no chunk, the next `fmt ` or `data` is looked for"
    for _ in range(CHUNKS):
        f.seek(at)
        head = f.read(8)
        if len(head) < 8: return
        name, n = struct.unpack(f'{order}4sI', head)
        if not _is_name(name) or (name not in (b'data', b'fmt ', b'SSND') and at + 8 + n > size):
            f.seek(at)
            hit = re.search(rb'fmt |data', f.read(1 << 16))
            if not hit: return
            at += hit.start() or 1
            continue
        yield name, n, at + 8
        at = _after(f, at + 8 + n, n)


def _well_formed(f, order, at, size):
    "Whether nothing but whole chunks lies from `at` to the end of the file, or nothing at all"
    for _ in range(CHUNKS):
        f.seek(at)
        head = f.read(8)
        if len(head) < 8: return not head.strip(b'\0')
        name, n = struct.unpack(f'{order}4sI', head)
        if not _is_name(name) or at + 8 + n > size: return False
        at = _after(f, at + 8 + n, n)
    return False


def read_wav(f):
    "The `Wav` of the WAVE file open as `f`, or `None` where it is none or lacks its `fmt ` or `data` chunk"
    size = os.fstat(f.fileno()).st_size
    f.seek(0)
    begin = re.search(rb'(RIFF|RIFX|RF64|BW64)....WAVE', f.read(4096), re.DOTALL)
    if not begin: return None
    order, fmt, long, data = '>' if begin[1] == b'RIFX' else '<', None, None, None
    for name, n, at in _chunks(f, order, begin.start() + 12, size):
        f.seek(at)
        if name == b'fmt ' and not fmt: fmt = f.read(min(n, 40))
        elif name == b'ds64' and n >= 16: long = struct.unpack('<QQ', f.read(16))[1]
        elif name == b'data' and not data: data = n, at
        if data and (fmt or unknown(data[0])): break
    if not data or not fmt or len(fmt) < 16: return None
    (promised, start), (tag, channels, rate, _, block, bits) = data, struct.unpack(f'{order}HHIIHH', fmt[:16])
    if promised == 0xFFFFFFFF and long: promised = long
    elif unknown(promised): promised = 0 if promised == 0 and _well_formed(f, order, start, size) else None
    if tag == EXTENSIBLE and len(fmt) >= 26: tag, = struct.unpack(f'{order}H', fmt[24:26])
    there = max(0, size - start)
    there = there if promised is None else min(promised, there)
    end = start + there
    stray = size - end if promised is not None and not _well_formed(f, order, _after(f, end, there), size) else 0
    subtype = RAW.get((tag, bits)) if channels and block in (0, channels*bits//8) else None
    return Wav(rate, channels, subtype, order, start, promised, there, stray)


def _wav_end(f, size):
    wav = read_wav(f)
    return wav and wav.promised and wav.start + wav.promised


def _aiff_end(f, size):
    return next((at + n for name, n, at in _chunks(f, '>', 12, size) if name == b'SSND' and not unknown(n)), None)


def _au_end(order):
    def end(f, size):
        f.seek(4)
        at, n = struct.unpack(f'{order}II', f.read(8))
        return None if unknown(n) else at + n
    return end


def _caf_end(f, size):
    at = 8
    for _ in range(CHUNKS):
        f.seek(at)
        name, n = struct.unpack('>4sq', f.read(12))
        if name == b'data' or n < 0: return at + 12 + n if n > 0 else None
        at += 12 + n
    return None


def _w64_end(f, size):
    at = 40
    for _ in range(CHUNKS):
        f.seek(at)
        name, n = struct.unpack('<4s12xQ', f.read(24))
        if name == b'data' or n < 24: return at + n if 24 < n < 1 << 62 else None
        at += n + -n % 8
    return None


def _mp4_end(f, size):
    at = 0
    for _ in range(CHUNKS):
        f.seek(at)
        if len(head := f.read(8)) < 8: return at + 8 if head else at
        n, name = struct.unpack('>I4s', head)
        if not _is_name(name): return None
        if n == 1: n, = struct.unpack('>Q', f.read(8))
        if n < 8: return None
        at += n
    return None


def _vint(f):
    "A number of Matroska's, or `None` for the one that means: unknown"
    first = f.read(1)[0]
    more = 8 - first.bit_length()
    value = int.from_bytes(bytes([first & (0x7F >> more)]) + f.read(more), 'big')
    return None if value == (1 << 7*(more + 1)) - 1 else value


def _matroska_end(f, size):
    f.seek(4)
    f.seek(_vint(f), 1)
    if f.read(4) != b'\x18\x53\x80\x67': return None
    n = _vint(f)
    return None if n is None else f.tell() + n


def ogg_pages(f):
    "Where the last page of an Ogg file ends by its own account, and whether one stream follows upon another in it (a chained file)"
    at, begun, chained = 0, False, False
    for _ in range(PAGES):
        f.seek(at)
        head = f.read(27)
        if len(head) < 27: return at + 27 if b'OggS'.startswith(head[:4]) and head else at, chained
        if head[:4] != b'OggS': return None, chained
        if head[5] & 2: chained |= begun  # the first page of a stream behind one that is none
        else: begun = True
        table = f.read(head[26])
        at += 27 + head[26] + sum(table)
        if len(table) < head[26]: return at, chained
    return None, chained


class Tag(NamedTuple):
    "What the Xing or Info tag of an MP3 file says"
    begin: int        # of the sound: behind the ID3 tag
    at: int | None    # where the tag stands, `None` without one
    end: int | None   # where it says that the sound ends
    tells: bool       # whether it gives the number of frames, and those of the whole file


def mp3_tag(f):
    "The `Tag` of an MP3 file"
    f.seek(0)
    head = f.read(10)
    at = 0
    if head[:3] == b'ID3' and len(head) == 10: at = 10 + sum((b & 127) << 7*(3 - i) for i, b in enumerate(head[6:])) + 10*(head[5] >> 4 & 1)
    f.seek(at)
    first = f.read(2048)
    sync = re.search(rb'\xff[\xe2-\xff]', first)
    begin = at + (sync.start() if sync else 0)
    hit = XING.search(first, sync.start(), sync.start() + 200) if sync else None
    if not hit: return Tag(begin, None, None, False)
    flags, field = hit[1][0], hit.end() + 4*(hit[1][0] & 1)
    if not flags & 2 or len(first) < field + 4: return Tag(begin, at + hit.start(), None, bool(flags & 1))
    end = begin + int.from_bytes(first[field:field + 4], 'big')
    f.seek(end)
    return Tag(begin, at + hit.start(), end, bool(flags & 1) and not re.match(rb'ID3|\xff[\xe2-\xff]', f.read(4)))


def is_mp3(f):
    "Whether the file begins as MP3 files do"
    f.seek(0)
    return f.read(2) in MP3


def _mp3_end(f, size): return mp3_tag(f).end


ENDS = [  # a file that has these bytes at that place, and where its header says that the sound (or the file) ends
    *((0, magic, _wav_end) for magic in (b'RIFF', b'RIFX', b'RF64', b'BW64')), (0, b'FORM', _aiff_end), (0, b'.snd', _au_end('>')),
    (0, b'dns.', _au_end('<')), (0, b'caff', _caf_end), (0, b'riff\x2e\x91', _w64_end), (4, b'ftyp', _mp4_end),
    (0, b'\x1a\x45\xdf\xa3', _matroska_end), (0, b'OggS', lambda f, size: ogg_pages(f)[0]),
    *((0, magic, _mp3_end) for magic in MP3)]


def missing_bytes(path):
    "How many bytes a file lacks of what its header promises (a copy that was cut off); 0 where the header does not say"
    with open(path, 'rb') as f:
        head, size = f.read(16), os.fstat(f.fileno()).st_size
        end = next((end for at, magic, end in ENDS if head[at:at + len(magic)] == magic), None)
        try: return max(0, (end(f, size) or 0) - size) if end else 0
        except (struct.error, IndexError, OverflowError, TypeError, ValueError): return 0  # a broken header: the decoder will say so
