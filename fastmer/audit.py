"""What leaks from training to test: groups, words, sounds and shortcuts that stand on both sides of a split

"Learned from" below is train and valid together: what fitted the model or chose its epoch.
"""
import re
import unicodedata
from functools import lru_cache

import numpy as np
import pandas as pd

from .audio_io import load_audio
from .duplicates import CHECK_RATE, near_audio, near_texts, normalise, same_texts
from .manifest import turns_before
from .prepare import Prepared
from .recordings import OF_FILE, measure
from .shortcuts import SHORTCUTS, TOLD_APART, same_voices, score_shortcut
from .splits import n_folds
from .splits import split as make_split

HELD_OUT = {  # protocol: what a reader of its scores takes to be unseen; anything else that is shared is a warning
    'random': ('speaker', 'session', 'dialogue', 'script', 'text'),
    'speaker': ('speaker',),
    'session': ('speaker', 'session', 'dialogue'),
    'session+script': ('speaker', 'session', 'dialogue', 'script', 'text'),
    'part': ('dialogue',),
    'corpus': ('speaker', 'session', 'dialogue'),
}
GROUPS = ('speaker', 'session', 'dialogue', 'script')
WORDS = 4          # transcripts of fewer words are said by chance: "yes", "I don't know"
SOME_TEXTS = 0.05  # share of the test part above which shared words are no chance any more
MARGIN = 0.05      # by which a shortcut's interval must clear chance
SEVERITIES = ('leak', 'warning', 'note', 'ok')


def _codes(values):
    "A number for each value, -1 where it is empty"
    codes, names = pd.factorize(values.where(values != ''))
    return codes, names


def _few(names, most=10): return ', '.join(map(str, names[:most])) + (f' and {len(names) - most} more' if len(names) > most else '')


class _Sides:
    "Which rows of a manifest are learned from and which tested, fold by fold"
    def __init__(self, df, splits):
        at = pd.Series(np.arange(len(df)), index=df.id)
        self.folds = []
        for split in splits:
            learned, tested = np.zeros(len(df), bool), np.zeros(len(df), bool)
            learned[at[list({*split.train, *split.valid})].to_numpy()] = True
            tested[at[list(split.test)].to_numpy()] = True
            learned &= ~tested  # of the same utterance on both sides, a split itself says that it leaks
            self.folds.append((learned, tested))
        self.tested = sum(int(tested.sum()) for _, tested in self.folds)

    def found(self, check, severity, what, n=0, examples=(), most=10):
        "A line of the audit: `n` of the test utterances are concerned; with `n`, the sentence `what` goes on with that and with examples"
        examples = list(map(str, examples))
        says = f'{what}, with {n} of {self.tested} test utterances: {_few(examples, most)}' if n else what
        return dict(check=check, severity=severity, says=says, n=n, of=self.tested, examples=examples[:20])

    def crossing(self, codes):
        "Of groups, numbers by row (-1: none): those on both sides in some fold, and how many tested rows are in them, over the folds"
        shared, n = set(), 0
        for learned, tested in self.folds:
            both = np.intersect1d(codes[learned & (codes >= 0)], codes[tested & (codes >= 0)])
            shared |= set(both.tolist())
            n += int(np.isin(codes[tested], both).sum())
        return sorted(shared), n

    def pairs(self, pairs):
        "Of pairs of rows `(i, j, ...)`: those with one row on each side in some fold, and how many tested rows are in them"
        hit, n = [], 0
        for pair in pairs:
            i, j = pair[:2]
            if any((a[i] and b[j]) or (a[j] and b[i]) for a, b in self.folds): hit.append(pair)
        for learned, tested in self.folds:
            n += len({a for i, j, *_ in hit for a, b in ((i, j), (j, i)) if tested[a] and learned[b]})
        return hit, n


def _groups(df, sides, held_out):
    for name in GROUPS:
        if (df[name] == '').all(): continue
        codes, names = _codes(df[name].where((df[name] == '') | (name == 'script'), df.corpus + '\t' + df[name]))
        shared, n = sides.crossing(codes)
        severity = 'ok' if not n else 'leak' if name in held_out else 'warning'
        yield sides.found(name, severity, f'{len(shared) if n else "none"} of {len(names)} {name}s on both sides', n,
                          [names[c].rpartition('\t')[2] for c in shared])


def plain_name(name):
    "A speaker's name without what spelling adds: `Spk_03 ` and `spk3` are alike"
    text = unicodedata.normalize('NFKC', str(name)).casefold()
    return ''.join(str(int(part)) if part.isdecimal() else part for part in re.findall(r'[^\W\d_]+|\d+', text))


def _names(df, sides, held_out):
    plain = df.corpus + '\t' + df.speaker.map({name: plain_name(name) for name in df.speaker.unique()})
    spellings = df.speaker.groupby(plain).unique()
    for names in spellings[spellings.map(len) > 1]:
        _, n = sides.crossing(np.where(df.speaker.isin(names), 0, -1))
        if n: yield sides.found('speaker name', 'leak' if 'speaker' in held_out else 'warning',
                                'what looks like one speaker\'s name, spelled in two ways, stands on both sides', n, names)


def _texts(df, sides, held_out, near):
    if (df.text == '').all(): return
    codes = same_texts(df.text)
    first = dict(zip(codes[::-1], df.text.to_numpy()[::-1], strict=True))
    count = {code: len(normalise(text).split()) for code, text in first.items()}  # of each transcript once, however often it is said
    words = np.array([count[code] for code in codes])
    severity = lambda n: 'leak' if 'text' in held_out and n > SOME_TEXTS*sides.tested else 'warning' if n else 'ok'
    shared, n = sides.crossing(np.where(words >= WORDS, codes, -1))
    yield sides.found('same words', severity(n), f'{len(shared) or "no"} transcripts of {WORDS} words and more on both sides', n,
                      [first[c] for c in shared], 3)
    shared, n = sides.crossing(np.where(words < WORDS, codes, -1))
    if n: yield sides.found('short words', 'note', f'{len(shared)} transcripts of fewer than {WORDS} words on both sides', n,
                            [first[c] for c in shared], 5)
    if not near: return
    rows = dict(pd.Series(codes).groupby(codes).groups)
    alike = [(i, j) for a, b, _ in near_texts(df.text) for i in rows[codes[a]][:50] for j in rows[codes[b]][:50]]
    hit, n = sides.pairs(alike)
    shown = list(dict.fromkeys(f'{df.text.iloc[i]} ~ {df.text.iloc[j]}' for i, j in hit))
    yield sides.found('near words', severity(n), f'{len(shown) or "no"} pairs of nearly alike transcripts on different sides', n, shown, 2)


def _paths(df, sides):
    codes, names = _codes(df.audio)
    shared, n = sides.crossing(codes)
    if n: yield sides.found('same file', 'leak', f'{len(shared)} files on both sides, under two ids', n, [names[c] for c in shared])


def _recordings(df, sides, heard):
    "Sounds and pictures that stand on both sides; `heard`: what `measure` gave, by row"
    ids = df.id.to_numpy()
    for check, column, what in (('same audio', 'digest', 'recordings of the same samples'),
                                ('same picture', 'picture', 'spectrograms that are the same picture')):
        codes, _ = _codes(heard[column])
        shared, n = sides.crossing(codes)
        shown = [' = '.join(ids[np.flatnonzero(codes == c)[:4]]) for c in shared[:20]]
        yield sides.found(check, 'leak' if n else 'ok', f'{len(shared) or "no"} {what} on both sides', n, shown)
    rows = np.flatnonzero(heard.digest != '')
    load = lru_cache(16)(lambda i: load_audio(df.audio.iloc[rows[i]], CHECK_RATE, heard.attrs['root']))
    alike = near_audio(list(heard.landmarks.iloc[rows]), load)
    alike = [(rows[i], rows[j], s) for i, j, s in alike if heard.digest.iloc[rows[i]] != heard.digest.iloc[rows[j]]]
    hit, n = sides.pairs(alike)
    shown = [f'{ids[i]} ~ {ids[j]} ({s:.2f})' for i, j, s in hit]
    yield sides.found('near audio', 'leak' if n else 'ok', f'{len(hit) or "no"} cut or re-encoded copies on the other side', n, shown, 5)
    if bad := [f'{i}: {why}' for i, why in zip(ids, heard.failed, strict=True) if why]:
        yield sides.found('recordings', 'warning', f'{len(bad)} recordings could not be read: {_few(bad, 2)}')


def _voices(df, sides, heard, held_out):
    rows = np.flatnonzero(heard.voice.map(len) > 0)
    if (df.speaker == '').any() or not len(rows): return
    speakers = (df.corpus + '\t' + df.speaker).to_numpy()
    pairs, usual = same_voices(np.stack(list(heard.voice.iloc[rows])), speakers[rows], df.label.to_numpy()[rows])
    if not usual >= TOLD_APART:
        why = 'too few speakers have 8 utterances' if np.isnan(usual) else f'even random pairs are hard to tell apart (AUC {usual:.2f})'
        yield sides.found('voice', 'note', f'whether one voice has two names could not be found out: {why}')
        return
    bad = [(a, b, auc, n) for a, b, auc in pairs if (n := sides.crossing(np.where(np.isin(speakers, [a, b]), 0, -1))[1])]
    if not bad: yield sides.found('voice', 'ok', 'no two names on different sides have one voice')
    for a, b, auc, n in bad:
        yield sides.found('voice', 'leak' if 'speaker' in held_out else 'warning',
                          f'two speakers on different sides, who cannot be told apart by voice (AUC {auc:.2f}; most pairs {usual:.2f}), '
                          'may be one person', n, [name.rpartition('\t')[2] for name in (a, b)])


def _shortcuts(df, sides, splits):
    for name, columns in SHORTCUTS.items():
        if not set(columns) <= set(df) or (score := score_shortcut(df, columns, splits)) is None: continue
        (low, high), tells = score['interval'], score['interval'][0] > score['chance'] + MARGIN
        says = f'{name} alone {"tells the label" if tells else "does not tell the label"}: UA {score["ua"]:.3f} [{low:.3f}, {high:.3f}], ' \
               f'chance {score["chance"]:.3f}'
        yield sides.found(f'shortcut: {name}', 'warning' if tells else 'ok', says) | score


def _manifest(df, sides, held_out, near):
    "What the manifest alone tells; `near`: nearly alike transcripts too"
    return [*_groups(df, sides, held_out), *_names(df, sides, held_out), *_texts(df, sides, held_out, near), *_paths(df, sides)]


def audit_split(df, split):
    "The cheap part of an audit, for one split of the manifest `df`: groups, names, words and files; what training stamps on its scores"
    held_out, sides = HELD_OUT.get(split.protocol, HELD_OUT['random']), _Sides(df, [split])
    return _summary(_manifest(df, sides, held_out, near=False))


def context_leaks(df, split, k):
    "What it leaks that each utterance of `df` is read with the `k` transcripts before it, as sentences: none where dialogues are whole"
    if not k: return []
    ids, learned, tested = df.id.to_numpy(), {*split.train, *split.valid} - set(split.test), set(split.test)
    reads = {name: set(ids[before]) for name, before in zip(ids, turns_before(df, k), strict=True)}
    found = {'are read with transcripts that were learned from': [name for name in tested if reads[name] & learned],
             'were read in training, as the context of others': tested & {other for name in learned for other in reads[name]}}
    return [f'{len(names)} of {len(tested)} test utterances {what} (--context {k})' for what, names in found.items() if names]


def _summary(found):
    found = sorted(found, key=lambda f: SEVERITIES.index(f['severity']))
    named = lambda severity: list(dict.fromkeys(f['check'] for f in found if f['severity'] == severity))
    return dict(passes=not named('leak'), leaks=named('leak'), warnings=named('warning'), findings=found)


def audit_protocol(prepared, protocol='speaker', fold=None, seed=0, folds=None, audio=True, jobs=None, progress=None,
                   train_corpus=None, test_corpus=None):
    """What stands on both sides of `protocol` on a prepared folder, over all its folds, or `fold` alone.

    `audio=False` leaves out what needs the recordings. Returns `passes` (the protocol is what its name promises), `leaks` and `warnings`
    (names of checks), `findings` (dicts: `check, severity, says, n, of, examples`, worst first), and the splits' hashes. `progress(total)`
    returns a function to call with the number of recordings done.
    """
    prepared = prepared if isinstance(prepared, Prepared) else Prepared.open(prepared)
    df = prepared.manifest
    if test_corpus: protocol, fold = 'corpus', 1  # the fold follows from the corpus
    which = [fold] if fold else range(1, n_folds(df, protocol, folds) + 1)
    splits = [make_split(df, protocol, number, seed, folds, train_corpus, test_corpus) for number in which]
    held_out, sides = HELD_OUT[protocol], _Sides(df, splits)
    found = _manifest(df, sides, held_out, near=True)
    table = df.set_index('id', drop=False)
    if audio and (df.audio != '').any():
        heard = measure(prepared, jobs, progress)
        found += [*_recordings(df, sides, heard), *_voices(df, sides, heard, held_out)]
        table = table.assign(**{name: heard[name].to_numpy() for name in OF_FILE})
    found += _shortcuts(table, sides, splits)
    return dict(protocol=protocol, folds=[s.fold for s in splits], n_folds=splits[0].n_folds, seed=seed, tested=sides.tested,
                utterances=len(df), corpus=', '.join(sorted(set(df.corpus))), splits=[s.sha256 for s in splits], **_summary(found))
