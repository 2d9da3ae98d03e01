"All folds: pooled as they are, resumed after a kill with the same bytes, fusion on its own fold's encoders; and the ladder"
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from fastmer.cli import main
from fastmer.cli.options import training_settings
from fastmer.compare import compare_runs
from fastmer.crossval import cross_validate, spread
from fastmer.errors import FastmerError, LeakageError
from fastmer.ladder import ON_TEST, leakage_ladder, report_split
from fastmer.metrics import compute_metrics
from fastmer.prepare import Prepared
from fastmer.runs import Run, protocol_line, read_json
from fastmer.splits import Split, split
from fastmer.systems import train_text

TINY = dict(text=dict(arch='tiny', epochs=1, lr=1e-3))
PAIR = dict(audio=dict(arch='alexnet', epochs=1, lr=1e-3, seconds=3.3, crops=1), fusion=dict(head_epochs=1, lr=1e-3), **TINY)


@pytest.fixture(scope='module')
def validated(demo_prepared, tmp_path_factory):
    "Text under the session protocol: two of five folds, two seeds"
    out = tmp_path_factory.mktemp('cv')/'text'
    return out, cross_validate(demo_prepared, 'text', out, 'session', seeds=2, only=[1, 3], settings=TINY, say=None)['text']


def test_the_pool_is_its_folds(validated, demo_prepared):
    out, run = validated
    parts = [(seed, fold, Run.open(out/f'text/seed{seed}-fold{fold}')) for seed in (0, 1) for fold in (1, 3)]
    df = run.predictions
    assert len(df) == sum(len(part.predictions) for *_, part in parts)
    for seed, fold, part in parts:
        own = df[(df.seed == seed) & (df.fold == fold)].drop(columns=['seed', 'fold']).reset_index(drop=True)
        pd.testing.assert_frame_equal(own, part.predictions)
        assert set(own.id) == set(split(demo_prepared.manifest, 'session', fold, seed).test)
    scores = run.evaluate()
    assert scores['ua'] == compute_metrics(df, run.labels)['ua']
    assert (scores['intervals']['over'], scores['intervals']['groups']) == ('speaker', 4)
    uas = [compute_metrics(part.predictions, part.labels)['ua'] for *_, part in parts]
    mean, sd = spread(scores)['folds']['ua']
    assert (mean, sd) == (pytest.approx(np.mean(uas)), pytest.approx(np.std(uas, ddof=1)))
    assert spread(scores)['seeds']['ua'][1] == pytest.approx(np.std([np.mean(uas[:2]), np.mean(uas[2:])], ddof=1))
    assert 'session, folds 1 3 of 5 pooled, seeds 0 1' in protocol_line(scores)
    assert scores['calibration']['temperatures'] == [part.evaluate()['calibration']['temperature'] for *_, part in parts]
    assert len({tuple(part.sidecar['train_ids']) for *_, part in parts}) >= 2


def test_a_second_run_trains_nothing(validated, demo_prepared):
    out, _ = validated
    before = {path: path.stat().st_mtime_ns for path in out.rglob('learner.pkl')}
    said = []
    cross_validate(demo_prepared, 'text', out, 'session', seeds=2, only=[3, 1], settings=TINY, say=said.append)
    assert said == ['4 of 4 folds are there already']
    assert {path: path.stat().st_mtime_ns for path in out.rglob('learner.pkl')} == before


def test_another_cross_validation_is_not_mixed_in(validated, demo_prepared, tmp_path):
    out, _ = validated
    with pytest.raises(FastmerError, match='holds another cross-validation .protocol differs'):
        cross_validate(demo_prepared, 'text', out, 'speaker', settings=TINY, say=None)
    assert read_json(out/'cross-validation.json')['folds'] == [1, 3]
    with pytest.raises(FastmerError, match='settings differs'):
        cross_validate(demo_prepared, 'text', out, 'session', seeds=2, only=[1, 3], settings=dict(text=dict(arch='tiny')), say=None)
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine/thesis.txt').write_text('mine')
    for overwrite, says in ((False, 'holds no cross-validation'), (True, 'holds no cross-validation to replace')):
        with pytest.raises(FastmerError, match=says):
            cross_validate(demo_prepared, 'text', tmp_path/'mine', settings=TINY, overwrite=overwrite, say=None)
    assert (tmp_path/'mine/thesis.txt').is_file()
    with pytest.raises(FastmerError, match="no system 'words'"): cross_validate(demo_prepared, 'words', tmp_path/'x')
    with pytest.raises(FastmerError, match='fold 9 is out of range'):
        cross_validate(demo_prepared, 'text', tmp_path/'x', 'session', only=[9], settings=TINY)


def test_pools_of_the_same_folds_compare(validated, demo_prepared, tmp_path):
    _, run = validated
    assert compare_runs(run, run)['scores']['ua']['difference'] == 0
    other = cross_validate(demo_prepared, 'text', tmp_path/'x', 'session', only=[1], settings=TINY, say=None)['text']
    with pytest.raises(FastmerError, match='different splits'): compare_runs(run, other)
    said = []
    more = cross_validate(demo_prepared, 'text', tmp_path/'x', 'session', only=[1, 2], settings=TINY, say=said.append)['text']
    assert said[0] == '1 of 2 folds are there already'
    assert more.split['folds'] == [1, 2]


def command(prepared, out, jobs):
    options = ['--system', 'text', '--protocol', 'speaker', '--folds', '3', '--arch', 'tiny', '--epochs', '2', '--lr', '1e-3']
    return [sys.executable, '-m', 'fastmer', 'cross-validate', str(prepared.path), '--out', str(out), '--jobs', str(jobs), *options]


def test_killed_and_resumed_gives_the_same_table(demo_prepared, tmp_path):
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}  # float sums depend on the number of threads
    process = subprocess.Popen(command(demo_prepared, tmp_path/'a', 2), env=env, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.time() + 120
    while not list((tmp_path/'a/text').glob('seed*')) and time.time() < deadline: time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name for path in (tmp_path/'a/text').glob('seed*')}
    assert 1 <= len(done) < 3
    assert not (tmp_path/'a/text/pooled.json').is_file()
    resumed = subprocess.run(command(demo_prepared, tmp_path/'a', 2), env=env, capture_output=True, text=True, check=True)
    whole = subprocess.run(command(demo_prepared, tmp_path/'b', 1), env=env, capture_output=True, text=True, check=True)
    assert 'folds are there already' in resumed.stdout
    table = lambda text: [line.rpartition('│')[0].rpartition('│')[0] for line in text[text.index('fold by fold'):].splitlines()]
    assert table(resumed.stdout) == table(whole.stdout)  # but for the column of seconds
    for name in ('predictions.csv', 'predictions_valid.csv', 'utterances.csv'):
        assert (tmp_path/'a/text'/name).read_bytes() == (tmp_path/'b/text'/name).read_bytes(), name
    assert not list((tmp_path/'a/text').glob('.seed*'))


def test_fusion_is_trained_on_its_own_folds_encoders(demo_prepared, tmp_path):
    settings = PAIR | dict(fusion=PAIR['fusion'] | dict(missing=0.3))
    runs = cross_validate(demo_prepared, 'fusion', tmp_path/'cv', 'session', only=[2], settings=settings, say=None)
    assert set(runs) == {'audio', 'text', 'fusion'}
    side = Run.open(tmp_path/'cv/fusion/seed0-fold2').sidecar
    assert side['leaks'] == []
    tested = set(runs['fusion'].predictions.id)
    assert set(runs['fusion'].table('_text').id) == tested
    assert runs['fusion'].evaluate()['modalities'] == Run.open(tmp_path/'cv/fusion/seed0-fold2').evaluate()['modalities']
    for name, encoder in side['encoders'].items():
        assert encoder['split']['sha256'] == side['split']['sha256']
        assert not tested & set(encoder['train_ids'])
        assert Run.open(encoder['path']).path == tmp_path/'cv'/name/'seed0-fold2'
    done = CliRunner().invoke(main, ['fusion-gain', str(tmp_path/'cv/fusion')])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, ['evaluate', *(str(tmp_path/'cv'/name) for name in runs)])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope='module')
def ladder(demo_prepared, tmp_path_factory):
    "The ladder of a text model, one fold a rung: its folder, and what the command said"
    out = tmp_path_factory.mktemp('ladder')/'l'
    args = ['--system', 'text', '--max-folds', '1', '--arch', 'tiny', '--epochs', '1']
    return out, CliRunner().invoke(main, ['ladder', str(demo_prepared.path), '--out', str(out), *args])


class TestLadder:
    def test_every_rung_stands_in_the_table(self, ladder):
        out, done = ladder
        assert done.exit_code == 0, done.output
        found = read_json(out/'ladder.json')
        assert [rung['rung'] for rung in found['rungs']] == ['report', 'random', 'speaker', 'session', 'session+script']
        assert found['honest'] == 'session+script'
        assert (out/'ladder.png').stat().st_size > 5000
        assert found['rungs'][-2]['inflation']['text']['n'] > 0
        for rung in found['rungs'][:-1]:
            if not rung['inflation']['text']: continue  # one fold each: they may test nothing in common
            runs = [Run.open(out/name/'text') for name in ('session+script', rung['rung'])]
            want = compare_runs(*runs, allow_different_splits=True)['scores']['ua']
            assert rung['inflation']['text'] == {name: want[name] for name in rung['inflation']['text']}
        for rung in found['rungs']: assert rung['rung'] in done.output

    def test_the_lowest_rung_is_stamped_in_every_number(self, ladder):
        out, done = ladder
        for path in (out/'report/text', out/'report/text/seed0-fold1'):
            run = Run.open(path)
            scores = run.evaluate()
            assert scores['leaks'] == [ON_TEST]
            assert 'chosen' in protocol_line(scores)
            assert 'on TEST' in protocol_line(scores)
            assert f'LEAKS: {ON_TEST}' in protocol_line(scores)
            assert not scores['audit']['passes']
        assert set(run.valid.id) == set(run.predictions.id)
        honest = Run.open(out/'session+script/text').evaluate()
        assert honest['leaks'] == []
        assert 'on valid' in protocol_line(honest)
        assert honest['audit']['passes']
        assert 'LEAKS' in done.output


def test_the_report_rung_fuses_encoders_that_saw_the_test_part(demo_prepared, tmp_path):
    found = leakage_ladder(demo_prepared, 'fusion', tmp_path/'l', rungs=['report'], max_folds=1, settings=PAIR, say=None)
    leaks = found['rungs'][0]['scores']['fusion']['leaks']
    assert ON_TEST in leaks
    assert sum('encoder learned from or was chosen by' in leak for leak in leaks) == 2
    df = demo_prepared.manifest
    a, b = (report_split(df, system, 1, 0, 5) for system in ('audio', 'fusion'))
    assert a == report_split(df, 'text', 1, 0, 5)
    assert set(a.test) != set(b.test)
    assert len(set(a.train) & set(b.test)) > len(b.test)/2


def test_what_the_corpus_cannot_give_is_left_out_and_said(tmp_path, demo_prepared):
    from fastmer.prepare import prepare_corpus
    rows = demo_prepared.manifest[['id', 'text', 'label', 'speaker']]
    rows.to_csv(tmp_path/'t.csv', index=False)
    prepared = prepare_corpus('table', tmp_path/'t.csv', tmp_path/'prepared')
    found = leakage_ladder(prepared, 'text', tmp_path/'l', rungs=['speaker', 'session'], max_folds=1, settings=TINY, say=None)
    assert found['honest'] == 'speaker'
    assert 'session' in found['left_out']
    once = Prepared(demo_prepared.path, demo_prepared.about)  # a label of one session: the others cannot teach it
    df = demo_prepared.manifest
    once.__dict__['manifest'] = df[(df.label != 'sad') | (df.session == df.session.iloc[0])].reset_index(drop=True)
    found = leakage_ladder(once, 'text', tmp_path/'o', rungs=['random', 'session'], max_folds=1, settings=TINY, say=None)
    assert 'which no training utterance has' in found['left_out']['session']
    with pytest.raises(FastmerError, match='no rung .*did you mean speaker'): leakage_ladder(prepared, rungs=['speakr'])
    with pytest.raises(FastmerError, match='no rung of the ladder can be had'):
        leakage_ladder(prepared, 'text', tmp_path/'m', rungs=['session'], settings=TINY, say=None)


@pytest.mark.parametrize(('audio', 'says'), [(dict(arch='alexnet', refit=True), 'refit=yes'),
                                             (dict(arch='owner/wavlm', normalise='speaker'), 'normalise=speaker')])
def test_encoders_that_cannot_be_fused_are_refused_before_they_train(demo_prepared, tmp_path, audio, says):
    with pytest.raises(FastmerError, match=says):
        cross_validate(demo_prepared, 'fusion', tmp_path/'x', 'session', settings=dict(audio=audio), say=None)
    assert not (tmp_path/'x').exists()


def test_nothing_is_chosen_on_the_test_part(demo_prepared, tmp_path):
    s = split(demo_prepared.manifest, 'session', 1)
    with pytest.raises(LeakageError, match='both valid and test .* the epoch would be chosen by the score itself'):
        Split(s.protocol, 1, 5, 0, s.train, s.test, s.test)
    with pytest.raises(LeakageError, match='both train and test'): Split(s.protocol, 1, 5, 0, s.train + s.test[:1], s.valid, s.test)
    with pytest.raises(FastmerError, match="no protocol 'report'"): train_text(demo_prepared, tmp_path/'x', 'tiny', protocol='report')
    odd = Split('mine', 1, 1, 0, (*s.train, 'stranger'), s.valid, s.test)
    with pytest.raises(FastmerError, match="names 'stranger'"): train_text(demo_prepared, tmp_path/'x', 'tiny', split=odd)
    own = Split('mine', 1, 1, 0, s.train, s.valid, s.test)
    run = train_text(demo_prepared, tmp_path/'own', 'tiny', split=own, epochs=1, lr=1e-3, say=None)
    assert run.split['sha256'] == own.sha256


def test_a_slip_does_not_claim_the_folder(demo_prepared, tmp_path):
    with pytest.raises(FastmerError, match='did you mean'):
        cross_validate(demo_prepared, 'audio', tmp_path/'x', 'session', only=[1], settings=dict(audio=dict(arch='alexnett')), say=None)
    cross_validate(demo_prepared, 'text', tmp_path/'x', 'session', only=[1], settings=TINY, say=None)
    assert read_json(tmp_path/'x/cross-validation.json')['system'] == 'text'


class TestSettings:
    def test_options_of_the_training_command_are_its_own(self):
        got = training_settings('audio', (), (), ['--arch', 'alexnet', '--epochs', '3', '--no-augment', '--lr', 'auto'])
        assert got == dict(audio=dict(arch='alexnet', epochs=3, augment=False, lr='auto'), text={})

    def test_pairs_for_fusion(self):
        got = training_settings('fusion', ['arch=alexnet', 'class-weights=no'], ['clean=yes', 'max_length=32'], ['--dropout', '0.1'])
        assert got['fusion'] == dict(dropout=0.1)
        assert got['audio'] == dict(arch='alexnet', class_weights=False)
        assert got['text'] == dict(clean='english', max_length=32)

    @pytest.mark.parametrize(('args', 'says'), [
        (['--epochz', '3'], 'epochz'), (['--epochs', 'x'], 'x'), (['--seed', '4'], 'each fold has its own'),
        (['--audio', 'arch'], 'NAME=VALUE'), (['--audio', 'arch=alexnet'], 'is for --system fusion')])
    def test_mistakes_are_said(self, prepared, args, says):
        system = 'fusion' if says == 'NAME=VALUE' else 'text'
        done = CliRunner().invoke(main, ['cross-validate', str(prepared.path), '--system', system, *args])
        assert done.exit_code == 2, done.output
        assert says in done.stderr
        assert 'Traceback' not in done.output
