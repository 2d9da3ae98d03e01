"TESS (Dupuis & Pichora-Fuller, University of Toronto 2010): two women say 200 English words in seven emotions, 2,800 utterances"
import re

from ..manifest import as_manifest
from . import Corpus
from .files import read_names, shortfall

CODES = dict(angry='angry', disgust='disgust', fear='fear', happy='happy', neutral='neutral', ps='surprised', sad='sad')
UTTERANCES = dict.fromkeys(CODES.values(), 400)
# Speaker, word, emotion; one file is called OA_bite_neutral.wav
NAME = re.compile(r'(OAF?|YAF)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)', re.IGNORECASE)


def read(root):
    """TESS as a `Corpus`, from file names alone, whatever the folders are called and however deep they lie.

    `OAF_back_ps.wav` is the older woman, "Say the word back", pleasant surprise. What stands twice, as in Kaggle's archive with its
    second `TESS Toronto emotional speech set data`, is read once, and the copy goes to `skipped`.
    """
    rows, skipped = read_names(root, row, 'OAF_back_angry.wav', 'TESS')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall('TESS', [CODES[row['label']] for row in rows], UTTERANCES))


def row(path):
    if not (m := NAME.fullmatch(path.stem)): return 'the name does not follow TESS (OAF_back_angry.wav)'
    speaker, word, label = m[1].upper(), m[2].lower(), m[3].lower()
    if speaker == 'OA': speaker = 'OAF'
    return dict(id=f'{speaker}_{word}_{label}', text=f'Say the word {word}.', label=label, speaker=speaker, script=word, gender='f',
                language='en', corpus='tess')
