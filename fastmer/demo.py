"All five systems on the bundled synthetic corpus, at a small size: no network, no downloads, no pretrained weights"
import time
from pathlib import Path

from .prepare import prepare_corpus
from .runs import Run
from .spectrogram import SpectrogramConfig

CORPUS = Path(__file__).parent/'data'/'demo'/'utterances.csv'
CONFIG = SpectrogramConfig(bands=64, window=0.064, step=0.05)
PROTOCOL = dict(protocol='session+script', fold=1)  # the tested session's speakers and scripts are in no training utterance
SYSTEMS = {  # name: (kind, settings)
    'AlexNet audio': ('audio', dict(arch='alexnet-report', epochs=10, lr=1e-3, seconds=3.2, crops=1)),
    'ResNet34 audio': ('audio', dict(arch='resnet34', epochs=7, lr=2e-3, seconds=2.6, crops=1)),
    'BERT text': ('text', dict(arch='tiny', epochs=12, lr=1e-3)),
    'AlexNet + BERT': ('fusion', dict(audio='AlexNet audio', text='BERT text', head_epochs=4, lr=3e-3)),
    'ResNet34 + BERT': ('fusion', dict(audio='ResNet34 audio', text='BERT text', head_epochs=4, lr=3e-3)),
}


def run_demo(out='demo-out', say=print):
    "Prepare, train and score; `[(system, scores, seconds)]`, as `demo_table` shows it. A second run replaces the runs of the first"
    from .systems import train_audio, train_fusion, train_text
    train = dict(audio=train_audio, text=train_text, fusion=train_fusion)
    out, rows = Path(out), []
    say('drawing spectrograms')
    prepared = prepare_corpus('table', CORPUS, out/'prepared', config=CONFIG)
    folder = {name: out/'runs'/name.lower().replace(' + ', '-').replace(' ', '-') for name in SYSTEMS}
    for name, (kind, settings) in SYSTEMS.items():
        say(f'\n{name}')
        started = time.perf_counter()
        encoders = {part: folder[settings[part]] for part in ('audio', 'text') if kind == 'fusion'}
        run = train[kind](prepared, out=folder[name], overwrite=True, say=say, **PROTOCOL, **{**settings, **encoders})
        rows.append((name, Run.open(run.path).evaluate(), time.perf_counter() - started))
    return rows
