"Scores against scikit-learn and against their definitions"
import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from fastmer.errors import FastmerError
from fastmer.metrics import SCORES, as_predictions, ccc, ccc_of_moments, compute_metrics, moments, prob_columns, scores_of_counts

LABELS = ['angry', 'happy', 'neutral', 'sad']
CLOSE = dict(rel=0, abs=1e-12)


def predictions(n=200, labels=LABELS, seed=0, present=None):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(len(labels)), n)
    return as_predictions([f'u{i}' for i in range(n)], rng.choice(present or labels, n), probs, labels)


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('n', [1, 7, 500])
@pytest.mark.parametrize('labels', [LABELS, ['no', 'yes'], [f'l{i}' for i in range(28)]])
def test_equal_to_scikit_learn(labels, n, seed):
    df = predictions(n, labels, seed)
    y, p, got = df.label, df.predicted, compute_metrics(df, labels)
    present = sorted(set(y))
    assert (got['n'], got['ua_labels']) == (n, len(present))
    assert got['wa'] == pytest.approx(sk.accuracy_score(y, p), **CLOSE)
    assert got['ua'] == pytest.approx(sk.recall_score(y, p, labels=present, average='macro', zero_division=0), **CLOSE)
    for average in ('macro', 'weighted'):
        for name, score in dict(precision=sk.precision_score, recall=sk.recall_score, f1=sk.f1_score).items():
            want = score(y, p, labels=present, average=average, zero_division=0)
            assert got[average][name] == pytest.approx(want, **CLOSE)
    want = sk.classification_report(y, p, labels=labels, output_dict=True, zero_division=0)
    for label in labels:
        row = {name.replace('f1', 'f1-score'): value for name, value in got['classes'][label].items()}
        assert row == pytest.approx(want[label], **CLOSE)
    assert got['confusion'] == dict(labels=labels, counts=sk.confusion_matrix(y, p, labels=labels).tolist())


@pytest.mark.parametrize('seed', range(3))
def test_ua_is_balanced_accuracy_and_wa_is_weighted_recall(seed):
    df = predictions(seed=seed)
    got = compute_metrics(df, LABELS)
    assert got['ua'] == pytest.approx(sk.balanced_accuracy_score(df.label, df.predicted), **CLOSE)
    assert got['ua'] == pytest.approx(np.mean([(df.predicted == df.label)[df.label == label].mean() for label in LABELS]), **CLOSE)
    assert got['weighted']['recall'] == pytest.approx(got['wa'], **CLOSE)


def test_ua_is_over_the_labels_that_stand_in_the_table():
    df = predictions(present=['angry', 'sad'])
    got = compute_metrics(df, LABELS)
    assert got['ua_labels'] == 2
    assert got['ua'] == pytest.approx(np.mean([got['classes'][label]['recall'] for label in ('angry', 'sad')]), **CLOSE)
    assert got['classes']['happy']['support'] == 0


def test_by_hand():
    df = pd.DataFrame(dict(id=list('abcd'), label=['x', 'x', 'x', 'y'], predicted=['x', 'x', 'y', 'y']))
    got = compute_metrics(df, ['x', 'y'])
    assert (got['wa'], got['ua']) == (0.75, pytest.approx((2/3 + 1)/2))
    assert got['classes']['y'] == dict(precision=0.5, recall=1., f1=pytest.approx(2/3), support=1)
    assert got['confusion']['counts'] == [[2, 1], [0, 1]]


def test_order_of_rows_does_not_matter():
    df = predictions()
    assert compute_metrics(df.sample(frac=1, random_state=1), LABELS) == compute_metrics(df, LABELS)


def test_plain_numbers_that_json_holds():
    got = compute_metrics(predictions(), LABELS)
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_predictions_are_the_likeliest_label():
    df = as_predictions(['a', 'b'], ['sad', 'angry'], [[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], LABELS)
    assert prob_columns(LABELS) == ['p_angry', 'p_happy', 'p_neutral', 'p_sad']
    assert df.columns.to_list() == ['id', 'label', 'predicted', *prob_columns(LABELS)]
    assert df.predicted.to_list() == ['sad', 'angry']
    assert df.p_neutral.to_list() == [0.3, 0.1]


def test_nothing_to_score():
    with pytest.raises(FastmerError, match='no prediction to score'): compute_metrics(predictions()[:0], LABELS)


@pytest.mark.parametrize('column', ['label', 'predicted'])
def test_strange_label(column):
    df = predictions()
    df.loc[3, column] = 'afraid'
    with pytest.raises(FastmerError, match="the label 'afraid', which is none of angry, happy"): compute_metrics(df, LABELS)


def tables(n=200, labels=None):
    "Random tables of predictions over 2 to 7 labels, 1 to 300 rows, some labels without rows, some never predicted: `y, p, n_labels`"
    for seed in range(n):
        rng = np.random.default_rng([n, seed])
        m = labels or int(rng.integers(2, 8))
        of = [rng.choice(m, rng.integers(1, m + 1), replace=False) for _ in range(2)]
        size = int(rng.integers(1, 301) if seed % 4 else rng.integers(1, 9))
        y, p = (rng.choice(some, size, p=rng.dirichlet(np.ones(len(some)))) for some in of)
        yield y, np.where(rng.random(size) < 0.3, y, p) if seed % 3 else p, m


@pytest.mark.filterwarnings('ignore:y_pred contains classes not in y_true', 'ignore:A single label was found')
def test_scores_of_counts_are_scikit_learns():
    seen = dict(missing=0, unsaid=0)
    for y, p, m in tables():
        labels, present = list(range(m)), sorted(set(y))
        seen = dict(missing=seen['missing'] + (len(present) < m), unsaid=seen['unsaid'] + bool(set(y) - set(p)))
        got = scores_of_counts(sk.confusion_matrix(y, p, labels=labels))
        assert got['wa'] == pytest.approx(sk.accuracy_score(y, p), **CLOSE)
        assert got['ua'] == pytest.approx(sk.balanced_accuracy_score(y, p), **CLOSE)
        for average, over in (('', labels), ('macro_', present), ('weighted_', present)):
            want = sk.precision_recall_fscore_support(y, p, labels=over, average=average[:-1] or None, zero_division=0)
            for name, value in zip(('precision', 'recall', 'f1'), want[:3], strict=True):
                assert got[average + name] == pytest.approx(value, **CLOSE)
    assert min(seen.values()) > 50


def test_scores_of_counts_are_those_of_compute_metrics():
    for y, p, m in tables(30):
        labels = [f'l{i}' for i in range(m)]
        want = compute_metrics(pd.DataFrame(dict(label=np.array(labels)[y], predicted=np.array(labels)[p])), labels)
        got = scores_of_counts(want['confusion']['counts'])
        flat = dict(wa=want['wa'], ua=want['ua'])
        flat |= {f'{average}_{name}': value for average in ('macro', 'weighted') for name, value in want[average].items()}
        assert set(SCORES) <= set(flat)
        assert {name: float(got[name]) for name in flat} == pytest.approx(flat, **CLOSE)
        for name in ('precision', 'recall', 'f1', 'support'):
            assert got[name] == pytest.approx([want['classes'][label][name] for label in labels], **CLOSE)


def test_scores_of_many_tables_are_those_of_each():
    counts = np.stack([sk.confusion_matrix(y, p, labels=range(5)) for y, p, _ in tables(200, labels=5)])
    got, folded = scores_of_counts(counts), scores_of_counts(counts.reshape(10, 20, 5, 5))
    for i, one in enumerate(counts):
        for name, value in scores_of_counts(one).items():
            assert np.abs(got[name][i] - value).max() <= 1e-12
            assert np.abs(folded[name][i//20, i % 20] - value).max() <= 1e-12


def test_scores_of_an_empty_table_are_zero():
    got = scores_of_counts(np.zeros((2, 3, 3)))
    assert all(got[name].tolist() == [0, 0] for name in SCORES)


def test_ccc_by_hand():
    "Means 2 and 3, variances 2/3 and 8/3, covariance 4/3: 2*4/3/(2/3 + 8/3 + 1)"
    assert ccc([1, 2, 3], [1, 3, 5]) == pytest.approx(8/13)
    assert ccc([1, 2, np.nan, 3], [1, 3, 99, 5]) == pytest.approx(8/13)
    assert ccc([1, 2, 3], [1, 2, 3]) == pytest.approx(1)
    assert ccc([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert ccc([1, 2, 3], [2, 2, 2]) == 0
    assert np.isnan(ccc([1], [1]))
    assert np.isnan(ccc([2, 2], [2, 2]))


def test_ccc_of_moments_is_that_of_all():
    rng = np.random.default_rng(0)
    x, y = 1e4 + rng.normal(size=50), 1e4 + rng.normal(size=50)
    of = moments(x, y)
    assert float(ccc_of_moments(of[:20].sum(axis=0) + of[20:].sum(axis=0))) == pytest.approx(ccc(x, y))
    want = 2*np.cov(x, y, bias=True)[0, 1]/(x.var() + y.var() + (x.mean() - y.mean())**2)
    assert ccc(x, y) == pytest.approx(want)


def test_scores_of_dimensions():
    df = as_predictions(['a', 'b', 'c'], ['sad', 'angry', 'sad'], np.eye(4)[:3], LABELS,
                        dict(valence=([1, np.nan, 3], [2, 9, 5]), arousal=([np.nan]*3, [1, 2, 3])))
    assert list(df)[-4:] == ['valence', 'predicted_valence', 'arousal', 'predicted_arousal']
    of = compute_metrics(df, LABELS, ['valence', 'arousal'])['dimensions']
    assert of['valence'] == pytest.approx(dict(ccc=3/(1 + 2.25 + 2.25), rmse=np.sqrt(5/2), n=2))
    assert of['arousal'] == dict(ccc=None, rmse=None, n=0)
    assert 'dimensions' not in compute_metrics(df, LABELS)
