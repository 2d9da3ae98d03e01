"ESD (Zhou et al., ICASSP 2021): ten Mandarin and ten English speakers read 350 sentences in five emotions, 35,000 utterances"
import re
from functools import cache
from pathlib import Path

from ..manifest import as_manifest
from . import Corpus
from .files import read_names, shortfall

CODES = dict(Angry='angry', Happy='happy', Neutral='neutral', Sad='sad', Surprise='surprised')
UTTERANCES = dict.fromkeys(CODES.values(), 7000)
GENDERS = {f'{n:04d}': gender for n, gender in enumerate('fffmmmfmfmmmmmfffffm', 1)}  # 0001 to 0010 speak Mandarin
SENTENCES = 350
PARTS = dict(train='train', evaluation='valid', test='test')  # folders of the layout that has them
WORDS = {*CODES, '生气', '快乐', '中立', '伤心', '惊喜'}  # what ends a line of a transcript
NAME = re.compile(r'(\d{4})_(\d{6})')
HAN = re.compile('[\u4e00-\u9fff]')


def read(root):
    """ESD as a `Corpus`; `root` holds the speakers' folders, at any depth.

    `0001/Angry/0001_000351.wav`, or `0001/Angry/train/0001_000351.wav`, where the last folder is the part and `evaluation` is `valid`.
    Emotion and part are those of the folders; the script is language and sentence, which all its speakers read in all five emotions.
    Raises `FastmerError` where no file fits.
    """
    texts = cache(transcript)
    rows, skipped = read_names(root, lambda path: row(path, texts), '0001/Angry/0001_000351.wav', 'ESD')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall('ESD', [CODES[row['label']] for row in rows], UTTERANCES))


def row(path, texts):
    "The manifest row of a wav, or why it does not fit; `texts(file)` gives a speaker's transcript"
    if not (m := NAME.fullmatch(path.stem)): return 'the name does not follow ESD (0001_000351.wav)'
    speaker, number = m[1], int(m[2])
    if speaker not in GENDERS: return f'ESD has no speaker {speaker}'
    if not 1 <= number <= SENTENCES*len(CODES): return f'ESD has no utterance {m[2]}'
    part = PARTS.get(path.parent.name.lower(), '')
    folder = path.parent.parent if part else path.parent
    if (label := folder.name.capitalize()) not in CODES: return f'it lies in no folder of an emotion ({", ".join(CODES)})'
    language = 'zh' if speaker <= '0010' else 'en'
    return dict(id=path.stem, text=texts(folder.parent/f'{speaker}.txt').get(path.stem, ''), label=label, speaker=speaker,
                script=f'{language}{(number - 1) % SENTENCES + 1:03d}', gender=GENDERS[speaker], language=language, part=part, corpus='esd')


def transcript(path):
    "Utterance -> text of a speaker's transcript: name, text and emotion, between tabs or spaces"
    try: lines = decode(Path(path).read_bytes(), path.stem > '0010').splitlines()
    except OSError: return {}
    out = {}
    for name, *words in (line.split() for line in lines if line.strip()):
        out[name] = ' '.join(words[:-1] if words and words[-1] in WORDS else words)
    return out


def decode(data, english):
    "The text of a transcript: they come in UTF-16, UTF-8, GBK and, of English speakers, Windows-1252"
    if data[:2] in (b'\xff\xfe', b'\xfe\xff'): return data.decode('utf-16', errors='replace')
    if b'\0' in data: return data.decode('utf-16-le', errors='replace')
    try: return data.decode('utf-8-sig')
    except UnicodeDecodeError: text = data.decode('gb18030', errors='replace')
    return data.decode('cp1252', errors='replace') if english and HAN.search(text) else text
