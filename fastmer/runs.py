"""The run folder: what one training leaves behind, and every later step reads

`learner.pkl`, `learner.json` (its sidecar), `history.csv`, `predictions.csv` (the test part; `id, label, predicted, p_<label>...`, and of
each dimension `valence, predicted_valence`), `predictions_valid.csv` (the same of valid, for whatever has to be chosen after training),
`utterances.csv` (the manifest's rows of both, with the words that were read, and whether their script was trained on), `metrics.json`,
`plots/`. A fusion that answers from one modality alone leaves a table for each of `GIVEN` too.

A system's folder in a cross-validation is read in the same way: `pooled.json` stands there for `learner.json`, and the tables hold all
folds and seeds, with the columns `seed` and `fold`.
"""
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from .calibration import describe, fit_temperature, risk_coverage, scale
from .errors import FastmerError
from .manifest import COLUMNS, NUMBER_COLUMNS, write_csv, write_json
from .metrics import compute_metrics, prob_columns, word_error_rate
from .uncertainty import ccc_interval, groups_of, intervals

GIVEN = dict(audio='A, recordings alone', text='T, transcripts alone', both='A+T, both', wrong_text='A+T, another\'s transcript')
FILES = ('learner.pkl', 'learner.json', 'history.csv', 'predictions.csv', 'predictions_valid.csv', 'utterances.csv', 'metrics.json',
         'pooled.json', *(f'predictions_{name}.csv' for name in GIVEN))
SIDECARS = ('learner.json', 'pooled.json')


@dataclass(frozen=True)
class Run:
    "A run folder; `Run.create` starts one, `Run.open` reads a finished one"
    path: Path

    @classmethod
    def create(cls, path, overwrite=False):
        "A run folder to write into; raises `FastmerError` where `path` already holds a run and `overwrite` is not set"
        path = Path(path)
        if path.exists() and not path.is_dir(): raise FastmerError(f'{path} is a file: give a folder for the run')
        held = [name for name in FILES if (path/name).exists()]
        if held and not overwrite:
            raise FastmerError(f'{path} already holds a run ({held[0]}): give another folder with --out, or replace it with --overwrite')
        for name in held: (path/name).unlink()
        if held: shutil.rmtree(path/'plots', ignore_errors=True)
        try: (path/'plots').mkdir(parents=True, exist_ok=True)
        except OSError as e: raise FastmerError(f'the run folder {path} cannot be made ({e.strerror})') from None
        return cls(path)

    @classmethod
    def open(cls, path):
        "The finished run at `path` (the folder, or its `learner.pkl`); raises `FastmerError` where there is none"
        path = Path(path)
        if path.name in FILES: path = path.parent
        if not path.is_dir(): raise FastmerError(f'{path} is not there: give a run folder, as fastmer train-audio makes one')
        if not any((path/name).is_file() for name in SIDECARS): raise FastmerError(f'{path} is no finished run: it has no learner.json')
        if not (path/'predictions.csv').is_file(): raise FastmerError(f'{path} is no finished run: it has no predictions.csv')
        return cls(path)

    @cached_property
    def sidecar(self):
        path = next(self.path/name for name in SIDECARS if (self.path/name).is_file())
        about = read_json(path)
        if not isinstance(about, dict) or not {'vocab', 'split'} <= set(about):
            raise FastmerError(f'{path} is no sidecar that fastmer wrote: it has no vocab or no split')
        return about

    @property
    def labels(self): return self.sidecar['vocab']
    @property
    def dimensions(self): return list(self.sidecar.get('dimensions') or ())
    @property
    def split(self): return self.sidecar['split']
    @property
    def name(self): return f'{self.sidecar["system"]} {self.sidecar["arch"]}'

    @cached_property
    def history(self): return pd.read_csv(self.path/'history.csv')
    @cached_property
    def predictions(self): return self.table()
    @cached_property
    def valid(self): return self.table('_valid')

    @cached_property
    def utterances(self):
        "The manifest's rows of valid and test, by `id`; empty for a run that kept none"
        path = self.path/'utterances.csv'
        if not path.is_file(): return pd.DataFrame(index=pd.Index([], name='id', dtype=str))
        text = {name: str for name in pd.read_csv(path, nrows=0) if name not in NUMBER_COLUMNS}
        try: return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={name: [''] for name in NUMBER_COLUMNS}).set_index('id')
        except ValueError as e: raise FastmerError(f'{path} cannot be read ({e})') from None

    def of_test(self):
        "The rows of `utterances` for each row of `predictions`; rows of empty strings where the run kept none"
        return self.utterances.reindex(self.predictions.id).reset_index(drop=True)

    def targets(self, df): return df.label.map({label: i for i, label in enumerate(self.labels)}).to_numpy()
    def probs(self, df): return df[prob_columns(self.labels)].to_numpy(dtype=np.float64)

    @cached_property
    def temperatures(self):
        "The temperature that valid gives: one a training, by `(seed, fold)` in a pool, and by `()` in a single run"
        keys = [name for name in ('seed', 'fold') if name in self.valid]
        groups = self.valid.groupby(keys) if keys else [((), self.valid)]
        return {key: fit_temperature(self.probs(rows), self.targets(rows)) for key, rows in groups}

    def calibrated(self, df):
        "Probabilities of the table `df` (of this run) at the temperature that valid gave to the training that made each row"
        probs, keys = self.probs(df), [name for name in ('seed', 'fold') if name in df]
        if not keys: return scale(probs, self.temperatures[()])
        out = np.zeros_like(probs)
        for key, at in df.groupby(keys).indices.items(): out[at] = scale(probs[at], self.temperatures[key])
        return out

    def table(self, part=''):
        "`predictions<part>.csv`"
        name, numbers = f'predictions{part}.csv', [column for name in self.dimensions for column in (name, f'predicted_{name}')]
        try: df = pd.read_csv(self.path/name, dtype=dict(id=str, label=str, predicted=str), keep_default_na=False,
                              na_values={column: [''] for column in numbers})
        except (OSError, ValueError) as e: raise FastmerError(f'{self.path/name} cannot be read ({e})') from None
        want = ['id', 'label', *(['predicted', *prob_columns(self.labels)] if self.labels else []), *numbers]
        if lacking := [c for c in want if c not in df]: raise FastmerError(f'{self.path/name} has no column {lacking[0]!r}')
        return df

    def write_predictions(self, df, part='test'):
        write_csv(df, self.path/('predictions.csv' if part == 'test' else f'predictions_{part}.csv'))

    def write_utterances(self, rows, split, learned):
        "Keep the manifest's rows of valid and test; `script_seen` is `yes` where one of the ids `learned` has the same script, else `no`"
        parts, scripts = split.part_of(), set(rows.script[rows.id.isin(list(learned))]) - {''}
        rows = rows[rows.id.map(parts).isin(['valid', 'test'])]
        seen = ['' if not script else 'yes' if script in scripts else 'no' for script in rows.script]
        columns = [name for name in (*COLUMNS, 'gold_text', 'asr_model') if name in rows]
        write_csv(rows[columns].assign(split_part=rows.id.map(parts), script_seen=seen), self.path/'utterances.csv')

    def write_history(self, rows): write_csv(pd.DataFrame(rows), self.path/'history.csv')
    def write_json(self, name, what): write_json(self.path/name, what)

    def abstention(self, most=200):
        "What the sidecar keeps for `predict`: the temperature, and risk and coverage on valid by threshold of the calibrated confidence"
        probs = self.calibrated(self.valid)
        curve = risk_coverage(probs.max(axis=1), probs.argmax(axis=1) == self.targets(self.valid))
        some = np.unique(np.linspace(0, len(curve['risk']) - 1, most).round().astype(int))
        return dict(temperature=self.temperatures[()], n_valid=len(self.valid),
                    **{name: [float(v) for v in curve[name][some]] for name in ('threshold', 'coverage', 'risk')})

    def groups(self):
        "What to resample for the rows of `predictions`: `(names, over)`, as `groups_of` gives them"
        if not set(self.predictions.id) <= set(self.utterances.index): return self.predictions.id.to_numpy(), 'utterance'
        names, over = groups_of(self.of_test())
        return (self.predictions.id.to_numpy() if over == 'utterance' else names), over

    def evaluate(self):
        "Scores of `predictions.csv`, stamped with the protocol they were reached under; also written to `metrics.json`"
        known = ('system', 'arch', 'split', 'labels', 'corpus', 'best', 'leaks', 'audit', 'uses', 'seconds', 'command', 'folds',
                 'transcripts', 'soft_labels', 'dimension_weight')
        df = self.predictions
        out = {name: self.sidecar[name] for name in known if name in self.sidecar} | dict(labels=self.labels)
        out |= compute_metrics(df, self.labels, self.dimensions)
        out['intervals'] = intervals(df.label, df.get('predicted'), self.labels, *self.groups())
        if (wer := self._wer()) is not None: out['wer'] = wer
        for name in self.dimensions:
            known = df[name].notna().to_numpy()
            of = df[known]
            out['dimensions'][name]['interval'] = ccc_interval(of[name], of[f'predicted_{name}'], self.groups()[0][known])
        if self.labels and (self.path/'predictions_valid.csv').is_file(): out['calibration'] = self._calibration()
        if self.given: out['modalities'] = {name: self._scores_given(name) for name in self.given}
        self.write_json('metrics.json', out)
        return out

    @property
    def given(self):
        "Of what in `GIVEN` there is a table"
        return [name for name in GIVEN if (self.path/f'predictions_{name}.csv').is_file()]

    def _scores_given(self, name):
        df = self.table(f'_{name}')
        scores = compute_metrics(df, self.labels)
        return dict(n=len(df), wa=scores['wa'], ua=scores['ua'])

    def _wer(self):
        "The word error rate of the test part's recordings, where the run read what `fastmer transcribe` heard in them"
        if (self.sidecar.get('transcripts') or {}).get('test') != 'asr' or 'gold_text' not in self.utterances: return None
        rows = self.of_test()
        rows = rows[rows.audio != '']
        return word_error_rate(rows.gold_text, rows.text)

    def _calibration(self):
        df, temperatures = self.predictions, list(self.temperatures.values())
        return dict(fitted_on='valid', n_valid=len(self.valid), temperature=float(np.median(temperatures)), temperatures=temperatures,
                    **describe(self.probs(df), self.targets(df), self.calibrated(df)))


def command_line():
    "What was typed to start this process, for the sidecar"
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def read_json(path):
    try: return json.loads(Path(path).read_text(encoding='utf-8'))
    except (ValueError, OSError) as e: raise FastmerError(f'{path} cannot be read ({e})') from None


def protocol_name(split):
    "`speaker fold 1 seed 0`, or `speaker, all 5 folds pooled, seeds 0 1 2`"
    if 'seeds' not in split: return f'{split["protocol"]} fold {split["fold"]} seed {split["seed"]}'
    folds, seeds = split['folds'], split['seeds']
    which = f'all {len(folds)} folds' if len(folds) == split['n_folds'] else f'folds {" ".join(map(str, folds))} of {split["n_folds"]}'
    return f'{split["protocol"]}, {which} pooled, seed{"s" if len(seeds) > 1 else ""} {" ".join(map(str, seeds))}'


def protocol_line(scores):
    "One line that says what a score means: protocol, fold, split hash, label set, count, what chose the epoch, and leaks if any"
    split, best = scores['split'], scores.get('best') or {}
    on = 'TEST' if split.get('chosen_on') == 'test' else 'valid'
    if 'seeds' in split: which, chosen = protocol_name(split), f'epochs chosen on {on}'
    else:
        which = f'{split["protocol"]} · fold {split["fold"]} of {split["n_folds"]} · seed {split["seed"]}'
        chosen = f'epoch {best["epoch"]} chosen by {best["monitor"]} on {on}' if best.get('epoch') else 'no epoch chosen'
        if best.get('learned'): chosen = f'learned from {best["learned"]}, all epochs'
    labels = f'{len(scores["labels"])} labels ({", ".join(scores["labels"])})' if scores['labels'] else 'no labels'
    line = f'protocol {which} · split {split["sha256"][:12]} · {labels} · n {scores["n"]} · {chosen} · corpus {scores["corpus"]}'
    audit = scores.get('audit') or {}
    if audit.get('leaks'): line += f' · AUDIT FAILS: {", ".join(audit["leaks"])} on both sides'
    if words := scores.get('transcripts'):
        how = words['learn'] if words['learn'] == words['test'] else f'{words["learn"]} learned, {words["test"]} tested'
        line += f' · transcripts {how} ({Path(words["model"]).name})'
    line += ''.join(f' · {says}' for says in learned(scores))
    line += ''.join(f' · USES {what}' for what in scores.get('uses') or [])
    return line + ''.join(f' · LEAKS: {leak}' for leak in few_leaks(scores.get('leaks') or []))


def learned(about):
    "What a training has learned beside the label, or in its place, as phrases"
    soft, dimensions = about.get('soft_labels'), about.get('dimensions')
    out = [f'soft labels: votes known of {soft["voted"]:,} of {soft["n"]:,} training utterances'] if soft else []
    alone = about.get('dimension_weight') is None
    loss = 'is the mean of 1 - CCC, no label was learned' if alone else f'adds {about["dimension_weight"]:g} x (1 - CCC)'
    if dimensions: out.append(f'dimensions {", ".join(dimensions)}: valid_loss {loss}')
    return out


def ccc_value(of): return 'not known' if of['ccc'] is None else f'{of["ccc"]:.3f}'


def ccc_said(scores):
    "`CCC valence 0.512`, `CCC arousal 0.623`"
    return [f'CCC {name} {ccc_value(of)}' for name, of in scores.get('dimensions', {}).items()]


def few_leaks(leaks, most=3):
    "The first of the sentences on what leaks, and how many more there are: a pool has two an encoder and fold"
    return [*leaks[:most], *([f'and {len(leaks) - most} more of the kind'] if len(leaks) > most else [])]


def check_same_split(runs, allow=False):
    "Raise `FastmerError` where runs stand on different splits: a mean or a difference of their predictions would be of no protocol"
    if allow or len({run.split['sha256'] for run in runs}) == 1: return
    said = '; '.join(f'{run.path}: {protocol_name(run.split)}, split {run.split["sha256"][:12]}' for run in runs)
    raise FastmerError(f'these runs were trained and tested on different splits ({said}): what one was trained on may be what another is '
                       'tested on, so a mean or a difference of their predictions is a number of no protocol. Take runs of one split, or '
                       'go on with --allow-different-splits')
