"""The leakage ladder: the same systems under protocols that let less and less through, and what that does to their scores

The lowest rung, `report`, is the way of the student report that fastmer grew from: the epoch is chosen on the test part, fusion draws a
new random split, and its encoders have been trained on its test utterances. It is to be had here alone, and every number of it says so.
"""
from functools import partial
from itertools import product
from pathlib import Path

from .compare import compare_runs
from .crossval import _cross_validate, plain_split
from .errors import FastmerError, did_you_mean
from .manifest import write_json
from .prepare import Prepared
from .runs import command_line
from .splits import Split, n_folds
from .splits import split as make_split

RUNGS = ('report', 'random', 'speaker', 'session', 'session+script')  # from the most to the least that leaks
ABOUT = 'ladder.json'
ON_TEST = 'the epoch was chosen on the test part'
NEW_SPLIT = 1000  # added to the seed where fusion draws its own split


def report_split(manifest, system, fold, seed, folds):
    "The report's split: random, valid is test; another one for fusion than for its encoders"
    s = make_split(manifest, 'random', fold, seed + NEW_SPLIT*(system == 'fusion'), folds)
    return Split('report', fold, s.n_folds, s.seed, tuple(sorted({*s.train, *s.valid})), s.test, s.test, s.unused, leaks=(ON_TEST,))


def leakage_ladder(prepared, system='audio', out=None, rungs=RUNGS, folds=5, max_folds=None, seeds=1, jobs=1, settings=None,
                   overwrite=False, say=print):
    """Cross-validate `system` under each protocol of `rungs` that the corpus allows; returns what `ladder.json` then holds.

    `folds`: of the `random`, `speaker` and `report` rungs; `max_folds`: train only so many folds a rung. Other arguments as in
    `cross_validate`. Finished trainings in `out` are kept. The result: `rungs`, a list of `rung`, `scores` by system (as `evaluate` gives
    them) and `inflation` by system against the strictest rung: `difference` of UA, its `interval` and `p` on the `n` utterances that both
    rungs have tested; `left_out`, why a rung is not there.
    """
    prepared = prepared if isinstance(prepared, Prepared) else Prepared.open(prepared)
    out = Path(out) if out else Path('runs')/f'{prepared.path.resolve().name}-{system}-ladder'
    if strange := [name for name in rungs if name not in RUNGS]:
        raise FastmerError(f'there is no rung {strange[0]!r}{did_you_mean(strange[0], RUNGS)}; there are {", ".join(RUNGS)}')
    if any(of.get('classes') is False for of in (settings or {}).values()):
        raise FastmerError('the ladder compares UA, the mean recall of labels: leave out --no-classes')
    runs, left_out = {}, {}
    for rung in [name for name in RUNGS if name in rungs]:
        leaky = rung == 'report'
        make = report_split if leaky else partial(plain_split, protocol=rung)
        try:
            k = n_folds(prepared.manifest, 'random' if leaky else rung, folds)
            which = range(1, min(k, max_folds or k) + 1)
            for seed, fold in product(range(seeds), which): make(prepared.manifest, system, fold=fold, seed=seed, folds=folds)
        except FastmerError as e:
            left_out[rung] = str(e)
            if say: say(f'\n{rung}: left out, {e}')
            continue
        if say: say(f'\n{rung}')
        runs[rung] = _cross_validate(prepared, system, out/rung, rung, folds, seeds, which, jobs, settings,
                                     overwrite, say, make, leaky)
    if not runs: raise FastmerError(f'no rung of the ladder can be had on {prepared.path}: {"; ".join(left_out.values())}')
    honest = list(runs)[-1]
    table = [dict(rung=rung, scores={name: run.evaluate() for name, run in of.items()},
                  inflation={name: _inflation(runs[honest][name], run) for name, run in of.items()} if rung != honest else {})
             for rung, of in runs.items()]
    about = dict(honest=honest, systems=list(runs[honest]), left_out=left_out, corpus=', '.join(sorted(set(prepared.manifest.corpus))),
                 prepared=str(prepared.path.resolve()), command=command_line(), rungs=table)
    write_json(out/ABOUT, about)
    return about


def _inflation(honest, run):
    "How much higher the UA of `run` is than that of `honest`, on the utterances that both have tested; empty where there are none"
    if not set(honest.predictions.id) & set(run.predictions.id): return {}
    found = compare_runs(honest, run, allow_different_splits=True)
    return {name: found['scores']['ua'][name] for name in ('difference', 'interval', 'p', 'n', 'over', 'groups')}
