"""Are the probabilities true, and when is it better not to answer? Everything that is fitted here is fitted on valid, never on test

Temperature scaling and the expected calibration error: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Risk and
coverage: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NIPS 2017.
"""
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from .errors import FastmerError

BINS, TEMPERATURES = 15, (0.1, 10.)
EPS = 1e-12  # probabilities of 0, as CSV may hold them, have no logarithm


def scale(probs, temperature):
    "Probabilities `(n, labels)` at another temperature: above 1 they grow more alike, below 1 less"
    return softmax(np.log(np.clip(probs, EPS, None))/temperature, axis=1)


def nll(probs, y): return float(-np.log(np.clip(probs[np.arange(len(y)), y], EPS, None)).mean())


def fit_temperature(probs, y):
    "The temperature in 0.1 to 10 with the lowest negative log-likelihood of `probs (n, labels)` for the label numbers `y (n,)`"
    logits = np.log(np.clip(probs, EPS, None))
    loss = lambda log_t: -log_softmax(logits/np.exp(log_t), axis=1)[np.arange(len(y)), y].mean()
    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method='bounded', options=dict(xatol=1e-6)).x))


def reliability(probs, y, bins=BINS):
    "Utterances by confidence (the highest probability) in `bins` of equal width: a dict a bin that holds any, with both means"
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == y
    of = np.searchsorted(np.arange(1, bins)/bins, confidence)  # bins are open on the left
    return [dict(low=b/bins, high=(b + 1)/bins, n=int((of == b).sum()), confidence=float(confidence[of == b].mean()),
                 accuracy=float(right[of == b].mean())) for b in range(bins) if (of == b).any()]


def ece(probs, y, bins=BINS):
    "Expected calibration error: mean distance of confidence and accuracy over the bins, weighted by their counts"
    return sum(b['n']*abs(b['confidence'] - b['accuracy']) for b in reliability(probs, y, bins))/len(y)


def risk_coverage(confidence, right):
    """Share of wrong answers among the most confident, by how many are answered: `coverage`, `risk`, `threshold`, arrays from few to all.

    Utterances of one confidence are answered together; `aurc` is the mean risk over coverage.
    """
    order = np.argsort(-confidence, kind='stable')
    c, wrong = confidence[order], ~right[order]
    last = np.r_[c[1:] != c[:-1], True]
    answered = np.arange(1, len(c) + 1)
    risk = np.cumsum(wrong)/answered
    aurc = np.average(risk[last], weights=np.diff(answered[last], prepend=0))
    return dict(coverage=(answered/len(c))[last], risk=risk[last], threshold=c[last], aurc=float(aurc))


def find_threshold(confidence, right, error):
    """The confidence below which not to answer, so that at most the share `error` of the answers is wrong; from valid.

    Returns `threshold, coverage, risk, n`. Raises `FastmerError` where no threshold reaches that.
    """
    return threshold_of(risk_coverage(confidence, right), error, len(right))


def threshold_of(curve, error, n):
    "`find_threshold` from the risk-coverage curve of `n` utterances, as a sidecar keeps it"
    good = np.flatnonzero(np.asarray(curve['risk']) <= error)
    if not len(good):
        raise FastmerError(f'no threshold keeps the error on valid at {error:g} or below: the lowest reached is {min(curve["risk"]):.3f} '
                           f'({n} utterances)')
    return dict(n=n, wanted=error, **{name: float(curve[name][good[-1]]) for name in ('threshold', 'coverage', 'risk')})


def describe(probs, y, scaled, bins=BINS):
    "Numbers of a calibration: ECE and NLL before and after scaling, reliability by bin and the risk-coverage curve after it"
    curve = risk_coverage(scaled.max(axis=1), scaled.argmax(axis=1) == y)
    some = np.unique(np.linspace(0, len(curve['risk']) - 1, 101).round().astype(int))
    out = dict(bins=bins)
    for name, p in (('', probs), ('_calibrated', scaled)):
        out |= {f'ece{name}': ece(p, y, bins), f'nll{name}': nll(p, y), f'reliability{name}': reliability(p, y, bins)}
    return out | dict(aurc=curve['aurc'], coverage=[float(v) for v in curve['coverage'][some]],
                      risk=[float(v) for v in curve['risk'][some]])
