"Intervals and tests over speakers: what they promise, simulated; and what holds of every one"
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fastmer.metrics import SCORES, ccc, compute_metrics, scores_of_counts
from fastmer.uncertainty import ccc_interval, groups_of, intervals, paired, resample, tally

LABELS = ['angry', 'happy', 'sad']
NAMES = np.array(LABELS)
EASE, SHARE = np.array([0.9, 0.1, 1.2]), [0.25, 0.45, 0.3]  # by class: logit of a right answer, share of the utterances


def simulate(rng, k, runs=1, gain=0., own=0.):
    "`y, s, answers` of `k` speakers: effects of speakers and of speakers by class; runs share them and add their `own`, the last a `gain`"
    n = rng.integers(10, 61, k)
    s = np.repeat(np.arange(k), n)
    y = rng.choice(len(LABELS), len(s), p=SHARE)
    shared = EASE[y] + rng.normal(0, 0.7, k)[s] + rng.normal(0, 0.7, (k, len(LABELS)))[s, y]
    answers = []
    for i in range(runs):
        logit = shared + rng.normal(0, own, k)[s] + gain*(i == runs - 1)
        answers.append(np.where(rng.random(len(s)) < 1/(1 + np.exp(-logit)), y, (y + rng.integers(1, len(LABELS), len(s))) % len(LABELS)))
    return y, s, answers


@cache
def truth():
    y, _, (p,) = simulate(np.random.default_rng(2**32), 100_000)
    return {name: float(value) for name, value in scores_of_counts(tally(y, p, range(len(LABELS)), 0*y)[0][0]).items() if name in SCORES}


def made_up(n=120, k=6, seed=0, labels=LABELS):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(labels), n)
    answers = (np.where(rng.random(n) < right, y, rng.integers(0, len(labels), n)) for right in (0.4, 0.6))
    return [np.array(labels)[i] for i in (y, *answers)] + [np.array([f's{i}' for i in np.arange(n) % k])]


def covered(k, sims, groups=lambda s: s.astype(str), scores=('ua', 'wa')):
    "Share of `sims` simulated data sets of `k` speakers whose interval holds the truth, by score"
    hits = np.zeros(len(scores))
    for i in range(sims):
        y, s, (p,) = simulate(np.random.default_rng([k, i]), k)
        got = intervals(NAMES[y], NAMES[p], LABELS, groups(s), n_boot=500, seed=i)
        hits += [got[score][0] <= truth()[score] <= got[score][1] for score in scores]
    return dict(zip(scores, hits/sims, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize('k', [10, 24])
def test_intervals_hold_the_truth_as_often_as_they_say_and_those_over_utterances_do_not(k):
    got, naive = covered(k, 1000), covered(k, 300, groups=lambda s: np.arange(len(s)))
    print(f'{k} speakers: {got}; over utterances: {naive}')
    for score in got:
        assert 0.93 <= got[score] <= 0.97
        assert naive[score] < 0.88


@pytest.mark.slow
def test_intervals_of_few_speakers_hold_the_truth():
    table = pd.DataFrame({k: covered(k, 500) for k in (2, 4, 5)}).T
    print(table)
    assert table.stack().between(0.9, 0.995).all()


@pytest.mark.slow
def test_a_true_null_is_rejected_as_often_as_the_level_says():
    p, holds, mcnemar = [], [], []
    for i in range(2000):
        y, s, (a, b) = simulate(np.random.default_rng([12, i]), 12, runs=2, own=0.7)
        got = paired(NAMES[y], NAMES[a], NAMES[b], LABELS, s, n_boot=300, seed=i)
        p.append(got['p'])
        holds.append(got['interval'][0] <= 0 <= got['interval'][1])
        mcnemar.append(got['mcnemar']['p'])
    size, cover, naive = np.mean(np.array(p) < 0.05), np.mean(holds), np.mean(np.array(mcnemar) < 0.05)
    print(f'rejected: {size:.4f}; interval holds 0: {cover:.4f}; McNemar rejects: {naive:.4f}')
    assert 0.035 <= size <= 0.065
    assert 0.93 <= cover <= 0.97
    assert naive > 0.15  # utterances taken for independent reject far too often


@pytest.mark.slow
def test_a_real_difference_is_found():
    got = []
    for i in range(200):
        y, s, (a, b) = simulate(np.random.default_rng([13, i]), 12, runs=2, own=0.5, gain=0.9)
        got.append(paired(NAMES[y], NAMES[a], NAMES[b], LABELS, s, n_boot=300, seed=i))
    power, apart = np.mean([r['p'] < 0.05 for r in got]), np.mean([r['interval'][0] > 0 for r in got])
    print(f'power {power:.3f}, interval above 0 {apart:.3f}, mean difference {np.mean([r["difference"] for r in got]):.3f}')
    assert power > 0.6
    assert apart > 0.6


def test_a_seed_fixes_intervals_and_tests():
    y, a, b, s = made_up(k=20)
    assert intervals(y, a, LABELS, s, seed=3) == intervals(y, a, LABELS, s, seed=3) != intervals(y, a, LABELS, s, seed=4)
    assert paired(y, a, b, LABELS, s, seed=3) == paired(y, a, b, LABELS, s, seed=3) != paired(y, a, b, LABELS, s, seed=4)


def test_order_of_rows_does_not_matter():
    y, a, b, s = made_up()
    order = np.random.default_rng(1).permutation(len(y))
    assert intervals(y[order], a[order], LABELS, s[order]) == intervals(y, a, LABELS, s)
    assert paired(y[order], a[order], b[order], LABELS, s[order]) == paired(y, a, b, LABELS, s)


def test_series_of_any_index_give_what_arrays_give():
    y, a, b, s = made_up()
    odd = [pd.Series(x, index=range(len(y), 0, -1)) for x in (y, a, b)]
    assert intervals(*odd[:2], LABELS, s) == intervals(y, a, LABELS, s)
    assert paired(*odd, LABELS, s) == paired(y, a, b, LABELS, s)


def test_intervals_hold_the_scores_and_name_what_was_drawn():
    y, a, _, s = made_up()
    got, scores = intervals(y, a, LABELS, s), compute_metrics(pd.DataFrame(dict(label=y, predicted=a)), LABELS)
    assert (got['over'], got['groups'], got['level'], got['n_boot']) == ('speaker', 6, 0.95, 2000)
    flat = dict(wa=scores['wa'], ua=scores['ua'])
    flat |= {f'{average}_{name}': scores[average][name] for average in ('macro', 'weighted') for name in ('precision', 'f1')}
    assert set(flat) == set(SCORES)
    for name, value in flat.items(): assert 0 < got[name][0] < value < got[name][1] < 1
    for label in LABELS:
        for name, (low, high) in got['classes'][label].items(): assert low < scores['classes'][label][name] < high
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_a_higher_level_is_wider():
    y, a, b, s = made_up()
    for wide, narrow in [(intervals(y, a, LABELS, s, level=0.99)['ua'], intervals(y, a, LABELS, s, level=0.8)['ua']),
                         (paired(y, a, b, LABELS, s, level=0.99)['interval'], paired(y, a, b, LABELS, s, level=0.8)['interval'])]:
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


def utterances(speakers, corpus='c'): return pd.DataFrame(dict(corpus=corpus, speaker=speakers))


def test_speakers_are_drawn_where_they_are_known():
    names, over = groups_of(utterances(['b', 'a', 'b']))
    assert over == 'speaker'
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize('table', [utterances(['a', 'a', 'a']), utterances(['a', '', 'b']), utterances(['', '', '']),
                                   pd.DataFrame(dict(id=list('xyz')))])
def test_utterances_are_drawn_where_speakers_are_not_known(table):
    names, over = groups_of(table)
    assert over == 'utterance'
    assert len(set(names)) == 3


def test_speakers_of_one_name_in_two_corpora_are_two():
    names, over = groups_of(utterances(['1', '2', '1', '2'], corpus=['x', 'x', 'y', 'y']))
    assert (over, len(set(names))) == ('speaker', 4)
    names, over = groups_of(utterances(['1', '1', '1'], corpus=['x', 'x', 'y']))
    assert (over, names[0] == names[1], names[1] == names[2]) == ('speaker', True, False)
    y = ['angry', 'sad', 'sad']
    assert intervals(y, y, LABELS, names)['groups'] == 2


def test_sessions_can_be_drawn_instead():
    names, over = groups_of(utterances(['a', 'b', 'c']).assign(session=['1', '1', '2']), by='session')
    assert (over, len(set(names))) == ('session', 2)


def test_all_right_is_no_certainty():
    y, _, _, s = made_up(n=40)
    got = intervals(y, y, LABELS, s)
    for name in SCORES:
        assert got[name] == pytest.approx([0.025**(1/40), 1])  # exact binomial: 40 of 40
    n = int((y == 'sad').sum())
    assert got['classes']['sad']['recall'] == pytest.approx([0.025**(1/n), 1])
    assert intervals(y, np.roll(NAMES, 1)[[LABELS.index(i) for i in y]], LABELS, s)['wa'] == pytest.approx([0, 1 - 0.025**(1/40)])


def test_labels_without_utterances_get_none_and_change_nothing_else():
    y, a, b, s = made_up()
    less, more = intervals(y, a, LABELS, s), intervals(y, a, [*LABELS, 'afraid'], s)
    assert more['classes']['afraid'] == dict(precision=None, recall=None, f1=None)
    assert {name: more['classes'][name] for name in LABELS} == {name: less['classes'][name] for name in LABELS}
    assert {name: more[name] for name in SCORES} == {name: less[name] for name in SCORES}
    assert paired(y, a, b, [*LABELS, 'afraid'], s) == paired(y, a, b, LABELS, s)


def test_a_label_that_only_one_speaker_has():
    y, a, _, s = made_up(k=4)
    y = np.where((y == 'sad') & (s != 's1'), 'angry', y)
    got = intervals(y, a, LABELS, s)
    assert json.dumps(got, allow_nan=False)
    assert 0 < got['ua'][0] < got['ua'][1] < 1


def test_a_gain_on_a_label_is_as_sure_as_those_who_have_it_are_many():
    y, a, b, s = made_up(k=12)
    few = np.where((y == 'sad') & ~np.isin(s, ['s1', 's2']), 'angry', y)
    assert paired(np.where(few == 'sad', np.where(s == 's1', 'sad', 'angry'), few), a, b, LABELS, s, score='recall:sad')['interval'] is None
    got = {k: paired(few[at], a[at], b[at], LABELS, s[at], score='recall:sad') for k, at in
           dict(all=np.ones(len(y), bool), two=np.isin(s, ['s1', 's2'])).items()}
    assert got['all']['difference'] == got['two']['difference']
    assert got['all']['interval'] == pytest.approx(got['two']['interval'], abs=0.2)  # the ten who have none of it add no certainty


def test_identical_runs_do_not_differ():
    y, a, _, s = made_up()
    got = paired(y, a, a, LABELS, s)
    assert (got['p'], got['difference'], got['interval']) == (1, 0, [0, 0])
    assert got['mcnemar'] == dict(only_a=0, only_b=0, p=1)


def test_difference_turns_with_the_runs():
    y, a, b, s = made_up()
    for score in SCORES:
        ab, ba = paired(y, a, b, LABELS, s, score=score), paired(y, b, a, LABELS, s, score=score)
        assert (ab['a'], ab['b'], ab['p']) == (ba['b'], ba['a'], pytest.approx(ba['p']))
        assert ab['difference'] == pytest.approx(-ba['difference'], abs=1e-12)
        assert ab['difference'] == ab['b'] - ab['a'] != 0
        assert ab['interval'][0] < ab['difference'] < ab['interval'][1]
    assert ab['mcnemar'] == dict(only_a=ba['mcnemar']['only_b'], only_b=ba['mcnemar']['only_a'], p=ba['mcnemar']['p'])


def test_mcnemar_is_the_binomial_test_of_the_answers_that_one_run_alone_has_right():
    y, a, b, s = made_up()
    got = paired(y, a, b, LABELS, s)['mcnemar']
    only_a, only_b = ((p == y) & (q != y) for p, q in ((a, b), (b, a)))
    assert (got['only_a'], got['only_b']) == (only_a.sum(), only_b.sum())
    assert got['p'] == pytest.approx(stats.binomtest(int(only_a.sum()), int((only_a | only_b).sum())).pvalue)
    y, b = ['sad']*7, ['sad']*6 + ['angry']
    assert paired(y, ['angry']*6 + ['sad'], b, LABELS, list('aabbccc'))['mcnemar'] == dict(only_a=1, only_b=6, p=pytest.approx(16/128))


@pytest.mark.parametrize('k', range(2, 8))
def test_few_speakers_cannot_tell_more_than_their_swaps(k):
    s = np.repeat(np.arange(k), 5)
    y, wrong = np.full(len(s), 'sad'), np.full(len(s), 'angry')
    assert paired(y, wrong, y, LABELS, s)['p'] == pytest.approx(2/2**k)
    y, a, b, s = made_up(k=k)
    assert paired(y, a, b, LABELS, s)['p'] >= 2/2**k


@pytest.mark.parametrize('score', ['ua', 'wa', 'macro_f1', 'macro_precision'])
@pytest.mark.parametrize('k', [2, 3, 7, 12])
def test_the_swap_test_is_scipys_permutation_test(k, score):
    y, a, b, s = made_up(k=k, seed=k)
    both = np.concatenate([tally(y, x, LABELS, s)[0] for x in (a, b)])

    def difference(x, z, axis): return np.subtract(*(scores_of_counts(both[np.moveaxis(i, axis, -1)].sum(axis=-3))[score] for i in (z, x)))

    want = stats.permutation_test((np.arange(k), np.arange(k, 2*k)), difference, permutation_type='samples', vectorized=True)
    assert paired(y, a, b, LABELS, s, score=score)['p'] == pytest.approx(want.pvalue, abs=1e-12)


def test_many_groups_are_swapped_at_random_and_near_the_binomial_test():
    y, a, b, _ = made_up(n=300)
    got = paired(y, a, b, LABELS, np.arange(300), score='wa')  # swapping utterances is McNemar's test
    assert got['groups'] == 300
    assert got['p'] == pytest.approx(got['mcnemar']['p'], abs=0.02)


def test_alike_groups_are_drawn_as_any_others():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 9, (5, 3, 3))
    counts = kinds[rng.choice(5, 40, p=[0.6, 0.2, 0.1, 0.05, 0.05])].astype(float)
    got, want = resample(counts, 20_000), counts[rng.integers(0, 40, (20_000, 40))].sum(axis=1)
    assert got.shape == (20_000, 3, 3)
    assert got.mean(axis=0) == pytest.approx(40*counts.mean(axis=0), rel=0.01)
    assert got.mean(axis=0) == pytest.approx(want.mean(axis=0), rel=0.01)
    assert got.std(axis=0) == pytest.approx(want.std(axis=0), rel=0.03)
    assert np.cov(got.reshape(len(got), -1).T) == pytest.approx(np.cov(want.reshape(len(want), -1).T), abs=0.05*want.var(axis=0).max())
    assert (resample(np.ones((7, 2, 2)), 50) == 7).all()


def test_counts_by_group_add_up():
    y, a, _, s = made_up()
    counts, names = tally(y, a, LABELS, s)
    assert names.tolist() == sorted(set(s))
    assert counts.sum(axis=0).tolist() == compute_metrics(pd.DataFrame(dict(label=y, predicted=a)), LABELS)['confusion']['counts']
    assert counts.sum(axis=(1, 2)).tolist() == [(s == name).sum() for name in names]


def test_intervals_of_concordance_hold_the_truth():
    "200 corpora of ten speakers, each with an offset of his own; the true CCC is that of very many speakers"
    rng = np.random.default_rng(0)
    def draw(speakers, each=15):
        g = np.repeat(np.arange(speakers), each)
        y = rng.normal(size=len(g))
        return y, 0.6*y + 0.4*rng.normal(size=speakers)[g] + 0.4*rng.normal(size=len(g)), g
    truth = ccc(*draw(20000)[:2])
    found = [ccc_interval(*draw(10), n_boot=300, seed=i) for i in range(200)]
    assert 0.9 <= np.mean([low <= truth <= high for low, high in found]) <= 0.99


def test_interval_of_concordance_where_there_is_none():
    assert ccc_interval([], [], []) is None
    assert ccc_interval([1, 2, 3], [1, 2, 4], ['a']*3) is None
    assert ccc_interval([1, 2, 3, 4], [1, 2, 3, 4], list('aabb')) is None  # everywhere the same
    low, high = ccc_interval([1, 2, 3, 4], [1, 2, 3, 5], list('aabb'))
    assert -1 <= low < ccc([1, 2, 3, 4], [1, 2, 3, 5]) < high <= 1
