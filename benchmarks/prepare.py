"""How fast pictures are drawn, in one run on the same files: python benchmarks/prepare.py [FOLDER OF WAVS [HOW MANY]]

The report's way (librosa, specshow, savefig at 100 dpi, on a clean figure), plain librosa with Pillow in a loop, and fastmer with one and
with all cores; prints seconds and ratios, and checks that one and all cores draw the same pixels.
"""
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import librosa
import numpy as np
import soundfile as sf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fastmer.prepare import prepare_corpus
from fastmer.spectrogram import SpectrogramConfig

CONFIG = SpectrogramConfig()
HOW = dict(n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length, n_mels=CONFIG.bands)


def the_reports_way(wavs, out):
    for wav in wavs:
        wave, rate = librosa.load(wav, sr=CONFIG.rate)
        figure = Figure(figsize=(6.4, 4.8))
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        mel = librosa.feature.melspectrogram(y=wave, sr=rate, **HOW)
        librosa.display.specshow(librosa.power_to_db(mel, ref=np.max), x_axis='time', y_axis='mel', sr=rate, ax=ax)
        figure.savefig(out/f'{wav.stem}.png', dpi=100)


def a_bare_loop(wavs, out):
    filters = librosa.filters.mel(sr=CONFIG.rate, n_fft=CONFIG.n_fft, n_mels=CONFIG.bands)
    for wav in wavs:
        wave, _ = sf.read(wav, dtype='float32')
        mel = filters @ np.abs(librosa.stft(wave, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length))**2
        db = librosa.power_to_db(mel, ref=np.max)
        Image.fromarray(np.round((db + 80)*(255/80)).astype(np.uint8)[::-1]).save(out/f'{wav.stem}.png', compress_level=6)


def by_fastmer(root, out, jobs):
    return prepare_corpus('folders', root, out, config=CONFIG, jobs=jobs)


def timed(what, *args):
    began = time.perf_counter()
    what(*args)
    return time.perf_counter() - began


def pixels(folder):
    return {path.name: hashlib.sha256(np.asarray(Image.open(path)).tobytes()).hexdigest() for path in sorted(folder.rglob('*.png'))}


def main(source='../shared/data/emodb/wav', most='339'):
    wavs = sorted(Path(source).glob('*.wav'))[:int(most)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for n, wav in enumerate(wavs):
            (folder/'corpus'/'ab'[n % 2]).mkdir(parents=True, exist_ok=True)
            (folder/'corpus'/'ab'[n % 2]/wav.name).symlink_to(wav.resolve())
        for name in ('report', 'bare', 'warm'): (folder/name).mkdir()
        a_bare_loop(wavs[:3], folder/'warm')  # what is imported or compiled once is not counted
        the_reports_way(wavs[:3], folder/'warm')
        by_fastmer(folder/'corpus', folder/'warm all', os.cpu_count())
        ways = {'the report\'s way': (the_reports_way, wavs, folder/'report'), 'a bare loop': (a_bare_loop, wavs, folder/'bare'),
                'fastmer, 1 core': (by_fastmer, folder/'corpus', folder/'one', 1),
                f'fastmer, {os.cpu_count()} cores': (by_fastmer, folder/'corpus', folder/'all', os.cpu_count())}
        spent = {name: timed(*way) for name, way in ways.items()}
        first = spent['the report\'s way']
        for name, seconds in spent.items():
            print(f'{name:18} {seconds:7.2f} s  {1000*seconds/len(wavs):6.1f} ms a file  {first/seconds:6.1f} times the report\'s way')
        print(f'fastmer on one core takes {spent["fastmer, 1 core"]/spent["a bare loop"]:.2f} of the time of the bare loop')
        same = pixels(folder/'one') == pixels(folder/'all')
        print(f'one and all cores drew the same pixels: {same}')
        return 0 if same else 1


if __name__ == '__main__': sys.exit(main(*sys.argv[1:]))
