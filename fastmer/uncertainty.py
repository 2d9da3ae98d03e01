"""How far a score can be trusted: intervals and tests over speakers, since the utterances of one speaker are no independent draws

Each resample draws whole speakers with replacement. The interval is a t interval with as many degrees of freedom as there are speakers
but one, around the score, with the bootstrap's standard error, on the logit scale (scores lie between 0 and 1); the standard error is
widened by `sqrt(k/(k-1))` for the `k` speakers. Percentiles of the same resamples cover too little below some twenty speakers: with two
they hold the truth in half of all cases, the interval here in about 95 % (Hesterberg, "What Teachers Should Know About the Bootstrap",
2015, section 4; tests/test_uncertainty.py simulates it).
"""
import numpy as np
import pandas as pd
from scipy import stats

from .metrics import SCORES, ccc_of_moments, moments, scores_of_counts

N_BOOT, LEVEL = 2000, 0.95


def groups_of(utterances, by='speaker'):
    "`(names, over)`: what to resample for each row of `utterances`: its speaker, or the utterance itself where speakers are not known"
    speakers = utterances[by] if utterances is not None and by in utterances else pd.Series(dtype=str)
    if len(speakers) and (speakers != '').all():
        names = utterances.get('corpus', '') + '\t' + speakers  # two corpora may name their speakers alike
        if names.nunique() > 1: return names.to_numpy(), by
    return np.arange(len(utterances)), 'utterance'


def tally(targets, predicted, labels, groups):
    "Confusion counts by group: `float (groups, labels, labels)`, true labels down; and the groups' names"
    index = {label: i for i, label in enumerate(labels)}
    names, g = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(labels), len(labels)))
    np.add.at(counts, (g, pd.Series(targets).map(index).to_numpy(), pd.Series(predicted).map(index).to_numpy()), 1)
    return counts, names


def resample(counts, n=N_BOOT, seed=0):
    "Summed confusion counts of `n` bootstrap draws of whole groups; `counts (groups, ...)` -> `(n, ...)`"
    kinds, times = np.unique(counts.reshape(len(counts), -1), axis=0, return_counts=True)  # groups that are alike need no telling apart
    weights = np.random.default_rng(seed).multinomial(len(counts), times/len(counts), size=n)
    return (weights.astype(float) @ kinds).reshape(n, *counts.shape[1:])


def _logit(p, eps): return np.log(np.clip(p, eps, 1 - eps)/(1 - np.clip(p, eps, 1 - eps)))


def logit_t(score, draws, k, n, level=LEVEL):
    "Interval of a score between 0 and 1 from its bootstrap `draws` over `k` groups of `n` utterances in all; `None` below two groups"
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(score) or k < 2 or len(draws) < 2: return None
    eps = 0.5/max(n, 1)
    spread = _logit(draws, eps).std(ddof=1)*np.sqrt(k/(k - 1))
    if spread < 1e-9:  # every group alike, most often all right or all wrong: what that many utterances can say
        return [float(v) for v in stats.binomtest(round(score*n), n).proportion_ci(level, 'exact')]
    around = _logit(score, eps) + np.array([-1, 1])*stats.t.ppf((1 + level)/2, k - 1)*spread
    return [float(v) for v in 1/(1 + np.exp(-around))]


def intervals(targets, predicted, labels, groups, over='speaker', level=LEVEL, n_boot=N_BOOT, seed=0):
    """Intervals of every score of `compute_metrics`: `over`, how many `groups`, `level`, and `[low, high]` by score and class.

    `groups`: what is drawn as a whole, one name an utterance (from `groups_of`). Labels that fewer than two groups have get `None`; no
    labels, no scores.
    """
    out = dict(over=over, groups=len(np.unique(groups)), level=level, n_boot=n_boot)
    if not len(labels): return out
    counts, names = tally(targets, predicted, labels, groups)
    total, draws = scores_of_counts(counts.sum(axis=0)), scores_of_counts(resample(counts, n_boot, seed))
    n, k = int(counts.sum()), len(names)
    support = counts.sum(axis=(0, 2)).astype(int)
    out |= {name: logit_t(float(total[name]), draws[name], k, n, level) for name in SCORES}
    of = lambda name, i: np.where(draws['support'][:, i] > 0, draws[name][:, i], np.nan)  # a draw may miss a class
    has = (counts.sum(axis=2) > 0).sum(axis=0)  # groups that have the label: what its scores vary over
    out['classes'] = {label: {name: logit_t(float(total[name][i]), of(name, i), int(has[i]), int(support[i]), level)
                              for name in ('precision', 'recall', 'f1')} for i, label in enumerate(labels)}
    return out


def ccc_interval(true, predicted, groups, level=LEVEL, n_boot=N_BOOT, seed=0):
    """`[low, high]` of the concordance correlation of values `(n,)`, none of them `nan`; `None` below two groups, or where none differ

    As `logit_t`, of `(1 + ccc)/2`: that is Fisher's z of the correlation, doubled, as Lin (Biometrics 1989) has it.
    """
    names, g = np.unique(groups, return_inverse=True)
    if len(names) < 2: return None
    sums = np.zeros((len(names), 6))
    np.add.at(sums, g, moments(np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)))
    draws = ccc_of_moments(resample(sums, n_boot, seed))
    if not np.nanstd(draws) > 1e-9: return None
    found = logit_t((1 + float(ccc_of_moments(sums.sum(axis=0))))/2, (1 + draws)/2, len(names), len(g), level)
    return found and [2*end - 1 for end in found]


def _score(counts, score, labels):
    "The score called `score` (`ua`, `wa`, ..., or `recall:LABEL`, `nan` without such utterances) of counts `(..., labels, labels)`"
    scores, (name, _, label) = scores_of_counts(counts), score.partition(':')
    if not label: return scores[name]
    i = list(labels).index(label)
    return np.where(scores['support'][..., i] > 0, scores[name][..., i], np.nan)


def paired(targets, a, b, labels, groups, over='speaker', score='ua', level=LEVEL, n_boot=N_BOOT, seed=0):
    """Does `b` score higher than `a` on the same utterances? `targets`, `a`, `b`: label names, one an utterance.

    Returns `a`, `b`, `difference` (b - a), its `interval` (bootstrap over groups, t with `k - 1` degrees of freedom, `k` groups having the
    label where one label's recall is meant), `p` of the test that
    swaps the two runs' answers group by group (all ways to swap up to 13 groups that differ, 9,999 at random above), what was drawn
    (`over`, `groups`), and `mcnemar`: utterances that one alone gets right, and the exact binomial p of those counts, which takes
    utterances for independent.
    """
    (of_a, names), (of_b, _) = tally(targets, a, labels, groups), tally(targets, b, labels, groups)
    of_label = score.removeprefix('recall:') if score.startswith('recall:') else None
    k = len(names) if of_label is None else int(of_a[:, list(labels).index(of_label)].any(axis=1).sum())  # groups that it varies over
    value = lambda counts: _score(counts, score, labels)
    difference = float(value(of_b.sum(axis=0)) - value(of_a.sum(axis=0)))
    drawn = resample(np.stack([of_a, of_b], axis=1), n_boot, seed)
    interval = None
    if k > 1 and np.isfinite(difference):
        half = stats.t.ppf((1 + level)/2, k - 1)*np.sqrt(k/(k - 1))*np.nanstd(value(drawn[:, 1]) - value(drawn[:, 0]), ddof=1)
        interval = [max(-1., float(difference - half)), min(1., float(difference + half))]
    a_right, b_right = (np.asarray(x) == np.asarray(targets) for x in (a, b))
    only = dict(a=int((a_right & ~b_right).sum()), b=int((b_right & ~a_right).sum()))
    p = float(stats.binomtest(only['a'], only['a'] + only['b']).pvalue) if only['a'] + only['b'] else 1.
    return dict(score=score, a=float(value(of_a.sum(axis=0))), b=float(value(of_b.sum(axis=0))), difference=difference,
                interval=interval, level=level, p=_swap(of_a, of_b, value, seed), over=over, groups=len(names), n=len(a_right),
                mcnemar=dict(only_a=only['a'], only_b=only['b'], p=p))


def _swap(of_a, of_b, value, seed, n=9999):
    "Two-sided p of swapping the two runs within groups; with `k` groups it cannot fall below `2/2**k`"
    a, b, change = of_a.sum(axis=0), of_b.sum(axis=0), of_b - of_a
    if len(of_a) < 2 or np.isnan(value(a)): return None
    kinds, times = np.unique(change[change.any(axis=(1, 2))].reshape(-1, a.size), axis=0, return_counts=True)  # alike: only how many swap
    if exact := 2**int(times.sum()) <= n:
        kinds = np.repeat(kinds, times, axis=0)
        swaps = np.arange(2**len(kinds))[:, None] >> np.arange(len(kinds)) & 1
    else: swaps = np.random.default_rng(seed).binomial(times, 0.5, size=(n, len(times)))
    moved = (swaps.astype(float) @ kinds).reshape(-1, *a.shape)
    extreme = np.abs(value(b - moved) - value(a + moved)) >= np.abs(value(b) - value(a)) - 1e-12
    return float(extreme.mean() if exact else (extreme.sum() + 1)/(n + 1))
