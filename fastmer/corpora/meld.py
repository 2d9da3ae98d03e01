"MELD (Poria et al., ACL 2019): 13,708 utterances from the TV series Friends, with its own train, dev and test parts"
import re
from pathlib import Path

from ..errors import FastmerError
from ..manifest import as_manifest
from . import Corpus
from .files import audio_files, csv_rows, shortfall, skip
from .folders import unusable

CODES = dict(anger='angry', disgust='disgust', fear='fear', joy='happy', neutral='neutral', sadness='sad', surprise='surprised')
PARTS = dict(train='train', dev='valid', test='test')  # MELD's word: that of the manifest
UTTERANCES = dict(train=9989, dev=1109, test=2610)
COLUMNS = ('Utterance', 'Speaker', 'Emotion', 'Dialogue_ID', 'Utterance_ID', 'StartTime', 'EndTime')
FAULTS = {'train_dia125_utt3': 'its clip is broken as published', 'dev_dia110_utt7': 'its clip is missing as published'}
SUFFIXES = ('.wav', '.flac', '.mp3', '.m4a')  # the likeliest first
NAME = re.compile(r'dia(\d+)_utt(\d+)', re.IGNORECASE)
PART = re.compile(r'(?:^|[^a-z])(train|dev|val|test)')  # train_splits, dev_splits_complete, output_repeated_splits_test, valid


def read(root):
    """MELD as a `Corpus`; `root` holds `train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv`, at any depth.

    The clips are mp4: their sound is looked for in `dia0_utt0.wav`, `.flac`, `.mp3` or `.m4a`, in folders named after the part
    (`train_splits`, `audio/dev`). A row without it is skipped; where there is none at all, the corpus is read as text only. `start` and
    `end` count from the first utterance of the dialogue. Raises `FastmerError` where no table is found.
    """
    root = Path(root)
    if not root.is_dir(): raise FastmerError(f'{root} is no folder: give the folder that holds the tables of MELD')
    tables = {part: next(iter(sorted(root.rglob(f'{part}_sent_emo.csv'))), None) for part in PARTS}
    if not any(tables.values()): raise FastmerError(f'{root} holds no train_sent_emo.csv: give the folder that holds the tables of MELD')
    rows, skipped = {}, []
    for part, path in tables.items():
        if path: read_table(path, part, root, rows, skipped)
    if not rows:
        why = f'can be used, the first because {skipped[0]["reason"]}' if skipped else 'is there'
        raise FastmerError(f'{root}: no row of the tables of MELD {why}')
    audio, odd = find_audio(root, rows)
    notes = [f'{part}_sent_emo.csv is not there' for part, path in tables.items() if path is None]
    if audio:
        skipped += [dict(id=name, audio='', reason=FAULTS.get(name, 'its recording is not there')) for name in rows if name not in audio]
        rows = {name: row | dict(audio=audio[name]) for name, row in rows.items() if name in audio}
    else: notes.append('no audio of MELD is there: read as text only (take dia0_utt0.wav and so on out of the mp4 clips to add it)')
    have = [name.partition('_')[0] for name in rows]
    return Corpus(as_manifest(list(rows.values())), CODES, skipped + odd, shortfall('MELD', have, UTTERANCES) + notes)


def read_table(path, part, root, rows, skipped):
    "Put the rows of one table into `rows`, id -> row, and what cannot be used into `skipped`"
    first = {}
    for n, line in csv_rows(path, COLUMNS, 'a table of https://github.com/declare-lab/MELD'):
        value = {name: mend(line[name]) for name in COLUMNS}
        numbers, code = (value['Dialogue_ID'], value['Utterance_ID']), value['Emotion'].lower()
        name, dialogue = f'{part}_dia{numbers[0]}_utt{numbers[1]}', f'{part}_dia{numbers[0]}'
        start, end = seconds(value['StartTime']), seconds(value['EndTime'])
        if not end > start: start = end = float('nan')
        zero = first.setdefault(dialogue, start)
        where = f'line {n} of {path.relative_to(root).as_posix()}'
        if not all(re.fullmatch(r'\d+', n) for n in numbers): reason, name = f'{where} numbers no utterance', f'{part}_{n}'
        elif code not in CODES: reason = f'{where} has the emotion {code!r}, which is none of {", ".join(CODES)}'
        elif name in rows: reason = f'it has a second row, {where}'
        else: reason = ''
        if reason: skipped.append(dict(id=name, audio='', reason=reason))
        else: rows[name] = dict(id=name, text=value['Utterance'], label=code, speaker=value['Speaker'], dialogue=dialogue, language='en',
                                start=round(start - zero, 3), end=round(end - zero, 3), part=PARTS[part], corpus='meld')


def mend(text):
    "A cell with the Windows-1252 quotes that the tables carry as control characters (`\\x92`) put right, and single spaces"
    text = re.sub('[\x80-\x9f]', lambda m: m[0].encode('latin1').decode('cp1252', errors='ignore'), text)
    return ' '.join(text.split())


def seconds(time):
    "`'00:16:16,059'` -> 976.059; `nan` for what is no time"
    m = re.fullmatch(r'(\d{1,4}):(\d{1,4}):(\d{1,4})(?:[,.](\d+))?', time)
    return int(m[1])*3600 + int(m[2])*60 + int(m[3]) + float(f'0.{m[4] or 0}') if m else float('nan')


def find_audio(root, rows):
    "`(id -> path, skipped)` of the sound of the clips, with what belongs to no row in `skipped`"
    found, skipped = {}, []
    for path in sorted((path for path in audio_files(root) if path.suffix.lower() in SUFFIXES), key=rank):
        m, part = NAME.fullmatch(path.stem), part_of(path.relative_to(root).parts[:-1])
        name = m and f'{part}_dia{int(m[1])}_utt{int(m[2])}'
        if m is None: reason = 'the name does not follow MELD (dia0_utt0.wav)'
        elif not part: reason = 'no folder above it is named after a part (train, dev or test)'
        elif name in found: reason = f'it is the same utterance as {found[name]}'
        elif name not in rows: reason = f'no row of {part}_sent_emo.csv that can be used is about it'
        else: reason = unusable(path)
        if reason: skipped.append(skip(path, root, reason))
        else: found[name] = path.relative_to(root).as_posix()
    return found, skipped


def rank(path): return SUFFIXES.index(path.suffix.lower())


def part_of(folders):
    "The part that the innermost of `folders` that names one names, `''` where none does"
    hits = [m[1] for folder in reversed(folders) if (m := PART.search(folder.lower()))]
    return {'val': 'dev'}.get(hits[0], hits[0]) if hits else ''
