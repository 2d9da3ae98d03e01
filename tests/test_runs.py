"The run folder: made once, opened when finished, refused otherwise; no score without its protocol"
import json
import os
import stat

import pandas as pd
import pytest
from test_metrics import LABELS, predictions

from fastmer.errors import FastmerError
from fastmer.metrics import compute_metrics
from fastmer.runs import Run, protocol_line, read_json

SPLIT = dict(protocol='session', fold=2, n_folds=5, seed=3, sha256='0123456789abcdef'*4, counts=dict(train=10, valid=2, test=3, unused=0))
SIDECAR = dict(system='audio', arch='resnet18', vocab=LABELS, split=SPLIT, corpus='emodb', seconds=12.5, leaks=[],
               best=dict(epoch=4, monitor='ua', stage='all'))
HISTORY = [dict(epoch=n, stage='head' if n < 3 else 'all', train_loss=1/n, valid_loss=1.2/n, accuracy=1 - 1/n, ua=0.1*n)
           for n in (1, 2, 3, 4)]


def make_run(path, overwrite=False, **sidecar):
    "A run folder as a training leaves it, from made-up predictions"
    run = Run.create(path, overwrite)
    run.write_predictions(predictions())
    run.write_predictions(predictions(seed=1), 'valid')
    run.write_history(HISTORY)
    run.write_json('learner.json', SIDECAR | sidecar)
    return Run.open(path)


def test_what_is_written_is_read(tmp_path):
    run = make_run(tmp_path/'runs/a')
    assert run.predictions.equals(predictions())
    assert (run.labels, run.split, run.name) == (LABELS, SPLIT, 'audio resnet18')
    assert run.history.to_dict('records') == HISTORY
    assert sorted(path.name for path in run.path.iterdir()) == [
        'history.csv', 'learner.json', 'plots', 'predictions.csv', 'predictions_valid.csv']


def test_labels_and_ids_stay_text(tmp_path):
    run = make_run(tmp_path/'a', vocab=['1', 'NA'])
    df = pd.DataFrame({'id': ['01', 'null'], 'label': ['1', 'NA'], 'predicted': ['NA', '1'], 'p_1': [0.2, 0.8], 'p_NA': [0.8, 0.2]})
    run.write_predictions(df)
    assert Run.open(run.path).predictions.to_dict('list') == df.to_dict('list')


def test_evaluate_stamps_the_scores_with_their_protocol(tmp_path):
    run = make_run(tmp_path/'a', leaks=['the encoder saw 3 test utterances'])
    scores = run.evaluate()
    assert scores == read_json(tmp_path/'a/metrics.json')
    assert {name: scores[name] for name in ('split', 'corpus', 'best', 'leaks', 'labels')} == dict(
        split=SPLIT, corpus='emodb', best=SIDECAR['best'], leaks=['the encoder saw 3 test utterances'], labels=LABELS)
    assert {name: scores[name] for name in ('n', 'wa', 'ua', 'confusion')} == {
        name: value for name, value in compute_metrics(predictions(), LABELS).items() if name in ('n', 'wa', 'ua', 'confusion')}


def test_protocol_line(tmp_path):
    line = protocol_line(make_run(tmp_path/'a').evaluate())
    assert line == ('protocol session · fold 2 of 5 · seed 3 · split 0123456789ab · 4 labels (angry, happy, neutral, sad) · n 200 · '
                    'epoch 4 chosen by ua on valid · corpus emodb')


def test_protocol_line_tells_leaks_and_a_fixed_number_of_epochs(tmp_path):
    line = protocol_line(make_run(tmp_path/'a', best=None, leaks=['one', 'two']).evaluate())
    assert 'no epoch chosen' in line
    assert line.endswith(' · LEAKS: one · LEAKS: two')
    assert '\n' not in line


def test_create_refuses_a_folder_that_holds_a_run(tmp_path):
    run = make_run(tmp_path/'a')
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    with pytest.raises(FastmerError, match=r'already holds a run \(learner.json\).*--overwrite'): Run.create(tmp_path/'a')
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before


def test_overwrite_leaves_nothing_of_the_run_before(tmp_path):
    run = make_run(tmp_path/'a')
    run.evaluate()
    (run.path/'plots/old.png').touch()
    (run.path/'mine.txt').touch()
    Run.create(run.path, overwrite=True)
    assert sorted(path.name for path in run.path.rglob('*')) == ['mine.txt', 'plots']


@pytest.mark.parametrize('overwrite', [False, True])
def test_create_leaves_a_folder_of_plots_that_is_not_a_runs(tmp_path, overwrite):
    (tmp_path/'plots').mkdir()
    (tmp_path/'plots/mine.png').touch()
    Run.create(tmp_path, overwrite)
    assert (tmp_path/'plots/mine.png').exists()


def test_create_where_a_file_stands(tmp_path):
    (tmp_path/'a').touch()
    with pytest.raises(FastmerError, match='is a file: give a folder for the run'): Run.create(tmp_path/'a')
    with pytest.raises(FastmerError, match=r'cannot be made \(Not a directory\)'): Run.create(tmp_path/'a/b')


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may write anywhere')
def test_create_without_permission(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(FastmerError, match='Permission denied'): Run.create(tmp_path/'a')


@pytest.mark.parametrize('name', ['', 'learner.pkl', 'learner.json', 'predictions.csv'])
def test_open_takes_the_folder_or_a_file_in_it(tmp_path, name):
    run = make_run(tmp_path/'a')
    assert Run.open(run.path/name if name else str(run.path)) == run


def test_open_where_nothing_is(tmp_path):
    with pytest.raises(FastmerError, match='is not there: give a run folder'): Run.open(tmp_path/'a')
    with pytest.raises(FastmerError, match='is not there'): Run.open(tmp_path/'a/learner.pkl')


@pytest.mark.parametrize('name', ['learner.json', 'predictions.csv'])
def test_open_of_a_run_that_did_not_finish(tmp_path, name):
    (make_run(tmp_path/'a').path/name).unlink()
    with pytest.raises(FastmerError, match=f'is no finished run: it has no {name}'): Run.open(tmp_path/'a')


@pytest.mark.parametrize('text', ['', '{', '[1]', '{"vocab": ["a"]}', '\x00'])
def test_sidecar_that_is_broken(tmp_path, text):
    (make_run(tmp_path/'a').path/'learner.json').write_text(text)
    with pytest.raises(FastmerError, match=r'cannot be read|is no sidecar'): Run.open(tmp_path/'a').evaluate()


@pytest.mark.parametrize(('text', 'says'), [
    ('', 'cannot be read'), ('id,label\na,b\n', "has no column 'predicted'"), ('a,b\n1,2,3\n1,2,3,4,5\n', 'cannot be read'),
    ('id,label,predicted,p_angry,p_happy,p_neutral,p_sad\n', 'no prediction to score')])
def test_predictions_that_are_broken(tmp_path, text, says):
    (make_run(tmp_path/'a').path/'predictions.csv').write_text(text)
    with pytest.raises(FastmerError, match=says): Run.open(tmp_path/'a').evaluate()


def test_json_is_written_whole_or_not_at_all(tmp_path):
    run = make_run(tmp_path/'a')
    with pytest.raises(TypeError): run.write_json('learner.json', dict(what=object()))
    assert json.loads((run.path/'learner.json').read_text()) == SIDECAR
    assert not list(run.path.glob('.*'))


def test_many_leaks_are_counted(tmp_path):
    line = protocol_line(make_run(tmp_path/'a', leaks=[f'leak {i}' for i in range(8)]).evaluate())
    assert line.endswith('LEAKS: leak 0 · LEAKS: leak 1 · LEAKS: leak 2 · LEAKS: and 5 more of the kind')
