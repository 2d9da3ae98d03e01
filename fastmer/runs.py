"""The run folder: what one training leaves behind, and every later step reads

`learner.pkl`, `learner.json` (its sidecar), `history.csv`, `predictions.csv` (the test part; `id, label, predicted, p_<label>...`),
`predictions_valid.csv` (the same of valid, for whatever has to be chosen after training), `metrics.json`, `plots/`.
"""
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from .errors import FastmerError
from .manifest import atomic, write_csv
from .metrics import compute_metrics, prob_columns

FILES = ('learner.pkl', 'learner.json', 'history.csv', 'predictions.csv', 'predictions_valid.csv', 'metrics.json')


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
        for name in ('learner.json', 'predictions.csv'):
            if not (path/name).is_file(): raise FastmerError(f'{path} is no finished run: it has no {name}')
        return cls(path)

    @cached_property
    def sidecar(self):
        about = read_json(self.path/'learner.json')
        if not isinstance(about, dict) or not {'vocab', 'split'} <= set(about):
            raise FastmerError(f'{self.path/"learner.json"} is no sidecar that fastmer wrote: it has no vocab or no split')
        return about

    @property
    def labels(self): return self.sidecar['vocab']
    @property
    def split(self): return self.sidecar['split']
    @property
    def name(self): return f'{self.sidecar["system"]} {self.sidecar["arch"]}'

    @cached_property
    def history(self): return pd.read_csv(self.path/'history.csv')
    @cached_property
    def predictions(self): return self._predictions('predictions.csv')

    def _predictions(self, name):
        try: df = pd.read_csv(self.path/name, dtype=dict(id=str, label=str, predicted=str), keep_default_na=False)
        except (OSError, ValueError) as e: raise FastmerError(f'{self.path/name} cannot be read ({e})') from None
        want = ['id', 'label', 'predicted', *prob_columns(self.labels)]
        if lacking := [c for c in want if c not in df]: raise FastmerError(f'{self.path/name} has no column {lacking[0]!r}')
        return df

    def write_predictions(self, df, part='test'):
        write_csv(df, self.path/('predictions.csv' if part == 'test' else f'predictions_{part}.csv'))

    def write_history(self, rows): write_csv(pd.DataFrame(rows), self.path/'history.csv')
    def write_json(self, name, what): write_json(self.path/name, what)

    def evaluate(self):
        "Scores of `predictions.csv`, stamped with the protocol they were reached under; also written to `metrics.json`"
        known = ('system', 'arch', 'split', 'labels', 'corpus', 'best', 'leaks', 'seconds')
        out = {name: self.sidecar.get(name) for name in known} | dict(labels=self.labels, **compute_metrics(self.predictions, self.labels))
        self.write_json('metrics.json', out)
        return out


def read_json(path):
    try: return json.loads(Path(path).read_text(encoding='utf-8'))
    except (ValueError, OSError) as e: raise FastmerError(f'{path} cannot be read ({e})') from None


def write_json(path, what):
    with atomic(path) as tmp: tmp.write_text(json.dumps(what, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def protocol_line(scores):
    "One line that says what a score means: protocol, fold, split hash, label set, count, what chose the epoch, and leaks if any"
    split, best = scores['split'], scores.get('best') or {}
    chosen = f'epoch {best["epoch"]} chosen by {best["monitor"]} on valid' if best.get('epoch') else 'no epoch chosen'
    labels = f'{len(scores["labels"])} labels ({", ".join(scores["labels"])})'
    line = (f'protocol {split["protocol"]} · fold {split["fold"]} of {split["n_folds"]} · seed {split["seed"]} · '
            f'split {split["sha256"][:12]} · {labels} · n {scores["n"]} · {chosen} · corpus {scores["corpus"]}')
    return line + ''.join(f' · LEAKS: {leak}' for leak in scores.get('leaks') or [])
