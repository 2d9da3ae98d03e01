"""Settings of a training, searched on valid alone

    OUT/tune.json                what was asked for; a second search with the same goes on where the first was stopped
    OUT/optuna.db                Optuna's study: `optuna-dashboard sqlite:///OUT/optuna.db` shows it
    OUT/trials/003/              a training: predictions_valid.csv, history.csv, learner.json, and in trial.json what came of it
    OUT/trials.csv, best.json, plots/tuning.png

Trial 0 has the recipe's own settings, so that no search ends below them unnoticed. A trial cannot look at the test part: the manifest that
it is given has no such row, and its split ends with valid. What the search finds was chosen by its scores, so these estimate nothing;
`best.json` holds the command that trains with the best settings and tests that once.
"""
import json
import re
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

from .errors import FastmerError, did_you_mean
from .manifest import write_csv, write_json
from .metrics import compute_metrics
from .prepare import LOCK, Prepared, locked
from .runs import Run, command_line, read_json
from .splits import split as make_split

ABOUT, STUDY = 'tune.json', 'optuna.db'
SYSTEMS = ('audio', 'text', 'fusion')
SPACES = {  # what is searched where --search says nothing, by kind of network; an option that is given is not searched
    'audio': dict(lr='3e-4..1e-2', epochs='10..60', bs='8,16,32', augment='yes,no', label_smoothing='0..0.2', mixup='0..0.4'),
    'speech': dict(lr='3e-4..2e-2', head_epochs='10..60', epochs='0', hidden='0,128,256', bs='8,16,32',  # the head alone, in seconds
                   label_smoothing='0..0.2'),
    'text': dict(lr='1e-5..3e-4', epochs='2..10', bs='8,16,32'),
    'tiny': dict(lr='1e-4..1e-2', epochs='5..30', bs='8,16,32'),
    'fusion': dict(lr='3e-4..3e-2', head_epochs='3..30', dropout='0..0.8', bs='8,16,32', fusion='concat,gated,low-rank'),
}
OBJECTIVES = {  # name: what is maximised, of UA and loss on valid; UA has few values on a small valid part, so the loss breaks its ties
    'ua': lambda ua, loss: ua - 1e-6*loss/(1 + loss),
    'loss': lambda ua, loss: -loss,
}
NOT_SEARCHED = ('device', 'cache', 'refit', 'language', 'audio', 'text', 'transcripts', 'test_transcripts', 'classes', 'dimensions',
                'residual', 'help')  # what valid cannot choose, or no setting at all
OWN = "the recipe's own settings"  # of the first trial, for which nothing is typed
NOTE = ('these are scores on valid, and settings and epochs were chosen by them: they estimate nothing. Train with the command to get a '
        'score on test')


def options_of(system):
    "The options of `train-<system>` that can be searched, by name"
    from importlib import import_module

    from .cli.options import OURS
    params = import_module(f'.cli.train_{system}', __package__).command.params
    return {p.name: p for p in params if isinstance(p, click.Option) and p.name not in (*OURS, *NOT_SEARCHED)}


def parse_options(system, words):
    "Arguments of `train_<system>` from options as typed"
    from .cli.options import training_settings
    try: return training_settings(system, (), (), list(words))[system]
    except click.UsageError as e: raise FastmerError(f'train-{system} cannot be called so: {e.format_message()}') from None


def _words(param, value):
    "An option as typed: `--lr 0.001`; `--augment` and `--no-augment` for `yes` and `no`"
    return [param.opts[0], value] if not param.is_flag else param.opts[:1] if value == 'yes' else param.secondary_opts[:1]


def distribution(system, param, spec):
    "Optuna's distribution of `LOW..HIGH` (by logarithm where the ends are tenfold apart) or `A,B,C`, every value checked by the option"
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    said = f'--search {param.name}={spec}'

    def value(word):
        if param.is_flag and word not in ('yes', 'no'): raise FastmerError(f'{said}: --{param.name} is switched on or off: give yes,no')
        try: return parse_options(system, _words(param, word)).get(param.name)
        except FastmerError as e: raise FastmerError(f'{said}: {e}') from None

    if not (ends := re.fullmatch(r'(.+?)\.\.(.+)', spec)):
        choices = tuple(dict.fromkeys(word.strip() for word in spec.split(';' if ';' in spec else ',')))  # ; where values have commas
        for word in choices: value(word)
        return CategoricalDistribution(choices)
    low, high = map(value, ends.groups())
    if any(isinstance(end, bool) or not isinstance(end, (int, float)) for end in (low, high)):
        raise FastmerError(f'{said}: a range has numbers as its ends: list what is to be tried, as {param.name}=A,B,C')
    if not low < high: raise FastmerError(f'{said}: a range goes from the lower number to the higher one')
    return (IntDistribution if isinstance(low, int) else FloatDistribution)(low, high, log=low > 0 and high >= 10*low)


def search_space(system, search=(), settings=()):
    """Distributions by option: those of `SPACES`, with `search` laid over them (`['lr=1e-4..1e-2', 'bs=8,16']`)

    `settings`: options of `train-<system>` as typed. What they fix is not searched.
    """
    options, fixed, mine = options_of(system), parse_options(system, settings), {}
    for pair in search:
        name, equals, spec = pair.partition('=')
        name = name.strip().lstrip('-').replace('-', '_')
        if not (name and equals and spec): raise FastmerError(f'--search {pair!r} is neither NAME=LOW..HIGH nor NAME=A,B,C')
        if name not in options:
            raise FastmerError(f'--search {name}: train-{system} has no such option to search{did_you_mean(name, options)}; there are '
                               f'{", ".join(sorted(options))}')
        if name in fixed: raise FastmerError(f'{name} is given a value and searched as well: leave one of them out')
        mine[name] = spec
    specs = {name: spec for name, spec in SPACES[_kind(system, fixed)].items() if name in options and name not in fixed} | mine
    space = {name: distribution(system, options[name], spec) for name, spec in specs.items()}
    if system == 'fusion': _check_fusions([fixed['fusion']] if 'fusion' in fixed else space['fusion'].choices)
    return space


def _check_fusions(names):
    from .heads import find_fusion
    if late := [name for name in names if find_fusion(name)[0] == 'logits']:
        raise FastmerError(f'{late[0]} fusion is fitted on valid, where its score says nothing: search the others, and compare it on test')


def _kind(system, fixed):
    from .speech import is_speech
    if system == 'audio': return 'speech' if is_speech(fixed.get('arch', 'resnet34')) else 'audio'
    return 'tiny' if fixed.get('arch') == 'tiny' else system


def _optuna():
    try:
        import optuna
    except ImportError: raise FastmerError('a search needs Optuna: pip install "fastmer[tune]"') from None
    return optuna


def without_test(prepared, split):
    "The prepared folder and the split as a trial sees them: no row, no id of the test part"
    seen = prepared.manifest[~prepared.manifest.id.isin(list(split.test))].reset_index(drop=True)
    return prepared.with_manifest(seen), replace(split, test=())


def _where(system, prepared, encoders, protocol, fold, seed, folds, corpora):
    "The split, and the options that say it to `train-<system>`"
    if system == 'fusion':
        from .systems import as_encoders
        protocol, fold, seed, folds = as_encoders(encoders['audio']['split'], protocol, fold, seed, folds)
    protocol, fold, seed = protocol or 'speaker', fold or 1, seed or 0
    split = make_split(prepared.manifest, protocol, fold, seed, folds, *corpora)
    learned, tested = corpora
    of_fold = ['--protocol', protocol, '--fold', str(fold), *(['--folds', str(folds)] if folds else [])]
    of_corpora = ['--test-corpus', tested, *(word for name in learned or () for word in ('--train-corpus', name))] if tested else []
    return split, [*(of_corpora or of_fold), '--seed', str(seed)]


def _encoders(system, audio, text):
    "The sidecars of what fusion fuses"
    from .export import read_sidecar
    given = dict(audio=audio, text=text)
    if system != 'fusion':
        if name := next((name for name, path in given.items() if path), None):
            raise FastmerError(f'--{name} is for --system fusion: a search of {system} trains its own')
        return {}
    if lacking := [name for name, path in given.items() if not path]:
        raise FastmerError(f'--system fusion searches how two learners are fused: give the run folder of train-{lacking[0]} with '
                           f'--{lacking[0]}')
    return {name: read_sidecar(path)[1] for name, path in given.items()}


def tune_settings(prepared, system='audio', out=None, protocol=None, fold=None, seed=None, folds=None, trials=20, search=(), settings=(),
                  objective='ua', audio=None, text=None, train_corpus=None, test_corpus=None, overwrite=False, say=print):
    """Search the settings of `train_<system>` by Optuna's TPE on the valid part of a fold; returns what `best.json` holds.

    `search`: `['lr=1e-4..1e-2', 'bs=8,16']`, over what `SPACES` has; `settings`: options as typed (`['--arch', 'alexnet']`), the same in
    every trial; the first has the recipe's own for what is searched. `objective`: `ua` on valid at the epoch kept, of equals the one of
    lower loss; or `loss`, the mean negative logarithm of the true label's probability, unweighted. `trials`: in all, those that `out`
    holds counted. `audio`, `text`: the learners that fusion fuses. Raises `FastmerError` where `out` holds another search, or no trial
    could be trained.
    """
    if system not in SYSTEMS: raise FastmerError(f'there is no system {system!r}; there are {", ".join(SYSTEMS)}')
    if objective not in OBJECTIVES: raise FastmerError(f'there is no objective {objective!r}; there are {", ".join(OBJECTIVES)}')
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    prepared = prepared if isinstance(prepared, Prepared) else Prepared.open(prepared)
    encoders = _encoders(system, audio, text)
    split, where = _where(system, prepared, encoders, protocol, fold, seed, folds, (tuple(train_corpus or ()), test_corpus))
    if encoders:
        from .systems import _check_exposure
        _check_exposure(prepared, split, encoders, False)  # of the whole split: a trial's own has no test part that could have been seen
    if parse_options(system, settings).get('classes') is False:
        raise FastmerError('a search goes by the labels of valid: leave out --no-classes')
    space = search_space(system, search, settings)
    if not space: raise FastmerError('every option of the search is given a value: nothing is left to search, add --search NAME=LOW..HIGH')
    out = Path(out) if out else Path('runs')/f'{prepared.path.resolve().name}-{system}-{split.protocol}-fold{split.fold}-tune'
    asked = dict(system=system, objective=objective, split=split.sha256, settings=list(settings), spectrogram=prepared.config.hash,
                 space={name: optuna.distributions.distribution_to_json(d) for name, d in space.items()},
                 manifest=prepared.sha256('asr' in parse_options(system, settings).values()),
                 encoders={name: sidecar['sha256'] for name, sidecar in encoders.items()})
    paths = dict(audio=str(audio), text=str(text)) if encoders else {}
    given = [word for name, path in paths.items() for word in (f'--{name}', path)]
    begins = ['fastmer', f'train-{system}', str(prepared.path), *given, *where, *settings]
    with locked(out):
        _claim(out, asked, prepared, split, overwrite)
        storage = f'sqlite:///{(out/STUDY).resolve()}'
        study = optuna.create_study(storage=storage, study_name='tune', direction='maximize', load_if_exists=True)
        blind = without_test(prepared, split)

        def train(words, place):
            from . import systems
            changes = {name: value for name, value in parse_options(system, [*settings, *words]).items() if name != 'refit'}
            getattr(systems, f'train_{system}')(blind[0], out=place, split=blind[1], seed=split.seed, overwrite=True, say=None, **paths,
                                                **changes)
        records = _search(study, space, options_of(system), out/'trials', trials, split.seed, OBJECTIVES[objective], train, say)
        return _finish(out, records, begins, objective)


def _records(folder): return [read_json(path) for path in sorted(folder.glob('*/trial.json'), key=lambda path: int(path.parent.name))]


def read_search(path):
    """What the search in `path` has found: `tune.json`, and `records` of its trials, best first, those that failed last, each with `state`

    `command`: what trains with the best settings, `None` while the search is not finished. Raises `FastmerError` where there is no trial.
    """
    path = Path(path)
    about, records = read_json(path/ABOUT), _records(path/'trials')
    if lacking := {'system', 'objective', 'corpus', 'labels', 'of'} - set(about):
        raise FastmerError(f'{path/ABOUT} was not written by fastmer tune: it has no {min(lacking)}')
    if not records: raise FastmerError(f'{path} is a search without a finished trial: run the same fastmer tune again')
    good, ended = ranked(records), read_json(path/'best.json') if (path/'best.json').is_file() else {}
    for r in records:
        said = {'best': r in good[:1], f'as trial {r["same_as"]}': r['same_as'] is not None, OWN: not r['settings'], 'failed': r['error']}
        r['state'] = ', '.join(name for name, so in said.items() if so) or 'trained'
    command = ended.get('command') if ended.get('trials') == len(records) else None
    return dict(about, records=good + [r for r in records if r['error']], command=command)


def _search(study, space, options, folder, trials, seed, objective, train, say):
    "Run what is missing of `trials` trials, the first with nothing typed; records of all, in their order"
    import optuna
    from optuna.trial import TrialState
    folder.mkdir(exist_ok=True)
    records = _records(folder)
    if say and records: say(f'{len(records)} of {trials} trials are there already')
    if not study.trials:
        if not records:
            records = [_trial(folder/'000', 0, {}, [], objective, train, None)]
            if say: say(_line(records[0], records, trials))
        state = TrialState.PRUNED if records[0]['error'] else TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(state=state, value=records[0]['value']))
    left = {t.number: t for t in study.get_trials(states=[TrialState.RUNNING])}  # a killed search's
    while left or len(records) < trials:
        if left: trial = left.pop(min(left))
        else:
            study.sampler = optuna.samplers.TPESampler(seed=(seed*100_003 + len(study.trials)) % 2**32)  # as if never stopped
            trial = study.ask(fixed_distributions=space)
        if set(trial.params) != set(space): study.tell(trial.number, state=TrialState.FAIL)  # killed while it was drawn
        else:
            record = next((r for r in records if r['trial'] == trial.number), None)  # killed before it was told
            if not record:
                settings = {name: _said(trial.params[name]) for name in space}
                words = [word for name, value in settings.items() for word in _words(options[name], value)]
                same = next((r for r in records if r['settings'] == settings and not r['error']), None)
                record = _trial(folder/f'{trial.number:03}', trial.number, settings, words, objective, train, same)
                records.append(record)
                if say: say(_line(record, records, trials))
            if record['error']: study.tell(trial.number, state=TrialState.PRUNED)  # TPE forgets what fails, not what is pruned
            else: study.tell(trial.number, record['value'])
    return records


def _said(value): return f'{value:.3g}' if isinstance(value, float) else str(value)


def _trial(place, number, settings, words, objective, train, same):
    "Train and score one trial, or take over what the `same` settings gave; its folder gets its name when all is there"
    import torch
    tmp, started = place.with_name(f'.{place.name}'), time.perf_counter()
    shutil.rmtree(tmp, ignore_errors=True)
    record = dict(trial=number, value=None, ua=None, loss=None, epoch=None, error='', same_as=None, settings=settings)
    if same: record |= {name: same[name] for name in ('value', 'ua', 'loss', 'epoch')} | dict(same_as=same['trial'])
    else:
        try:
            train(words, tmp)
            ua, loss, epoch = _scores(Run(tmp))
            record |= dict(value=objective(ua, loss), ua=ua, loss=loss, epoch=epoch)
        except (FastmerError, MemoryError, RuntimeError) as e:
            if isinstance(e, RuntimeError) and 'memory' not in str(e): raise
            record['error'] = ' '.join(str(e).split())[:500] or 'out of memory'
            if torch.cuda.is_available(): torch.cuda.empty_cache()
    tmp.mkdir(exist_ok=True)
    for name in ('plots', 'models'): shutil.rmtree(tmp/name, ignore_errors=True)
    write_json(tmp/'trial.json', record | dict(seconds=round(time.perf_counter() - started, 1)))
    tmp.rename(place)
    return read_json(place/'trial.json')


def _scores(run):
    "UA and unweighted loss of a trial on valid, and its kept epoch: the recorder's own loss is weighted, and changes with what is searched"
    df = run.valid
    probs = run.probs(df)
    loss = float(-np.log(np.maximum(probs[np.arange(len(df)), run.targets(df)], 1e-12)).mean())
    return compute_metrics(df, run.labels)['ua'], loss, run.sidecar['best']['epoch']


def _line(record, records, trials):
    settings = ' '.join(f'{name}={value}' for name, value in record['settings'].items()) or OWN
    if record['error']: return f'trial {record["trial"]}, {len(records)} of {trials}: failed ({record["error"]})  {settings}'
    same = f' as trial {record["same_as"]}' if record['same_as'] is not None else ''
    return (f'trial {record["trial"]}, {len(records)} of {trials}: valid UA {record["ua"]:.3f}  loss {record["loss"]:.3f}{same}  {settings}'
            f'  {record["seconds"]:.0f} s' + ('  the best so far' if record is ranked(records)[0] else ''))


def searched(records):
    "Names of what is searched; the first trial leaves them as the recipe has them"
    return list(dict.fromkeys(name for record in records for name in record['settings']))


def ranked(records):
    "Trials that could be trained, best first; of equals the earlier"
    return sorted((r for r in records if not r['error']), key=lambda r: -r['value'])


def _finish(out, records, begins, objective):
    "Write table, plot and `best.json`"
    write_csv(pd.DataFrame([{name: r[name] for name in r if name != 'settings'} | r['settings'] for r in records]), out/'trials.csv')
    if not (good := ranked(records)):
        raise FastmerError(f'none of {len(records)} trials could be trained ({out/"trials.csv"} has the reasons); the first: '
                           f'{records[0]["error"]}')
    best, options = good[0], options_of(begins[1].removeprefix('train-'))
    words = [word for name, value in best['settings'].items() for word in _words(options[name], value)]
    found = dict(best, objective=objective, trials=len(records), failed=len(records) - len(good), note=NOTE,
                 command=shlex.join([*begins, *words, '--out', str(out/'best')]))
    (out/'plots').mkdir(exist_ok=True)
    tuning_figure(records, objective).savefig(out/'plots/tuning.png', dpi=120)
    write_json(out/'best.json', found)
    return dict(found, records=records, path=out)


def tuning_figure(records, objective='ua'):
    "The objective on valid by trial, and the best so far"
    from .plots import _figure
    good = sorted(ranked(records), key=lambda r: r['trial'])
    x, y = [r['trial'] for r in good], [r[objective] for r in good]
    figure = _figure(6.4, 3.4)
    ax = figure.subplots()
    ax.plot(x, y, ls='', marker='o', ms=5, label='trial')
    if own := [r[objective] for r in good if not r['settings']]: ax.axhline(own[0], color='grey', lw=0.8, ls=':', label=OWN)
    ax.step(x, (np.maximum if objective == 'ua' else np.minimum).accumulate(y), where='post', color='tab:green', label='best so far')
    for i, r in enumerate(r for r in records if r['error']):
        ax.axvline(r['trial'], color='tab:red', lw=0.8, ls=':', label='' if i else 'failed')
    ax.set_xlabel('trial'), ax.set_ylabel('valid UA' if objective == 'ua' else 'valid loss'), ax.legend(fontsize=8, framealpha=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title('on valid, and chosen by it: no estimate of anything', fontsize=9)
    return figure


def _claim(out, asked, prepared, split, overwrite):
    "Make `out` the folder of this search, or find that it is"
    held = (out/ABOUT).is_file()
    if overwrite: _clear(out)
    asked = json.loads(json.dumps(asked))
    if (out/ABOUT).is_file():
        old = read_json(out/ABOUT)
        other = [name for name, value in asked.items() if old.get(name) != value]
        if other and any(out.glob('trials/*/trial.json')):
            raise FastmerError(f'{out} holds another search ({other[0]} differs): give another folder with --out, or replace it with '
                               '--overwrite')
        if other: _clear(out)  # no trial yet: what was asked for then was a slip
    elif not held and any(path.name != LOCK for path in out.iterdir()):
        raise FastmerError(f'{out} is not empty and holds no search: give a new folder with --out')
    write_json(out/ABOUT, dict(asked, prepared=str(prepared.path.resolve()), corpus=', '.join(sorted(set(prepared.manifest.corpus))),
                               labels=prepared.labels, of=split.about(), command=command_line()))


def _clear(out):
    "Delete a search, and nothing else"
    if not (out/ABOUT).is_file():
        if any(path.name != LOCK for path in out.iterdir()):
            raise FastmerError(f'{out} holds no search to replace: give another folder with --out')
        return
    shutil.rmtree(out/'trials', ignore_errors=True)
    for name in (STUDY, f'{STUDY}-journal', 'trials.csv', 'best.json', 'plots/tuning.png', ABOUT): (out/name).unlink(missing_ok=True)
