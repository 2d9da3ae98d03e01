"Each example runs, on a slice of the demo corpus"
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[1]/'examples'


def example(name, *args, cwd):
    done = subprocess.run([sys.executable, str(EXAMPLES/name), *map(str, args)], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def here(monkeypatch, capsys):
    "An example in this process, which has imported torch already"
    def run(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        runpy.run_path(str(EXAMPLES/name), run_name='__main__')
        return capsys.readouterr().out
    return run


def test_audio_text_fusion_and_predict(demo_prepared, tmp_path, here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = demo_prepared.root/'few.csv'
    pd.read_csv(demo_prepared.root/'utterances.csv', dtype=str).groupby(['speaker', 'label']).head(1).to_csv(table, index=False)
    assert 'unseen speakers: WA' in example('audio.py', 'table', table, tmp_path/'t', 3, cwd=tmp_path)
    assert 'session fold 1' in here('text.py', table, 'tiny', tmp_path/'t')
    from fastmer.systems import train_audio
    run = train_audio(tmp_path/'t'/'prepared', tmp_path/'audio', 'alexnet', protocol='session', epochs=1, lr=1e-3, say=None)
    assert 'fusion  WA' in here('fusion.py', tmp_path/'t'/'prepared', run.path, tmp_path/'t'/'text', tmp_path/'f')
    clip = demo_prepared.root/demo_prepared.manifest.audio[0]
    assert str(clip) in here('predict.py', run.path/'learner.pkl', clip)


@pytest.mark.slow
def test_why_95_percent(data_dir, tmp_path):
    out = example('why_95_percent.py', data_dir/'emodb', tmp_path/'why', 1, cwd=tmp_path)
    uncleared, clean = ([float(x) for x in line.split()[1:]] for line in out.splitlines() if line.startswith(('uncleared', 'clean')))
    assert uncleared[0] > clean[0] + 0.1  # what is left on the figure tells the class
    assert uncleared[1] > clean[1] + 0.1  # and no split takes it away
    assert 'LEAKS' in out
    for name in ('uncleared.png', 'ladder.png'): assert (tmp_path/'why'/name).stat().st_size > 5000


@pytest.mark.slow
def test_iemocap_five_systems(tmp_path):
    pytest.importorskip('soundfile')
    from iemocap_fixture import make_iemocap
    make_iemocap(tmp_path/'IEMOCAP_full_release')
    out = example('iemocap_five_systems.py', '--root', tmp_path/'IEMOCAP_full_release', '--out', tmp_path/'out', '--bert', 'tiny',
                  '--weights', 'none', '--epochs', 1, '--protocol', 'session', cwd=tmp_path)
    assert [line.split()[0] for line in out.splitlines() if 'UA' in line and 'utterances)' in line and 'test:' not in line] == [
        'alexnet', 'resnet34', 'bert', 'alexnet-bert', 'resnet34-bert']
