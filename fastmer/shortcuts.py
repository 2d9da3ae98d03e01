"""Can the label be told without listening to the voice? And is one speaker hidden behind two names?

Each shortcut is a cheap classifier on one property of a recording, trained and tested under the same folds as the systems.
"""
import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from .metrics import compute_metrics
from .uncertainty import groups_of, intervals

SHORTCUTS = {  # name: columns that it may look at
    'speaker': ('speaker',), 'session': ('session',), 'corpus': ('corpus',), 'gender': ('gender',), 'language': ('language',),
    'duration': ('duration',), 'loudness': ('rms_db', 'peak_db'), 'file format': ('suffix', 'rate', 'channels', 'encoding'),
}
MIN_CLIPS, NEAREST, ALIKE, TOLD_APART = 8, 5, 0.75, 0.9  # of same_voices


def _classifier(numbers):
    if numbers: return DecisionTreeClassifier(max_depth=5, min_samples_leaf=5, class_weight='balanced', random_state=0)
    return make_pipeline(OneHotEncoder(handle_unknown='ignore'), LogisticRegression(class_weight='balanced', max_iter=300))


def score_shortcut(df, columns, splits):
    """UA of a classifier that sees only `columns` of the table `df` (by `id`), over the test parts of `splits`.

    `None` where the columns are empty or the same in every row, or one group alone is tested; else `ua`, `interval`, `chance`, `n`.
    """
    df = df[(df[list(columns)].notna() & (df[list(columns)] != '')).all(axis=1)]
    columns = [name for name in columns if df[name].nunique() > 1]
    if not columns: return None
    numbers = all(pd.api.types.is_numeric_dtype(df[name]) for name in columns) and columns != ['rate']
    x = df[columns] if numbers else df[columns].astype(str)
    done = []
    for split in splits:
        train, test = (df.index.isin(list(ids)) for ids in (split.train, split.test))
        if not test.any() or df.label[train].nunique() < 2: continue
        said = _classifier(numbers).fit(x[train], df.label[train]).predict(x[test])
        done.append(df[test].assign(predicted=said))
    if not done: return None
    done, labels = pd.concat(done), sorted(df.label.unique())
    scores, interval = compute_metrics(done, labels), intervals(done.label, done.predicted, labels, *groups_of(done))['ua']
    if interval is None: return None  # one group, or one utterance: nothing varies
    return dict(ua=scores['ua'], interval=interval, chance=1/scores['ua_labels'], n=len(done))


def _apart(x, y):
    "How well two voices are told apart: area under the ROC of a cross-validated linear discriminant"
    fit = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver='lsqr', shrinkage='auto'))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(roc_auc_score(y, cross_val_predict(fit, x, y, cv=folds, method='decision_function')))


def same_voices(voices, speakers, labels, pairs=40, seed=0):
    """Speakers that a classifier cannot tell from one another, though it can tell most: perhaps one person under two names.

    `voices (n, features)`: means and spreads of cepstra by utterance; label means are taken out first. Each speaker of at least 8
    utterances is compared with the 5 nearest. Returns `[(a, b, auc)]` and the median `auc` of random pairs, `nan` where there are none;
    below 0.9 this corpus's voices say too little, and nobody is named. An idea of ours: a classifier two-sample test (Lopez-Paz and
    Oquab, ICLR 2017) on each pair; on EMO-DB halves of one speaker give 0.2 to 0.8, two speakers 0.98 and more.
    """
    x = voices - pd.DataFrame(voices).groupby(labels).transform('mean').to_numpy()
    x = x/np.maximum(x.std(axis=0), 1e-9)
    names, of, counts = np.unique(np.asarray(speakers, dtype=str), return_inverse=True, return_counts=True)
    usable = np.flatnonzero((counts >= MIN_CLIPS) & (names != ''))
    if len(usable) < 3: return [], float('nan')
    centre = np.stack([x[of == s].mean(axis=0) for s in usable])
    apart = lambda a, b: _apart(x[(of == usable[a]) | (of == usable[b])], of[(of == usable[a]) | (of == usable[b])] == usable[a])
    rng, near = np.random.default_rng(seed), set()
    for s, c in enumerate(centre):
        order = np.argsort(((centre - c)**2).sum(axis=1))
        near |= {(min(s, int(t)), max(s, int(t))) for t in order[1:NEAREST + 1]}
    every = [tuple(sorted(rng.choice(len(usable), 2, replace=False).tolist())) for _ in range(pairs)]
    auc = {pair: apart(*pair) for pair in sorted(near | set(every))}
    usual = float(np.median([auc[pair] for pair in every]))
    if usual < TOLD_APART: return [], usual
    return [(str(names[usable[a]]), str(names[usable[b]]), value) for (a, b), value in auc.items() if value < ALIKE], usual
