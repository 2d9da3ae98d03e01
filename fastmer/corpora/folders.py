"A folder a label: `ROOT/<label>/**/*.wav`, or any other audio file"
import os
import re
from collections import Counter
from hashlib import sha1
from pathlib import Path
from posixpath import splitext

from ..audio_io import SUFFIXES as ALL
from ..errors import FastmerError
from ..manifest import MAX_ID_BYTES, as_manifest
from . import Corpus

SUFFIXES = tuple(suffix for suffix in ALL if suffix not in ('.mp4', '.mov', '.3gp', '.mkv', '.webm'))  # films stay where they are
LONGEST = MAX_ID_BYTES - 20  # bytes of an id, before `path_ids` appends to it
UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f-\x9f]+')


def read(root):
    """A `Corpus` from one folder a label; labels are the names of the folders in `root`.

    Hidden files and folders are passed over, links are followed once. Audio beside the label folders goes to `skipped`.
    Raises `FastmerError` where no label folder holds audio.
    """
    root = Path(root)
    if not root.is_dir(): raise FastmerError(f'{root} is no folder: give the folder that holds one folder of audio a label')
    inside = sorted(path for path in root.iterdir() if not path.name.startswith('.'))
    labels = [path for path in inside if path.is_dir()]
    been = {root.resolve(), *(path.resolve() for path in labels)}
    audio = {path.name: list(walk(path, been)) for path in labels}
    paths = [(label, path.relative_to(root).as_posix()) for label, found in audio.items() for path in found]
    skipped = [skip(path.name, 'it lies in no label folder') for path in inside if is_audio(path.name) and not path.is_dir()]
    skipped += [skip(path, reason) for _, path in paths if (reason := unusable(root / path))]
    paths = [(label, path) for label, path in paths if not unusable(root / path)]
    if not paths:
        raise FastmerError(f'{root} holds no audio in folders named after labels: put them into {root/"angry"} and the like')
    ids = path_ids([path for _, path in paths])
    name = printable(root.resolve().name)
    rows = [dict(id=id_, audio=path, label=label, corpus=name) for id_, (label, path) in zip(ids, paths, strict=True)]
    names = sorted({label for label, _ in paths})
    notes = ['the folders name no speakers: only the random protocol can be used']
    empty = [printable(path.name) for path in labels if path.name not in names]
    if empty: notes.append(f'no audio in {", ".join(empty)}')
    return Corpus(as_manifest(rows), {name: name for name in names}, skipped, notes)


def walk(folder, been):
    "Audio files under `folder`, in order; a folder whose real path is in `been` or came before is not entered again"
    been = set(been)
    for here, dirs, files in os.walk(folder, followlinks=True):
        here, fresh = Path(here), []
        for name in sorted(dirs):
            real = (here / name).resolve()
            if not name.startswith('.') and real not in been: fresh.append(name)
            been.add(real)
        dirs[:] = fresh
        yield from (here / name for name in sorted(files) if is_audio(name) and not name.startswith('.'))


def is_audio(name): return Path(name).suffix.lower() in SUFFIXES


def unusable(path):
    "Why `path` cannot be read as audio, or `''`"
    if printable(str(path)) != str(path): return 'the name is not valid UTF-8'
    return '' if path.is_file() else 'it is no file, or a link that leads nowhere'


def skip(path, reason): return dict(id=flat_id(printable(path)), audio=printable(path), reason=reason)


def printable(name):
    "`name` with bytes that are no UTF-8 written out, so that it can stand in a report"
    return name.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')


def flat_id(path):
    "`angry/take 1.wav` -> `angry_take 1`: the path without suffix, with what an id cannot hold as `_`"
    name = UNSAFE.sub('_', splitext(str(path))[0].lstrip('/'))
    name = re.sub(r'^[.-]', '_', name)
    if len(name.encode()) <= LONGEST: return name
    return f'{name.encode()[:LONGEST - 9].decode(errors="ignore")}_{digest(path)}'


def path_ids(paths):
    "One id a path, unique regardless of case: `flat_id`, and where two paths share it the suffix, then a hash of the path"
    paths = [str(path) for path in paths]
    ids = [flat_id(path) for path in paths]
    for tail in (lambda path: splitext(path)[1][1:], digest):
        seen = Counter(name.casefold() for name in ids)
        ids = [f'{name}_{tail(path)}' if seen[name.casefold()] > 1 else name for name, path in zip(ids, paths, strict=True)]
    return ids


def digest(path): return sha1(str(path).encode()).hexdigest()[:8]
