"MSP-Podcast (Lotfian and Busso, 2019): spontaneous English from podcasts, in releases that grow; consensus labels and own parts"
import re
from collections import Counter
from pathlib import Path

from ..errors import FastmerError, did_you_mean
from ..manifest import as_manifest
from . import Corpus
from .files import audio_files, csv_rows, skip
from .folders import unusable

CODES = dict(A='angry', S='sad', H='happy', U='surprised', F='fear', D='disgust', C='contempt', N='neutral', O='other', X='undecided')
TABLES = ('labels_consensus.csv', 'labels_concensus.csv')  # older releases misspell it
COLUMNS = ('FileName', 'EmoClass', 'EmoAct', 'EmoVal', 'EmoDom', 'SpkrID', 'Gender', 'Split_Set')
TESTS = ('Test1', 'Test2', 'Test3')
GENDERS = dict(male='m', female='f')
TURNS = {'1.11': 151_654, '1.12': 207_136}  # release: its recordings, with those of Test3, which has no labels
DIALOGUE = re.compile(r'MSP-PODCAST_(\d+)_', re.IGNORECASE)


def read(root, test='Test1'):
    """MSP-Podcast as a `Corpus`; `root` is a release, with `Labels` and `Audios` in it, or the folder that holds it.

    `test` names the set that becomes the part `test`; the other test sets are in no part, for they share speakers with it. A dialogue is
    the podcast's number in the name. Raises `FastmerError` where there is no table of labels or none of its recordings.
    """
    if test not in TESTS: raise FastmerError(f'MSP-Podcast has no test set {test!r}{did_you_mean(test, TESTS)}; it has {", ".join(TESTS)}')
    table = find_table(Path(root))
    root = table.parent.parent if table.parent.name.lower() == 'labels' else table.parent
    audio = {path.stem.lower(): path for path in audio_files(folder(root, 'audios') or root)}
    texts, found, skipped, seen = folder(root, 'transcripts'), [], [], set()
    parts = dict(train='train', development='valid') | {test.lower(): 'test'}
    for line in lines(table):
        name = Path(line['FileName']).stem
        path = audio.get(name.lower())
        if path is None: reason = 'the recording is not there'
        elif line['EmoClass'] not in CODES: reason = f'{line["EmoClass"]!r} is none of the codes {", ".join(CODES)}'
        elif name.lower() in seen: reason = f'{table.name} has a second row of it'
        else: reason = unusable(path)
        seen.add(name.lower())
        if reason: skipped.append(dict(id=name, audio='' if path is None else path.relative_to(root).as_posix(), reason=reason))
        else: found.append(row(line, path, root, texts, parts))
    if not found: raise FastmerError(f'{root} holds no recording that {table.name} labels: unpack Audios beside Labels')
    unlabelled = f'{table.name} has no row of it (Test3 has no labels)'
    skipped += [skip(path, root, unlabelled) for name, path in audio.items() if name not in seen]
    others = Counter(name for row in found if (name := row.pop('set')).lower() not in parts)
    listed = ', '.join(f'{n:,} of {name}' for name, n in sorted(others.items()))
    notes = [f'in no part, as the test sets share speakers: {listed}'] if listed else []
    return Corpus(as_manifest(found), CODES, skipped, shortfall(root, len(audio)) + notes, root)


def find_table(root):
    "The table of labels in `root/Labels`, `root`, or one folder below"
    hits = [path for where in ('[Ll]abels', '.', '*/[Ll]abels') for name in TABLES for path in sorted(root.glob(f'{where}/{name}'))]
    if not hits: raise FastmerError(f'{root} holds no Labels/{TABLES[0]}: give the folder of an MSP-Podcast release')
    return hits[0]


def folder(root, name):
    "The folder called `name` in any case in `root`, `None` where there is none"
    return next((path for path in sorted(root.iterdir()) if path.name.lower() == name and path.is_dir()), None)


def lines(table):
    "The rows of the table of labels, without blanks around"
    rows = csv_rows(table, COLUMNS, 'the table of consensus labels of MSP-Podcast')
    return [{name: row[name].strip() for name in COLUMNS} for _, row in rows]


def row(line, path, root, texts, parts):
    "The manifest row of a line, with its test set in `set`"
    dialogue, speaker, name = DIALOGUE.match(line['FileName']), line['SpkrID'], line['Split_Set']
    return dict(id=path.stem, audio=path.relative_to(root).as_posix(), text=words(texts, path.stem), label=line['EmoClass'],
                speaker='' if speaker.lower() == 'unknown' else speaker, dialogue=dialogue[1] if dialogue else '',
                gender=GENDERS.get(line['Gender'].lower(), ''), language='en', valence=line['EmoVal'], arousal=line['EmoAct'],
                dominance=line['EmoDom'], part=parts.get(name.lower(), ''), corpus='msp-podcast', set=name)


def words(texts, name):
    "What the transcript of `name` says, `''` where there is none"
    try: return ' '.join((texts/f'{name}.txt').read_text('utf-8-sig', errors='replace').split()) if texts else ''
    except OSError: return ''


def shortfall(root, n):
    "One sentence where the release that `readme.txt` names holds other than the `n` recordings found; none where it names none"
    try: about = (root/'readme.txt').read_text('utf-8', errors='replace')
    except OSError: return []
    m = re.search(r'Release\s+(\d+\.\d+)', about)
    whole = m and TURNS.get(m[1])
    return [f'{n:,} of the {whole:,} recordings of MSP-Podcast {m[1]} found'] if whole and whole != n else []
