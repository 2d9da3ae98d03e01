"""All folds of a protocol, with every system of a fold trained on that fold's training part alone

    OUT/cross-validation.json   what was asked for; a second run with the same goes on where the first was stopped
    OUT/<system>/seed0-fold1/   run folders, which get their names when they are finished
    OUT/<system>/               the pooled run: predictions of all folds, read like any run folder
"""
import hashlib
import json
import os
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import FastmerError
from .manifest import write_csv, write_json
from .metrics import compute_metrics
from .prepare import Prepared
from .runs import Run, command_line, read_json
from .splits import n_folds
from .splits import split as make_split

ABOUT = 'cross-validation.json'
NEEDS = dict(audio=('audio',), text=('text',), fusion=('audio', 'text', 'fusion'))  # what must be trained, in this order


def _name(seed, fold): return f'seed{seed}-fold{fold}'


def plain_split(manifest, system, protocol, fold, seed, folds): return make_split(manifest, protocol, fold, seed, folds)


def _train_fold(prepared, out, systems, settings, folds, make, leaky, fold, seed, say=None):
    "Train what is not there yet of one fold; each run folder gets its name when it is finished"
    from . import systems as trainers
    prepared = Prepared.open(prepared)
    place = {system: Path(out)/system/_name(seed, fold) for system in systems}
    for system in systems:
        if place[system].is_dir(): continue
        split = make(prepared.manifest, system, fold=fold, seed=seed, folds=folds)
        tmp = place[system].with_name(f'.{place[system].name}-{os.getpid()}')
        own = dict(audio=place['audio'], text=place['text'], allow_leakage=leaky) if system == 'fusion' else {}
        if say: say(f'{system}, fold {fold} of {split.n_folds}, seed {seed}')
        getattr(trainers, f'train_{system}')(prepared, out=tmp, overwrite=True, seed=seed, split=split, say=None, **own, **settings[system])
        try: tmp.rename(place[system])
        except OSError: shutil.rmtree(tmp)  # another process was faster: its run of the same fold stands there
    return fold, seed


def _end_with(parent):
    "End this process when the one that started it has ended, however that was: nobody is left to wait for what it does"
    def watch():
        while os.getppid() == parent: time.sleep(1)
        os._exit(1)
    threading.Thread(target=watch, daemon=True, name='fastmer-watch').start()


def _in_worker(parent, work, **which):
    if not any(thread.name == 'fastmer-watch' for thread in threading.enumerate()): _end_with(parent)
    return work(**which)


def cross_validate(prepared, system='audio', out=None, protocol='speaker', folds=None, seeds=1, only=None, jobs=1, settings=None,
                   overwrite=False, say=print):
    """Train and test `system` (`audio`, `text`, or `fusion` with its own encoders) on every fold of `protocol`, and pool the predictions.

    `seeds`: how many, from 0. `only`: numbers of folds, instead of all. `jobs`: trainings at a time, each a process with its share of the
    cores. `settings`: `dict(audio={...}, text={...}, fusion={...})`, arguments of `train_audio` and so on. Finished trainings in `out` are
    kept, so a stopped run goes on, and one of more folds or seeds adds to it. Returns the pooled `Run` by system. Raises `FastmerError`
    where `out` holds something else.
    """
    return _cross_validate(prepared, system, out, protocol, folds, seeds, only, jobs, settings, overwrite, say,
                           partial(plain_split, protocol=protocol))


def _cross_validate(prepared, system, out, protocol, folds, seeds, only, jobs, settings, overwrite, say, make, leaky=False):
    if system not in NEEDS: raise FastmerError(f'there is no system {system!r}; there are {", ".join(NEEDS)}')
    prepared = prepared if isinstance(prepared, Prepared) else Prepared.open(prepared)
    systems, settings = NEEDS[system], {name: dict((settings or {}).get(name) or {}) for name in NEEDS[system]}
    if system == 'fusion': _check_encoder(settings['audio'])
    k = n_folds(prepared.manifest, 'random' if leaky else protocol, folds)
    which = sorted(set(only)) if only else list(range(1, k + 1))
    out = Path(out) if out else Path('runs')/f'{prepared.path.resolve().name}-{system}-{protocol}-cross-validation'
    every = [dict(seed=seed, fold=fold) for seed in range(seeds) for fold in which]
    splits = {_name(**at): make(prepared.manifest, system, folds=folds, **at).sha256 for at in every}
    about = dict(system=system, protocol=protocol, n_folds=k, settings=settings, spectrogram=prepared.config.hash,
                 manifest=prepared.sha256(any('asr' in of.values() for of in settings.values())))
    asked = _as_json(about | dict(folds=which, seeds=seeds, splits=splits))
    _claim(out, asked, prepared, overwrite)
    todo = [at for at in every if not all((out/name/_name(**at)).is_dir() for name in systems)]
    if say and len(todo) < len(splits): say(f'{len(splits) - len(todo)} of {len(splits)} folds are there already')
    work = partial(_train_fold, str(prepared.path), str(out), systems, settings, folds, make, leaky)
    started = time.perf_counter()
    for n, (fold, seed) in enumerate(_run(work, todo, jobs, say), 1):
        if say: say(f'fold {fold}, seed {seed} done: {n} of {len(todo)}, {time.perf_counter() - started:.0f} s')
    pooled = {name: pool([Run.open(out/name/folder) for folder in splits], every, out/name, k, name == 'fusion') for name in systems}
    write_json(out/ABOUT, read_json(out/ABOUT) | dict(complete=True))
    _sweep(out)  # again: workers outlive a killed parent by a second
    return pooled


def _check_encoder(audio):
    "Raise `FastmerError` for settings of an audio learner that `train_fusion` would refuse, after hours of training"
    from .speech import is_speech
    if audio.get('refit'): raise FastmerError('fusion chooses its epoch on valid, which --audio refit=yes has learned: leave that out')
    if audio.get('normalise') == 'speaker' and is_speech(audio.get('arch', '')):
        raise FastmerError('a speech encoder that is normalised by speaker cannot be fused: leave out --audio normalise=speaker')


def _run(work, todo, jobs, say):
    "`(fold, seed)` of each training, as they are done; in this process where `jobs` is 1"
    if jobs <= 1 or len(todo) <= 1:
        for which in todo: yield work(**which, say=say)
        return
    from joblib import Parallel, delayed, parallel_config
    with parallel_config('loky', inner_max_num_threads=max(1, (os.cpu_count() or 1)//jobs)):
        yield from Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs, return_as='generator_unordered')(
            delayed(_in_worker)(os.getpid(), work, **which) for which in todo)


def _claim(out, asked, prepared, overwrite):
    "Make `out` the folder of this cross-validation, or find that it is"
    if out.is_dir() and overwrite: _clear(out)
    about = dict(asked, prepared=str(prepared.path.resolve()), corpus=', '.join(sorted(set(prepared.manifest.corpus))),
                 command=command_line(), complete=False)
    if (out/ABOUT).is_file():
        old = read_json(out/ABOUT)
        other = [name for name, value in asked.items() if name not in ('folds', 'seeds', 'splits') and old.get(name) != value]
        other += [f'split of {name}' for name, sha in asked['splits'].items() if old['splits'].get(name, sha) != sha]
        if other and any(out.glob('*/seed*')):  # nothing trained yet: what was asked for then was a slip
            raise FastmerError(f'{out} holds another cross-validation ({other[0]} differs): give another folder with --out, or '
                               'replace it with --overwrite')
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FastmerError(f'{out} is not empty and holds no cross-validation: give a new folder with --out')
    _sweep(out)
    write_json(out/ABOUT, about)


def _sweep(out):
    "Delete what processes that are no more left half done"
    for tmp in out.glob('*/.seed*'):
        if not _alive(int(tmp.name.rpartition('-')[2])): shutil.rmtree(tmp, ignore_errors=True)


def _clear(out):
    "Delete a cross-validation, and nothing else"
    if not (out/ABOUT).is_file(): raise FastmerError(f'{out} holds no cross-validation to replace: give another folder with --out')
    for name in NEEDS: shutil.rmtree(out/name, ignore_errors=True)
    (out/ABOUT).unlink()


def _as_json(what): return json.loads(json.dumps(what, default=str))


def _alive(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    except OSError: pass
    return pid != os.getpid()


def pool(runs, at, out, n_folds, encoders=False):
    "The pooled run, in the folder `out`, of the trainings `runs` of one system; `at`: `seed` and `fold` of each"
    first = runs[0].sidecar
    for part in ('', '_valid', *(f'_{name}' for name in runs[0].given if all(name in run.given for run in runs))):
        tables = [run.table(part).assign(**which) for run, which in zip(runs, at, strict=True)]
        write_csv(pd.concat(tables), out/f'predictions{part}.csv')
    rows = pd.concat([run.utterances.loc[run.predictions.id] for run in runs])
    seen = rows.script_seen.groupby(level=0).max()  # `yes` where any seed trained on it
    rows = rows[~rows.index.duplicated()]
    write_csv(rows.assign(script_seen=seen.loc[rows.index]).reset_index(), out/'utterances.csv')
    scores = [compute_metrics(run.predictions, run.labels, run.dimensions) for run in runs]
    ccc = lambda s: {f'ccc_{name}': of['ccc'] for name, of in s.get('dimensions', {}).items()}
    of_labels = lambda s: dict(wa=s['wa'], ua=s['ua'], macro_f1=s['macro']['f1']) if s.get('confusion') else {}
    folds = [dict(which, n=s['n'], **of_labels(s), **ccc(s), seconds=run.sidecar['seconds'])
             for run, which, s in zip(runs, at, scores, strict=True)]
    seeds, numbers = (sorted({row[name] for row in folds}) for name in ('seed', 'fold'))
    audits = [run.sidecar['audit'] for run in runs]
    worst = max(audits, key=lambda found: (len(found['leaks']), len(found['warnings'])))
    audit = dict(worst, **{name: list(dict.fromkeys(check for found in audits for check in found[name])) for name in ('leaks', 'warnings')})
    split = dict(protocol=first['split']['protocol'], fold='all', folds=numbers, n_folds=n_folds, seed=seeds[0], seeds=seeds,
                 sha256=hashlib.sha256(''.join(sorted(run.split['sha256'] for run in runs)).encode()).hexdigest(),
                 **{name: first['split'][name] for name in ('chosen_on',) if name in first['split']})
    about = {name: first[name] for name in ('system', 'arch', 'vocab', 'corpus', 'prepared', 'recipe')}
    about |= dict(split=split, command=command_line(), audit=audit | dict(passes=not audit['leaks']), folds=folds,
                  leaks=list(dict.fromkeys(leak for run in runs for leak in run.sidecar['leaks'])),
                  seconds=round(sum(row['seconds'] for row in folds), 1))
    about |= {name: first[name] for name in ('uses', 'transcripts') if first.get(name)}
    if first.get('dimensions'): about |= dict(dimensions=list(first['dimensions']), dimension_weight=first['dimension_weight'])
    if first.get('soft_labels'):
        about['soft_labels'] = {name: sum(run.sidecar['soft_labels'][name] for run in runs) for name in ('voted', 'n')}
    if encoders: about['encoders'] = {name: dict(path=f'../{name}') for name in ('audio', 'text')}
    write_json(out/'pooled.json', about)
    run = Run.open(out)
    run.evaluate()
    return run


def spread(scores):
    "Mean and standard deviation over folds (of all seeds), and of the seeds' means: `{'folds': {'ua': (mean, sd), ...}, 'seeds': ...}`"
    df = pd.DataFrame(scores['folds'])
    sd = lambda values: float(values.std(ddof=1)) if len(values) > 1 else float('nan')
    names = ['wa', 'ua', 'macro_f1']
    by = dict(folds=df, seeds=df.groupby('seed')[names].mean())
    return {name: {score: (float(np.mean(rows[score])), sd(rows[score])) for score in names} for name, rows in by.items()}
