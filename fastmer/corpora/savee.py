"SAVEE (Haq & Jackson, University of Surrey 2009): four Englishmen read TIMIT sentences in seven emotions, 480 utterances"
import re

from ..manifest import as_manifest
from . import Corpus
from .files import read_names, shortfall

CODES = dict(a='angry', d='disgust', f='fear', h='happy', n='neutral', sa='sad', su='surprised')
UTTERANCES = dict.fromkeys(CODES.values(), 60) | dict(neutral=120)
SPEAKERS = ('DC', 'JE', 'JK', 'KL')
COMMON = 3  # sentences that are read in every emotion, the first ones
NOTE = 'SAVEE reads 12 of its neutral sentences in another emotion too and does not say which: different scripts may share words'
NAME = re.compile(r'(?:(DC|JE|JK|KL)_)?(a|d|f|h|n|sa|su)(\d\d)', re.IGNORECASE)  # speaker in flat copies, emotion, sentence


def read(root):
    """SAVEE as a `Corpus`, from file names alone; `root` holds `AudioData/DC/a01.wav` and so on, or flat copies, `DC_a01.wav`.

    A sentence number counts within its emotion: only the first three are the same in all (script `01` to `03`, the rest `a04`). The
    corpus does not publish which number is which sentence, so `text` stays empty.
    """
    rows, skipped = read_names(root, row, 'DC/a01.wav or DC_a01.wav', 'SAVEE')
    return Corpus(as_manifest(rows), CODES, skipped, [*shortfall('SAVEE', [CODES[row['label']] for row in rows], UTTERANCES), NOTE])


def row(path):
    if not (m := NAME.fullmatch(path.stem)): return 'the name does not follow SAVEE (a01.wav or DC_a01.wav)'
    speaker, label, number = (m[1] or path.absolute().parent.name).upper(), m[2].lower(), m[3]
    if speaker not in SPEAKERS: return f'it lies in no folder of a speaker, {", ".join(SPEAKERS)}'
    if not 1 <= int(number) <= (30 if label == 'n' else 15): return f'SAVEE has no {CODES[label]} sentence {number}'
    return dict(id=f'{speaker}_{label}{number}', label=label, speaker=speaker, script=number if int(number) <= COMMON else label + number,
                gender='m', language='en', corpus='savee')
