"""The utterance table, one row an utterance: what it holds, how it is read, written and checked

| column | what |
|---|---|
| `id` | unique; names the spectrogram's file |
| `audio` | path, relative to the corpus root; `long.wav#t=6.29,8.24` (a W3C media fragment, seconds) is a stretch of a longer file |
| `text` | transcript; empty where nothing was said or written down |
| `label` | emotion to learn |
| `votes` | what the raters said: `angry=2;happy=0.5`, by label; others than those that are learned may stand there too |
| `speaker`, `session`, `dialogue`, `script` | groups that must not stand on both sides of a split; `script`: utterances that share words |
| `gender`, `language` | `f` / `m`; ISO 639-1 |
| `start`, `end`, `duration` | seconds; start and end within the dialogue, whose turns `start` puts in order |
| `valence`, `arousal`, `dominance` | the corpus's own scale |
| `part` | the corpus's own `train`, `valid` or `test`, where it has one |
| `corpus` | where the row comes from |
"""
import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import FastmerError
from .labels import parse_votes

TEXT_COLUMNS = ('id', 'audio', 'text', 'label', 'votes', 'speaker', 'session', 'dialogue', 'script', 'gender', 'language')
NUMBER_COLUMNS = ('start', 'end', 'duration', 'valence', 'arousal', 'dominance')
COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS, 'part', 'corpus')
PARTS = ('train', 'valid', 'test')
LARGEST = 3e38  # a number beyond is no number: float32 cannot hold it
MAX_ID_BYTES = 200  # leaves room for `.png` and a temporary suffix within the 255 bytes of common file systems


def as_manifest(rows):
    "A manifest with every column, in order and typed: text columns hold `str` (`''` when empty), numbers finite `float64` (`nan`)"
    df = pd.DataFrame(rows)
    for name in COLUMNS:
        if name not in df: df[name] = float('nan') if name in NUMBER_COLUMNS else ''
        if name in NUMBER_COLUMNS: df[name] = pd.to_numeric(df[name], errors='coerce').astype('float64').where(lambda x: x.abs() < LARGEST)
        else: df[name] = df[name].fillna('').astype(str).map(one_line_end).astype(object)
    return df[list(COLUMNS)].reset_index(drop=True)


def one_line_end(text):
    "`text` with `\\n` for `\\r`, which CSV is written with and without quotes around it, so that no reader knows it from the end of a row"
    return text.replace('\r\n', '\n').replace('\r', '\n') if '\r' in text else text


def bad_id(name):
    "Why `name` cannot name a file inside the prepared folder, or `''`"
    if not name.strip(): return 'it is empty'
    if name in ('.', '..') or name[0] in '.-': return 'it begins with a dot or a dash'
    if any(c in '/\\:*?"<>|' or unicodedata.category(c) in ('Cc', 'Cs') for c in name):
        return 'it holds a character that file names cannot'
    if len(name.encode()) > MAX_ID_BYTES: return f'it is longer than {MAX_ID_BYTES} bytes'
    return ''


def check_manifest(df, where='the manifest'):
    "`df` if it is a manifest; raises `FastmerError` that names the first thing wrong and its row"
    missing = [name for name in ('id', 'label') if name not in df]
    if missing: raise FastmerError(f'{where} has no column {missing[0]!r}; it has {", ".join(map(str, df.columns))}')
    df = as_manifest(df)
    if df.empty: raise FastmerError(f'{where} holds no utterance')
    if (empty := df.label.str.strip() == '').any(): raise FastmerError(f'{where}: utterance {df.id[empty].iloc[0]!r} has no label')
    if (twice := df.id.duplicated()).any():
        raise FastmerError(f'{where}: the id {df.id[twice].iloc[0]!r} stands on more than one row ({int(twice.sum())} repeated in all); '
                           'ids must be unique')
    for names, what in ((df.id, 'id'), (pd.Series(df.label.unique()), 'label')):
        if (bad := names.map(bad_id) != '').any():
            name = names[bad].iloc[0]
            raise FastmerError(f'{where}: the {what} {name!r} cannot name a file: {bad_id(name)}')
    folded = df.id.str.casefold()
    if (twice := folded.duplicated(keep=False)).any():
        raise FastmerError(f'{where}: the ids {", ".join(df.id[folded == folded[twice].iloc[0]][:2])} differ only in case, '
                           'and would overwrite each other on some file systems')
    if (bare := (df.audio == '') & (df.text == '')).all():
        raise FastmerError(f'{where} has neither audio nor text in any row')
    if bare.any() and not (df.text != '').any():
        raise FastmerError(f'{where}: utterance {df.id[bare].iloc[0]!r} has neither audio nor text')
    if (odd := ~df.part.isin([*PARTS, ''])).any():
        raise FastmerError(f'{where}: part {df.part[odd].iloc[0]!r} of {df.id[odd].iloc[0]!r} is none of {", ".join(PARTS)}')
    check_votes(df.votes, df.id.map(repr), where)
    return df


def check_votes(votes, names, where):
    "Raise `FastmerError` for the first of `votes` that cannot be read; `names`: what each row is called"
    for text, name in zip(votes, names, strict=True):
        try: parse_votes(text)
        except FastmerError as e: raise FastmerError(f'{where}, {name}: {e}') from None


def turns_before(df, k):
    """Positions of the rows of `df` that hold the last `k` transcripts before each row in its dialogue, the earliest first

    By `start`; a dialogue of which a row lacks it by id, in which `u2` stands before `u10`. Rows without a dialogue have none before them.
    """
    out, start, ids = [[] for _ in range(len(df))], df.start.to_numpy(), df.id.to_numpy()
    words = (df.text.str.strip() != '').to_numpy()
    numbered = lambda i: [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', ids[i])]
    for (_, dialogue), at in df.groupby(['corpus', 'dialogue']).indices.items():
        if not dialogue: continue
        at, before = sorted(at, key=numbered), []
        if not np.isnan(start[at]).any(): at = sorted(at, key=lambda i: start[i])
        for i in at:
            out[i] = before[-k:]
            if words[i]: before.append(int(i))
    return out


def read_manifest(path):
    "The manifest in the CSV file `path`, checked; every text column is read as text, so speaker `03` stays `03`"
    path = Path(path)
    try: df = pd.read_csv(path, dtype=dict.fromkeys([*TEXT_COLUMNS, 'part', 'corpus'], str), keep_default_na=False,
                          na_values={name: [''] for name in NUMBER_COLUMNS}, encoding='utf-8')
    except FileNotFoundError: raise FastmerError(f'{path} is not there: run fastmer prepare first') from None
    except (OSError, ValueError) as e: raise FastmerError(f'{path} is no manifest that can be read: {" ".join(str(e).split())}') from None
    if not isinstance(df.index, pd.RangeIndex): raise FastmerError(f'{path} has rows longer than its header: restore it or prepare again')
    if twice := [name for name in COLUMNS if f'{name}.1' in df]: raise FastmerError(f'{path} has two columns named {twice[0]!r}')
    return check_manifest(df, path)


def write_manifest(df, path):
    "Write `df` to the CSV file `path`, whole or not at all"
    return write_csv(df[list(COLUMNS)], path)


def write_csv(df, path, **kwargs):
    "Write a table as UTF-8 CSV: a reader never meets half a file"
    with atomic(path) as tmp: df.to_csv(tmp, index=False, encoding='utf-8', errors='backslashreplace', lineterminator='\n', **kwargs)
    return Path(path)


def write_json(path, what):
    "Write `what` as JSON that a person can read, whole or not at all"
    with atomic(path) as tmp: tmp.write_text(json.dumps(what, indent=1, ensure_ascii=False) + '\n', 'utf-8', 'backslashreplace')


class atomic:
    """Context manager: a temporary path beside `path` that becomes `path` on success and vanishes on an error

    The name holds the process id, so two processes never write to one temporary file.
    """
    def __init__(self, path):
        self.path = Path(path)
        self.tmp = self.path.with_name(f'.{os.getpid()}-{self.path.name[-150:]}.tmp')

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.tmp

    def __exit__(self, kind, error, trace):
        if kind is None: os.replace(self.tmp, self.path)
        else: self.tmp.unlink(missing_ok=True)
