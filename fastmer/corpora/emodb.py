"EMO-DB (Burkhardt et al., Interspeech 2005): ten actors read ten German sentences in seven emotions, 535 utterances"
import re
from collections import Counter
from pathlib import Path

from ..errors import FastmerError
from ..manifest import as_manifest
from . import Corpus
from .folders import printable

# The letter is that of the German word: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral
CODES = dict(W='angry', L='boredom', E='disgust', A='fear', F='happy', T='sad', N='neutral')
UTTERANCES = dict(W=127, L=81, E=46, A=69, F=71, T=62, N=79)
GENDERS = {'03': 'm', '08': 'f', '09': 'f', '10': 'm', '11': 'm', '12': 'm', '13': 'f', '14': 'f', '15': 'm', '16': 'f'}
TEXTS = {
    'a01': 'Der Lappen liegt auf dem Eisschrank.',
    'a02': 'Das will sie am Mittwoch abgeben.',
    'a04': 'Heute abend könnte ich es ihm sagen.',
    'a05': 'Das schwarze Blatt Papier befindet sich da oben neben dem Holzstück.',
    'a07': 'In sieben Stunden wird es soweit sein.',
    'b01': 'Was sind denn das für Tüten, die da unter dem Tisch stehen?',
    'b02': 'Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.',
    'b03': 'An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.',
    'b09': 'Ich will das eben wegbringen und dann mit Karl was trinken gehen.',
    'b10': 'Die wird auf dem Platz sein, wo wir sie immer hinlegen.',
}
NAME = re.compile(r'(\d\d)([ab]\d\d)([WLEAFTN])[a-z]?', re.IGNORECASE)  # speaker, text, emotion, take


def read(root):
    """EMO-DB as a `Corpus`, from file names alone; `root` holds the wavs, or the folder `wav` with them.

    `03a01Fa.wav` is speaker 03, text a01, F = Freude (happiness), take a. A wav whose name does not fit goes to `skipped`.
    Raises `FastmerError` where no name fits.
    """
    root = Path(root)
    if not root.is_dir(): raise FastmerError(f'{root} is no folder: give the folder that holds the EMO-DB wavs')
    folder = next((path for path in sorted(root.iterdir()) if path.name.lower() == 'wav' and path.is_dir()), root)
    wavs = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == '.wav' and not path.name.startswith('.')]
    rows, skipped = [], []
    for path in wavs:
        audio, m = path.relative_to(root).as_posix(), NAME.fullmatch(path.stem)
        reason = 'the name does not follow EMO-DB (03a01Fa.wav)' if m is None else unknown(m[1], m[2].lower())
        if reason: skipped.append(dict(id=printable(path.stem), audio=printable(audio), reason=reason))
        else: rows.append(dict(id=path.stem, audio=audio, text=TEXTS[m[2].lower()], label=m[3].upper(), speaker=m[1],
                               script=m[2].lower(), gender=GENDERS[m[1]], language='de', corpus='emodb'))
    if not rows: raise FastmerError(f'{folder} holds no wav named like 03a01Fa.wav: give the folder that holds the EMO-DB wavs')
    return Corpus(as_manifest(rows), CODES, skipped, shortfall(rows))


def unknown(speaker, text):
    "Why EMO-DB has no such speaker or text, or `''`"
    if speaker not in GENDERS: return f'EMO-DB has no speaker {speaker}'
    return '' if text in TEXTS else f'EMO-DB has no text {text}'


def shortfall(rows):
    "One sentence on what differs from the 535 utterances of the whole corpus; none when nothing does"
    have, whole = Counter(row['label'] for row in rows), sum(UTTERANCES.values())
    parts = [f'{CODES[code]} {have[code]} of {n}' for code, n in UTTERANCES.items() if have[code] != n]
    return [f'{len(rows)} of the {whole} utterances of EMO-DB found: {", ".join(parts)}'] if parts else []
