"JL-Corpus (James, Tian and Watson, Interspeech 2018): four New Zealand English speakers, ten emotions, 2,400 utterances"
import re

from ..manifest import as_manifest
from . import Corpus
from .files import read_names, shortfall

PRIMARY = ('angry', 'sad', 'neutral', 'happy', 'excited')
SECONDARY = ('anxious', 'apologetic', 'assertive', 'concerned', 'encouraging')
CODES = {name: name for name in (*PRIMARY, *SECONDARY)}
UTTERANCES = dict.fromkeys(CODES, 240)  # 4 speakers, 15 sentences, 2 sessions, 2 takes
OWN = ('14', '15')  # sentences in which every secondary emotion has words of its own; the others are the same for all ten
NAME = re.compile(r'((?:fe)?male[12])_([a-z]+)_(\d+)[ab]_\d')  # speaker, emotion, sentence; then session and take


def read(root):
    """JL-Corpus as a `Corpus`, from file names; `root` is what was unpacked, or any folder above the wavs.

    `female1_angry_10a_1.wav` is sentence 10, session a, take 1. The script is the sentence: the sessions a and b say the same words.
    Words come from the `.txt` beside the wav. Raises `FastmerError` where no name fits.
    """
    rows, skipped = read_names(root, row, 'female1_angry_10a_1.wav', 'JL-Corpus')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall('JL-Corpus', [row['label'] for row in rows], UTTERANCES))


def row(path):
    "The manifest row of a wav, or why its name does not fit"
    name = path.stem.lower()
    if not (m := NAME.fullmatch(name)): return 'the name does not follow JL-Corpus (female1_angry_10a_1.wav)'
    speaker, label, sentence = m.groups()
    if label not in CODES: return f'JL-Corpus has no emotion {label}'
    if not 1 <= int(sentence) <= 15: return f'JL-Corpus has no sentence {sentence}'
    script = f'{sentence}{label}' if label in SECONDARY and sentence in OWN else sentence
    return dict(id=name, text=words(path), label=label, speaker=speaker, script=script, gender='f' if speaker[0] == 'f' else 'm',
                language='en', corpus='jl-corpus')


def words(path):
    "What the `.txt` beside the wav says, `''` where there is none"
    try: return ' '.join(path.with_suffix('.txt').read_text('utf-8-sig', errors='replace').split())
    except OSError: return ''
