"EMOVO (Costantini et al., LREC 2014): six actors say 14 Italian sentences in seven emotions, 588 utterances"
import re

from ..manifest import as_manifest
from . import Corpus
from .files import read_names, shortfall

# disgusto, gioia, neutro, paura, rabbia, sorpresa, tristezza
CODES = dict(dis='disgust', gio='happy', neu='neutral', pau='fear', rab='angry', sor='surprised', tri='sad')
UTTERANCES = dict.fromkeys(CODES.values(), 84)
TEXTS = dict(  # short, long, nonsense, questions
    b1='Gli operai si alzano presto.',
    b2='I vigili sono muniti di pistola.',
    b3='La cascata fa molto rumore.',
    l1="L'autunno prossimo Tony partirà per la Spagna nella prima metà di ottobre.",
    l2='Ora prendo la felpa di là ed esco per fare una passeggiata.',
    l3="Un attimo dopo s'è incamminato ... ed è inciampato.",
    l4='Vorrei il numero telefonico del Signor Piatti.',
    n1='La casa forte vuole col pane.',
    n2="La forza trova il passo e l'aglio rosso.",
    n3='Il gatto sta scorrendo nella pera.',
    n4="Insalata pastasciutta coscia d'agnello limoncello.",
    n5='Uno quarantatré dieci mille cinquantasette venti.',
    d1='Sabato sera cosa farà?',
    d2='Porti con te quella cosa?',
)
NAME = re.compile(r'(dis|gio|neu|pau|rab|sor|tri)-([fm][1-3])-([blnd]\d)', re.IGNORECASE)  # emotion, speaker, sentence


def read(root):
    """EMOVO as a `Corpus`, from file names alone; `root` holds `f1` to `m3`, or the folder `EMOVO` with them.

    `dis-f1-b1.wav` is disgust, the first woman, the first short sentence (`b`; `l` long, `n` nonsense, `d` question).
    """
    rows, skipped = read_names(root, row, 'dis-f1-b1.wav', 'EMOVO')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall('EMOVO', [CODES[row['label']] for row in rows], UTTERANCES))


def row(path):
    if not (m := NAME.fullmatch(path.stem)): return 'the name does not follow EMOVO (dis-f1-b1.wav)'
    label, speaker, script = (part.lower() for part in m.groups())
    if script not in TEXTS: return f'EMOVO has no sentence {script}'
    return dict(id=f'{label}-{speaker}-{script}', text=TEXTS[script], label=label, speaker=speaker, script=script, gender=speaker[0],
                language='it', corpus='emovo')
