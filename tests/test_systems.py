"The three trainings end to end on a slice of the demo corpus: run folders, leaks, frozen encoders, export, prediction"
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import fastmer
from fastmer.audio_io import load_audio
from fastmer.calibration import scale
from fastmer.cli import main
from fastmer.errors import FastmerError, LeakageError
from fastmer.export import load_checked
from fastmer.runs import FILES, GIVEN, Run, read_json
from fastmer.systems import find_recipe, train_audio, train_fusion, train_text

QUICK = dict(protocol='session', fold=1, lr=1e-3, say=None)


@pytest.fixture(scope='session')
def runs(demo_prepared, tmp_path_factory):
    "An audio, a text and a fusion run of session fold 1"
    out = tmp_path_factory.mktemp('runs')
    audio = train_audio(demo_prepared, out/'audio', 'alexnet', epochs=2, seconds=3.3, **QUICK)
    text = train_text(demo_prepared, out/'text', 'tiny', epochs=2, **QUICK)
    fusion = train_fusion(demo_prepared, audio.path, text.path, out/'fusion', head_epochs=2, lr='auto', say=None)
    return dict(audio=audio, text=text, fusion=fusion)


def test_a_run_folder_holds_what_later_steps_read(runs, demo_prepared):
    test = fastmer.split(demo_prepared.manifest, 'session', 1).test
    for name, run in runs.items():
        left_out = {'pooled.json', *(f'predictions_{given}.csv' for given in GIVEN)}  # of a pool, and of `--missing`
        assert {p.name for p in run.path.iterdir()} == {*FILES, 'plots'} - left_out, name
        df = run.predictions
        assert list(df) == ['id', 'label', 'predicted', *(f'p_{label}' for label in run.labels)]
        assert tuple(sorted(df.id)) == test
        np.testing.assert_allclose(df.filter(like='p_').sum(axis=1), 1, atol=1e-5)
        assert (df.predicted == [run.labels[i] for i in df.filter(like='p_').to_numpy().argmax(1)]).all()
        assert {'training.png', 'confusion.png'} <= {p.name for p in (run.path/'plots').iterdir()}
        assert run.sidecar['scores']['wa'] == pytest.approx((df.label == df.predicted).mean())
        assert run.sidecar['split']['sha256'] == fastmer.split(demo_prepared.manifest, 'session', 1).sha256
    assert (runs['fusion'].path/'plots'/'lr_find_head.png').is_file()


def test_scores_carry_intervals_calibration_and_the_audit(runs, demo_prepared):
    for run in runs.values():
        scores = read_json(run.path/'metrics.json')
        assert scores['intervals']['over'] == 'speaker'
        assert scores['intervals']['groups'] == demo_prepared.manifest.set_index('id').speaker[run.predictions.id].nunique()
        assert scores['intervals']['ua'][0] < scores['ua'] < scores['intervals']['ua'][1]
        assert scores['calibration']['fitted_on'] == 'valid'
        assert scores['calibration']['n_valid'] == len(run.sidecar['valid_ids'])
        assert scores['audit']['passes']
        assert {'speaker', 'session', 'script', 'same words'} <= {line['check'] for line in scores['audit']['findings']}
        assert scores['command']
        rows = run.utterances
        assert set(rows.index[rows.split_part == 'test']) == set(run.predictions.id)
        trained = set(demo_prepared.manifest.set_index('id').script[run.sidecar['train_ids']])
        assert ((rows.script_seen == 'yes') == rows.script.isin(trained)).all()


def test_a_random_split_is_stamped(demo_prepared, tmp_path):
    said = []
    run = train_text(demo_prepared, tmp_path/'x', 'tiny', protocol='random', epochs=1, lr=1e-3, say=said.append)
    assert any(line.startswith('audit: speaker') for line in said)
    assert {'speaker', 'script'} <= set(run.evaluate()['audit']['leaks'])
    done = CliRunner().invoke(main, ['evaluate', str(run.path)])
    assert 'AUDIT FAILS: speaker' in done.output


def test_the_test_part_neither_trains_nor_chooses(runs):
    for run in runs.values():
        side = run.sidecar
        tested = set(run.predictions.id)
        assert not tested & {*side['train_ids'], *side['valid_ids']}
        history = run.history
        chosen = history.set_index('epoch').valid_loss
        assert side['best']['epoch'] == chosen.idxmin()
        assert set(pd.read_csv(run.path/'predictions_valid.csv').id) == set(side['valid_ids'])


def test_a_fresh_process_gives_the_same_probabilities(runs, demo_prepared, tmp_path, says_the_same):
    moved = [shutil.copytree(run.path, tmp_path/name) for name, run in runs.items()]  # what is exported needs no training data, no old path
    says_the_same(demo_prepared, moved, n=1000, cwd=tmp_path)


def test_frozen_means_frozen(runs, demo_prepared, tmp_path):
    before = {name: load_checked(runs[name].path)[0].model.state_dict() for name in ('audio', 'text')}
    fused = load_checked(runs['fusion'].path)[0].model
    for name, state in before.items():
        after = getattr(fused, name).state_dict()
        assert state.keys() == after.keys()
        assert all(torch.equal(state[key], after[key]) for key in state), name
    assert any('running_mean' in key for key in before['audio'])  # statistics that would move if they could


def test_unfreezing_moves_the_encoders(runs, demo_prepared, tmp_path):
    run = train_fusion(demo_prepared, runs['audio'].path, runs['text'].path, tmp_path/'f', head_epochs=1, epochs=1, lr=1e-3, say=None)
    fused, before = load_checked(run.path)[0].model, load_checked(runs['audio'].path)[0].model.state_dict()
    assert list(run.history.stage) == ['head', 'all']
    if run.sidecar['best']['epoch'] == 2:
        assert not all(torch.equal(v, fused.audio.state_dict()[k]) for k, v in before.items())


def test_fusion_refuses_encoders_of_another_fold(runs, demo_prepared, tmp_path):
    with pytest.raises(LeakageError, match='audio encoder .* trained under session fold 1'):
        train_fusion(demo_prepared, runs['audio'].path, runs['text'].path, tmp_path/'x', protocol='session', fold=2, say=None)
    assert not (tmp_path/'x').exists()
    run = train_fusion(demo_prepared, runs['audio'].path, runs['text'].path, tmp_path/'x', protocol='session', fold=2, allow_leakage=True,
                       head_epochs=1, lr=1e-3, say=None)
    assert len(run.sidecar['leaks']) == 2
    assert 'LEAKS' in CliRunner().invoke(main, ['evaluate', str(run.path)]).output
    assert json.loads((run.path/'metrics.json').read_text())['leaks']


def test_fusion_refuses_swapped_learners(runs, demo_prepared, tmp_path):
    with pytest.raises(FastmerError, match='is a text learner'):
        train_fusion(demo_prepared, runs['text'].path, runs['text'].path, tmp_path/'x', say=None)


def test_two_runs_do_not_mix(runs, demo_prepared):
    before = (runs['text'].path/'learner.pkl').read_bytes()
    with pytest.raises(FastmerError, match='already holds a run'): train_text(demo_prepared, runs['text'].path, 'tiny', epochs=1, **QUICK)
    assert (runs['text'].path/'learner.pkl').read_bytes() == before


def test_the_same_seed_trains_the_same_learner(runs, demo_prepared, tmp_path):
    again = train_text(demo_prepared, tmp_path/'text', 'tiny', epochs=2, **QUICK)
    pd.testing.assert_frame_equal(again.predictions, runs['text'].predictions)


@pytest.mark.parametrize(('settings', 'says'), [
    (dict(arch='resnet43'), r'no architecture .resnet43. \(did you mean resnet'),
    (dict(weights='/nope.pth'), '/nope.pth are not there'),
    (dict(fold=9), 'fold 9 is out of range'),
    (dict(protocol='speakers'), 'did you mean speaker'),
    (dict(bs=10_000), 'larger than the training part'),
    (dict(device='cuda:7'), 'cuda:7'),
    (dict(device='gpu'), "no device 'gpu'"),
    (dict(recipe='reprot'), 'did you mean report')])
def test_what_cannot_be_done_is_said_before_anything_is_written(demo_prepared, tmp_path, settings, says):
    if settings.get('device') == 'cuda:7' and torch.cuda.device_count() > 7: pytest.skip('there are eight GPUs here')
    with pytest.raises(FastmerError, match=says): train_audio(demo_prepared, tmp_path/'x', **{**QUICK, 'arch': 'alexnet', **settings})
    assert not (tmp_path/'x').exists()


def test_weights_that_cannot_be_fetched(demo_prepared, tmp_path, monkeypatch):
    from urllib.error import URLError

    def offline(*args, **kwargs): raise URLError('no network')
    monkeypatch.setattr('torch.hub.download_url_to_file', offline)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(FastmerError, match='could not be fetched .* --weights'):
        train_audio(demo_prepared, tmp_path/'x', 'alexnet', 'imagenet', **QUICK)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(FastmerError, match='could not be fetched .* --arch PATH'):
        train_text(demo_prepared, tmp_path/'x', 'no-such/encoder', **QUICK)


def test_weights_from_a_file_land_in_the_body(demo_prepared, tmp_path):
    import torchvision
    net = torchvision.models.alexnet()
    torch.save(net.state_dict(), tmp_path/'alexnet.pth')
    run = train_audio(demo_prepared, tmp_path/'x', 'alexnet', str(tmp_path/'alexnet.pth'), head_epochs=1, epochs=0, seconds=3.3, **QUICK)
    got = load_checked(run.path)[0].model[0].state_dict()
    want = net.features.state_dict()
    assert all(torch.equal(value, want[key.removeprefix('0.')]) for key, value in got.items())
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path/'resnet.pth')
    with pytest.raises(FastmerError, match='does not hold the weights of alexnet'):
        train_audio(demo_prepared, tmp_path/'y', 'alexnet', str(tmp_path/'resnet.pth'), **QUICK)


def test_the_reports_alexnet_and_squish(demo_prepared, tmp_path):
    run = train_audio(demo_prepared, tmp_path/'x', 'alexnet-report', epochs=1, seconds=3.3, resize='squish', patience=1, **QUICK)
    model = load_checked(run.path)[0].model
    assert model.features(torch.zeros(2, 3, 64, 66), 'sum').shape == (2, 256)
    assert [type(m).__name__ for m in model[1]] == ['SumPool', 'Dropout', 'Linear']


def test_what_cannot_be_trained_is_said(demo_prepared, runs, tmp_path):
    with pytest.raises(FastmerError, match='no epoch is left'): train_audio(demo_prepared, tmp_path/'a', 'alexnet', epochs=0, **QUICK)
    with pytest.raises(FastmerError, match='no epoch is left'):
        train_fusion(demo_prepared, runs['audio'].path, runs['text'].path, tmp_path/'f', head_epochs=0, say=None)
    with pytest.raises(FastmerError, match='--bs 1 leaves none'):
        train_audio(demo_prepared, tmp_path/'a', 'alexnet', epochs=1, bs=1, seconds=3.3, **QUICK)
    with pytest.raises(FastmerError, match='alexnet does not take pictures of 64 by 31 pixels .* longer --seconds'):
        train_audio(demo_prepared, tmp_path/'a', 'alexnet', epochs=1, seconds=1.5, **QUICK)
    with pytest.raises(FastmerError, match='gives no numbers .*too high'):
        train_text(demo_prepared, tmp_path/'t', 'tiny', **QUICK | dict(epochs=1, lr=1e30))


def test_the_reports_recipes_train(runs, demo_prepared, tmp_path):
    on = dict(protocol='session', fold=1, recipe='report', say=None)
    audio = train_audio(demo_prepared, tmp_path/'audio', 'alexnet', 'none', head_epochs=1, epochs=1, seconds=3.3, **on)
    assert list(audio.history.stage) == ['head', 'all']
    text = train_text(demo_prepared, tmp_path/'text', 'tiny', epochs=1, **on)
    assert text.history.lr.iloc[-1] < 2e-5
    fused = train_fusion(demo_prepared, audio.path, text.path, tmp_path/'fusion', recipe='report', say=None)
    assert len(fused.history) == 2
    assert fused.sidecar['widths'] == [256, 96]


def test_recipes():
    report = find_recipe('audio', 'report')
    assert (report.head_epochs, report.head_lr, report.epochs, report.lr) == (5, 1e-3, 10, 2e-4)
    assert report.lr/report.div == pytest.approx(4.8e-6)
    assert find_recipe('audio', 'report', arch='alexnet-report').bs == 1
    assert find_recipe('text', 'report').lr == 2e-5
    assert find_recipe('text', 'report', lr='auto').lr is None
    assert find_recipe('audio', 'default', lr=0.01).lr == 0.01
    epochs = lambda kind, arch, n: find_recipe('audio', 'default', kind, arch, n).epochs
    assert [epochs('', 'resnet34', n) for n in (100, 400, 5531)] == [50, 25, 15]
    assert [epochs('scratch', 'alexnet', n) for n in (100, 400)] == [50, 30]
    assert find_recipe('audio', 'default', n=100, epochs=3).epochs == 3
    assert [find_recipe('audio', name, kind, n=100).epochs for name, kind in [('report', ''), ('default', 'speech')]] == [10, 8]


class TestLoading:
    "What `load` refuses, and how it says so"
    @pytest.fixture
    def copy(self, runs, tmp_path): return shutil.copytree(runs['text'].path, tmp_path/'copy')

    def test_missing_sidecar(self, copy):
        (copy/'learner.json').unlink()
        with pytest.raises(FastmerError, match='no sidecar'): fastmer.load(copy)

    def test_another_version(self, copy):
        side = json.loads((copy/'learner.json').read_text())
        (copy/'learner.json').write_text(json.dumps({**side, 'versions': {**side['versions'], 'fastmer': '9.1.0'}}))
        with pytest.raises(FastmerError, match='made by fastmer 9.1.0'): fastmer.load(copy)

    def test_another_file(self, copy):
        with open(copy/'learner.pkl', 'ab') as f: f.write(b'x')
        with pytest.raises(FastmerError, match='SHA-256 differs'): fastmer.load(copy)

    def test_not_there(self, tmp_path):
        with pytest.raises(FastmerError, match='not there'): fastmer.load(tmp_path/'nope.pkl')


def test_any_rate_and_channels(runs, demo_prepared, tmp_path):
    import soundfile as sf
    learner, row = fastmer.load(runs['audio'].path), demo_prepared.manifest.iloc[0]
    path = demo_prepared.root/row.audio
    wave = load_audio(path, 16000)
    base = learner.predict(audio=path)['probabilities']
    assert learner.predict(audio=wave, rate=16000)['probabilities'] == pytest.approx(base, abs=1e-5)
    from fastmer.audio_io import resample
    sf.write(tmp_path/'stereo.flac', np.stack([resample(wave, 16000, 44100)]*2, axis=1).clip(-1, 1), 44100, subtype='PCM_24')
    assert learner.predict(audio=tmp_path/'stereo.flac')['probabilities'] == pytest.approx(base, abs=0.1)
    sf.write(tmp_path/'short.wav', wave[:40], 16000)
    sf.write(tmp_path/'long.wav', np.tile(wave, 20), 16000)
    for name in ('short.wav', 'long.wav'):
        assert sum(learner.predict(audio=tmp_path/name)['probabilities'].values()) == pytest.approx(1, abs=1e-5)


class TestPredictCommand:
    def run(self, *args): return CliRunner().invoke(main, ['predict', *map(str, args)])

    def test_audio_text_and_both(self, runs, demo_prepared):
        row = demo_prepared.manifest.iloc[0]
        wav = demo_prepared.root/row.audio
        for name, args in dict(audio=[wav, wav], text=['--text', row.text], fusion=[wav, '--text', row.text]).items():
            done = self.run(runs[name].path, *args, '--json')
            assert done.exit_code == 0, done.output
            answers = [json.loads(line) for line in done.stdout.splitlines()]
            assert len(answers) == (2 if name == 'audio' else 1)
            assert set(answers[0]['probabilities']) == set(runs[name].labels)
        assert 'angry' in self.run(runs['audio'].path, wav).stdout

    def test_below_the_threshold_the_answer_is_unknown(self, runs, demo_prepared):
        run, wav = runs['audio'], demo_prepared.root/demo_prepared.manifest.audio[0]
        learner = fastmer.load(run.path)
        said = learner.predict(audio=wav)
        scaled = scale(np.array([list(said['probabilities'].values())]), run.temperatures[()])
        assert said['confidence'] == pytest.approx(scaled.max(), abs=1e-5)
        assert learner.predict(audio=wav, abstain_below=said['confidence'] - 1e-6)['label'] == said['label']
        assert learner.predict(audio=wav, abstain_below=said['confidence'] + 1e-6)['label'] == 'unknown'
        for value, label in (('0', said['label']), ('100%', 'unknown'), ('error=1', said['label'])):
            done = self.run(run.path, wav, '--json', '--abstain-below', value)
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)['label'] == label
        for value in ('-1', 'x', 'eror=0.1', '2'): assert self.run(run.path, wav, '--abstain-below', value).exit_code == 2

    def test_the_threshold_keeps_the_wanted_error_on_valid(self, runs):
        run = runs['audio']
        probs = run.calibrated(run.valid)
        right = probs.argmax(1) == run.targets(run.valid)
        learner = fastmer.load(run.path)
        lowest = min(run.sidecar['calibration']['risk'])
        for error in (lowest, (lowest + 1)/2):
            answered = probs.max(1) >= learner.threshold(('error', error))
            assert answered.any()
            assert (~right[answered]).mean() <= error
        if lowest:
            with pytest.raises(FastmerError, match='no threshold keeps the error on valid'): learner.threshold(('error', lowest/2))
        learner.sidecar.pop('calibration')
        with pytest.raises(FastmerError, match='kept no calibration'): learner.threshold(('error', 0.1))

    def test_table(self, runs, demo_prepared):
        done = self.run(runs['fusion'].path, '--table', demo_prepared.root/'utterances.csv', '--json')
        assert done.exit_code == 0, done.output
        assert len(done.stdout.splitlines()) == len(pd.read_csv(demo_prepared.root/'utterances.csv'))

    def test_one_broken_wav_does_not_take_the_others_along(self, runs, demo_prepared, tmp_path):
        (tmp_path/'broken.wav').write_text('no sound')
        wav = demo_prepared.root/demo_prepared.manifest.audio[0]
        done = self.run(runs['audio'].path, tmp_path/'broken.wav', wav, '--json')
        assert done.exit_code == 1
        assert 'broken.wav cannot be decoded' in done.stderr
        assert 'label' in json.loads(done.stdout.splitlines()[1])

    @pytest.mark.parametrize(('name', 'args', 'says'), [
        ('fusion', ['x.wav'], 'no text was given'), ('text', ['--text', ' '], 'transcript is empty'), ('audio', [], 'nothing to predict'),
        ('fusion', ['a.wav', 'b.wav', '--text', 'x'], 'one --text for each')])
    def test_errors(self, runs, name, args, says):
        done = self.run(runs[name].path, *args)
        assert done.exit_code == 1
        assert says in done.stderr
        assert 'Traceback' not in done.output


def test_evaluate_puts_runs_side_by_side(runs):
    done = CliRunner().invoke(main, ['evaluate', *(str(run.path) for run in runs.values())])
    assert done.exit_code == 0, done.output
    assert done.output.count('protocol session') == 3
    assert all(word in done.output for word in ('precision', 'macro average', 'WA', 'UA'))
    as_json = CliRunner().invoke(main, ['evaluate', str(runs['text'].path), '--json'])
    scores = json.loads(as_json.stdout)[0]
    df = Run.open(runs['text'].path).predictions
    assert scores['wa'] == pytest.approx((df.label == df.predicted).mean())
    assert CliRunner().invoke(main, ['evaluate', str(runs['text'].path/'nope')]).exit_code == 1


def test_text_alone_and_audio_alone_corpora(tmp_path, demo_prepared):
    rows = pd.read_csv(demo_prepared.root/'utterances.csv', dtype=str)
    rows.drop(columns='audio').to_csv(tmp_path/'text.csv', index=False)
    prepared = fastmer.prepare_corpus('table', tmp_path/'text.csv', tmp_path/'prepared')
    train_text(prepared, tmp_path/'text', 'tiny', epochs=1, **QUICK)
    with pytest.raises(FastmerError, match='holds no recording'): train_audio(prepared, tmp_path/'audio', 'alexnet', epochs=1, **QUICK)


def test_training_commands(demo_prepared, tmp_path):
    common = [str(demo_prepared.path), '--protocol', 'session', '--epochs', '1', '--lr', '1e-3', '--device', 'cpu',
              '--div', '3', '--log-dir', str(tmp_path/'logs')]
    done = CliRunner().invoke(main, ['train-text', *common, '--arch', 'tiny', '--clean', '--out', str(tmp_path/'text')])
    assert done.exit_code == 0, done.output
    assert 'test: WA' in done.output
    assert list((tmp_path/'logs').rglob('events*'))
    assert load_checked(tmp_path/'text')[1]['recipe']['div'] == 3
    for wrong in (['--lr', 'fast'], ['--div', '0']): assert CliRunner().invoke(main, ['train-text', *common, *wrong]).exit_code == 2
    assert CliRunner().invoke(main, ['train-text', *common, '--protcol', 'x']).exit_code == 2
