"Pictures of sound: equal to librosa's numbers, at a fixed scale, the same bytes whatever came before"
import sys
import warnings
from dataclasses import FrozenInstanceError, asdict, replace

import librosa
import numpy as np
import pytest
from PIL import Image

from fastmer.errors import FastmerError
from fastmer.spectrogram import RECIPES, SpectrogramConfig, read_stamp, save_png, spectrogram, to_image, trim

PLAIN = SpectrogramConfig(window=0.04, step=0.016, n_fft=1024, trim_db=0)


def sound(seconds=0.5, rate=16000, seed=0):
    t = np.arange(round(seconds*rate))/rate
    rng = np.random.default_rng(seed)
    return (0.3*np.sin(2*np.pi*(300 + 400*t)*t) + rng.normal(0, 0.01, len(t))).astype(np.float32)


@pytest.mark.parametrize('top_db', [0.5, 20, 40, 60])
def test_trim_is_librosas(top_db):
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = rng.integers(1, 20000)
        swell = np.exp(-((np.arange(n) - rng.uniform(0, n))/rng.uniform(50, 6000))**2)
        wave = (rng.standard_normal(n)*np.exp(rng.uniform(-9, 0))*swell).astype(np.float32)
        want, _ = librosa.effects.trim(wave, top_db=top_db)
        assert np.array_equal(trim(wave, top_db), want)


@pytest.mark.parametrize('config', [
    PLAIN, replace(PLAIN, bands=64, fmin=50., fmax=7000.), replace(PLAIN, step=0.01, window=0.025, n_fft=512)])
def test_mel_is_librosas(config):
    power = librosa.feature.melspectrogram(
        y=sound(), sr=config.rate, n_fft=config.n_fft, win_length=config.win_length, hop_length=config.hop_length, n_mels=config.bands,
        fmin=config.fmin, fmax=config.top, pad_mode='constant')
    want = librosa.power_to_db(power, ref=np.max, top_db=config.db_range)
    assert spectrogram(sound(), config) == pytest.approx(want, abs=2e-3)


def test_linear_is_librosas():
    config = replace(PLAIN, kind='linear')
    power = np.abs(librosa.stft(sound(), n_fft=1024, hop_length=256, win_length=640, pad_mode='constant'))**2
    assert spectrogram(sound(), config) == pytest.approx(librosa.power_to_db(power, ref=np.max, top_db=80), abs=2e-3)


def test_linear_keeps_the_band_asked_for():
    x = spectrogram(sound(), replace(PLAIN, kind='linear', fmin=1000., fmax=2000.))
    hertz = librosa.fft_frequencies(sr=16000, n_fft=1024)
    assert len(x) == ((hertz >= 1000) & (hertz <= 2000)).sum()


def test_mfcc_is_librosas_standardised_within_the_clip():
    db = spectrogram(sound(), PLAIN)
    want = librosa.feature.mfcc(S=db, n_mfcc=20)
    x = spectrogram(sound(), replace(PLAIN, kind='mfcc', bands=20))
    assert x == pytest.approx((want - want.mean(1, keepdims=True))/(want.std(1, keepdims=True) + 1e-3), abs=1e-4)
    assert np.abs(x.mean(axis=1)).max() < 1e-4


@pytest.mark.parametrize('seconds', [0.001, 0.1, 0.256, 1.])
@pytest.mark.parametrize(('kind', 'bands', 'rows'), [('mel', 128, 128), ('mel', 40, 40), ('linear', 128, 513), ('mfcc', 13, 13)])
def test_one_column_a_step_one_row_a_band(kind, bands, rows, seconds):
    config = replace(PLAIN, kind=kind, bands=bands)
    image = to_image(sound(seconds), config)
    assert image.shape == (rows, config.frames(seconds)) == (rows, 1 + int(seconds*16000)//256)
    assert image.dtype == np.uint8


@pytest.mark.parametrize('kind', ['mel', 'linear', 'mfcc'])
@pytest.mark.parametrize('seconds', [0.001, 0.3])
def test_deltas_are_three_channels_with_the_signal_first(kind, seconds):
    config = replace(PLAIN, kind=kind, bands=40)
    image = to_image(sound(seconds), replace(config, channels='deltas'))
    assert image.shape == (*to_image(sound(seconds), config).shape, 3)
    assert np.array_equal(image[..., 0], to_image(sound(seconds), config))


def test_deltas_of_what_does_not_change_are_grey():
    tone = np.sin(2*np.pi*1000*np.arange(16000)/16000).astype(np.float32)
    image = to_image(tone, replace(PLAIN, channels='deltas', db_range=60.))[:, 20:40, 1:]
    assert np.abs(image.astype(int) - 128).max() <= 2


def test_low_frequencies_are_at_the_bottom():
    low, high = (to_image(np.sin(2*np.pi*f*np.arange(8000)/16000).astype(np.float32), PLAIN).mean(axis=1).argmax() for f in (150, 6000))
    assert high < 20 < 100 < low


def test_grey_levels_are_decibels_below_the_maximum():
    x = spectrogram(sound(), PLAIN)
    assert (x.max(), x.min() >= -80) == (0, True)
    assert np.array_equal(to_image(sound(), PLAIN)[::-1], np.round((x + 80)*255/80).astype(np.uint8))


def test_loudness_does_not_show():
    assert np.abs(to_image(sound(), PLAIN).astype(int) - to_image(sound()*0.1, PLAIN)).max() <= 1


@pytest.mark.parametrize('config', [*RECIPES.values(), replace(PLAIN, kind='mfcc')])
@pytest.mark.parametrize('n', [1, 300, 4000])
def test_silence_is_a_picture_too(config, n):
    image = to_image(np.zeros(n, dtype=np.float32), config)
    assert image.size
    if config.kind != 'mfcc': assert (image if image.ndim == 2 else image[..., 0]).max() == 0


def test_short_clips_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert to_image(sound(0.02)).shape[1] >= 1


def test_silent_ends_are_cut_off():
    padded = np.concatenate([np.zeros(16000), sound(1.), np.zeros(16000)]).astype(np.float32)
    assert to_image(padded, PLAIN).shape[1] == PLAIN.frames(3)
    assert to_image(padded, replace(PLAIN, trim_db=40)).shape[1] == pytest.approx(PLAIN.frames(1), abs=10)


def test_a_picture_depends_on_its_sound_alone(tmp_path):
    waves = [sound(0.2 + 0.1*n, seed=n) for n in range(4)]
    def draw(order, folder):
        for n in order: save_png(to_image(waves[n]), tmp_path/folder/f'{n}.png', config='x')
        return {n: (tmp_path/folder/f'{n}.png').read_bytes() for n in order}
    first, last = draw([0, 1, 2, 3], 'a'), draw([3, 2, 1, 0], 'b')
    alone = {n: draw([n], f'alone{n}')[n] for n in range(4)}
    assert first == last == alone
    assert len(set(alone.values())) == 4


def test_no_plotting_library_is_loaded():
    import subprocess
    code = ('import sys, numpy as np; from fastmer.spectrogram import SpectrogramConfig, to_image; '
            'to_image(np.ones(2000, dtype=np.float32), SpectrogramConfig(trim_db=0)); '
            'print([m for m in sys.modules if m.split(".")[0] in ("matplotlib", "torch", "fastai")])')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


@pytest.mark.parametrize('channels', ['repeat', 'deltas'])
def test_png_holds_the_picture_and_its_stamp(tmp_path, channels):
    image = to_image(sound(), replace(PLAIN, channels=channels))
    save_png(image, tmp_path/'a.png', config='abc', bytes=12, odd='größe ☺')
    with Image.open(tmp_path/'a.png') as png:
        assert (png.format, png.size, png.mode) == ('PNG', image.shape[1::-1], 'L' if channels == 'repeat' else 'RGB')
        assert np.array_equal(np.asarray(png), image)
    assert read_stamp(tmp_path/'a.png') == dict(config='abc', bytes='12', odd='größe ☺')


@pytest.mark.parametrize('data', [None, b'', b'no picture', b'\x89PNG\r\n\x1a\n broken'])
def test_what_has_no_stamp(tmp_path, data):
    if data is not None: (tmp_path/'a.png').write_bytes(data)
    assert read_stamp(tmp_path/'a.png') == {}


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(self, path, *args, **kwargs):
        path.write_bytes(b'half')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(OSError, match='No space'): save_png(to_image(sound()), tmp_path/'a.png')
    assert list(tmp_path.iterdir()) == []


def test_config_is_frozen_hashable_and_survives_json():
    import json
    config = SpectrogramConfig()
    with pytest.raises(FrozenInstanceError): config.bands = 3
    assert (config.kind, config.bands, config.channels) == ('mel', 128, 'repeat')
    assert SpectrogramConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    assert SpectrogramConfig.from_dict(json.loads(json.dumps(asdict(config)))).hash == config.hash
    assert len({config, SpectrogramConfig(), *RECIPES.values()}) == 3


def test_every_setting_changes_the_hash():
    other = dict(kind='linear', rate=8000, window=0.03, step=0.01, n_fft=4096, bands=64, fmin=20., fmax=7000., db_range=60.,
                 reference='full-scale', channels='deltas', trim_db=0., min_frames=5)
    assert set(other) == set(asdict(PLAIN))
    plain = replace(PLAIN, trim_db=40)
    hashes = {plain.hash, *(replace(plain, **{name: value}).hash for name, value in other.items())}
    assert len(hashes) == len(other) + 1


@pytest.mark.parametrize(('changes', 'says'), [
    (dict(kind='mell'), "'mell' is not known .did you mean mel"), (dict(channels='delta'), 'did you mean deltas'),
    (dict(rate=0), 'rate must be above 0'),
    (dict(step=-1), 'step must be above 0'), (dict(window=float('inf')), 'window must be'), (dict(step=float('nan')), 'step must be'),
    (dict(bands=0), 'bands must be'), (dict(min_frames=0), 'min_frames must be'), (dict(db_range=0), 'db_range must be'),
    (dict(n_fft=100), 'shorter than the window of 640 samples'), (dict(fmax=9000.), 'does not lie within 0 to 8000 Hz'),
    (dict(fmin=500., fmax=400.), 'does not lie within'), (dict(fmin=-1.), 'does not lie within'), (dict(trim_db=-1), 'trim_db must be'),
    (dict(kind='mfcc', bands=200), 'at most 128')])
def test_impossible_settings(changes, says):
    with pytest.raises(FastmerError, match=says): replace(PLAIN, **changes)


def test_named_recipes():
    assert SpectrogramConfig.named() == SpectrogramConfig.named('default', kind=None) == SpectrogramConfig()
    assert SpectrogramConfig.named('report-alexnet', bands=64) == replace(RECIPES['report-alexnet'], bands=64)
    assert RECIPES['report-alexnet'].min_frames == 66  # clips of 65 frames or fewer are dropped
    with pytest.raises(FastmerError, match='did you mean report-alexnet'): SpectrogramConfig.named('report-alexnett')


def test_settings_of_a_newer_version():
    with pytest.raises(FastmerError, match='colour are not known'): SpectrogramConfig.from_dict(dict(kind='mel', colour='red'))


def test_full_scale_keeps_how_loud_a_clip_is():
    loud = SpectrogramConfig(reference='full-scale', trim_db=0)
    wave = np.random.default_rng(0).normal(0, 0.05, 16000).astype(np.float32)
    np.testing.assert_array_equal(to_image(wave, SpectrogramConfig(trim_db=0)), to_image(wave/2, SpectrogramConfig(trim_db=0)))
    np.testing.assert_allclose(spectrogram(wave/2, loud), spectrogram(wave, loud) - 20*np.log10(2), atol=0.01)
    for kind in ('mel', 'linear'):
        config = SpectrogramConfig(kind=kind, reference='full-scale', trim_db=0)
        tones = [np.sin(2*np.pi*hertz*np.arange(16000)/16000).astype(np.float32) for hertz in (250, 1000, 4000)]
        peaks = [spectrogram(tone, config).max() for tone in tones]
        assert -0.5 < max(peaks) <= 0
        assert min(peaks) > -25  # wide bands weigh less
    assert (spectrogram(np.zeros(16000, np.float32), loud) == -80).all()


def test_old_pictures_stay_what_they_are():
    assert SpectrogramConfig().hash == '20c3758e3688600f'  # of before `reference`: another would draw every prepared folder anew
    assert SpectrogramConfig(reference='full-scale').hash != SpectrogramConfig().hash
    with pytest.raises(FastmerError, match="reference 'full' is not known"): SpectrogramConfig(reference='full')
