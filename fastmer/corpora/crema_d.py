"CREMA-D (Cao et al., IEEE Transactions on Affective Computing 2014): 91 actors say twelve English sentences in six emotions, 7,442 clips"
import re

from ..manifest import as_manifest
from . import Corpus
from .files import read_names, shortfall

CODES = dict(ANG='angry', DIS='disgust', FEA='fear', HAP='happy', NEU='neutral', SAD='sad')
CLIPS = dict.fromkeys(CODES.values(), 1271) | dict(neutral=1087)
TEXTS = dict(
    IEO="It's eleven o'clock.", TIE='That is exactly what happened.', IOM="I'm on my way to the meeting.",
    IWW='I wonder what this is about.', TAI='The airplane is almost full.', MTI='Maybe tomorrow it will be cold.',
    IWL='I would like a new alarm clock.', ITH="I think I have a doctor's appointment.", DFA="Don't forget a jacket.",
    ITS="I think I've seen this before.", TSI='The surface is slick.', WSI="We'll stop in a couple of minutes.")
ACTORS = [str(n) for n in range(1001, 1092)]
WOMEN = {str(n) for n in (
    1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028, 1029, 1030, 1037, 1043, 1046, 1047,
    1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063, 1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091)}
# What the corpus's README says of single files; it finds fault with one WAV only
FAULTS = {'1076_MTI_SAD_XX.wav': 'very short and without sound', '1076_MTI_SAD_XX.mp3': 'very short and without sound',
          '1076_MTI_NEU_XX.mp3': 'very short and without sound', '1064_TIE_SAD_XX.mp3': 'without duration',
          '1064_IEO_DIS_MD.mp3': 'a minute of all emotions'}
NAME = re.compile(r'(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)', re.IGNORECASE)  # actor, sentence, emotion, level


def read(root):
    """CREMA-D as a `Corpus`, from file names alone; `root` holds the clips, or `AudioWAV` or `AudioMP3` with them.

    `1001_DFA_ANG_XX.wav` is actor 1001, sentence DFA, anger, level unspecified; `1040_ITH_SAD_X.wav`, which lacks an X, gets the id of
    the corpus's tables. Where a clip is there as WAV and MP3, the WAV is read. What the README calls faulty goes to `skipped`.
    """
    rows, skipped = read_names(root, row, '1001_DFA_ANG_XX.wav', 'the clips of CREMA-D')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall('CREMA-D', [CODES[row['label']] for row in rows], CLIPS))


def row(path):
    if not (m := NAME.fullmatch(path.stem)): return 'the name does not follow CREMA-D (1001_DFA_ANG_XX.wav)'
    actor, script, label, level = m[1], m[2].upper(), m[3].upper(), m[4].upper()
    name = f'{actor}_{script}_{label}_{"XX" if level == "X" else level}'
    if actor not in ACTORS: return f'CREMA-D has no actor {actor}'
    if script not in TEXTS: return f'CREMA-D has no sentence {script}'
    if fault := FAULTS.get(name + path.suffix.lower()): return f'CREMA-D calls it faulty: {fault}'
    return dict(id=name, text=TEXTS[script], label=label, speaker=actor, script=script, gender='f' if actor in WOMEN else 'm',
                language='en', corpus='crema-d')
