"Two runs on the same utterances, and whether fusion is worth its second modality"
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import FastmerError
from .metrics import as_predictions, compute_metrics
from .runs import Run, check_same_split
from .uncertainty import paired


def aligned(runs, allow_different_splits=False):
    """The predictions of `runs` on the same utterances (and seeds) in the same order: a list of tables.

    Raises `FastmerError` where the runs know other labels, stand on different splits (unless allowed: then what they share is taken) or
    share nothing.
    """
    check_same_split(runs, allow_different_splits)
    if len({tuple(run.labels) for run in runs}) > 1:
        raise FastmerError('these runs know different labels: ' + '; '.join(f'{run.path}: {", ".join(run.labels)}' for run in runs))
    keys = ['id', *(['seed'] if all('seed' in run.predictions for run in runs) else [])]
    tables = [run.predictions.set_index(keys, drop=False) for run in runs]
    for run, table in zip(runs, tables, strict=True):
        if table.index.has_duplicates:
            raise FastmerError(f'{run.path} predicts some utterances more than once (several seeds), and the other run does not')
    common = tables[0].index
    for table in tables[1:]: common = common[common.isin(table.index)]
    if not len(common): raise FastmerError('these runs predict no utterance in common: there is nothing to compare')
    tables = [table.loc[common] for table in tables]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        if (other := (table.label != tables[0].label).to_numpy()).any():
            raise FastmerError(f'{run.path} and {runs[0].path} have different labels for {table.id.iloc[other.argmax()]!r}')
    return [table.reset_index(drop=True) for table in tables]


def _groups(run, table):
    "What to resample for the rows of `table`, a part of the predictions of `run`"
    names, over = run.groups()
    return pd.Series(names, index=run.predictions.id).groupby(level=0).first().loc[table.id].to_numpy(), over


def _open(run):
    run = run if isinstance(run, Run) else Run.open(run)
    if not run.labels: raise FastmerError(f'{run.path} gives dimensions alone, and runs are compared by their labels: see fastmer evaluate')
    return run


def compare_runs(a, b, allow_different_splits=False):
    """Is `b` better than `a` on the same utterances? Run folders or `Run`s.

    Returns `a`, `b` (paths), `n`, `same_split`, and by score (`ua`, `wa`, `macro_f1`) what `paired` gives; `flips`, a row for each
    utterance that one alone gets right: `id, label, a, b`.
    """
    a, b = _open(a), _open(b)
    x, y = aligned([a, b], allow_different_splits)
    groups, over = _groups(a, x)
    scores = {score: paired(x.label, x.predicted, y.predicted, a.labels, groups, over, score) for score in ('ua', 'wa', 'macro_f1')}
    both = x[['id', 'label']].assign(a=x.predicted, b=y.predicted)
    flips = both[(both.a == both.label) != (both.b == both.label)]
    return dict(a=str(a.path), b=str(b.path), n=len(x), labels=a.labels, split=a.split, same_split=a.split['sha256'] == b.split['sha256'],
                leaks=[*dict.fromkeys([*(a.sidecar.get('leaks') or []), *(b.sidecar.get('leaks') or [])])], scores=scores,
                flips=flips.to_dict('records'))


def late_fusion(runs, allow_different_splits=False):
    "Predictions of the mean of calibrated probabilities of `runs`: what can be had from them without a fusion learner"
    runs = [_open(run) for run in runs]
    return _mean(runs, aligned(runs, allow_different_splits))


def _mean(runs, tables):
    probs = np.mean([run.calibrated(table) for run, table in zip(runs, tables, strict=True)], axis=0)
    return as_predictions(tables[0].id, tables[0].label, probs, runs[0].labels)


def halves_of(fusion, **given):
    "The audio and the text run that a fusion run was made from, found by the paths in its sidecar where they are not `given`"
    fusion, out = _open(fusion), {name: _open(run) for name, run in given.items() if run}
    if len(out) == 2: return out
    if fusion.sidecar['system'] != 'fusion': raise FastmerError(f'{fusion.path} is no fusion run: give one of train-fusion')
    for name, encoder in (fusion.sidecar.get('encoders') or {}).items():
        if name in out: continue
        paths = [path for path in (fusion.path/encoder['path'], Path(encoder['path'])) if path.exists()]
        if paths: out[name] = Run.open(paths[0])
        else:
            raise FastmerError(f'the {name} run of {fusion.path} is not at {encoder["path"]} any more: say where with --{name}')
    return dict(sorted(out.items()))


def fusion_gain(fusion, audio=None, text=None, allow_different_splits=False):
    """Does fusion beat its better half, and the calibrated mean of its halves?

    The better half is the one with the higher UA on valid, since the test part chooses nothing. Returns `better`, `rows` (one a part of the
    test utterances: `all`, and `unseen scripts`, `seen scripts` where the manifest has both) with `n`, the scores of `audio`, `text`,
    `late` and `fusion`, and for UA and each label's recall the gain of fusion over the better half and over `late`, as `paired` gives it;
    `note`: what makes the halves another thing than fusion's own, or nothing.
    """
    fusion = _open(fusion)
    halves = halves_of(fusion, audio=audio, text=text)
    valid = {name: compute_metrics(run.valid, run.labels)['ua'] for name, run in halves.items()}
    better = max(valid, key=valid.get)
    runs = dict(halves, fusion=fusion)
    tables = dict(zip(runs, aligned(list(runs.values()), allow_different_splits), strict=True))
    tables['late'] = _mean(list(halves.values()), [tables[name] for name in halves])
    groups, over = _groups(fusion, tables['fusion'])
    rows = []
    for part, at in _parts(fusion, tables['fusion']).items():
        targets = tables['fusion'].label[at]
        said = {name: table.predicted[at] for name, table in tables.items()}
        scores = {name: compute_metrics(table[at], fusion.labels) for name, table in tables.items()}
        gain = lambda base, score, at=at, targets=targets, said=said: paired(targets, said[base], said['fusion'], fusion.labels, groups[at],
                                                                            over, score)
        names = ['ua', *(f'recall:{label}' for label in fusion.labels if (targets == label).any())]
        rows.append(dict(part=part, n=int(at.sum()), ua={name: s['ua'] for name, s in scores.items()},
                         wa={name: s['wa'] for name, s in scores.items()},
                         recall={label: {name: s['classes'][label]['recall'] for name, s in scores.items()} for label in fusion.labels},
                         over_better={score: gain(better, score) for score in names},
                         over_late={score: gain('late', score) for score in names}))
    return dict(fusion=str(fusion.path), better=better, valid_ua=valid, labels=fusion.labels, split=fusion.split, rows=rows,
                leaks=fusion.sidecar.get('leaks') or [], corpus=fusion.sidecar.get('corpus', ''), note=_other_words(fusion, halves['text']))


def _other_words(fusion, text):
    "What to say where a fusion and its text half were tested on different words"
    own, half = ((run.sidecar.get('transcripts') or {}).get('test', 'gold') for run in (fusion, text))
    if own == half: return ''
    return (f'the text half read {half} transcripts and fusion {own} ones, so part of the difference is theirs: give a run of train-text '
            f'--test-transcripts {own} with --text')


def _parts(run, table):
    "Rows of `table` by part: all of them, and those of scripts that were and were not trained on"
    out = dict(all=np.ones(len(table), bool))
    seen = run.utterances.script_seen.reindex(table.id).to_numpy() if 'script_seen' in run.utterances else np.array(['']*len(table))
    for name, value in (('unseen scripts', 'no'), ('seen scripts', 'yes')):
        if (at := seen == value).any() and not at.all(): out[name] = at
    return out
