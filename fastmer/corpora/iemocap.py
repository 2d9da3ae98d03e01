"IEMOCAP (Busso et al., 2008): acted dialogues in English, ten speakers in five sessions, 10,039 labelled turns"
import re
from collections import Counter
from pathlib import Path

from ..errors import FastmerError
from ..labels import as_votes
from ..manifest import as_manifest
from . import Corpus

CODES = dict(ang='angry', hap='happy', exc='excited', sad='sad', neu='neutral', fru='frustrated', sur='surprised', fea='fear',
             dis='disgust', oth='other', xxx='undecided')

VOTES = dict(anger='ang', happiness='hap', excited='exc', sadness='sad', neutral='neu', frustration='fru', surprise='sur', fear='fea',
             disgust='dis', other='oth') | {'neutral state': 'neu'}  # what raters write

# What the complete release holds
TURNS = dict(neu=1708, fru=1849, ang=1103, sad=1084, exc=1041, hap=595, sur=107, fea=40, oth=3, dis=2, xxx=2507)
DIALOGUES = {'1': 28, '2': 30, '3': 32, '4': 30, '5': 31}
FOUR = {'1': 1085, '2': 1023, '3': 1151, '4': 1031, '5': 1241}  # turns in the four classes, by session
FOUR_CODES = ('ang', 'hap', 'exc', 'sad', 'neu')

NAME = re.compile(r'Ses0(\d)[FM]_(\w*?\d)[a-z]?')  # session, script; the last letter is the take
NUM = r'(\d+(?:\.\d+)?)'
TURN = re.compile(rf'\[\s*{NUM}\s*-\s*{NUM}\s*\]\s+((\S+)_([FM])\w+)\s+(\S+)(?:\s+\[([^\]]*)\])?\s*')
RATER = re.compile(r'[CA]-[A-Z]\d+:([^(]*)')  # a comment in brackets follows
LOOKS_LIKE_TURN = re.compile(r'\s*\[|(?![CA]-).*Ses\d\d[FM]_')
TAG = re.compile(r'\[\s*[A-Za-z][A-Za-z _-]*\]')  # [LAUGHTER], [BREATHING], [GARBAGE], [garbage], [LIPSMACK]


def read(root):
    """IEMOCAP as a `Corpus`; `root` is `IEMOCAP_full_release` or the folder that holds it.

    Labels come from `Session*/dialog/EmoEvaluation/*.txt` alone. A speaker is session + turn letter (`Ses01F`), a script the
    dialogue name without session, speaker and take (`Ses03M_impro05a` -> `impro05`): all sessions act the same scripts. `votes`
    are those of the evaluators (`C-E1` and so on), as the label itself is; what actors said of themselves (`C-F1`, `C-M1`) is left
    out. An evaluator who names several emotions has one vote, shared among them. What differs from the complete release stands in
    `notes`. Raises `FastmerError` where no such folder is found.
    """
    root = release(root)
    files = sorted(root.glob('Session[1-5]/dialog/EmoEvaluation/Ses*.txt'))
    odd = [path for path in files if not NAME.fullmatch(path.stem)]
    files = [path for path in files if path not in odd]
    texts, found, skipped, bad, unread = transcripts(root), {}, [], [], []
    for path in files:
        rated = Counter()
        for n, line in enumerate(lines(path), 1):
            if said := RATER.match(line):
                if line.startswith('C-E'): unread += vote(said[1], rated)
                continue
            turn = row(line, path)
            if line.strip(): rated = Counter()  # raters of another turn, or of none that can be read
            if turn is None:
                if LOOKS_LIKE_TURN.match(line): bad.append(f'{path.relative_to(root).as_posix()} line {n}')
            elif turn['label'] not in CODES:
                skipped.append(skip(turn, f'{turn["label"]!r} is none of the codes {", ".join(CODES)}'))
            elif turn['id'] in found:
                skipped.append(skip(turn, f'it is labelled a second time in {path.relative_to(root).as_posix()} line {n}'))
            else: found[turn['id']] = turn | dict(text=texts.get(turn['id'], ''), votes=rated)
    if not found: raise FastmerError(f'{root} has no labelled turn in Session*/dialog/EmoEvaluation: unpack it again')
    notes = shortfall(found.values(), Counter(NAME.fullmatch(path.stem)[1] for path in files))
    wavs = {path.relative_to(root).as_posix() for path in root.glob('Session[1-5]/sentences/wav/*/*.wav')}
    if lost := [turn for turn in found.values() if turn['audio'] not in wavs]:
        if len(lost) == len(found):
            notes.append('no wav is there in Session*/sentences/wav: read as text only')
            for turn in lost: turn['audio'] = ''
        else:
            notes.append(f'{count(len(lost), "labelled turn")} without a wav left out')
            skipped += [skip(turn, 'the wav is not there') for turn in lost]
            for turn in lost: del found[turn['id']]
    mute = sum(name not in texts for name in found)
    if mute: notes.append(f'{count(mute, "labelled turn")} without a transcript, whose text is empty')
    if bad: notes.append(f'{count(len(bad), "line")} that cannot be read left out, first {bad[0]}')
    if odd: notes.append(f'{count(len(odd), "file")} in EmoEvaluation named after no dialogue left out, first {odd[0].name}')
    if unread: notes.append(f'{count(len(unread), "vote")} that cannot be read left out, first {unread[0]!r}')
    return Corpus(as_manifest([turn | dict(votes=as_votes(turn['votes'])) for turn in found.values()]), CODES, skipped, notes, root)


def release(root):
    "The folder that holds `Session1` to `Session5`: `root` itself, or the one folder in it that does"
    root = Path(root)
    inside = sorted({path.parents[2] for path in root.glob('*/Session[1-5]/dialog/EmoEvaluation')})
    if any(root.glob('Session[1-5]/dialog/EmoEvaluation')): return root
    if (usual := root / 'IEMOCAP_full_release') in inside: return usual
    if len(inside) == 1: return inside[0]
    if inside: raise FastmerError(f'{root} holds several IEMOCAPs, {", ".join(p.name for p in inside)}: give the one to read')
    raise FastmerError(f'{root} is no IEMOCAP, it has no Session1/dialog/EmoEvaluation: give the folder IEMOCAP_full_release')


def lines(path):
    "Lines of a text file in UTF-8 or Windows-1252, with any line ends"
    try: data = path.read_bytes()
    except OSError as e: raise FastmerError(f'{path} cannot be read ({e.strerror}): check the copy of the corpus') from None
    try: text = data.decode('utf-8-sig')
    except UnicodeDecodeError: text = data.decode('cp1252', errors='replace')
    return re.split(r'\r\n|\r|\n', text)


def transcripts(root):
    "Turn name -> text without tags; lines that are no turn (`M: sorry`) are passed over"
    out = {}
    for path in sorted(root.glob('Session[1-5]/dialog/transcriptions/Ses*.txt')):
        for line in lines(path):
            head, sep, text = line.partition(']:')
            if sep and head.startswith('Ses'): out.setdefault(head.split()[0], ' '.join(TAG.sub(' ', text).split()))
    return out


def row(line, path):
    "The manifest row of an EmoEvaluation line, `None` where it is no turn of the dialogue that `path` is named after"
    if not (m := TURN.fullmatch(line)) or m[4] != path.stem: return None
    start, end = float(m[1]), float(m[2])
    if end <= start: return None
    session, script = NAME.fullmatch(path.stem).groups()
    vad = [float(x) if re.fullmatch(NUM, x.strip()) else float('nan') for x in (m[7] or '').split(',')]
    valence, arousal, dominance = vad if len(vad) == 3 else [float('nan')] * 3
    return dict(id=m[3], audio=f'{path.parents[2].name}/sentences/wav/{path.stem}/{m[3]}.wav', label=m[6].lower(),
                speaker=f'Ses0{session}{m[5]}', session=session, dialogue=path.stem, script=script, gender=m[5].lower(),
                language='en', start=start, end=end, duration=round(end - start, 4), valence=valence, arousal=arousal,
                dominance=dominance, corpus='iemocap')


def vote(said, votes):
    "Add the vote of one rater, `Anger; Sadness;`, to `votes` by code; what is no emotion comes back"
    names = [name.strip().lower() for name in said.split(';') if name.strip()]
    codes = [VOTES[name] for name in names if name in VOTES]
    for code in codes: votes[code] += 1/len(codes)
    return [name for name in names if name not in VOTES]


def shortfall(turns, dialogues):
    "Sentences on what differs from the complete release; none when nothing does"
    turns = list(turns)
    labels, four = Counter(t['label'] for t in turns), Counter(t['session'] for t in turns if t['label'] in FOUR_CODES)
    notes = [f'session {s} is missing' for s in DIALOGUES if not dialogues[s]]
    notes += [f'session {s} has {dialogues[s]} of {n} dialogues' for s, n in DIALOGUES.items() if dialogues[s] not in (0, n)]
    if labels != TURNS: notes.append(f'labelled turns found {len(turns):,} of {sum(TURNS.values()):,}: {differ(labels, TURNS)}')
    if four != FOUR:
        notes.append(f'turns in the four classes {four.total():,} of {sum(FOUR.values()):,}: session {differ(four, FOUR)}')
    return notes


def differ(have, known): return ', '.join(f'{key} {have[key]:,} of {n:,}' for key, n in known.items() if have[key] != n)
def count(n, what): return f'{n:,} {what}{"" if n == 1 else "s"}'
def skip(turn, reason): return dict(id=turn['id'], audio=turn['audio'], reason=reason)
