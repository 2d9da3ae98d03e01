"Any audio file comes in as mono float32 at one rate, or is refused with a reason"
import numpy as np
import pytest
import soundfile as sf
from conftest import write_tone

from fastmer.audio_io import AudioError, audio_path, load_audio, missing_bytes, resample, split_fragment
from fastmer.errors import FastmerError


@pytest.mark.parametrize(('audio', 'want'), [
    ('a.wav', ('a.wav', 0., None)), ('a.wav#t=1.5,2.25', ('a.wav', 1.5, 2.25)), ('b/#t=1.wav#t=0,.5', ('b/#t=1.wav', 0., 0.5)),
    ('a.wav#t=1.2.3,4', ('a.wav#t=1.2.3,4', 0., None)), ('a.wav#t=,4', ('a.wav#t=,4', 0., None)), ('a.wav#t=2', ('a.wav#t=2', 0., None))])
def test_fragment(audio, want): assert split_fragment(audio) == want


def test_audio_path_takes_the_fragment_off(tmp_path):
    assert audio_path('x/a.wav#t=0,1', tmp_path) == tmp_path/'x/a.wav'
    assert audio_path(tmp_path/'a.wav', '/elsewhere') == tmp_path/'a.wav'


@pytest.mark.parametrize(('suffix', 'subtype'), [
    ('.wav', 'PCM_16'), ('.wav', 'PCM_24'), ('.wav', 'PCM_U8'), ('.wav', 'FLOAT'), ('.wav', 'ULAW'), ('.flac', 'PCM_16'),
    ('.ogg', 'VORBIS'), ('.mp3', 'MPEG_LAYER_III'), ('.aiff', 'PCM_16'), ('.au', 'PCM_16')])
def test_formats(tmp_path, suffix, subtype):
    if suffix[1:].upper() not in sf.available_formats(): pytest.skip(f'this libsndfile has no {suffix}')
    wave = load_audio(write_tone(tmp_path/f'a{suffix}', 300, 0.5, subtype=subtype))
    assert (wave.dtype, wave.ndim) == (np.float32, 1)
    assert abs(len(wave) - 8000) <= 3*1152  # lossy codecs pad
    assert np.abs(np.fft.rfft(wave[:4000])).argmax() == pytest.approx(300*4000/16000, abs=1)


@pytest.mark.parametrize('rate', [8000, 11025, 16000, 22050, 44100, 48000])
def test_every_rate_gives_the_same_tone(tmp_path, rate):
    wave = load_audio(write_tone(tmp_path/'a.wav', 500, 0.5, rate))
    assert abs(len(wave) - 8000) <= 1
    assert np.abs(np.fft.rfft(wave)).argmax()*16000/len(wave) == pytest.approx(500, abs=2)


def test_samples_come_as_they_are(tmp_path):
    x = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    sf.write(tmp_path/'a.wav', x, 16000, subtype='FLOAT')
    assert np.array_equal(load_audio(tmp_path/'a.wav'), x)
    assert np.array_equal(load_audio('a.wav', root=tmp_path), x)


def test_channels_are_averaged(tmp_path):
    sf.write(tmp_path/'a.wav', np.array([[1., 0.], [0.5, -0.5], [0., 0.25]], dtype=np.float32), 16000, subtype='FLOAT')
    assert load_audio(tmp_path/'a.wav').tolist() == [0.5, 0., 0.125]


def test_stretch_is_that_part_of_the_whole(tmp_path):
    whole = load_audio(write_tone(tmp_path/'a.wav', seconds=1))
    assert np.array_equal(load_audio(f'{tmp_path}/a.wav#t=0.25,0.5'), whole[4000:8000])
    assert np.array_equal(load_audio(f'{tmp_path}/a.wav#t=0.75,9'), whole[12000:])


@pytest.mark.parametrize('fragment', ['2,3', '0.5,0.25', '0.5,0.5'])
def test_stretch_without_a_sample(tmp_path, fragment):
    write_tone(tmp_path/'a.wav', seconds=1)
    with pytest.raises(AudioError, match='holds no sample between'): load_audio(f'{tmp_path}/a.wav#t={fragment}')


def test_samples_that_are_no_numbers_become_silence(tmp_path):
    sf.write(tmp_path/'a.wav', np.array([0.5, np.nan, np.inf, -np.inf, 0.25], dtype=np.float32), 16000, subtype='FLOAT')
    assert load_audio(tmp_path/'a.wav').tolist() == [0.5, 0, 0, 0, 0.25]


def spoil(path, how):
    data = path.read_bytes()
    if how == 'cut off': path.write_bytes(data[:len(data)//2])
    elif how == 'text': path.write_text('this is no audio\n'*50)
    elif how == 'empty': path.write_bytes(b'')
    elif how == 'header only': sf.write(path, np.zeros(0, dtype=np.float32), 16000)
    elif how == 'header cut': path.write_bytes(data[:20])
    else: path.unlink()
    if how == 'folder': path.mkdir()


@pytest.mark.parametrize(('how', 'says'), [
    ('cut off', 'is cut off'), ('text', 'cannot be decoded'), ('empty', 'is empty'), ('header only', 'holds no sample'),
    ('header cut', 'cannot be decoded'), ('missing', 'is not there'), ('folder', 'is not a file')])
def test_what_is_no_audio(tmp_path, how, says):
    spoil(path := write_tone(tmp_path/'a.wav'), how)
    with pytest.raises(AudioError, match=says) as e: load_audio(path)
    assert isinstance(e.value, FastmerError)
    assert str(path) in str(e.value)
    assert '\n' not in str(e.value)


def test_flac_cut_off(tmp_path):
    spoil(path := write_tone(tmp_path/'a.flac', seconds=2), 'cut off')
    with pytest.raises(AudioError, match=r'cut off|cannot be decoded'): load_audio(path)


def test_missing_bytes(tmp_path):
    path = write_tone(tmp_path/'a.wav', seconds=0.5)
    assert missing_bytes(path) == 0
    path.write_bytes(path.read_bytes()[:-100])
    assert missing_bytes(path) == 100


def test_streamed_wav_whose_header_knows_no_length(tmp_path):
    path = write_tone(tmp_path/'a.wav', seconds=0.5)
    data, at = bytearray(path.read_bytes()), path.read_bytes().index(b'data') + 4
    data[4:8] = data[at:at + 4] = b'\xff'*4
    path.write_bytes(data)
    assert missing_bytes(path) == 0
    assert len(load_audio(path)) == 8000


def test_chunks_before_and_after_the_data(tmp_path):
    path = write_tone(tmp_path/'a.wav', seconds=0.5)
    data, want = path.read_bytes(), load_audio(path)
    at = data.index(b'data')
    more = data[:at] + b'PAD ' + (6).to_bytes(4, 'little') + bytes(6) + data[at:] + b'LIST' + (4).to_bytes(4, 'little') + b'INFO'
    path.write_bytes(more[:4] + (len(more) - 8).to_bytes(4, 'little') + more[8:])
    assert missing_bytes(path) == 0
    assert np.array_equal(load_audio(path), want)


def test_resample_leaves_its_own_rate_alone():
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert np.array_equal(resample(x, 16000, 16000), x)
    assert resample(x.astype(np.float64), 8000, 16000).dtype == np.float32


def test_real_recordings(data_dir):
    for path in sorted((data_dir/'emodb/wav').glob('*.wav'))[:5]:
        wave, info = load_audio(path), sf.info(path)
        assert len(wave) == info.frames*16000//info.samplerate
        assert 0 < np.abs(wave).max() <= 1
