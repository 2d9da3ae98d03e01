"Two runs on the same utterances, late fusion, and the gain of fusion; runs of different splits are refused"
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import binomtest
from test_metrics import LABELS
from test_runs import SIDECAR, SPLIT

from fastmer.calibration import fit_temperature, scale
from fastmer.cli import main
from fastmer.compare import aligned, compare_runs, fusion_gain, late_fusion
from fastmer.errors import FastmerError
from fastmer.manifest import COLUMNS, write_csv
from fastmer.metrics import as_predictions, compute_metrics
from fastmer.runs import Run

N = 160


def make(path, skill=0.5, seed=0, valid_skill=None, order=None, seen=True, **sidecar):
    "A run whose answers are right with probability `skill`; ten speakers, scripts that half of them share with training"
    rng, truth = np.random.default_rng(seed), np.random.default_rng(99)
    run = Run.create(path)
    for part, share in (('test', skill), ('valid', skill if valid_skill is None else valid_skill)):
        y = truth.integers(0, len(LABELS), N)
        probs = rng.dirichlet(np.ones(len(LABELS)), N)
        top, right = probs.argmax(1), rng.random(N) < share
        for i in np.flatnonzero(right): probs[i, [top[i], y[i]]] = probs[i, [y[i], top[i]]]
        df = as_predictions([f'{part}{i:03}' for i in range(N)], [LABELS[i] for i in y], probs, LABELS)
        run.write_predictions(df if order is None or part == 'valid' else df.iloc[order], part)
        if part == 'test':
            rows = pd.DataFrame(dict.fromkeys(COLUMNS, ''), index=range(N)).assign(id=df.id, label=df.label, corpus='made up')
            rows = rows.assign(speaker=[f's{i % 10}' for i in range(N)], split_part='test',
                               script_seen=['yes' if i % 4 else 'no' for i in range(N)] if seen else '')
            write_csv(rows, run.path/'utterances.csv')
    run.write_json('learner.json', SIDECAR | sidecar)
    return Run.open(path)


@pytest.fixture
def pair(tmp_path): return make(tmp_path/'a', 0.4, 1), make(tmp_path/'b', 0.7, 2)


def test_a_comparison_is_what_the_tables_say(pair):
    a, b = pair
    found = compare_runs(a.path, b.path)
    right = [(run.predictions.predicted == run.predictions.label).to_numpy() for run in pair]
    wa, ua = found['scores']['wa'], found['scores']['ua']
    assert wa['difference'] == pytest.approx(right[1].mean() - right[0].mean())
    assert ua['a'] == compute_metrics(a.predictions, LABELS)['ua']
    assert ua['interval'][0] < ua['difference'] < ua['interval'][1]
    assert (ua['over'], ua['groups'], found['n'], found['same_split']) == ('speaker', 10, N, True)
    only_a, only_b = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    assert wa['mcnemar'] == dict(only_a=only_a, only_b=only_b, p=binomtest(only_a, only_a + only_b).pvalue)
    assert {row['id'] for row in found['flips']} == set(a.predictions.id[right[0] != right[1]])
    assert ua['p'] < 0.01
    assert json.loads(json.dumps(found))['n'] == N


def test_rows_are_matched_by_id_not_by_place(tmp_path, pair):
    mixed = make(tmp_path/'mixed', 0.7, 2, order=np.random.default_rng(0).permutation(N))
    assert compare_runs(pair[0], mixed)['scores'] == compare_runs(*pair)['scores']
    assert compare_runs(pair[1], mixed)['flips'] == []


def test_different_splits_are_refused_with_a_reason(tmp_path, pair):
    other = make(tmp_path/'other', 0.7, 3, split=SPLIT | dict(fold=3, sha256='f'*64))
    for refused in (compare_runs, lambda x, y: late_fusion([x, y]), lambda x, y: fusion_gain(x, x, y)):
        with pytest.raises(FastmerError, match='different splits .*trained on may be what another is tested on.*--allow-different-splits'):
            refused(pair[0], other)
    found = compare_runs(pair[0], other, allow_different_splits=True)
    assert not found['same_split']
    done = CliRunner().invoke(main, ['compare', str(pair[0].path), str(other.path)])
    assert done.exit_code == 1
    assert 'number of no protocol' in done.stderr
    done = CliRunner().invoke(main, ['compare', str(pair[0].path), str(other.path), '--allow-different-splits'])
    assert done.exit_code == 0
    assert 'DIFFERENT SPLITS' in done.output


def test_runs_that_cannot_be_compared(tmp_path, pair):
    with pytest.raises(FastmerError, match='know different labels'):
        compare_runs(pair[0], _relabelled(tmp_path/'x'))
    pair[1].write_predictions(pair[1].predictions.assign(id=lambda df: 'z' + df.id))
    with pytest.raises(FastmerError, match='no utterance in common'): compare_runs(pair[0], Run.open(pair[1].path))


def _relabelled(path):
    run = make(path)
    old = dict(zip(LABELS, 'wxyz', strict=True))
    for part, df in (('test', run.predictions), ('valid', run.valid)):
        df = df.assign(label=df.label.map(old), predicted=df.predicted.map(old))
        run.write_predictions(df.rename(columns={f'p_{a}': f'p_{b}' for a, b in old.items()}), part)
    run.write_json('learner.json', SIDECAR | dict(vocab=list('wxyz')))
    return Run.open(path)


def test_another_label_for_one_id_is_said(tmp_path, pair):
    df = pair[1].predictions
    df.loc[5, 'label'] = LABELS[(LABELS.index(df.label[5]) + 1) % 4]
    pair[1].write_predictions(df)
    with pytest.raises(FastmerError, match="different labels for 'test005'"): aligned([pair[0], Run.open(pair[1].path)])


def test_late_fusion_is_the_mean_of_calibrated_probabilities(pair):
    columns = [f'p_{label}' for label in LABELS]
    probs = []
    for run in pair:
        y = run.valid.label.map(LABELS.index).to_numpy()
        probs.append(scale(run.predictions[columns].to_numpy(), fit_temperature(run.valid[columns].to_numpy(), y)))
    np.testing.assert_allclose(late_fusion(pair)[columns].to_numpy(), (probs[0] + probs[1])/2, atol=1e-12)


def test_the_better_half_is_chosen_on_valid(tmp_path):
    audio = make(tmp_path/'audio', 0.3, 1, valid_skill=0.9)
    text = make(tmp_path/'text', 0.9, 2, valid_skill=0.3)
    halves = dict(audio=dict(path=str(audio.path)), text=dict(path=str(text.path)))
    fusion = make(tmp_path/'fusion', 0.8, 3, system='fusion', encoders=halves)
    found = fusion_gain(fusion)
    assert found['better'] == 'audio'  # though text is better on test
    every, unseen, seen = found['rows']
    assert [row['part'] for row in found['rows']] == ['all', 'unseen scripts', 'seen scripts']
    assert (every['n'], unseen['n'], seen['n']) == (N, N//4, 3*N//4)
    assert every['over_better']['ua']['difference'] == pytest.approx(every['ua']['fusion'] - every['ua']['audio'])
    assert every['over_late']['ua']['difference'] == pytest.approx(every['ua']['fusion'] - every['ua']['late'])
    assert set(every['over_late']) == {'ua', *(f'recall:{label}' for label in LABELS)}
    of = every['recall'][LABELS[0]]
    assert every['over_better'][f'recall:{LABELS[0]}']['difference'] == pytest.approx(of['fusion'] - of['audio'])
    late = compute_metrics(late_fusion([audio, text]), LABELS)
    assert every['ua']['late'] == pytest.approx(late['ua'])
    done = CliRunner().invoke(main, ['fusion-gain', str(fusion.path)])
    assert done.exit_code == 0, done.output
    assert 'unseen scripts' in done.output
    done = CliRunner().invoke(main, ['fusion-gain', str(fusion.path), '--json'])
    assert json.loads(done.stdout)['better'] == 'audio'


def test_halves_that_are_gone_or_never_were(tmp_path, pair):
    fusion = make(tmp_path/'fusion', system='fusion', seen=False, encoders=dict(audio=dict(path='/nowhere'), text=dict(path='/nowhere')))
    with pytest.raises(FastmerError, match='audio run of .* is not at /nowhere any more: say where with --audio'): fusion_gain(fusion)
    assert [row['part'] for row in fusion_gain(fusion, *pair)['rows']] == ['all']
    with pytest.raises(FastmerError, match='text run of .* is not at'): fusion_gain(fusion, audio=pair[0])
    with pytest.raises(FastmerError, match='is no fusion run'): fusion_gain(pair[0])
    assert CliRunner().invoke(main, ['fusion-gain', str(tmp_path/'nope')]).exit_code == 1
