"A search of settings: finds what is good on valid, never sees test, goes on where it was killed, prints a command that runs"
import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import product

import pandas as pd
import pytest
from click.testing import CliRunner

import fastmer
from fastmer.cli import main
from fastmer.errors import FastmerError, LeakageError
from fastmer.html import write_report
from fastmer.runs import read_json
from fastmer.systems import find_recipe, train_audio, train_text
from fastmer.tune import OBJECTIVES, SPACES, options_of, parse_options, search_space, tune_settings, without_test

TINY = ['--arch', 'tiny', '--epochs', '1', '--device', 'cpu']
OF_TEXT = dict(system='text', protocol='session', settings=TINY, say=None)
PLANTED = dict(OF_TEXT, search=['lr=1e-9,1e-8,1e-7,3e-3', 'bs=8'], settings=['--arch', 'tiny', '--epochs', '6', '--device', 'cpu'])


@pytest.fixture(scope='module')
def words(tmp_path_factory):
    "A prepared folder of transcripts whose words tell the label: 72 of six speakers in three sessions"
    root = tmp_path_factory.mktemp('words')
    rows = [dict(id=f'u_{session}{speaker}_{label}_{n}', text=f'{label} {label} it is {n}', label=label, speaker=f'{session}{speaker}',
                 session=session)
            for session, speaker, label, n in product('123', 'fm', ('angry', 'happy', 'sad'), range(4))]
    pd.DataFrame(rows).to_csv(root/'t.csv', index=False)
    return fastmer.prepare_corpus('table', root/'t.csv', root/'prepared')


@pytest.fixture(scope='module')
def searched(words, tmp_path_factory):
    "Four rates, of which one is sane: the folder, and what the search found"
    out = tmp_path_factory.mktemp('tune')/'text'
    return out, tune_settings(words, out=out, trials=8, **PLANTED)


def naming(ids, folder):
    "Files in a folder, Optuna's too, that hold one of `ids`"
    return [path for path in folder.rglob('*') if path.is_file() and any(name.encode() in path.read_bytes() for name in ids)]


def test_a_planted_setting_is_found(searched):
    out, found = searched
    assert found['settings'] == dict(lr='3e-3', bs='8')
    assert read_json(out/'best.json')['ua'] == found['ua'] == max(r['ua'] for r in found['records'])
    df = pd.read_csv(out/'trials.csv')
    assert len(df) == len(found['records']) == 8
    assert df.loc[df.lr == 3e-3, 'ua'].min() > df.loc[df.lr < 1e-6, 'ua'].max()
    assert (out/'plots/tuning.png').stat().st_size > 5000
    again = [r for r in found['records'] if r['same_as'] is not None]  # four settings, seven trials
    assert len(again) == 7 - df.lr.nunique()
    assert all(r['ua'] == found['records'][r['same_as']]['ua'] for r in again)


def test_the_first_trial_is_the_recipes_own(searched, words, tmp_path):
    out, found = searched
    first = found['records'][0]
    assert (first['trial'], first['settings']) == (0, {})
    own = json.loads(json.dumps(asdict(find_recipe('text', 'default', 'scratch', epochs=6))))
    assert read_json(out/'trials/000/learner.json')['recipe'] == own
    assert pd.read_csv(out/'trials.csv').lr.isna().tolist() == [True] + [False]*7
    said = []
    bad = dict(OF_TEXT, search=['lr=1e-9,1e-8'], say=said.append, settings=['--arch', 'tiny', '--epochs', '8', '--bs', '8'])
    best = tune_settings(words, out=tmp_path/'x', trials=2, **bad)
    assert (best['settings'], best['trial']) == ({}, 0)
    assert best['command'].endswith(f'--epochs 8 --bs 8 --out {tmp_path/"x/best"}')
    assert said[0].startswith('trial 0, 1 of 2: valid UA ')
    assert "the recipe's own settings" in said[0]
    (tmp_path/'x/optuna.db').unlink()  # as if it had been killed before Optuna was told
    assert [r['trial'] for r in tune_settings(words, out=tmp_path/'x', trials=2, **bad)['records']] == [0, 1]


def test_the_report_shows_what_was_tried(searched, tmp_path):
    out, found = searched
    page = write_report([out], tmp_path/'page.html').read_text(encoding='utf-8')
    assert f'<code>{found["command"]}</code>' in page
    assert f'<tr><th scope="row">{found["trial"]}</th><td class="nowrap"><strong class="ok">best</strong></td>' in page
    assert page.count('<tr><th scope="row">') == 8
    assert 'settings and epochs were chosen by them: they estimate nothing' in page


def test_the_test_part_is_never_looked_at(searched, words):
    out, _ = searched
    fold = fastmer.split(words.manifest, 'session', 1)
    assert not naming(fold.test, out)
    assert naming(fold.valid, out)
    trial = out/'trials/000'
    assert {p.name for p in trial.iterdir()} == {'trial.json', 'learner.json', 'history.csv', 'predictions_valid.csv', 'utterances.csv'}
    assert tuple(sorted(pd.read_csv(trial/'predictions_valid.csv', dtype=str).id)) == fold.valid
    with pytest.raises(FastmerError, match='no finished run'): fastmer.Run.open(trial)
    seen, split = without_test(words, fold)
    assert not set(seen.manifest.id) & set(fold.test)
    assert (split.train, split.valid, split.test) == (fold.train, fold.valid, ())
    assert seen.labels == words.labels
    assert set(fold.test) < set(words.manifest.id)


def test_a_second_search_trains_nothing_and_a_longer_one_goes_on(searched, words):
    out, found = searched
    said = []
    again = tune_settings(words, out=out, trials=8, **{**PLANTED, 'say': said.append})
    assert said == ['8 of 8 trials are there already']
    assert again['records'] == found['records']
    assert len(tune_settings(words, out=out, trials=9, **PLANTED)['records']) == 9


@pytest.mark.parametrize(('change', 'says'), [
    (dict(search=['lr=1e-4..1e-2']), 'space differs'), (dict(fold=2), 'split differs'), (dict(objective='loss'), 'objective differs'),
    (dict(settings=['--arch', 'tiny', '--epochs', '2']), 'settings differs')])
def test_another_search_is_not_mixed_in(searched, words, change, says):
    out, _ = searched
    before = read_json(out/'tune.json')
    with pytest.raises(FastmerError, match=f'holds another search .{says}.* --overwrite'):
        tune_settings(words, out=out, **{**PLANTED, **change})
    assert read_json(out/'tune.json') == before


def test_overwriting_deletes_a_search_and_nothing_else(words, tmp_path):
    for overwrite, says in ((False, 'holds no search: give a new'), (True, 'holds no search to replace')):
        (tmp_path/'thesis.txt').write_text('mine')
        with pytest.raises(FastmerError, match=says): tune_settings(words, out=tmp_path, overwrite=overwrite, **OF_TEXT)
    out = tmp_path/'x'
    tune_settings(words, out=out, trials=2, search=['lr=1e-3', 'bs=8'], **OF_TEXT)
    (out/'best').mkdir()
    found = tune_settings(words, out=out, trials=2, search=['lr=2e-3', 'bs=8'], overwrite=True, **OF_TEXT)
    assert (found['records'][1]['settings']['lr'], len(found['records'])) == ('2e-3', 2)
    assert (out/'best').is_dir()


def test_killed_and_resumed_is_the_same_search_and_its_command_runs(words, tmp_path):
    args = lambda name: ['tune', str(words.path), '--out', str(tmp_path/name), '--system', 'text', '--protocol', 'session', *TINY,
                         '--search', 'lr=1e-4..1e-2', '--search', 'bs=8..16', '--trials', '5']
    process = subprocess.Popen([sys.executable, '-m', 'fastmer', *args('a')], stdout=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not (tmp_path/'a/trials/.002').is_dir() and time.time() < deadline and process.poll() is None: time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list((tmp_path/'a').glob('trials/[0-9]*/trial.json')))
    assert 2 <= finished < 5
    resumed, whole = (CliRunner().invoke(main, args(name)) for name in 'ab')
    assert (resumed.exit_code, whole.exit_code) == (0, 0), resumed.output + whole.output
    assert f'{finished} of 5 trials are there already' in resumed.stdout
    tables = [pd.read_csv(tmp_path/name/'trials.csv')[['trial', 'lr', 'bs', 'error']] for name in 'ab']
    pd.testing.assert_frame_equal(*tables)
    assert list(tables[0].trial) == [0, 1, 2, 3, 4]
    assert not list((tmp_path/'a/trials').glob('.0*'))
    best = read_json(tmp_path/'b/best.json')
    assert whole.stdout.splitlines()[-1] == best['command']
    assert 'they estimate nothing' in ' '.join(whole.stdout.split())
    assert 'test: WA' not in whole.stdout
    done = CliRunner().invoke(main, shlex.split(best['command'])[1:])
    assert done.exit_code == 0, done.output
    run = fastmer.Run.open(tmp_path/'b/best')
    assert fastmer.compute_metrics(run.valid, run.labels)['ua'] == best['ua']
    assert run.split['sha256'] == fastmer.split(words.manifest, 'session', 1).sha256
    assert run.sidecar['recipe']['lr'] == float(best['settings']['lr'])


def test_what_fails_is_recorded_and_the_search_goes_on(words, tmp_path, monkeypatch):
    found = tune_settings(words, out=tmp_path/'x', trials=6, search=['bs=8,5000', 'lr=1e-3'], **OF_TEXT)
    assert 0 < found['failed'] < 6
    assert pd.read_csv(tmp_path/'x/trials.csv').error.str.contains('batch size 5000 is larger').sum() == found['failed']
    with pytest.raises(FastmerError, match='none of 2 trials could be trained .*batch size 5000'):
        tune_settings(words, out=tmp_path/'y', trials=2, **OF_TEXT | dict(settings=[*TINY, '--bs', '5000']))
    with pytest.raises(FastmerError, match='none of 1 trials .*gives no numbers .*too high'):
        tune_settings(words, out=tmp_path/'n', trials=1, search=['bs=8'], **OF_TEXT | dict(settings=[*TINY, '--lr', '1e30']))

    def full(*args, **kwargs): raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')
    monkeypatch.setattr('fastmer.systems.train_text', full)
    with pytest.raises(FastmerError, match='out of memory'): tune_settings(words, out=tmp_path/'z', trials=1, **OF_TEXT)

    def bug(*args, **kwargs): raise RuntimeError('shapes differ')
    monkeypatch.setattr('fastmer.systems.train_text', bug)
    with pytest.raises(RuntimeError, match='shapes'): tune_settings(words, out=tmp_path/'w', trials=1, **OF_TEXT)


def test_audio_and_fusion(demo_prepared, tmp_path):
    on = dict(protocol='session', fold=1, lr=1e-3, say=None)
    audio = train_audio(demo_prepared, tmp_path/'audio', 'alexnet', epochs=1, seconds=3.3, crops=1, **on)
    text = train_text(demo_prepared, tmp_path/'text', 'tiny', epochs=1, **on)
    found = tune_settings(demo_prepared, 'fusion', tmp_path/'f', trials=2, audio=audio.path, text=text.path, say=None,
                          search=['head_epochs=1', 'bs=8', 'lr=1e-3'])
    assert set(found['records'][1]['settings']) == {'lr', 'bs', 'head_epochs', 'dropout', 'fusion'}
    assert f'--audio {audio.path} --text {text.path} --protocol session --fold 1 --seed 0' in found['command']
    with pytest.raises(LeakageError, match='trained under session fold 1'):
        tune_settings(demo_prepared, 'fusion', tmp_path/'g', fold=2, audio=audio.path, text=text.path)
    with pytest.raises(FastmerError, match='give the run folder of train-text'): tune_settings(demo_prepared, 'fusion', audio=audio.path)
    with pytest.raises(FastmerError, match='--text is for --system fusion'): tune_settings(demo_prepared, 'audio', text=text.path)
    found = tune_settings(demo_prepared, 'audio', tmp_path/'a', 'session', trials=2, search=['augment=no', 'bs=8', 'lr=1e-3'], say=None,
                          settings=['--arch', 'alexnet', '--epochs', '1', '--seconds', '3.3', '--crops', '1'])
    assert found['records'][1]['settings'] | dict(augment='no') == found['records'][1]['settings']
    assert ('--no-augment' in shlex.split(found['command'])) == (found['trial'] == 1)
    tested = fastmer.split(demo_prepared.manifest, 'session', 1).test
    assert not naming(tested, tmp_path/'f') + naming(tested, tmp_path/'a')
    assert naming(tested, tmp_path/'audio')


class TestSpace:
    def test_ranges_and_lists_take_the_types_of_the_options(self):
        space = search_space('audio', ['lr=1e-4..1e-2', 'epochs=2..9', '--head-epochs=0,2', 'augment=yes,no', 'crops=1..20'], ['--bs', '8'])
        assert [type(space[name]).__name__[:3] for name in ('lr', 'epochs', 'head_epochs', 'augment')] == ['Flo', 'Int', 'Cat', 'Cat']
        assert (space['lr'].low, space['lr'].high, space['lr'].log) == (1e-4, 1e-2, True)
        assert (space['epochs'].log, space['crops'].log) == (False, True)
        assert space['head_epochs'].choices == ('0', '2')
        assert 'bs' not in space

    @pytest.mark.parametrize(('name', 'system', 'settings'), [
        ('audio', 'audio', []), ('speech', 'audio', ['--arch', 'microsoft/wavlm-base-plus']), ('text', 'text', []),
        ('tiny', 'text', ['--arch', 'tiny']), ('fusion', 'fusion', [])])
    def test_the_spaces_that_are_there(self, name, system, settings):
        assert set(search_space(system, (), settings)) == set(SPACES[name]) <= set(options_of(system))

    @pytest.mark.parametrize(('search', 'says'), [
        ('lrr=1..2', r'no such option to search \(did you mean lr'), ('device=cpu,cuda', 'no such option'), ('seed=1..4', 'no such option'),
        ('lr', 'neither NAME=LOW..HIGH nor'), ('lr=', 'neither NAME=LOW..HIGH nor'), ('lr=2..1', 'from the lower number'),
        ('lr=auto..1', 'a range has numbers'), ('lr=-1..1', 'above 0'), ('epochs=1.5..3', '1.5'), ('epochs=2,x', "'x'"), ('bs=8,', 'bs'),
        ('pool=first,last', "'last'"), ('clean=maybe', 'yes,no'), ('clean=0..1', 'yes,no'), ('patience=2,3', 'given a value and searched')])
    def test_mistakes_are_said(self, search, says):
        with pytest.raises(FastmerError, match=says): search_space('text', [search], ['--patience', '3'])

    def test_fusions_fitted_on_valid_are_not_chosen_by_it(self):
        for search, settings in ((['fusion=concat,stacking'], []), ([], ['--fusion', 'late'])):
            with pytest.raises(FastmerError, match='is fitted on valid'): search_space('fusion', search, settings)

    def test_flags(self):
        assert search_space('text', ['clean=yes,no'])['clean'].choices == ('yes', 'no')
        assert search_space('audio', ['specaugment=2,0.1,0.1;3,0.2,0.2'])['specaugment'].choices == ('2,0.1,0.1', '3,0.2,0.2')
        assert parse_options('text', ['--clean']) == dict(clean='english')

    def test_the_command_says_it_in_one_sentence(self, demo_prepared, tmp_path):
        for args, code, says in ((['--search', 'lrr=1..2'], 1, 'did you mean lr'), (['--epochz', '3'], 1, 'epochz'),
                                 (['--objective', 'wa'], 2, 'objective'), (['--trials', '0'], 2, 'trials')):
            done = CliRunner().invoke(main, ['tune', str(demo_prepared.path), '--out', str(tmp_path/'x'), *args])
            assert done.exit_code == code, done.output
            assert says in done.stderr
            assert 'Traceback' not in done.output
        assert not (tmp_path/'x').exists()


def test_ties_of_ua_are_broken_by_the_loss():
    ua, loss = OBJECTIVES['ua'], OBJECTIVES['loss']
    assert ua(0.5, 1.2) > ua(0.5, 1.3)
    assert ua(0.5001, 50) > ua(0.5, 0)
    assert loss(0, 1) > loss(1, 2)


def test_without_optuna(words, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(FastmerError, match=r'pip install "fastmer\[tune\]"'): tune_settings(words, out=tmp_path/'x', **OF_TEXT)
