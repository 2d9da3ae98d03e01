"Tables hold the numbers, pictures can be opened, and names with brackets or dollars come out as they are"
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console
from test_metrics import LABELS, predictions
from test_runs import HISTORY, make_run

from fastmer import plots, report
from fastmer.cli import main
from fastmer.manifest import as_manifest
from fastmer.metrics import as_predictions, compute_metrics
from fastmer.prepare import prepare_corpus
from fastmer.spectrogram import SpectrogramConfig
from fastmer.splits import split

ODD = ['[bold]', '[/x]', 'a$^{$']  # rich would swallow the first, fail on the second; matplotlib fail on the third


@pytest.fixture
def run(tmp_path): return make_run(tmp_path/'run')


@pytest.fixture
def scores(run): return run.evaluate()


def printed(*what):
    "What a wide console prints"
    console = Console(width=250, record=True, file=open('/dev/null', 'w'))  # noqa: SIM115
    for one in what: console.print(one)
    return console.export_text()


def cells(text, row): return next(line for line in text.splitlines() if f'│ {row} ' in line).split('│')[1:-1]


def colours(path):
    "The picture's size and how many colours it has; a blank one has 1"
    with Image.open(path) as image: return image.size, len(image.convert('RGB').getcolors(10**7))


def odd_scores():
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    df = as_predictions(range(30), [ODD[n % 3] for n in range(30)], probs, ODD)
    return dict(system='audio', arch='x', split=dict(protocol='random', fold=1, n_folds=10, seed=0, sha256='ab'*32), labels=ODD, corpus='c',
                seconds=None, **compute_metrics(df, ODD))


def test_class_table(scores):
    text = printed(report.class_table(scores))
    for label in LABELS:
        row = scores['classes'][label]
        want = [label, *(f'{row[k]:.3f}' for k in ('precision', 'recall', 'f1')), str(row['support'])]
        assert [cell.strip() for cell in cells(text, label)] == want
    for name in ('macro', 'weighted'):
        want = [*(f'{scores[name][k]:.3f}' for k in ('precision', 'recall', 'f1')), '200']
        assert [cell.strip() for cell in cells(text, f'{name} average')][1:] == want


def test_confusion_table(scores):
    text = printed(report.confusion_table(scores))
    for label, row in zip(LABELS, scores['confusion']['counts'], strict=True):
        assert [cell.strip() for cell in cells(text, label)] == [label, *map(str, row)]


def test_runs_table(scores):
    leaky = scores | dict(leaks=['x'], seconds=None)
    text = printed(report.runs_table([scores, leaky], ['runs/a', 'runs/[b]']))
    want = ['audio resnet18', 'session', '2/5', '200', f'{scores["wa"]:.3f}', report.within(scores['ua'], scores['intervals']['ua']),
            f'{scores["macro"]["f1"]:.3f}']
    assert [cell.strip() for cell in cells(text, 'runs/a')][1:] == [*want, '12']
    assert [cell.strip() for cell in cells(text, 'runs/[b]')][2] == 'session LEAKS'


def test_counts_table(prepared):
    df = prepared.manifest
    assert [cell.strip() for cell in cells(printed(report.counts_table(df, 'speaker')), '01')][1:6] == ['2', '2', '2', '2', '8']
    assert [cell.strip() for cell in cells(printed(report.counts_table(df, 'label')), 'sad')] == [
        'sad', '8', f'{df.duration[df.label == "sad"].sum()/60:.1f}']
    text = printed(report.counts_table(df, 'id', most=5))
    assert '... and 27 more' in text
    assert len([line for line in text.splitlines() if '│ 0' in line]) == 5


def test_split_table(prepared):
    found = split(prepared.manifest, 'session+script')
    text = printed(report.split_table(prepared.manifest, found))
    assert found.sha256 in text
    for part in ('train', 'valid', 'test', 'unused'): assert cells(text, part)[1].strip() == str(len(getattr(found, part)))
    test = prepared.manifest[prepared.manifest.id.isin(found.test)]
    assert cells(text, 'test')[2].split() == sorted(test.speaker.unique())
    for reason in set(found.unused.values()): assert f'unused: {reason}' in text


def test_print_scores_says_the_protocol_above_the_numbers(scores):
    console = Console(width=250, record=True, file=open('/dev/null', 'w'))  # noqa: SIM115
    report.print_scores([scores, scores], ['runs/[a]', 'runs/b'], console)
    text = console.export_text()
    assert text.index('runs/[a]') < text.index('protocol session · fold 2 of 5') < text.index('precision') < text.index('WA (accuracy)')
    assert f'WA (accuracy) {report.within(scores["wa"], scores["intervals"]["wa"])}   UA (mean recall over 4 labels)' in text
    assert '95% intervals by bootstrap over' in text
    assert f'ECE {scores["calibration"]["ece"]:.3f} as given' in text


def test_names_come_out_as_they_are():
    odd = odd_scores()
    df = as_manifest([dict(id=f'u{n}', label=ODD[n % 3], speaker=ODD[n % 2], text='x') for n in range(12)])
    answers = [dict(audio='[/a].wav', text='[laughter] well', label='[bold]', probabilities={'[bold]': 0.75, '[/x]': 0.25})]
    texts = [printed(report.class_table(odd)), printed(report.confusion_table(odd)), printed(report.counts_table(df, 'label'))]
    for text in texts: assert all(label in text for label in ODD)
    assert all(name in printed(report.counts_table(df, 'speaker')) for name in ODD[:2])
    assert all(name in printed(report.split_table(df, split(df, 'random'))) for name in ODD)
    assert all(word in printed(report.predictions_table(answers)) for word in ('[/a].wav', '[laughter] well', '[bold]', '0.750'))


def test_draw_confusion(scores, tmp_path):
    plots.draw_confusion(scores, tmp_path/'a.png')
    (width, height), n = colours(tmp_path/'a.png')
    assert width > height > 300
    assert n > 20
    plots.draw_confusion(scores | compute_metrics(predictions(seed=9), LABELS), tmp_path/'b.png')
    assert (tmp_path/'a.png').read_bytes() != (tmp_path/'b.png').read_bytes()


def test_draw_confusion_of_odd_names_and_of_absent_labels(tmp_path):
    plots.draw_confusion(odd_scores(), tmp_path/'a.png')
    assert colours(tmp_path/'a.png')[1] > 20


def test_same_picture_whatever_was_drawn_before(scores, tmp_path):
    plots.draw_confusion(scores, tmp_path/'a.png')
    plots.draw_confusion(odd_scores(), tmp_path/'b.png')
    plots.draw_confusion(scores, tmp_path/'c.png')
    assert (tmp_path/'a.png').read_bytes() == (tmp_path/'c.png').read_bytes()


@pytest.mark.parametrize('history', [HISTORY, HISTORY[:1], HISTORY[2:]])
def test_draw_history(tmp_path, history):
    import pandas as pd
    plots.draw_history(pd.DataFrame(history), tmp_path/'a.png', best=history[0]['epoch'])
    assert colours(tmp_path/'a.png')[1] > 20


@pytest.mark.parametrize('n', [3, 60])
def test_draw_lr_find(tmp_path, n):
    find = dict(stage='head', lrs=list(np.geomspace(1e-6, 1, n)), losses=list(np.linspace(2, 1, n)), suggested=1e-3)
    plots.draw_lr_find(find, tmp_path/'a.png')
    assert colours(tmp_path/'a.png')[1] > 20


@pytest.mark.parametrize('config', [SpectrogramConfig(bands=32), SpectrogramConfig(kind='linear', channels='deltas')])
def test_draw_grid(corpus, tmp_path, config):
    made = prepare_corpus('folders', corpus/'wav', tmp_path/'out', 'sad,angry', config=config, jobs=1)
    plots.draw_grid(made, tmp_path/'a.png', per_label=3)
    size, n = colours(tmp_path/'a.png')
    assert size == (int((2.5*3 + 0.6)*110), int((1.75*2 + 0.5)*110))
    assert n > 100


def test_draw_grid_of_odd_names(corpus, tmp_path):
    from conftest import write_tone
    for n in range(4): write_tone(tmp_path/'root'/['a$^{$', '[b]'][n % 2]/f'{n}$_{{$.wav')
    made = prepare_corpus('folders', tmp_path/'root', tmp_path/'out', jobs=1)
    plots.draw_grid(made, tmp_path/'a.png')
    assert colours(tmp_path/'a.png')[1] > 100


def test_evaluate_prints_writes_and_draws(run, scores):
    result = CliRunner().invoke(main, ['evaluate', str(run.path), str(run.path)])
    assert result.exit_code == 0, result.output
    assert f'{scores["ua"]:.3f}' in result.stdout
    assert 'protocol session' in result.stdout
    assert {path.stem for path in (run.path/'plots').iterdir()} == {'confusion', 'training', 'reliability', 'risk_coverage'}
    for path in (run.path/'plots').iterdir(): assert colours(path)[1] > 20
    result = CliRunner().invoke(main, ['evaluate', str(run.path), '--json'])
    assert json.loads(result.stdout) == [scores]
