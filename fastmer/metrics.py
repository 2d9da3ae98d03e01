"Predictions -> numbers; computes, draws nothing"
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from .errors import FastmerError

SCORES = ('wa', 'ua', 'macro_precision', 'macro_f1', 'weighted_precision', 'weighted_f1')  # of scores_of_counts, one number each


def prob_columns(labels): return [f'p_{label}' for label in labels]


def as_predictions(ids, targets, probs, labels, dimensions=None):
    """The table `id, label, predicted, p_<label>...` from ids, label names and probabilities `(n, labels)`

    `dimensions`: true and predicted values `(n,)` by name, for the columns `valence, predicted_valence` and so on. Where there are no
    labels, these columns alone stand behind `id, label`.
    """
    probs = np.asarray(probs, dtype=np.float64)
    out = pd.DataFrame(dict(id=list(ids), label=list(targets)))
    if len(labels): out['predicted'] = [labels[i] for i in probs.argmax(1)]
    out = pd.concat([out, pd.DataFrame(probs, columns=prob_columns(labels))], axis=1)
    for name, (true, predicted) in (dimensions or {}).items():
        out[name], out[f'predicted_{name}'] = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    return out


def moments(true, predicted):
    "What a concordance correlation is worked out from, by utterance: 1, x, y, xx, yy, xy about the mean of `true`, `(n, 6)`"
    x, y = true - np.mean(true), predicted - np.mean(true)
    return np.stack([np.ones_like(x), x, y, x*x, y*y, x*y], axis=1)


def ccc_of_moments(sums):
    "Concordance correlations `(...)` from sums of `moments`, `(..., 6)`; `nan` where nothing differs"
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    spread = (xx + yy)/n - 2*x*y/n**2  # both variances and the square of the difference of the means
    return np.divide(2*(xy/n - x*y/n**2), spread, out=np.full(np.shape(n), np.nan), where=spread > 1e-12)


def ccc(true, predicted):
    """The concordance correlation coefficient of Lin (Biometrics 1989), with deviations over `n`, of the values that are known (not `nan`)

    -1 to 1; unlike a correlation it falls with every difference of mean and scale. `nan` where no two values are known.
    """
    true, predicted = (np.asarray(x, dtype=np.float64) for x in (true, predicted))
    here = np.isfinite(true)
    return float(ccc_of_moments(moments(true[here], predicted[here]).sum(axis=0))) if here.sum() > 1 else float('nan')


def score_dimension(true, predicted):
    "`ccc`, `rmse` (root of the mean squared error) and `n`, over the values that are known; `None` where there are none"
    true, predicted = (np.asarray(x, dtype=np.float64) for x in (true, predicted))
    here, found = np.isfinite(true), ccc(true, predicted)
    rmse = float(np.sqrt(np.mean((true[here] - predicted[here])**2))) if here.any() else None
    return dict(ccc=found if np.isfinite(found) else None, rmse=rmse, n=int(here.sum()))


def compute_metrics(predictions, labels, dimensions=()):
    """Scores of a table of predictions over `labels`, all from scikit-learn, as plain numbers.

    `wa` is accuracy (weighted accuracy, in the field's words), `ua` the mean recall over the labels that stand in the table (unweighted
    accuracy, UAR), `ua_labels` how many those are. Averages of precision, recall and F1 are over the same labels. `dimensions` that are
    named are scored by `score_dimension`. Where there are no labels, `n` and that is all.
    """
    if not len(predictions): raise FastmerError('there is no prediction to score')
    of = {name: score_dimension(predictions[name], predictions[f'predicted_{name}']) for name in dimensions}
    return dict(n=len(predictions), **_of_labels(predictions, labels) if labels else {}, **dict(dimensions=of) if of else {})


def _of_labels(predictions, labels):
    y, p, labels = predictions.label, predictions.predicted, list(labels)
    if strange := sorted({*y, *p} - set(labels)):
        raise FastmerError(f'the predictions hold the label {strange[0]!r}, which is none of {", ".join(labels)}')
    present = [label for label in labels if (y == label).any()]
    rows = precision_recall_fscore_support(y, p, labels=labels, zero_division=0)
    out = dict(wa=float(accuracy_score(y, p)))
    for average in ('macro', 'weighted'):
        values = precision_recall_fscore_support(y, p, labels=present, average=average, zero_division=0)[:3]
        out[average] = {name: float(value) for name, value in zip(('precision', 'recall', 'f1'), values, strict=True)}
    out['ua'], out['ua_labels'] = out['macro']['recall'], len(present)
    out['classes'] = {label: dict(precision=float(a), recall=float(b), f1=float(c), support=int(d))
                      for label, a, b, c, d in zip(labels, *rows, strict=True)}
    out['confusion'] = dict(labels=labels, counts=confusion_matrix(y, p, labels=labels).tolist())
    return out


def scores_of_counts(counts):
    """The scores of `compute_metrics` from confusion counts `(..., labels, labels)`, true labels down, for many tables at once.

    A dict of arrays `(...)`: `wa`, `ua`, macro and weighted precision and F1 over the labels that a table holds; and `precision`, `recall`,
    `f1`, `support`, arrays `(..., labels)`.
    """
    counts = np.asarray(counts, dtype=np.float64)
    hit, true, said = counts.diagonal(axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)
    ratio = lambda a, b: np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b > 0)
    out = dict(support=true, precision=ratio(hit, said), recall=ratio(hit, true), f1=ratio(2*hit, true + said))
    out['wa'] = ratio(hit.sum(axis=-1), true.sum(axis=-1))
    for name, weight in (('macro', (true > 0).astype(float)), ('weighted', true)):
        for score in ('precision', 'recall', 'f1'): out[f'{name}_{score}'] = ratio((out[score]*weight).sum(axis=-1), weight.sum(axis=-1))
    return out | dict(ua=out['macro_recall'])


def word_error_rate(gold, heard):
    """Words substituted, left out and put in, over the words of `gold`, of all texts together; `None` where `gold` has no words.

    Both are brought to lower case and NFKC, punctuation and apostrophes off (`duplicates.normalise`); a letter of Thai, Lao, Khmer, kana
    and Han counts as a word. Numbers are not spelt out: `nine` for `9` is an error.
    """
    from rapidfuzz.distance import Levenshtein

    from .duplicates import normalise, words
    said = [(words(normalise(a)), words(normalise(b))) for a, b in zip(gold, heard, strict=True)]
    n = sum(len(a) for a, _ in said)
    return sum(Levenshtein.distance(a, b) for a, b in said if a)/n if n else None
