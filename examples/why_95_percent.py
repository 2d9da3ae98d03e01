"""Why 95 % was wrong, rung by rung: python examples/why_95_percent.py EMODB_ROOT [OUT [EPOCHS]]

First rung, here: pictures that tell the class. The report drew its spectrograms with `librosa.display.specshow`, class after class, onto
one matplotlib figure that it never cleared. A new clip is painted over the older ones, from the left, and the time axis stays that of the
longest so far. So to the right of a shorter clip shows what is left of longer, earlier ones OF ITS CLASS, at the far right of the longest,
in training and test pictures alike: a watermark of the label. A classifier that reads it needs to hear nothing of the clip itself, and no
split, not even one by speaker, takes it away, for it was painted before the split. Only drawing the pictures anew does.

The other rungs are those of `fastmer ladder`: who and what of the test part is known from training. Ten minutes on two cores.
"""
import sys
from functools import lru_cache
from pathlib import Path

import librosa
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmer.audio_io import load_audio
from fastmer.corpora import read_corpus
from fastmer.ladder import leakage_ladder
from fastmer.plots import draw_ladder
from fastmer.prepare import prepare_corpus
from fastmer.report import ladder_table
from fastmer.spectrogram import SpectrogramConfig


def new_axes():
    "The axes of a new figure of 640 x 480 pixels, on no shared pyplot state"
    figure = Figure(figsize=(6.4, 4.8), dpi=100)
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.axis('off')
    return ax


@lru_cache(maxsize=1000)
def decibels(wav):
    "The mel spectrogram of the file `wav` in dB below its maximum: `(128, columns)`"
    mel = librosa.feature.melspectrogram(y=load_audio(wav, 22050), sr=22050, n_mels=128)
    return librosa.power_to_db(mel, ref=np.max)


def draw(wav, ax, path):
    "Paint the mel spectrogram of the file `wav` onto `ax`, over what is there, and save the picture"
    mesh = librosa.display.specshow(decibels(wav), x_axis='time', y_axis='mel', sr=22050, ax=ax)
    ax.figure.savefig(path, dpi=100)
    return mesh


def draw_uncleared(wavs, out, keep_all=False):
    """The report's way: the clips of a class one after another onto one figure that is never cleared, a picture saved after each.

    An uncleared figure redraws all it holds each time, so a mesh that the newest one hides entirely (it begins where all begin and is no
    longer) is taken off it: the pixels stay the same, to the bit. `keep_all` leaves them on, as the report did, and takes minutes.
    """
    out.mkdir(parents=True, exist_ok=True)
    for _, clips in wavs.groupby('label', sort=False):
        ax, seen = new_axes(), []
        for row in clips.itertuples():
            mesh = draw(row.audio, ax, out/f'{row.id}.png')
            if keep_all: continue
            columns = mesh.get_array().shape[1]
            for hidden in [m for m in seen if m.get_array().shape[1] <= columns]: hidden.remove(), seen.remove(hidden)
            seen.append(mesh)


def draw_clean(wavs, out):
    "The same pictures, but a new figure for each clip: nothing in one comes from another"
    out.mkdir(parents=True, exist_ok=True)
    for row in wavs.itertuples(): draw(row.audio, new_axes(), out/f'{row.id}.png')


def grey(path, size=None):
    "A picture's grey levels, 0 to 255, brought to `size` (width, height) if given"
    with Image.open(path) as image: image = image.convert('L')
    return np.asarray(image.resize(size, Image.Resampling.BOX) if size else image, dtype=float)


def pixels(folder, ids):
    "The pictures of `ids` at 64 x 48 grey pixels: `(clips, 3072)`"
    return np.stack([grey(folder/f'{name}.png', (64, 48)).ravel() for name in ids])


def uar_of_pixels(X, y, groups=None, seed=0):
    "Unweighted accuracy of a straight line through the pixels, 5 folds: at random, or none of `groups` on both sides"
    folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(5, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    return balanced_accuracy_score(y, cross_val_predict(model, X, y, groups=groups, cv=folds))


def side_by_side(paths, out):
    "Pictures beside one another, each under its title"
    images = {title: Image.open(path).convert('RGB') for title, path in paths.items()}
    width, height = next(iter(images.values())).size
    sheet = Image.new('RGB', (width*len(images), height), 'white')
    for i, (title, image) in enumerate(images.items()):
        sheet.paste(image, (i*width, 0))
        ImageDraw.Draw(sheet).text((i*width + width//8, 20), title, fill='black', font_size=20)
    sheet.save(out)


def picture_rung(wavs, out):
    "Draw both ways, score the pixels of both, and print what comes out"
    for name, way in dict(uncleared=draw_uncleared, clean=draw_clean).items(): way(wavs, out/name)
    print(f'\nPictures: {len(wavs)} clips, {wavs.label.nunique()} classes, logistic regression on 64 x 48 grey pixels, UA')
    print(f'{"figure":10} {"random folds":>13} {"unseen speakers":>16}')
    for name in ('uncleared', 'clean'):
        X = pixels(out/name, wavs.id)
        print(f'{name:10} {uar_of_pixels(X, wavs.label):13.3f} {uar_of_pixels(X, wavs.label, wavs.speaker):16.3f}')
    print('The upper row reads what was left on the figure; that it scores well on unseen speakers too shows that the split is no cure.')
    apart = {name: np.abs(grey(out/'clean'/f'{name}.png') - grey(out/'uncleared'/f'{name}.png')).mean() for name in wavs.id}
    one = max(wavs.groupby('label').tail(1).id, key=apart.get)  # of the last of each class, the one that changed most
    print(f'{one}.wav drawn alone and drawn last of its class: {apart[one]:.0f} of 255 grey levels apart on average, '
          f'all clips {np.mean(list(apart.values())):.0f}; see {out/"uncleared.png"}')
    side_by_side({f'{one}, drawn alone': out/'clean'/f'{one}.png', f'{one}, drawn last of its class': out/'uncleared'/f'{one}.png'},
                 out/'uncleared.png')


RUNGS = {  # what each rung of the ladder lets through, from the most to the least
    'report': 'The report chose the epoch on the part that gave the score: the best of many tries on the exam itself. (Where it fused,\n'
              'it drew a new split as well, so both encoders had learned most of the utterances that the fusion was tested on.)',
    'random': 'Utterances at random: the epoch is chosen on others, but all speakers and sentences of the test are known from training.',
    'speaker': 'Whole speakers are held back: the first score that says something about people who were not recorded.',
}


def ladder_rung(root, out, epochs):
    "The same AlexNet under each protocol: only what it may see of the test changes"
    prepared = prepare_corpus('emodb', root, out/'prepared', config=SpectrogramConfig(bands=64, step=0.05))
    settings = dict(audio=dict(arch='alexnet-report', epochs=epochs, seconds=3.2, crops=1))
    ladder = leakage_ladder(prepared, 'audio', out/'ladder', rungs=list(RUNGS), settings=settings)
    draw_ladder(ladder, out/'ladder.png')
    print()
    for rung in ladder['rungs']: print(f'{rung["rung"]}: UA {rung["scores"]["audio"]["ua"]:.3f}\n{RUNGS[rung["rung"]]}\n')
    Console().print(ladder_table(ladder))
    print(f'The network is the same, the clips are the same. What differs is what was known before the exam. See {out/"ladder.png"}')


def main(root, out='out/why', epochs=12):
    root, out = Path(root), Path(out)
    wavs = read_corpus('emodb', root).manifest
    picture_rung(wavs.assign(audio=[str(root/audio) for audio in wavs.audio]), out)
    ladder_rung(root, out, int(epochs))


if __name__ == '__main__': main(*sys.argv[1:])
