"RAVDESS (Livingstone & Russo, PLOS ONE 2018): 24 actors say two English sentences in eight emotions, 1,440 spoken utterances"
import re

from ..manifest import as_manifest
from . import Corpus
from .files import read_names, shortfall

CODES = {'01': 'neutral', '02': 'calm', '03': 'happy', '04': 'sad', '05': 'angry', '06': 'fear', '07': 'disgust', '08': 'surprised'}
UTTERANCES = dict.fromkeys(CODES.values(), 192) | dict(neutral=96)  # neutral has no strong intensity
TEXTS = {'01': 'Kids are talking by the door.', '02': 'Dogs are sitting by the door.'}
ACTORS = {f'{n:02}': 'm' if n % 2 else 'f' for n in range(1, 25)}
# Modality, vocal channel, emotion, intensity, statement, repetition, actor
NAME = re.compile(r'(0[1-3])-(0[12])-(0[1-8])-0[12]-(0[12])-0[12]-(\d\d)')


def read(root):
    """The spoken part of RAVDESS as a `Corpus`, from file names alone; `root` holds `Actor_01` to `Actor_24`, at any depth.

    `03-01-06-01-02-01-12.wav` is sound alone (03), speech (01), fear (06), sentence 02, actor 12; odd actors are men. Songs, the sound
    of videos, and the copies that Kaggle's archive has in `audio_speech_actors_01-24` go to `skipped`.
    """
    rows, skipped = read_names(root, row, '03-01-06-01-02-01-12.wav', 'RAVDESS')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall('RAVDESS speech', [CODES[row['label']] for row in rows], UTTERANCES))


def row(path):
    if not (m := NAME.fullmatch(path.stem)): return 'the name does not follow RAVDESS (03-01-06-01-02-01-12.wav)'
    modality, channel, label, script, actor = m.groups()
    if actor not in ACTORS: return f'RAVDESS has no actor {actor}'
    if channel == '02': return 'it is sung (vocal channel 02): speech alone is read'
    if modality != '03': return f'it belongs to a video (modality {modality}): sound alone (03) is read'
    return dict(id=path.stem, text=TEXTS[script], label=label, speaker=actor, script=script, gender=ACTORS[actor], language='en',
                corpus='ravdess')
