"Pictures standardised by corpus or speaker, and the regularisers of picture networks"
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fastai.vision.core import TensorImage

from fastmer.audio import Normaliser, OpenPicture, SpectrogramBlock, audio_dls, normaliser_of, read_picture, with_png
from fastmer.augment import CutMixTime, SpecAugment
from fastmer.cli import main
from fastmer.errors import FastmerError
from fastmer.export import load_checked
from fastmer.predict import Predictor
from fastmer.prepare import Prepared
from fastmer.spectrogram import save_png
from fastmer.splits import split
from fastmer.systems import _loss, _picture_parts, train_audio
from fastmer.training import Recipe, set_seed

QUICK = dict(arch='alexnet', lr=1e-3, bs=8, seconds=3.3, crops=1, say=None, device='cpu')


@pytest.fixture(scope='module')
def rows(demo_prepared): return with_png(demo_prepared, demo_prepared.manifest)


@pytest.fixture(scope='module')
def fold(demo_prepared): return split(demo_prepared.manifest, 'session', 1)


@pytest.fixture(scope='module')
def small(fold):
    "A third of `fold`"
    return replace(fold, train=fold.train[::3], valid=fold.valid[::3], test=fold.test[::3])


@pytest.fixture(scope='module')
def by_speaker(rows, fold): return Normaliser.of(rows, fold.train, 'speaker')


def together(df, change=lambda image, row: image):
    "All columns of the pictures of `df` side by side: `float64 (rows, columns)`"
    return np.concatenate([change(read_picture(row.png), row) for row in df.itertuples()], axis=1).astype(float)


def alike(x, normaliser):
    "How far each band's mean and deviation lie from what the normaliser brings them to"
    mean, std = normaliser.corpus.mean(1)[:, 0]
    return np.abs(x.mean(1) - mean), np.abs(x.std(1) - std)


def test_each_band_is_standardised_for_each_speaker(rows, fold, by_speaker):
    apply = lambda image, row: by_speaker(image, row.id)
    for speaker, of_one in rows.groupby('speaker'):
        before, after = (alike(together(of_one, f), by_speaker) for f in (lambda image, row: image, apply))
        assert np.median(before[0]) > 3, speaker
        assert np.median(after[0]) < 2, speaker  # what is cut off at 0 and 255 is missing
        assert np.median(after[1]) < 4, speaker
        assert np.median(after[0]) < np.median(before[0])


def test_statistics_of_the_corpus_are_those_of_the_training_part(rows, fold):
    normaliser = Normaliser.of(rows, fold.train)
    train = rows[rows.id.isin(list(fold.train))]
    x = together(train)
    np.testing.assert_allclose(normaliser.corpus[0, :, 0], x.mean(1), rtol=1e-4)
    np.testing.assert_allclose(normaliser.corpus[1, :, 0], np.maximum(x.std(1), 1), rtol=1e-3)
    assert not normaliser.speakers
    gone = rows.assign(png=[row.png if row.id in set(fold.train) else '/nope.png' for row in rows.itertuples()])
    assert Normaliser.of(gone, fold.train).hash == normaliser.hash  # valid and test are not even opened


def test_labels_are_never_used(rows, fold, by_speaker):
    shuffled = rows.assign(label=rows.label.sample(frac=1, random_state=0).to_numpy())
    assert (shuffled.label != rows.label).any()
    other = Normaliser.of(shuffled, fold.train, 'speaker')
    assert other.hash == by_speaker.hash
    for row in rows.head(20).itertuples():
        np.testing.assert_array_equal(other(read_picture(row.png), row.id), by_speaker(read_picture(row.png), row.id))


def test_the_test_speakers_pictures_are_used(rows, fold, by_speaker):
    test = rows[rows.id.isin(list(fold.test))]
    image = read_picture(test.png.iloc[0])
    assert set(test.speaker) <= set(by_speaker.speakers)
    assert (by_speaker(image, test.id.iloc[0]) != by_speaker(image)).any()
    assert Normaliser.of(rows[~rows.id.isin(list(fold.test))], fold.train, 'speaker').speakers.keys().isdisjoint(test.speaker)


def test_nobody_known_falls_back_to_the_corpus(rows, fold, by_speaker):
    corpus, image = Normaliser.of(rows, fold.train), read_picture(rows.png[0])
    np.testing.assert_array_equal(by_speaker(image, 'never heard'), corpus(image))
    np.testing.assert_array_equal(by_speaker(image), corpus(image, rows.id[0]))
    assert by_speaker.hash != corpus.hash


def test_a_speaker_with_one_recording_goes_by_the_corpus(rows, fold):
    one = rows[rows.speaker != rows.speaker[0]]
    one = rows[rows.index.isin([0, *one.index])]
    normaliser = Normaliser.of(one, fold.train, 'speaker')
    image = read_picture(rows.png[0])
    np.testing.assert_array_equal(normaliser(image, rows.id[0]), normaliser(image))  # as in `predict`, where nobody knows the speaker


def test_deltas_by_channel_and_silence(tmp_path, rows):
    images = [np.random.default_rng(n).integers(0, 200, (6, 30 + n, 3)).astype(np.uint8)//(1, 2, 4)[n % 3] for n in range(4)]
    for image in images: image[2] = 7  # a band that never changes
    df = rows.head(4).assign(png=[str(tmp_path/f'{name}.png') for name in rows.id[:4]])
    for image, png in zip(images, df.png, strict=True): save_png(image, png)
    normaliser = Normaliser.of(df, df.id, 'corpus')
    assert normaliser.corpus.shape == (2, 6, 3)
    out = np.concatenate([normaliser(image) for image in images], axis=1).astype(float)
    want = normaliser.corpus[0].mean(0)
    np.testing.assert_allclose(out.mean(1), np.broadcast_to(want, (6, 3)), atol=6)
    assert len(np.unique(out[2, :, 0])) == 1
    picture = OpenPicture(normaliser)(df.png.iloc[0])
    np.testing.assert_array_equal(np.asarray(picture), normaliser(images[0]))


def test_batches_hold_the_normalised_pictures(demo_prepared, fold, rows):
    dls = audio_dls(demo_prepared, fold, bs=8, seconds=1., normalise='speaker', augment=False)
    normaliser, path = dls.valid_ds.tls[0].tfms.fs[-1].normaliser, str(dls.valid_ds.items.png.iloc[0])
    row = rows[rows.png == path].iloc[0]
    np.testing.assert_array_equal(np.asarray(dls.valid_ds[0][0])[..., 0], normaliser(read_picture(path), row.id))
    assert dls.one_batch()[0].shape[:2] == (8, 3)


def says_after_meeting(predictor, prepared, row):
    "Probabilities of the utterance `row` by a predictor that has met its speaker"
    of_one = prepared.manifest[prepared.manifest.speaker == row.speaker]
    predictor.meet(row.speaker, [prepared.root/audio for audio in of_one.audio])
    return list(predictor.predict(audio=prepared.root/row.audio, speaker=row.speaker)['probabilities'].values())


@pytest.mark.parametrize(('by', 'more'), [('corpus', dict(mixup=0.4, label_smoothing=0.1)), ('speaker', dict(refit=True, balance=True))])
def test_export_load_and_predict(demo_prepared, small, tmp_path, by, more):
    run = train_audio(demo_prepared, tmp_path/by, split=small, epochs=1, normalise=by, **more, **QUICK)
    assert np.isfinite(run.history.train_loss).all()
    assert run.sidecar['input']['normalise'] == by
    uses = ['the unlabelled recordings of each test speaker (--normalise speaker)'] if by == 'speaker' else None
    assert run.sidecar.get('uses') == uses
    learn, sidecar = load_checked(run.path)
    rows = demo_prepared.manifest.set_index('id', drop=False).loc[run.predictions.id[:2]]
    test = with_png(demo_prepared, rows)
    with learn.no_bar(): again = learn.get_preds(dl=learn.dls.test_dl(test))[0].numpy()  # knows the speakers of the folder still
    np.testing.assert_allclose(again, run.predictions.filter(like='p_').to_numpy()[:2], atol=1e-5)
    path = str(demo_prepared.root/rows.audio.iloc[0])
    code = f'import json, fastmer; print(json.dumps(fastmer.load({str(run.path)!r}).predict(audio={path!r})["probabilities"]))'
    if by == 'corpus':
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
        np.testing.assert_allclose(list(json.loads(done.stdout.splitlines()[-1]).values()), again[0], atol=1e-4)
    else:  # a new recording: nobody is known
        predictor = Predictor(learn, sidecar)
        said = list(predictor.predict(audio=path)['probabilities'].values())
        met = says_after_meeting(predictor, demo_prepared, rows.iloc[0])
        np.testing.assert_allclose(met, again[0], atol=1e-3)  # the pictures are drawn anew here
        assert not np.allclose(said, met, atol=1e-3)
        learn.dls.tls[0].tfms.fs[-1].normaliser.speaker_of.clear()
        with learn.no_bar(): unknown = learn.get_preds(dl=learn.dls.test_dl(test))[0].numpy()
        np.testing.assert_allclose(said, unknown[0], atol=1e-4)
    block = SpectrogramBlock(demo_prepared.config, normalise=normaliser_of(learn))  # what fusion does
    assert [type(tfm) for tfm in block.type_tfms] == [OpenPicture]


def test_what_cannot_be_normalised_is_said(demo_prepared, fold, tmp_path):
    class Nobody(Prepared):
        manifest = demo_prepared.manifest.assign(speaker='')
    nobody = Nobody(demo_prepared.path, demo_prepared.about)
    with pytest.raises(FastmerError, match='does not say who speaks'): audio_dls(nobody, fold, normalise='speaker')
    with pytest.raises(FastmerError, match="not by 'singer'"): audio_dls(demo_prepared, fold, normalise='singer')
    with pytest.raises(FastmerError, match='without statistics'): SpectrogramBlock(demo_prepared.config, normalise='corpus')


@pytest.mark.parametrize('settings', [dict(label_smoothing=0.1), dict(mixup=0.4), dict(cutmix=1.), dict(balance=True),
                                      dict(specaugment=(1, 0.3, 0.), normalise='corpus')])
def test_each_regulariser_trains_a_step(demo_prepared, small, settings):
    off = dict(normalise='utterance', label_smoothing=0., mixup=0., cutmix=0., balance=False, specaugment=(2, 0.12, 0.12))
    learn, _, about, _ = _picture_parts(demo_prepared, small, 'alexnet', Recipe(bs=8), 'none', 3.3, 1, 'crop', class_weights=True,
                                        augment=True, device='cpu', **off | settings)
    before = learn.loss_func
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert np.isfinite(learn.recorder.values[-1]).all()
    assert learn.loss_func is before  # mixing puts it back
    held = about['input'] | about['regularisers']
    assert {name: held[name] for name in settings} == settings


@pytest.mark.parametrize(('settings', 'says'), [
    (dict(mixup=0.4, cutmix=1.), 'give one of them'), (dict(mixup=0.4, bs=1), '--bs 2 or more'),
    (dict(mixup=-1.), '--mixup must be above 0'), (dict(label_smoothing=1.), '--label-smoothing is a share'),
    (dict(specaugment=(2, 1.5, 0)), 'two shares below 1'), (dict(normalise='singer'), "not by 'singer'")])
def test_settings_that_cannot_be(demo_prepared, tmp_path, settings, says):
    with pytest.raises(FastmerError, match=says): train_audio(demo_prepared, tmp_path/'x', epochs=1, **{**QUICK, **settings})
    assert not (tmp_path/'x').exists()


def test_smoothing_and_weights(demo_prepared, fold):
    x, y = torch.randn(8, len(demo_prepared.labels)), torch.randint(0, len(demo_prepared.labels), (8,))
    for smoothing in (0., 0.2):
        want = torch.nn.functional.cross_entropy(x, y, label_smoothing=smoothing)
        torch.testing.assert_close(_loss(demo_prepared, fold, demo_prepared.labels, 'cpu', False, smoothing)(x, y), want)


def test_balance_draws_every_label_equally_often(demo_prepared, fold):
    labels = demo_prepared.labels
    few = demo_prepared.manifest[demo_prepared.manifest.id.isin(list(fold.train))]
    spare = list(few.id[few.label == labels[0]][2:])
    fold = replace(fold, train=tuple(i for i in fold.train if i not in spare))
    set_seed(0)
    dls = audio_dls(demo_prepared, fold, bs=8, seconds=1., balance=True)
    train = dls.train_ds.items.label.tolist()
    drawn = [train[i] for _ in range(60) for i in dls.train.get_idxs()]
    assert train.count(labels[0]) == 2
    assert all(abs(drawn.count(label)/len(drawn) - 1/len(labels)) < 0.05 for label in labels)
    assert list(dls.valid.get_idxs()) == list(range(len(fold.valid)))


def test_cutmix_in_time_takes_whole_columns():
    x = torch.arange(4.)[:, None, None, None].expand(4, 3, 8, 20).clone()
    for _ in range(30):
        mix = CutMixTime()
        mix.learn = type('L', (), dict(x=TensorImage(x.clone()), y=torch.arange(4), training=True))()
        mix.learn.xb, mix.learn.yb, mix.stack_y = (mix.learn.x,), (mix.learn.y,), True
        mix.before_batch()
        out, y1 = torch.Tensor(mix.learn.xb[0]), mix.yb1[0]
        for i, one in enumerate(out):
            assert torch.equal(one, one[:1, :1].expand_as(one))  # the same in all bands and channels
            share = (one[0, 0] == i).float().mean()
            assert y1[i] == i or share == pytest.approx(float(mix.lam), abs=1e-6)


def test_specaugment_off_changes_nothing():
    x = TensorImage(torch.rand(2, 3, 8, 9))
    for none in ((0, 0.5, 0.5), (2, 0., 0.)): assert torch.equal(SpecAugment(*none)(x, split_idx=0), x)


def test_options(demo_prepared, tmp_path):
    common = ['train-audio', str(demo_prepared.path), '--arch', 'alexnet', '--protocol', 'session', '--epochs', '1', '--lr', '1e-3',
              '--seconds', '3.3', '--device', 'cpu', '--out', str(tmp_path/'x')]
    done = CliRunner().invoke(main, [*common, '--normalise', 'speaker', '--specaugment', '1,0.1,0.2', '--cutmix', '1', '--balance'])
    assert done.exit_code == 0, done.output
    assert 'USES the unlabelled recordings' in done.output
    for name, value in (('specaugment', '1,2'), ('specaugment', 'a,b,c'), ('label-smoothing', '1'), ('normalise', 'x'), ('mixup', '-1')):
        assert CliRunner().invoke(main, [*common, f'--{name}', value]).exit_code == 2
