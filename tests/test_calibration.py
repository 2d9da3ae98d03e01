"Calibration against plain loops and other optimisers, and what holds of every one"
import json
from math import log

import numpy as np
import pytest
from scipy.optimize import minimize

from fastmer.calibration import TEMPERATURES, describe, ece, find_threshold, fit_temperature, nll, reliability, risk_coverage, scale
from fastmer.errors import FastmerError


def made_up(n=400, labels=4, seed=0, temperature=1., sharp=2.):
    "Probabilities and labels drawn from them, the logits then multiplied by `temperature`"
    rng = np.random.default_rng(seed)
    probs = scale(np.exp(rng.normal(0, sharp, (n, labels))), 1)
    y = np.array([rng.choice(labels, p=p) for p in probs])
    return scale(probs, 1/temperature), y


def slow_ece(probs, y, bins):
    total = 0
    for b in range(bins):
        inside = [i for i, p in enumerate(probs) if b/bins < max(p) <= (b + 1)/bins]
        if not inside: continue
        confidence = sum(max(probs[i]) for i in inside)/len(inside)
        accuracy = sum(list(probs[i]).index(max(probs[i])) == y[i] for i in inside)/len(inside)
        total += len(inside)/len(y)*abs(confidence - accuracy)
    return total


def slow_nll(probs, y, temperature):
    total = 0
    for p, i in zip(probs.tolist(), y, strict=True):
        raised = [v**(1/temperature) for v in p]
        total -= log(raised[i]/sum(raised))
    return total/len(y)


@pytest.mark.parametrize('bins', [1, 10, 15, 20])
@pytest.mark.parametrize(('n', 'labels', 'temperature'), [(1, 2, 1), (50, 7, 0.5), (500, 4, 3), (300, 2, 1)])
def test_ece_is_that_of_plain_loops(n, labels, temperature, bins):
    for seed in range(5):
        probs, y = made_up(n, labels, seed, temperature)
        assert ece(probs, y, bins) == pytest.approx(slow_ece(probs, y, bins), rel=0, abs=1e-9)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(('labels', 'temperature'), [(2, 2), (4, 0.5), (7, 4)])
def test_temperature_is_that_of_another_optimiser(labels, temperature, seed):
    probs, y = made_up(300, labels, seed, temperature, sharp=1.)
    loss, got = lambda t: slow_nll(probs, y, float(t[0])), fit_temperature(probs, y)
    want = minimize(loss, x0=[1.], method='Nelder-Mead', bounds=[TEMPERATURES], options=dict(xatol=1e-5))
    assert got == pytest.approx(want.x[0], rel=1e-3)
    assert nll(scale(probs, got), y) == pytest.approx(want.fun, abs=1e-6)
    assert all(nll(scale(probs, t), y) >= nll(scale(probs, got), y) - 1e-9 for t in np.geomspace(*TEMPERATURES, 101))


@pytest.mark.parametrize('temperature', [0.4, 1, 2, 5])
def test_temperature_finds_what_the_logits_were_multiplied_by(temperature):
    probs, y = made_up(20_000, temperature=temperature, sharp=1.)
    assert fit_temperature(probs, y) == pytest.approx(temperature, rel=0.05)
    assert ece(scale(probs, fit_temperature(probs, y)), y) < 0.02
    if temperature != 1: assert ece(probs, y) > 0.05


def test_temperature_stays_within_its_bounds():
    probs, _ = made_up(200)
    for y, want in [(probs.argmax(axis=1), TEMPERATURES[0]), (probs.argmin(axis=1), TEMPERATURES[1])]:
        got = fit_temperature(probs, y)
        assert got == pytest.approx(want, rel=1e-3)
        assert TEMPERATURES[0] <= got <= TEMPERATURES[1]


@pytest.mark.parametrize('temperature', [0.1, 0.7, 1, 3, 10])
def test_scaling_keeps_the_likeliest_label_and_sums_to_one(temperature):
    probs, _ = made_up(1000, 6, sharp=0.5)
    got = scale(probs, temperature)
    assert (got.argmax(axis=1) == probs.argmax(axis=1)).all()
    assert got.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert (got.max(axis=1) >= probs.max(axis=1) - 1e-12).all() if temperature <= 1 else (got.max(axis=1) < probs.max(axis=1)).all()
    if temperature == 1: assert got == pytest.approx(probs, abs=1e-12)
    if temperature > 0.1: assert scale(got, 1/temperature) == pytest.approx(probs, abs=1e-6)  # below EPS nothing comes back


def test_probabilities_of_zero_and_one():
    probs = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0.5, 0.5, 0]], dtype=float)
    y = np.array([0, 1, 2, 1, 0])
    t = fit_temperature(probs, y)
    assert 1 < t <= 10
    for temperature in (*TEMPERATURES, 1, t):
        got = scale(probs, temperature)
        assert np.isfinite(got).all()
        assert (got.argmax(axis=1) == probs.argmax(axis=1)).all()
        assert np.isfinite(nll(got, y))
    assert ece(probs, y) == pytest.approx(4/5*abs(1 - 3/4) + 1/5*abs(0.5 - 1))
    assert nll(probs, y) == pytest.approx((log(1e12) + log(2))/5)
    json.dumps(describe(probs, y, scale(probs, t)), allow_nan=False)


@pytest.mark.parametrize('bins', [1, 7, 15, 25, 100])
def test_every_utterance_lands_in_the_bin_that_holds_its_confidence(bins):
    edges = np.arange(1, bins + 1)/bins
    confidence = np.r_[edges, np.nextafter(edges, 0), np.nextafter(edges[:-1], 2), 1., np.random.default_rng(0).random(500)]
    rows = reliability(confidence[:, None], np.zeros(len(confidence)), bins)
    assert sum(b['n'] for b in rows) == len(confidence)
    for b in rows:
        inside = confidence[(b['low'] < confidence) & (confidence <= b['high'])]
        assert (b['n'], b['confidence'], b['accuracy']) == (len(inside), pytest.approx(inside.mean()), 1)
    assert rows[-1]['high'] == 1


def test_reliability_by_hand():
    probs, y = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5]]), np.array([0, 1, 0, 1])
    assert reliability(probs, y, 2) == [dict(low=0, high=0.5, n=1, confidence=0.5, accuracy=0),
                                        dict(low=0.5, high=1, n=3, confidence=pytest.approx(0.8), accuracy=pytest.approx(2/3))]
    assert ece(probs, y, 2) == pytest.approx((0.5 + 3*(0.8 - 2/3))/4)


def test_calibrated_probabilities_have_little_error_and_others_much():
    probs, y = made_up(50_000)
    assert ece(probs, y) < 0.01
    assert ece(scale(probs, 0.3), y) > 0.1
    assert fit_temperature(probs, y) == pytest.approx(1, rel=0.03)


def answers(n=200, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    if ties: confidence = confidence.round(1)
    return confidence, rng.random(n) < 0.3 + 0.7*confidence


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('n', [1, 5, 200])
def test_risk_and_coverage_are_those_of_every_threshold(n, ties):
    for seed in range(5):
        confidence, right = answers(n, seed, ties)
        got, thresholds = risk_coverage(confidence, right), sorted(set(confidence), reverse=True)
        assert got['threshold'].tolist() == thresholds
        answered = [confidence >= t for t in thresholds]
        assert got['coverage'] == pytest.approx([some.mean() for some in answered], abs=1e-12)
        assert got['risk'] == pytest.approx([1 - right[some].mean() for some in answered], abs=1e-12)
        assert got['coverage'][-1] == 1
        assert got['aurc'] == pytest.approx(np.mean([1 - right[confidence >= c].mean() for c in confidence]), abs=1e-12)


def test_answers_of_one_confidence_come_in_any_order():
    confidence, right = answers(ties=True)
    order = np.random.default_rng(1).permutation(len(right))
    a, b = risk_coverage(confidence, right), risk_coverage(confidence[order], right[order])
    assert all(np.array_equal(a[name], b[name]) for name in ('coverage', 'risk', 'threshold', 'aurc'))
    assert risk_coverage(np.ones(4), np.array([True, True, True, False]))['aurc'] == 0.25


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('error', [0.05, 0.1, 0.2, 0.5, 1])
def test_the_threshold_answers_most_within_the_error(error, ties):
    found = 0
    for seed in range(10):
        confidence, right = answers(200, seed, ties)
        kept = {t: right[confidence >= t] for t in confidence}
        good = {t: len(some)/len(right) for t, some in kept.items() if (~some).sum()/len(some) <= error}
        if not good:
            with pytest.raises(FastmerError): find_threshold(confidence, right, error)
            continue
        got = find_threshold(confidence, right, error)
        found += 1
        some = confidence >= got['threshold']
        assert got['risk'] == pytest.approx((~right[some]).mean())
        assert got['risk'] <= error
        assert got['coverage'] == pytest.approx(some.mean()) == pytest.approx(max(good.values()))
        assert (got['n'], got['wanted']) == (200, error)
        assert json.loads(json.dumps(got)) == got
    assert found >= 3


def test_an_error_that_no_threshold_reaches_is_said():
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, True, True, True])
    with pytest.raises(FastmerError, match=r'no threshold keeps the error on valid at 0.1 or below: the lowest reached is 0.250 \(4 utt'):
        find_threshold(confidence, right, 0.1)
    assert find_threshold(confidence, right, 0.25) == dict(threshold=0.6, coverage=1, risk=0.25, n=4, wanted=0.25)


@pytest.mark.parametrize('n', [1, 3, 500])
def test_describe_gives_plain_numbers(n):
    probs, y = made_up(n, temperature=2)
    scaled = scale(probs, 2)
    got = describe(probs, y, scaled)
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    for name, p in (('', probs), ('_calibrated', scaled)):
        assert (got[f'ece{name}'], got[f'nll{name}']) == (ece(p, y), nll(p, y))
        assert sum(b['n'] for b in got[f'reliability{name}']) == n
    assert len(got['risk']) == len(got['coverage']) == min(n, 101)
    assert (got['coverage'][-1], got['risk'][-1]) == (1, pytest.approx((scaled.argmax(axis=1) != y).mean()))
    if n == 500: assert got['ece_calibrated'] < got['ece']
