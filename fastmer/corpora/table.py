"Any table with one row an utterance: CSV, TSV, semicolons as Excel saves them, or `.xlsx`"
import os
import re
from pathlib import Path
from textwrap import shorten

from ..errors import FastmerError, did_you_mean
from ..labels import parse_votes
from ..manifest import COLUMNS, NUMBER_COLUMNS, as_manifest, check_votes
from . import Corpus
from .folders import flat_id, path_ids, printable
from .table_io import DELIMITERS, load_table

ALSO = {  # manifest column: what tables call it besides, the likeliest first
    'id': ['utterance_id', 'utt_id'],
    'audio': ['wav', 'path', 'file', 'filename', 'filepath', 'audio_path', 'wav_path', 'audio_file', 'wav_file', 'file_name',
              'file_path'],
    'text': ['transcript', 'transcription', 'sentence', 'utterance'],
    'label': ['emotion', 'class'],
    'speaker': ['speaker_id', 'spk', 'spk_id', 'actor', 'actor_id'],
    'session': ['session_id'],
    'dialogue': ['dialog', 'conversation', 'dialogue_id', 'dialog_id', 'conversation_id'],
    'script': ['text_id', 'sentence_id', 'script_id'],
    'gender': ['sex'],
    'language': ['lang'],
    'arousal': ['activation'],
    'part': ['split', 'subset', 'partition'],
    'corpus': ['dataset'],
}
VALUES = {  # manifest column: what its values are called elsewhere
    'gender': dict(male='m', man='m', female='f', woman='f', w='f'),
    'part': dict(training='train', dev='valid', devel='valid', development='valid', val='valid', validation='valid',
                 eval='test', evaluation='test', testing='test'),
}


def read(root, columns=None, audio_root=None, delimiter=None, sheet=None, corpus_name=None):
    """A table as a `Corpus`; paths in it start from `audio_root`, the table's own folder when `None`.

    `columns`: manifest column -> the table's column, as a dict or as `'audio=wav,label=emotion'`; those not named are found by
    their usual names (`ALSO`), `text=` leaves one out. Where rows with `start` and `end` share a recording, `audio` becomes
    `path#t=start,end`. Ids: the id column, else file names, else paths, else row numbers, whichever are unique first. Rows
    without a label or whose recording is not there go to `skipped`. Raises `FastmerError` for what is no table, has no label
    column or votes that cannot be read, or finds no recording at all.
    """
    path = Path(root)
    table = load_table(path, delimiter, sheet)
    taken = match_columns(table, columns, path)
    df = as_manifest({name: [tidy(value, name) for value in table[source]] for name, source in taken.items()})
    if 'votes' in taken: check_votes(df.votes, (f'row {n}' for n in range(1, len(df) + 1)), path)
    if corpus_name or 'corpus' not in taken: df['corpus'] = corpus_name or printable(path.stem)
    base = Path(audio_root).expanduser() if audio_root else path.parent
    df['audio'] = files = df.audio.map(lambda name: relative(name, base))
    reason = look_for(files, base, path, 'check' if audio_root else 'name the folder that its paths start from with')
    if {'audio', 'start', 'end'} <= {*taken}: df['audio'] = cut(df, reason)
    if 'id' not in taken: df['id'] = make_ids(files)
    reason[df.label == ''] = 'it has no label'
    reason[(df.audio == '') & (df.text == '')] = 'it has neither audio nor text'
    skipped = [dict(id=row.id, audio=row.audio, reason=why) for row, why in zip(df.itertuples(), reason, strict=True) if why]
    df = df[reason == '']
    if df.empty: raise FastmerError(f'{path} has no row that can be used: of the first, {skipped[0]["reason"]}')
    labels = {*df.label}.union(*map(parse_votes, df.votes.unique()))
    return Corpus(df, {label: label for label in sorted(labels)}, skipped, remarks(df, table, taken), base)


def match_columns(table, columns, path):
    "Manifest column -> the table's column: as told by `columns`, the rest by their usual names"
    told = parse_columns(columns) if isinstance(columns, str) else dict(columns or {})
    have, by_case = shorten(', '.join(table), 1000, placeholder=' ...'), {name.casefold(): name for name in reversed(table.columns)}
    real = {name: source if source in table else by_case.get(source.casefold()) for name, source in told.items() if source}
    for name, source in told.items():
        if name not in COLUMNS:
            raise FastmerError(f'--columns names {name!r}, which no manifest has{did_you_mean(name, COLUMNS)}; '
                               f'it has {", ".join(COLUMNS)}')
        if source and not real[name]:
            raise FastmerError(f'{path} has no column {source!r}{did_you_mean(source, table)}; it has {have}')
    for name in (name for name in COLUMNS if name not in told):
        hits = [by_case[word] for word in (name, *ALSO.get(name, ())) if word in by_case and by_case[word] not in real.values()]
        if hits: real[name] = hits[0]
    if 'label' not in real: raise FastmerError(f'{path} has no column of labels; it has {have}: say --columns label=NAME')
    if not {'audio', 'text'} & {*real}:
        raise FastmerError(f'{path} has neither a column of audio nor one of text; it has {have}: say --columns audio=NAME')
    return real


def parse_columns(text):
    "`'audio=wav,text='` -> `{'audio': 'wav', 'text': ''}`"
    pairs = [part.partition('=') for part in text.split(',') if part.strip()]
    if bad := [name for name, sep, _ in pairs if not sep or not name.strip()]:
        raise FastmerError(f'--columns wants pairs such as audio=wav,label=emotion, but got {bad[0] or "="!r}')
    return {name.strip(): source.strip() for name, _, source in pairs}


def tidy(value, name):
    "A cell as manifest column `name` writes it: `female` -> `f`, `dev` -> `valid`, `6,29` -> `6.29`, `a\\b.wav` -> `a/b.wav`"
    if name == 'label': return ' '.join(value.split())
    if name == 'audio': return value.replace('\\', '/')
    if name in NUMBER_COLUMNS: return re.sub(r'^(-?\d*),(\d+)$', r'\1.\2', value)
    return VALUES[name].get(value.lower(), value.lower()) if name in VALUES else value


def relative(audio, base):
    "`audio` relative to `base` where it lies under it, else as it was; `a/./b.wav` -> `a/b.wav`"
    if not audio: return ''
    audio = Path(os.path.normpath(audio))
    under = [top for top in (base.absolute(), base.resolve()) if audio.is_relative_to(top)]
    return (audio.relative_to(under[0]) if under else audio).as_posix()


def look_for(audio, base, path, hint):
    "Why each row's recording cannot be read, `''` where it can; raises `FastmerError` where none at all is there"
    files = {name: base/name.partition('#t=')[0] for name in audio.unique() if name}
    there = {name for name, file in files.items() if os.path.isfile(file)}
    if files and not there:
        first = ' '.join(str(next(iter(files.values()))).split())
        raise FastmerError(f'{path}: none of its {len(files):,} recordings is there, the first looked for was {first}; '
                           f'{hint} --audio-root')
    return audio.map(lambda name: '' if not name or name in there else 'the recording is not there')


def cut(df, reason):
    "`audio` with `#t=start,end` where stretches share a recording; writes into `reason` where start and end are none"
    stretches = df[df.audio != ''].drop_duplicates(['audio', 'start', 'end'])
    if not stretches.audio.duplicated().any(): return df.audio
    given = (df.audio != '') & ~df.audio.str.contains('#t=', regex=False) & (df.start.notna() | df.end.notna())
    good = given & (df.start >= 0) & (df.end > df.start) & (df.end < float('inf'))
    reason[given & ~good & (reason == '')] = 'start and end are no stretch of a recording, in seconds'
    number = lambda x: f'{x:.6f}'.rstrip('0').rstrip('.')
    return [f'{row.audio}#t={number(row.start)},{number(row.end)}' if ok else row.audio
            for row, ok in zip(df.itertuples(), good, strict=True)]


def make_ids(files):
    "File names where they differ, else paths, else row numbers: the same whatever recordings are there"
    if (files != '').all() and files.is_unique:
        stems = [flat_id(Path(name).name) for name in files]
        return stems if len({stem.casefold() for stem in stems}) == len(stems) else path_ids(files)
    return [f'row{n:06d}' for n in range(1, len(files) + 1)]


def holds_rows(cell, columns):
    "Whether a cell has line breaks, and delimiters as if each began a row of so many `columns`: a quote that is not closed takes rows in"
    return '\n' in cell and any(cell.count(c) >= cell.count('\n')*(columns - 1) for c in DELIMITERS)


def remarks(df, table, taken):
    "Sentences on what to look at: columns found under another name, labels that differ only in case, numbers that are none"
    found = [f'{name} from {source}' for name, source in taken.items() if name != source]
    notes = [f'columns: {", ".join(found)}'] if found else []
    labels = df.label.drop_duplicates()
    for _, same in labels.groupby(labels.str.casefold()):
        if len(same) > 1: notes.append(f'the labels {", ".join(sorted(same))} differ only in case: --map can merge them')
    if voted := sorted(set().union(*map(parse_votes, df.votes.unique())) - {*labels}):
        notes.append(f'votes name {shorten(", ".join(voted), 200, placeholder=" ...")}, which no utterance is labelled')
    odd = [n for n, cells in enumerate(table.itertuples(index=False), 1) if any(holds_rows(cell, len(cells)) for cell in cells)]
    if odd: notes.append(f'{len(odd):,} rows, the first row {odd[0]:,}, hold what looks like other rows: see that double quotes are closed')
    for name in (name for name in NUMBER_COLUMNS if name in taken):
        bad = (df[name].isna() & (table.loc[df.index, taken[name]] != '')).sum()
        if bad: notes.append(f'{bad:,} of {len(df):,} values of {taken[name]} are no numbers')
    return notes
