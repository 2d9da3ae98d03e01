"ShEMO (Mohamad Nezami et al., 2019): Persian radio plays, 87 speakers, six emotions, 3,000 utterances"
import json
import re
from pathlib import Path

from ..errors import FastmerError
from ..manifest import as_manifest
from . import Corpus
from .files import read_names

CODES = dict(A='angry', F='fear', H='happy', N='neutral', S='sad', W='surprised')
UTTERANCES, SPEAKERS = 3000, 87
NAME = re.compile(r'([FM])(\d\d)([AFHNSW])(\d+)')  # gender, speaker within it, emotion, utterance
SHIFTED = 'many transcripts of ShEMO stand under the name of another utterance: modified_shemo.json (github.com/aliyzd95) mends them'


def read(root):
    """ShEMO as a `Corpus`, from file names; `root` holds the folders `male` and `female`, or the wavs.

    `F03S02.wav` is female speaker 03, sadness, utterance 2. Transcripts come from `modified_shemo.json`, `shemo.json` or `*.ort`,
    the first that is there. Raises `FastmerError` where no name fits.
    """
    rows, skipped = read_names(root, row, 'F01A01.wav', 'ShEMO')
    texts, notes = transcripts(Path(root))
    for row_ in rows: row_['text'] = texts.get(row_['id'], '')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall(rows) + notes)


def row(path):
    "The manifest row of a wav, or why its name does not fit"
    name = path.stem.upper()
    if not (m := NAME.fullmatch(name)): return 'the name does not follow ShEMO (F01A01.wav)'
    return dict(id=name, label=m[3], speaker=m[1] + m[2], gender=m[1].lower(), language='fa', corpus='shemo')


def transcripts(root):
    "`(utterance -> text, notes)`"
    for name, key in ('modified_shemo.json', 'speech_name'), ('shemo.json', 'id'):
        path = next((path for path in sorted(root.rglob(name)) if path.is_file()), None)
        if path: return from_json(path, key), [SHIFTED] if key == 'id' else []
    found = {path.stem.upper(): path for path in sorted(root.rglob('*.ort')) if path.is_file() and path.name[0] != '.'}
    texts = {name: clean(path.read_text('utf-8', errors='replace')) for name, path in found.items()}
    return texts, [SHIFTED] if texts else []


def from_json(path, key):
    "Utterance -> text of a list of entries, or of a table of them"
    try:
        entries = json.loads(path.read_text('utf-8-sig'))
        return {entry[key].upper(): clean(entry['transcript']) for entry in (entries.values() if isinstance(entries, dict) else entries)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise FastmerError(f'{path} cannot be read as the transcripts of ShEMO ({e}): fetch it again, or take it away') from None


def clean(text): return ' '.join(text.replace('\ufeff', ' ').split())


def shortfall(rows):
    "One sentence on what differs from the published totals; none when nothing does"
    n, speakers = len(rows), len({row['speaker'] for row in rows})
    if (n, speakers) == (UTTERANCES, SPEAKERS): return []
    return [f'{n:,} of the {UTTERANCES:,} utterances of ShEMO found, {speakers} of {SPEAKERS} speakers']
