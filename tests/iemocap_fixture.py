"""A made-up IEMOCAP: the layout, the traps and the published counts, and not one word of the corpus

Words are invented, sounds are tones. Traps: takes (`impro05a`, `script01_1b`), turns of both speakers in every dialogue,
unlabelled turns (`_FXX0`), noise lines, `._` files, per-rater labels in subfolders, turns of tags only, several labels on a
rater line, blank ratings, raters that vary, Windows-1252, CRLF, decoy recordings in `dialog/wav`.
"""
import os
import random
import shutil
import wave
from pathlib import Path

import numpy as np

SCRIPTS = ('script01_1', 'script01_2', 'script01_3', 'script02_1', 'script02_2', 'script03_1', 'script03_2')
IMPROS = tuple(f'impro{n:02d}' for n in range(1, 9))
TAKES = ('impro01', 'impro02', 'impro03', 'impro04', 'impro05a', 'impro05b', 'impro06', 'impro07', 'impro08a', 'impro08b')
FULL_DIALOGUES = {  # session: what its F and its M dialogues are called
    1: (SCRIPTS + IMPROS[:7], SCRIPTS + IMPROS[:7]),
    2: (SCRIPTS + IMPROS, SCRIPTS + IMPROS),
    3: (SCRIPTS + IMPROS, SCRIPTS + TAKES),
    4: (SCRIPTS + IMPROS, SCRIPTS + IMPROS),
    5: (SCRIPTS + IMPROS, (*SCRIPTS, 'script01_1b', *IMPROS)),
}
SMALL = (('impro01', 'script01_1'), ('impro02', 'script01_1'))
SMALL_DIALOGUES = {1: SMALL, 2: SMALL, 3: (SMALL[0], ('impro05a', 'impro05b', 'script01_1')), 4: SMALL,
                   5: (SMALL[0], ('impro02', 'script01_1', 'script01_1b'))}
FULL_LABELS = {  # session: turns by label
    1: dict(ang=229, hap=135, exc=143, sad=194, neu=384, fru=280, sur=22, fea=10, oth=1, dis=1, xxx=420),
    2: dict(ang=137, hap=117, exc=210, sad=197, neu=362, fru=325, sur=18, fea=9, oth=0, dis=0, xxx=436),
    3: dict(ang=240, hap=135, exc=151, sad=305, neu=320, fru=382, sur=25, fea=8, oth=1, dis=1, xxx=568),
    4: dict(ang=327, hap=65, exc=238, sad=143, neu=258, fru=481, sur=20, fea=7, oth=1, dis=0, xxx=563),
    5: dict(ang=170, hap=143, exc=299, sad=245, neu=384, fru=381, sur=22, fea=6, oth=0, dis=0, xxx=520),
}
SMALL_LABELS = {n: dict(ang=6, hap=4, exc=4, sad=6, neu=8, fru=4, sur=2, fea=1, oth=int(n == 1), dis=int(n == 2), xxx=4)
                for n in range(1, 6)}
FULL_TAGS = {'[LAUGHTER]': 166, '[BREATHING]': 57, '[GARBAGE]': 32, '[garbage]': 14, '[laughter]': 1, '[LIPSMACK]': 1}
SMALL_TAGS = dict.fromkeys(FULL_TAGS, 2)
TAG_ONLY = {True: 54, False: 5}  # turns of tags only, by `full`
CATEGORIES = dict(ang='Anger', hap='Happiness', exc='Excited', sad='Sadness', neu='Neutral state', fru='Frustration',
                  sur='Surprise', fea='Fear', oth='Other', dis='Disgust', xxx='Other')
PITCHES = dict(ang=330, hap=280, exc=290, sad=140, neu=190, fru=230, sur=380, fea=300, oth=210, dis=170, xxx=250)
VAD = dict(ang=(1.8, 3.8, 4.), hap=(4.1, 3.2, 3.1), exc=(4., 3.7, 3.4), sad=(2.1, 2.2, 2.6), neu=(3., 2.5, 2.9),
           fru=(2.2, 3.1, 3.4))
HEADER = '% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]'
RATE = 16000


def make_iemocap(root, full=False, wavs=True, seed=0):
    """Write a made-up `IEMOCAP_full_release` under `root` and return its path.

    `full`: 151 dialogues and 10,039 labelled turns with the published counts, wavs of 0.6 s that share a few files; else 22
    dialogues and 197 labelled turns, whose wavs last as long as their times say. `wavs=False`: text only.
    """
    top, rng = Path(root)/'IEMOCAP_full_release', random.Random(seed)
    words = Words(rng)
    turns = make_turns(full, rng, words)
    tag_turns([turn for turn in turns if turn['labelled']], full, rng)
    for name in dict.fromkeys(turn['dialogue'] for turn in turns):
        write_dialogue(top, name, [turn for turn in turns if turn['dialogue'] == name], rng, crlf=name.endswith('F_impro01'))
    if wavs: write_wavs(top, turns, full, np.random.default_rng(seed))
    for n in range(1, 6):
        for kind in ('avi', 'lab', 'MOCAP_hand', 'MOCAP_head', 'MOCAP_rotated'): (top/f'Session{n}/dialog'/kind).mkdir()
        (top/f'Session{n}/sentences/ForcedAlignment').mkdir(parents=True)
    return top


class Words:
    "Sentences of invented words; every label has words of its own, every script lines that all sessions share"
    def __init__(self, rng):
        parts = [a + b for a in 'bdfklmnprstvz' for b in 'aeiou']
        word = lambda: ''.join(rng.choices(parts, k=rng.randint(2, 3)))
        self.rng, self.common = rng, ['kélo', *(word() for _ in range(300))]
        self.own = {label: [word() for _ in range(8)] for label in CATEGORIES}
        self.lines = {script: [self.sentence() for _ in range(120)] for script in SCRIPTS}

    def sentence(self, label=None):
        words = self.rng.choices(self.common, k=self.rng.randint(3, 11))
        if label: words[self.rng.randrange(len(words))] = self.rng.choice(self.own[label])
        return ' '.join(words).capitalize() + '.'

    def line(self, script, n, label):
        "The script's own line `n` three times of five, else something said freely"
        shared = script in self.lines and self.rng.random() < 0.6
        return self.lines[script][n % 120] if shared else self.sentence(label)


def make_turns(full, rng, words):
    "Every turn, labelled or not: each session's labels shuffled and dealt to its dialogues, speakers in turns of one to three"
    turns = []
    for session, by_letter in (FULL_DIALOGUES if full else SMALL_DIALOGUES).items():
        dialogues = [f'Ses0{session}{letter}_{name}' for letter, names in zip('FM', by_letter, strict=True) for name in names]
        labels = shuffled((FULL_LABELS if full else SMALL_LABELS)[session], rng)
        for d, dialogue in enumerate(dialogues):
            clock, count, letter = 6.2901, dict(F=0, M=0, FXX=0, MXX=0), rng.choice('FM')
            for n, label in enumerate(labels[d::len(dialogues)]):
                if rng.random() < 0.6: letter = 'FM'[letter == 'F']
                seconds = min(max(3.6*rng.lognormvariate(0, 0.7), 0.58), 34.1) if full else rng.uniform(0.6, 1.2)
                script = dialogue[7:].rstrip('ab')
                turn = dict(dialogue=dialogue, session=session, letter=letter, script=script, label=label, labelled=True,
                            name=f'{dialogue}_{letter}{count[letter]:03d}', start=clock, end=clock + seconds,
                            text=words.line(script, n, label))
                count[letter] += 1
                turns.append(turn)
                clock += seconds + rng.uniform(-0.2, 1)  # speakers talk over each other
                if n % 11 == 3:
                    name = f'{dialogue}_{letter}XX{count[letter + "XX"]}'
                    turns.append(turn | dict(name=name, labelled=False, text=words.sentence()))
                    count[letter + 'XX'] += 1
    return turns


def tag_turns(turns, full, rng):
    "Some texts become nothing but a tag, others get a tag at one end or between two words"
    tags = shuffled(FULL_TAGS if full else SMALL_TAGS, rng)
    for n, (turn, tag) in enumerate(zip(rng.sample(turns, len(tags)), tags, strict=True)):
        words = turn['text'].split()
        words.insert((0, 1, len(words))[n % 3], tag)
        turn['text'] = tag if n < TAG_ONLY[full] else ' '.join(words)


def shuffled(counts, rng):
    "`{'a': 2, 'b': 1}` -> `['a', 'b', 'a']`"
    return rng.sample(list(counts), counts=list(counts.values()), k=sum(counts.values()))


def write_dialogue(top, dialogue, turns, rng, crlf):
    "EmoEvaluation with its subfolders, and transcriptions, of one dialogue"
    folder, end = top/f'Session{turns[0]["session"]}/dialog', '\r\n' if crlf else '\n'
    labelled = [turn for turn in turns if turn['labelled']]
    blocks = [HEADER, *(block(turn, rng) for turn in labelled)]
    save(folder/'EmoEvaluation'/f'{dialogue}.txt', '\n\n'.join(blocks) + '\n\n', end)
    decoy = '\n\n'.join(block(turn | dict(label='oth'), rng) for turn in labelled)
    for kind, text in dict(Attribute=f'{dialogue}_F000 :act 3; val 3; ()\n', Categorical=decoy).items():
        save(folder/'EmoEvaluation'/kind/f'{dialogue}_e2_{kind[:3].lower()}.txt', text, end)
        save(folder/'EmoEvaluation'/kind/f'{dialogue}.txt', decoy, end)
    save(folder/'EmoEvaluation/Self-evaluation'/f'{dialogue}_f1_cat.txt', f'{dialogue}_F000 :Other; ()\n', end)
    lines = [f'{turn["name"]} [{turn["start"]:08.4f}-{turn["end"]:08.4f}]: {turn["text"]}' for turn in turns]
    lines.insert(len(lines)//2, f'{"FM"[len(lines) % 2]}: sorry')
    save(folder/'transcriptions'/f'{dialogue}.txt', '\n'.join(lines) + '\n', end)
    for kind in ('EmoEvaluation', 'transcriptions'): (folder/kind/f'._{dialogue}.txt').write_bytes(b'\x00\x05\x16\x07Mac OS X')


def block(turn, rng):
    "One turn with its raters: two to four evaluators and the speaker, some with two labels, a comment, no rating"
    valence, arousal, dominance = (x + rng.randint(-1, 1)/2 for x in VAD.get(turn['label'], (2.5, 3., 3.)))
    line = (f'[{turn["start"]:.4f} - {turn["end"]:.4f}]\t{turn["name"]}\t{turn["label"]}\t'
            f'[{valence:.4f}, {arousal:.4f}, {dominance:.4f}]')
    raters = [*(f'E{n}' for n in sorted(rng.sample([1, 2, 3, 4], rng.randint(2, 4)))), turn['letter'] + '1']
    second = lambda: ' Frustration;' if rng.random() < 0.2 else ''
    comment = lambda: rng.choice(['()', '()', '()', '(zibu)', '(tiva [noro] kélo; rather mabi)'])
    lines = [f'C-{rater}:\t{CATEGORIES[turn["label"]]};{second()}\t{comment()}' for rater in raters]
    rating = lambda: rng.randint(1, 5) if rng.random() < 0.9 else ''
    lines += [f'A-{rater}:\tval {rating()}; act {rating()}; dom  {rating()};\t{comment()}' for rater in raters]
    return '\n'.join([line, *lines])


def save(path, text, end='\n'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace('\n', end).encode('cp1252'))


def write_wavs(top, turns, full, rng):
    "`sentences/wav/<dialogue>/<turn>.wav`, a `._` file beside them, and the two-channel decoy in `dialog/wav`"
    made = {}
    for turn in turns:
        session = top/f'Session{turn["session"]}'
        folder, decoy = session/'sentences/wav'/turn['dialogue'], session/'dialog/wav'/f'{turn["dialogue"]}.wav'
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder/f'._{turn["name"]}.wav').write_bytes(b'\x00\x05\x16\x07')
            decoy.parent.mkdir(parents=True, exist_ok=True)
            link_or_write(made, 'decoy', decoy, lambda: tone(200, 0.6, rng, channels=2), 2)
        pitch = PITCHES[turn['label']]*(1.5 if turn['letter'] == 'F' else 1)
        key = (turn['label'], turn['letter']) if full else turn['name']
        seconds = 0.6 if full else turn['end'] - turn['start']
        link_or_write(made, key, folder/f'{turn["name"]}.wav', lambda pitch=pitch, seconds=seconds: tone(pitch, seconds, rng),
                      1)


def link_or_write(made, key, path, samples, channels):
    "A hard link to the file made before for `key`, or a copy where the disk has no links, or a new wav"
    if key in made:
        try: return os.link(made[key], path)
        except OSError: return shutil.copyfile(made[key], path)
    made[key] = path
    with wave.open(str(path), 'wb') as f:
        f.setparams((channels, 2, RATE, 0, 'NONE', 'not compressed'))
        return f.writeframes(samples().tobytes())


def tone(pitch, seconds, rng, channels=1):
    "A tone with two overtones and a little noise, 16 bit, `(samples*channels,)`"
    t = np.arange(round(seconds*RATE))/RATE
    x = sum(np.sin(2*np.pi*pitch*k*t)/k for k in (1, 2, 3))*0.2 + rng.normal(0, 0.01, len(t))
    return np.repeat((x*32767*0.5).astype('<i2'), channels)
