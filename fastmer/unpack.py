"Archives, unpacked safely: nothing leaves the folder, nothing fills the disk, nothing half done is taken for whole"
import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from .errors import FastmerError

CHUNK = 1 << 18
MOST_FILES = 1_000_000


class Limit:
    "Counts what is unpacked and stops where it gets out of hand"
    def __init__(self, archive, most): self.archive, self.most, self.size, self.n = archive, most, 0, 0

    def add(self, n):
        self.size += n
        if self.size > self.most: raise FastmerError(f'{self.archive} unpacks to more than {self.most:,} bytes: it is not unpacked')

    def one(self):
        self.n += 1
        if self.n > MOST_FILES: raise FastmerError(f'{self.archive} holds more than {MOST_FILES:,} files: it is not unpacked')


class Header(tarfile.TarInfo):
    "A tar header that refuses names of megabytes, which `tarfile` would read into memory"
    @classmethod
    def frombuf(cls, *args):
        new = super().frombuf(*args)
        special = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        if new.type in special and new.size > 1 << 20: raise tarfile.ReadError('a header of more than a megabyte')
        return new


BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, UnicodeError,
          ValueError, gzip.BadGzipFile)
OPENERS = {b'\x1f\x8b': gzip.open, b'BZh': bz2.open, b'\xfd7zXZ\0': lzma.open}


def unpack(archive, folder, most_bytes=None, say=print):
    """Unpack a zip or a tar (plain, gz, bz2, xz) into `folder`, all of it or nothing; a folder that holds something is left as it is.

    Refused: names that leave the folder, links that do, devices, passwords, more than `most_bytes` (else 20 times the archive, a GiB at
    least). Links that stay inside become copies; rights and times are not kept. Raises `FastmerError`.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        say(f'{folder} is there already')
        return folder
    if not archive.is_file(): raise FastmerError(f'{archive} is not there')
    limit = Limit(archive, max(1 << 30, 20*archive.stat().st_size) if most_bytes is None else most_bytes)
    with open(archive, 'rb') as f: magic = f.read(6)
    tmp = folder.with_name(f'.{os.getpid()}-{folder.name[-150:]}.tmp')
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(parents=True)
    try:
        if magic[:4] in (b'PK\3\4', b'PK\5\6'): unzip(archive, tmp, limit)
        else: untar(archive, tmp, limit, next((opener for start, opener in OPENERS.items() if magic.startswith(start)), open))
        os.replace(tmp, folder)
    except BROKEN as e: raise FastmerError(f'{archive} is broken or no zip or tar ({e}): fetch it again') from e
    except OSError as e: raise FastmerError(f'{archive} cannot be unpacked into {folder} ({e})') from e
    finally: shutil.rmtree(tmp, ignore_errors=True)
    say(f'{folder}: {limit.n:,} files, {limit.size:,} bytes')
    return folder


def safe(archive, name, base=''):
    "The parts of a name in an archive, seen from its folder `base`; refuses one that leads out of the archive"
    name = str(name)
    fault = next((why for why, hit in {
        'holds NUL or a backslash': '\0' in name or '\\' in name, 'is absolute': name.startswith('/'),
        'names a drive': re.match('[A-Za-z]:', name)}.items() if hit), '')
    parts = list(PurePosixPath(base).parts)
    for o in PurePosixPath(name).parts if not fault else ():
        if o != '..': parts.append(o)
        elif base and parts: parts.pop()
        else: fault = 'leads out of the folder'
        if fault: break
    if fault: raise FastmerError(f'{archive} holds the name {name[:100]!r}, which {fault}: it is not unpacked')
    return parts


def place(archive, tmp, name, limit):
    "Where the file called `name` goes; its folder is made"
    parts = safe(archive, name)
    if not parts: raise FastmerError(f'{archive} holds a file without a name: it is not unpacked')
    limit.one()
    path = tmp.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists(): raise FastmerError(f'{archive} holds {name[:100]!r} twice: it is not unpacked')
    return path


def save(f, path, limit):
    with open(path, 'xb') as out:
        while data := f.read(CHUNK):
            limit.add(len(data))
            out.write(data)


def copy_link(archive, tmp, name, target, base, limit):
    "A link becomes a copy of what it leads to, which has to be a file in the archive"
    path = place(archive, tmp, name, limit)
    source = tmp.joinpath(*safe(archive, target, base))
    if not source.is_file(): raise FastmerError(f'{archive} holds the link {name[:100]!r} to what is no file in it: it is not unpacked')
    with open(source, 'rb') as f: save(f, path, limit)


def unzip(archive, tmp, limit):
    with zipfile.ZipFile(archive) as z:
        infos, links = z.infolist(), []
        if sum(info.file_size for info in infos) > limit.most: limit.add(limit.most + 1)
        for info in infos:
            if '\0' in info.orig_filename: safe(archive, info.orig_filename)
            name, mode = info.orig_filename, info.external_attr >> 16
            kind = stat.S_IFMT(mode) if info.create_system == 3 else 0
            if info.flag_bits & 1: raise FastmerError(f'{archive} is locked with a password: it is not unpacked')
            if info.is_dir():
                limit.one()
                tmp.joinpath(*safe(archive, name)).mkdir(parents=True, exist_ok=True)
            elif kind == stat.S_IFLNK: links.append(info)
            elif kind not in (0, stat.S_IFREG): raise FastmerError(f'{archive} holds the device {name[:100]!r}: it is not unpacked')
            else:
                path = place(archive, tmp, name, limit)
                with z.open(info) as f: save(f, path, limit)
        for info in links:
            with z.open(info) as f: target = f.read(4096).decode('utf-8')
            copy_link(archive, tmp, info.filename, target, str(PurePosixPath(info.filename).parent), limit)


def untar(archive, tmp, limit, opener):
    with opener(archive, 'rb') as f, tarfile.open(fileobj=f, mode='r|', tarinfo=Header) as tar:
        links = []
        for o in tar:
            if o.isdir():
                limit.one()
                tmp.joinpath(*safe(archive, o.name)).mkdir(parents=True, exist_ok=True)
            elif o.issym() or o.islnk():
                base = str(PurePosixPath(o.name).parent) if o.issym() else ''
                safe(archive, o.linkname, base)
                links.append((o.name, o.linkname, base))
                limit.one()
            elif not o.isfile(): raise FastmerError(f'{archive} holds the device {o.name[:100]!r}: it is not unpacked')
            else:
                if o.size + limit.size > limit.most: limit.add(o.size)
                save(tar.extractfile(o), place(archive, tmp, o.name, limit), limit)
        for link in links: copy_link(archive, tmp, *link, limit)
