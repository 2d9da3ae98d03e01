"Several prepared folders -> one, for training on one corpus and testing on another"
import os
import shutil
from pathlib import Path

import pandas as pd

from ._version import __version__
from .errors import FastmerError
from .manifest import MAX_ID_BYTES, check_manifest, write_csv, write_json, write_manifest
from .prepare import LOCK, TABLES, Prepared, locked

GROUPS = ('speaker', 'session', 'dialogue')  # names that two corpora may share without meaning the same; scripts are left as they are


def join_prepared(folders, out):
    """Make the prepared folder `out` of the `Prepared` (or paths) `folders`, with their pictures linked, or copied where that cannot be.

    Ids, speakers, sessions and dialogues get the corpus's name before them, so that none is taken for another's. Raises `FastmerError`
    where two hold the same corpus, spectrograms of different settings or no label in common, and where `out` is not empty.
    """
    parts = [folder if isinstance(folder, Prepared) else Prepared.open(folder) for folder in folders]
    names = [_name(part) for part in parts]
    _check(parts, names)
    out = Path(out)
    _check_out(out)
    with locked(out):
        _check_out(out)
        return _join(parts, names, out)


def _join(parts, names, out):
    root = Path(os.path.commonpath([part.root for part in parts]))
    rows, told = [], {name: [pd.DataFrame(columns=columns)] for name, columns in TABLES.items()}
    for part, name in zip(parts, names, strict=True):
        df = part.manifest
        inside = part.root.relative_to(root).as_posix()
        audio = [f'{inside}/{path}' if path and inside != '.' else path for path in df.audio]
        rows.append(df.assign(id=name + '-' + df.id, audio=audio, corpus=name, **{group: _apart(df[group], name) for group in GROUPS}))
        for table in TABLES:
            if not (part.path/table).is_file(): continue  # an older fastmer told of no warnings
            left = pd.read_csv(part.path/table, dtype=str, keep_default_na=False)
            told[table].append(left.assign(id=name + '-' + left.id))
    df = check_manifest(pd.concat(rows, ignore_index=True), 'the joined manifest')
    for part, own in zip(parts, rows, strict=True):
        for old, new in zip(part.manifest.itertuples(), own.itertuples(), strict=True):
            if old.audio: _link(part.png(old), out/'spectrograms'/new.label/f'{new.id}.png')
    write_manifest(df.sort_values('id', kind='stable'), out/'manifest.csv')
    told = {table: pd.concat(found) for table, found in told.items()}
    for table, found in told.items(): write_csv(found, out/table)
    counts = df.label.value_counts().sort_index()
    maps = {name: part.about['label_map'] for name, part in zip(names, parts, strict=True)}
    about = dict(fastmer=__version__, corpus='+'.join(names), root=str(root), label_map=maps, spectrogram=parts[0].about['spectrogram'],
                 joined=[str(part.path.resolve()) for part in parts], complete=True, utterances=len(df),
                 skipped=len(told['skipped.csv']), warned=len(told['warnings.csv']),
                 counts={label: int(n) for label, n in counts.items()}, notes=[])
    write_json(out/'prepared.json', about)
    return Prepared.open(out)


def _check_out(out):
    if out.exists() and (not out.is_dir() or any(path.name != LOCK for path in out.iterdir())):
        raise FastmerError(f'{out} is not empty: give a new folder to join into')


def _name(part): return '+'.join(sorted(set(part.manifest.corpus) - {''})) or part.path.resolve().name


def _apart(values, name): return (name + ':' + values).where(values != '', '')


def _check(parts, names):
    if len(parts) < 2: raise FastmerError('give at least two prepared folders to join')
    first = parts[0]
    for i, (part, name) in enumerate(zip(parts, names, strict=True)):
        if name in names[:i]:
            raise FastmerError(f'{parts[names.index(name)].path} and {part.path} both hold {name}: join different corpora')
        if part.config != first.config:
            raise FastmerError(f'{first.path} and {part.path} were drawn with different spectrogram settings: prepare them alike')
        if not set(part.labels) & set(first.labels):
            raise FastmerError(f'{first.path} ({", ".join(first.labels)}) and {part.path} ({", ".join(part.labels)}) have no label '
                               'in common: prepare them with one --labels or --map')
        if long := [old for old in part.manifest.id if len(f'{name}-{old}'.encode()) > MAX_ID_BYTES]:
            raise FastmerError(f'{name}-{long[0]} is longer than the {MAX_ID_BYTES} bytes of an id: give the corpus a shorter name')


def _link(old, new):
    new.parent.mkdir(parents=True, exist_ok=True)
    try: os.link(old, new)
    except OSError: shutil.copyfile(old, new)
