"""Splits: who is learned from, who is watched while learning, who is tested

A split is a pure function of manifest, protocol, fold and seed: it does not depend on the order of rows, and its SHA-256 goes into
everything trained on it. Folds count from 1. In every protocol `valid`, which chooses the epoch, shares no speaker with `train` where the
corpus allows it.
"""
import hashlib
import json
from dataclasses import dataclass, field, replace

import numpy as np

from .errors import FastmerError, LeakageError, did_you_mean

VALID_SHARE = 0.1  # of what is not tested; one whole speaker at the least


@dataclass(frozen=True)
class Split:
    """Ids by part; `unused` sends each id that stands in no part to the reason.

    Raises `LeakageError` where an id stands in two parts, unless `leaks` says what is wrong: sentences that every score carries on.
    """
    protocol: str
    fold: int
    n_folds: int
    seed: int
    train: tuple
    valid: tuple
    test: tuple
    unused: dict = field(default_factory=dict)
    leaks: tuple = ()
    whole: str = ''  # SHA-256 of the split that this is a part of

    def __post_init__(self):
        for a, b, harm in () if self.leaks else (('train', 'test', 'the score would be of utterances that the model has learned'),
                                                 ('valid', 'test', 'the epoch would be chosen by the score itself, so the luckiest one'),
                                                 ('train', 'valid', 'the epoch would be chosen on utterances that were learned')):
            if both := sorted(set(getattr(self, a)) & set(getattr(self, b))):
                raise LeakageError(f'{len(both)} utterances stand in both {a} and {b} of this split (the first: {both[0]}): {harm}')

    @property
    def sha256(self):
        if self.whole: return self.whole
        what = dict(protocol=self.protocol, fold=self.fold, seed=self.seed, train=self.train, valid=self.valid, test=self.test)
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def with_valid(self):
        "The same with valid learned from too, for a training that chooses nothing: what valid had to say was said before"
        return replace(self, train=tuple(sorted({*self.train, *self.valid})), leaks=self.leaks or ('learns from valid',))

    def without(self, ids, reason):
        "What is left of it without `ids`; it counts as the same split still"
        gone = set(ids) & set(self.part_of())
        parts = {part: tuple(name for name in getattr(self, part) if name not in gone) for part in ('train', 'valid', 'test')}
        return replace(self, **parts, unused=self.unused | dict.fromkeys(sorted(gone), reason), whole=self.sha256)

    def part_of(self): return {name: part for part in ('test', 'valid', 'train') for name in getattr(self, part)}

    def about(self):
        "The split in short, for a sidecar and for the protocol line above a table"
        chosen_on = dict(chosen_on='test') if set(self.valid) & set(self.test) else {}
        return dict(protocol=self.protocol, fold=self.fold, n_folds=self.n_folds, seed=self.seed, sha256=self.sha256, **chosen_on,
                    counts={part: len(getattr(self, part)) for part in ('train', 'valid', 'test', 'unused')})


def _rng(seed, *salt): return np.random.default_rng([seed, *(int(hashlib.sha256(str(s).encode()).hexdigest()[:8], 16) for s in salt)])


def _grouped(df, by, k, seed):
    """Whole groups of column `by` dealt into `k` bins of like size and like mix of labels and genders: group -> bin, from 0.

    Largest first, each to the bin where the squared excess over an even share grows least; the seed breaks ties.
    """
    what = (df.label + '\0' + df.gender).astype('category').cat.codes.to_numpy()
    names, codes = np.unique(df[by].to_numpy(dtype=str), return_inverse=True)
    table = np.zeros((len(names), what.max() + 1))
    np.add.at(table, (codes, what), 1)
    table = np.c_[table, table.sum(axis=1)]  # the last column is the size
    share = np.maximum(table.sum(axis=0)/k, 1e-9)
    order = _rng(seed, by, k).permutation(len(names))
    order = order[np.argsort(-table[order, -1], kind='stable')]
    bins, out = np.zeros((k, table.shape[1])), {}
    for g in order:
        cost = (((bins + table[g])**2 - bins**2)/share).sum(axis=1)
        best = int(np.argmin(cost))
        bins[best] += table[g]
        out[str(names[g])] = best
    return out


def _need(df, column, protocol, at_least=2):
    "The distinct values of `column`, or an error that says which protocol cannot be had and what to take instead"
    values = sorted(set(df[column]) - {''})
    if (df[column] == '').any() or len(values) < at_least:
        lack = f'{int((df[column] == "").sum())} utterances have no {column}' if (df[column] == '').any() else f'there is only one {column}'
        raise FastmerError(f'the {protocol} protocol needs at least {at_least} values of {column!r} in the manifest, but {lack}: '
                           'fill the column, or choose another --protocol')
    return values


def _valid(df, rest, seed, by='speaker'):
    "A valid part out of `rest` (ids): whole speakers where that leaves every label in train, else single utterances"
    pool = df[df.id.isin(list(rest))]
    want = max(1, round(VALID_SHARE*len(pool)))
    if (pool[by] != '').all() and pool[by].nunique() > 1:
        k = max(2, min(pool[by].nunique(), round(1/VALID_SHARE)))
        bins = _grouped(pool, by, k, seed)
        groups = pool[by].map(bins)
        loses = lambda b: pool.label[groups != b].nunique() < pool.label.nunique()
        best = min(range(k), key=lambda b: (loses(b), -pool.label[groups == b].nunique(), abs((groups == b).sum() - want), b))
        if not loses(best): return set(pool.id[groups == best])
    picked = set()
    for label, ids in pool.sort_values('id').groupby('label').id:
        ids = ids.to_numpy()
        n = min(len(ids) - 1, max(1, round(VALID_SHARE*len(ids))))
        picked |= set(_rng(seed, 'valid', label).permutation(ids)[:n])
    return picked


def _random(df, fold, k, seed):
    "Utterances at random, 90 % to learn from and 10 % to test: the report's way, which lets speakers and scripts stand on both sides"
    dealt = np.concatenate([_rng(seed, 'random', label).permutation(ids.to_numpy()) for label, ids in df.groupby('label').id])
    return set(dealt[fold - 1::k]), None, {}


def _speaker(df, fold, k, seed):
    "Folds of whole speakers"
    n = len(_need(df, 'speaker', 'speaker'))
    bins = _grouped(df, 'speaker', min(k, n), seed)
    return set(df.id[df.speaker.map(bins) == fold - 1]), None, {}


def _session(df, fold, k, seed):
    "One session is tested, the next one valid, the others are learned from"
    names = _need(df, 'session', 'session')
    test = df.session == names[fold - 1]
    return set(df.id[test]), _next_session(df[~test], names, fold), {}


def _next_session(rest, names, fold):
    """Of `rest`, which is not tested, the session after number `fold`, to be valid

    `None` where that would leave no session to learn from, or where its speakers stand in others too: then whole speakers are better.
    """
    following = rest.session == names[fold % len(names)]
    shared = set(rest.speaker[following]) & set(rest.speaker[~following]) - {''}
    if len(names) < 3 or (shared and rest.speaker.nunique() > 1): return None
    return set(rest.id[following]) or None


def _script_groups(df):
    """Into how many groups the scripts are dealt: the fewest with which at least half of the other sessions' utterances stay

    One group where sessions share few scripts: the whole session is tested. Where all sessions act the same scripts (IEMOCAP), taking all
    of them out would leave nothing to learn from: then a fold is one session and one group of scripts.
    """
    has = df.groupby(['script', 'session']).size().unstack(fill_value=0)  # utterances, scripts down and sessions across
    others = -has.sub(has.sum(axis=1), axis=0)                            # ... of each script in the other sessions
    lost, most = others.where(has > 0, 0), others.sum()/2                 # ... which testing the script in this session takes out
    if (lost > most).any(axis=None): return len(has)                      # one script alone is too many
    return next(n for n in range(1, len(has) + 1) if (lost.groupby(_grouped(df, 'script', n, 0)).sum() <= most).all(axis=None))


def _session_script(df, fold, k, seed):
    "As `session`, and no script of the test part is learned from"
    names = _need(df, 'session', 'session+script')
    _need(df, 'script', 'session+script')
    groups = _script_groups(df)
    session, group = names[(fold - 1)//groups], (fold - 1) % groups
    tested = (df.session == session) & (df.script.map(_grouped(df, 'script', groups, 0)) == group)
    shared = ~tested & df.script.isin(set(df.script[tested]))
    unused = dict.fromkeys(df.id[shared & (df.session != session)], 'its script is tested')
    unused |= dict.fromkeys(df.id[(df.session == session) & ~tested], 'its session is tested, in another fold')
    rest = df[~tested & ~df.id.isin(list(unused))]
    return set(df.id[tested]), _next_session(rest, names, names.index(session) + 1), unused


def _part(df, fold, k, seed):
    "The corpus's own parts; where it names no valid part, one is taken from train"
    for part in ('train', 'test'):
        if not (df.part == part).any():
            raise FastmerError(f'the part protocol needs utterances whose part is {part}, and the manifest has none')
    valid = set(df.id[df.part == 'valid']) or None
    return set(df.id[df.part == 'test']), valid, dict.fromkeys(df.id[df.part == ''], 'the corpus puts it in no part')


def _corpus(df, fold, k, seed):
    "One corpus of a joined folder is tested, the others are learned from"
    return set(df.id[df.corpus == _need(df, 'corpus', 'corpus')[fold - 1]]), None, {}


PROTOCOLS = {'random': _random, 'speaker': _speaker, 'session': _session, 'session+script': _session_script, 'part': _part,
             'corpus': _corpus}


def _corpus_number(manifest, name):
    "Which fold of the `corpus` protocol tests the corpus called `name`"
    names = _need(manifest, 'corpus', 'corpus')
    if name not in names: raise FastmerError(f'there is no corpus {name!r}{did_you_mean(name, names)} here; there are {", ".join(names)}')
    return names.index(name) + 1


def n_folds(manifest, protocol='speaker', folds=None):
    "How many folds `protocol` has on this manifest; `folds` matters to `random` (10) and `speaker` (5, or one a speaker if fewer) alone"
    if protocol not in PROTOCOLS:
        raise FastmerError(f'there is no protocol {protocol!r}{did_you_mean(protocol, PROTOCOLS)}; there are {", ".join(PROTOCOLS)}')
    if folds is not None and folds < 2: raise FastmerError(f'a protocol has at least 2 folds, not {folds}')
    if protocol == 'random': return folds or 10
    if protocol == 'speaker': return min(folds or 5, len(_need(manifest, 'speaker', protocol)))
    if protocol in ('session', 'corpus'): return len(_need(manifest, protocol, protocol))
    if protocol == 'part': return 1
    _need(manifest, 'script', protocol)
    return len(_need(manifest, 'session', protocol))*_script_groups(manifest)


def split(manifest, protocol='speaker', fold=1, seed=0, folds=None, train_corpus=None, test_corpus=None):
    """The `Split` of `manifest` under `protocol`; `fold` counts from 1.

    `test_corpus`, and `train_corpus` (a name or several; all others where `None`), take the `corpus` protocol on a joined folder: what
    the tested corpus labels as the others do not stays unused. Raises `FastmerError` for a protocol or fold that is not there, columns the
    protocol needs that are empty, and parts that end up without a single utterance or, in train, without one of the tested labels.
    """
    if train_corpus and not test_corpus: raise FastmerError('--train-corpus says what to learn from: say with --test-corpus what to test')
    if test_corpus: protocol, fold = 'corpus', _corpus_number(manifest, test_corpus)
    k = n_folds(manifest, protocol, folds)
    if not 1 <= fold <= k: raise FastmerError(f'fold {fold} is out of range: the {protocol} protocol has folds 1 to {k} on this corpus')
    df = manifest.sort_values('id').reset_index(drop=True)
    counts = df.label.value_counts()
    if (counts < 2).any():
        raise FastmerError(f'the label {counts.idxmin()!r} has one utterance only: leave it out, or merge it with another')
    test, valid, unused = PROTOCOLS[protocol](df, fold, k, seed)
    if train_corpus:
        learned = {train_corpus} if isinstance(train_corpus, str) else set(train_corpus)
        for name in learned:
            if _corpus_number(manifest, name) == fold: raise FastmerError(f'{name} cannot be both learned from and tested')
        unused = dict.fromkeys(df.id[~df.corpus.isin(learned | {test_corpus})], 'its corpus is neither learned from nor tested')
    if protocol == 'corpus':
        known = set(df.label[~df.id.isin([*test, *unused])])
        strange = set(df.id[df.id.isin(list(test)) & ~df.label.isin(known)])
        test, unused = test - strange, unused | dict.fromkeys(strange, 'no corpus that is learned from has its label')
    rest = set(df.id) - test - set(unused)
    if valid is None and rest: valid = _valid(df, rest, seed)
    valid = (valid or set()) - test
    train = rest - valid
    parts = {name: tuple(sorted(ids)) for name, ids in dict(train=train, valid=valid, test=test).items()}
    for name, ids in parts.items():
        if not ids: raise FastmerError(f'fold {fold} of the {protocol} protocol leaves no utterance for {name}: choose another protocol')
    if lacking := set(df.label[df.id.isin(list(test))]) - set(df.label[df.id.isin(list(train))]):
        raise FastmerError(f'fold {fold} of the {protocol} protocol tests {", ".join(sorted(lacking))}, which no training utterance has: '
                           'choose another protocol, or leave the label out')
    return Split(protocol, fold, k, seed, unused=dict(sorted(unused.items())), **parts)
