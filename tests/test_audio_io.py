"Any audio file comes in as mono float32 at one rate, or is refused with a reason"
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import write_tone
from PIL import Image

from fastmer import audio_io, decoders
from fastmer.audio_io import AudioError, audio_path, load_audio, missing_bytes, resample, split_fragment
from fastmer.errors import FastmerError
from fastmer.prepare import prepare_corpus
from fastmer.spectrogram import SpectrogramConfig, spectrogram, to_image


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


def speech(rate=16000, seconds=1.):
    "Something with the shape of speech: a gliding voice with formants, pauses and noise"
    t, rng = np.arange(round(rate*seconds))/rate, np.random.default_rng(0)
    voice = sum(np.sin(2*np.pi*k*(140*t + 20*np.sin(4*t)))/k**0.7*(1 + np.cos(k + 3*t)) for k in range(1, 16))
    return (0.12*voice*(0.3 + np.sin(9*t)**2) + rng.normal(0, 0.01, len(t))).clip(-0.9, 0.9).astype('float32')


def fmt(tag=1, channels=1, rate=16000, bits=16, order='<'):
    return struct.pack(f'{order}HHIIHH', tag, channels, rate, rate*channels*bits//8, channels*bits//8, bits)


def chunk(name, data, n=None, pad=True, order='<'):
    return name + struct.pack(f'{order}I', len(data) if n is None else n) + data + bytes(pad and len(data) % 2)


def riff(*chunks, n=None, magic=b'RIFF', order='<'):
    return magic + struct.pack(f'{order}I', 4 + sum(map(len, chunks)) if n is None else n) + b'WAVE' + b''.join(chunks)


X = speech()
PCM, SWAPPED = (np.round(X*32767).astype(kind).tobytes() for kind in ('<i2', '>i2'))
FMT, DATA = chunk(b'fmt ', fmt()), chunk(b'data', PCM)
GUID = bytes.fromhex('000000001000800000aa00389b71')
EXTENSIBLE = fmt(0xFFFE) + struct.pack('<HHIH', 22, 16, 4, 1) + GUID
WAVS = {  # by hand, all of the same sound
    'plain': riff(FMT, DATA), 'no RIFF length': riff(FMT, DATA, n=0), 'RIFF too short': riff(FMT, DATA, n=99),
    'RIFF too long': riff(FMT, DATA, n=10**8), 'lengths 0': riff(FMT, chunk(b'data', PCM, 0), n=0),
    'lengths -1': riff(FMT, chunk(b'data', PCM, 0xFFFFFFFF), n=0xFFFFFFFF), 'sox to a pipe': riff(FMT, chunk(b'data', PCM, 0x7FFFF000)),
    'largest signed': riff(FMT, chunk(b'data', PCM, 0x7FFFFFFF)), 'FLLR': riff(FMT, chunk(b'FLLR', bytes(4044)), DATA),
    'PAD, odd': riff(chunk(b'PAD ', bytes(7)), FMT, DATA), 'LIST before': riff(FMT, chunk(b'LIST', b'INFOISFT\6\0\0\0fastm\0'), DATA),
    'LIST behind': riff(FMT, DATA, chunk(b'LIST', b'INFOISFT\6\0\0\0fastm\0')),
    'odd, no pad byte': riff(FMT, chunk(b'LIST', b'INFOabc', pad=False), DATA), 'junk before data': riff(FMT, b'\1\2\3\4junkjunk\0', DATA),
    'zeros before data': riff(FMT, bytes(32), DATA), 'data before fmt': riff(DATA, FMT), 'ten before': bytes(10) + riff(FMT, DATA),
    'extensible': riff(chunk(b'fmt ', EXTENSIBLE), DATA), 'block align 0': riff(chunk(b'fmt ', fmt()[:12] + b'\0\0\x10\0'), DATA),
    'big-endian': riff(chunk(b'fmt ', fmt(order='>'), order='>'), chunk(b'data', SWAPPED, order='>'), magic=b'RIFX', order='>'),
    'RF64': riff(chunk(b'ds64', struct.pack('<QQQI', 60 + len(PCM), len(PCM), 16000, 0)), FMT, chunk(b'data', PCM, 0xFFFFFFFF),
                 magic=b'RF64', n=0xFFFFFFFF)}


@pytest.mark.parametrize('name', WAVS)
def test_wav_by_hand(tmp_path, name):
    (tmp_path/'a.wav').write_bytes(WAVS[name])
    assert missing_bytes(tmp_path/'a.wav') == 0
    assert np.abs(load_audio(tmp_path/'a.wav') - X).max() < 1e-4
    assert np.abs(load_audio(f'{tmp_path}/a.wav#t=0.25,0.5') - X[4000:8000]).max() < 1e-4


@pytest.mark.parametrize('magic', [b'RIFF', b'RF64'])
def test_header_that_promises_more(tmp_path, magic):
    (tmp_path/'a.wav').write_bytes(WAVS['RF64' if magic == b'RF64' else 'plain'][:-5000])
    with pytest.raises(AudioError, match='5000 bytes of sound that its header promises'): load_audio(tmp_path/'a.wav')


def test_header_that_promises_less_is_believed(tmp_path):
    (tmp_path/'a.wav').write_bytes(riff(FMT, chunk(b'data', PCM, len(PCM) - 3000)))
    assert len(load_audio(tmp_path/'a.wav')) == 16000 - 1500


def test_no_sound_before_another_chunk(tmp_path):
    (tmp_path/'a.wav').write_bytes(riff(FMT, chunk(b'data', b''), chunk(b'LIST', b'INFO')))
    with pytest.raises(AudioError, match='holds no sample'): load_audio(tmp_path/'a.wav')


SAMPLES, PICTURE = 'samples', 'picture'  # how near: 1e-3 in every sample, or 0.5 dB in the log-mel, on average
OF_SOUNDFILE = [
    *(('wav', form, subtype, near) for form in ('WAV', 'WAVEX') for subtype, near in (
        ('PCM_16', SAMPLES), ('PCM_24', SAMPLES), ('PCM_32', SAMPLES), ('FLOAT', SAMPLES), ('DOUBLE', SAMPLES))),
    *(('wav', 'WAV', subtype, PICTURE) for subtype in ('PCM_U8', 'ULAW', 'ALAW', 'IMA_ADPCM', 'MS_ADPCM')),
    ('rf64', 'RF64', 'PCM_16', SAMPLES), ('w64', 'W64', 'PCM_24', SAMPLES),
    *((form.lower(), form, subtype, SAMPLES) for form in ('AIFF', 'AU', 'CAF') for subtype in ('PCM_16', 'PCM_24', 'FLOAT')),
    ('flac', 'FLAC', 'PCM_16', SAMPLES), ('flac', 'FLAC', 'PCM_24', SAMPLES), ('ogg', 'OGG', 'VORBIS', PICTURE),
    ('opus', 'OGG', 'OPUS', PICTURE),
    ('mp3', 'MP3', 'MPEG_LAYER_III', PICTURE), ('sph', 'NIST', 'PCM_16', SAMPLES), ('voc', 'VOC', 'PCM_16', SAMPLES)]


def near(wave, want, how):
    "Whether two waves are the same to within 1e-3, or 0.5 dB of their pictures where a codec has shifted them by some ms"
    if how == SAMPLES: return np.abs(wave[:len(want)] - want).max() <= 1e-3
    lag = np.argmax(np.correlate(wave[:12000], want[2000:10000], 'valid')) - 2000
    wave, want = wave[max(0, lag):], want[max(0, -lag):]
    n = min(len(wave), len(want), 15000)
    pictures = [spectrogram(x[:n])[:90] for x in (wave, want)]  # up to 3.5 kHz: further up, codecs at low rates give way
    columns = min(p.shape[1] for p in pictures)
    a, b = (p[:, :columns] for p in pictures)
    return np.abs(a - b)[b > -25].mean() < 0.5


@pytest.mark.parametrize(('suffix', 'form', 'subtype', 'how'), OF_SOUNDFILE)
def test_encodings(tmp_path, suffix, form, subtype, how):
    if not sf.check_format(form, subtype): pytest.skip(f'this libsndfile has no {form} {subtype}')
    rate = 48000 if subtype == 'OPUS' else 16000
    best = dict(compression_level=0.) if form == 'MP3' else {}  # else the codec itself is 0.7 dB off
    sf.write(path := tmp_path/f'a.{suffix}', resample(X, 16000, rate), rate, format=form, subtype=subtype, **best)
    assert near(load_audio(path), X, how)
    path.rename(tmp_path/'a.raw')
    assert near(load_audio(tmp_path/'a.raw'), X, how)


OF_FFMPEG = {  # file: how ffmpeg makes it, and how near to the original it must be
    'a.m4a': ('-b:a 96k', PICTURE), 'b.m4a': ('-c:a alac', SAMPLES), 'a.webm': ('-ar 48000 -c:a libopus -b:a 96k', PICTURE),
    'a.mka': ('-c:a flac', SAMPLES), 'a.aac': ('-b:a 96k', PICTURE), 'a.wv': ('-c:a wavpack', SAMPLES), 'a.tta': ('', SAMPLES),
    'a.wma': ('-b:a 128k', PICTURE), 'a.mov': ('-c:a pcm_s16le', SAMPLES), 'vbr.mp3': ('-q:a 2', PICTURE),
    'id3.mp3': ('-b:a 96k -metadata title=x -id3v2_version 3', PICTURE), 'bare.mp3': ('-q:a 2 -write_xing 0 -id3v2_version 0', PICTURE),
    'alac.caf': ('-c:a alac', SAMPLES), 's64.wav': ('-c:a pcm_s64le', SAMPLES), 'g722.wav': ('-c:a g722', PICTURE),
    '48.wav': ('-ar 48000', PICTURE), 'always.wav': ('-rf64 always', SAMPLES), 'stereo.m4a': ('-ac 2 -b:a 192k', PICTURE)}


@pytest.fixture(params=['PyAV', 'ffmpeg'])
def other(request, monkeypatch):
    "libsndfile and one of the two others"
    if request.param == 'PyAV': pytest.importorskip('av')
    monkeypatch.setattr(decoders, 'DECODERS', {name: decoders.DECODERS[name] for name in ('libsndfile', request.param)})
    return request.param


@pytest.fixture
def ffmpeg():
    if not (shutil.which('ffmpeg') and shutil.which('ffprobe')): pytest.skip('needs ffmpeg')

    def make(path, options='', x=X, rate=16000):
        sf.write(source := path.parent/'source.wav', x, rate, subtype='PCM_16')
        done = subprocess.run(['ffmpeg', '-v', 'error', '-y', '-i', source, *options.split(), path], capture_output=True, text=True)
        if done.returncode: pytest.skip(f'this ffmpeg cannot write it: {done.stderr[:80]}')
        return path
    return make


@pytest.mark.parametrize('name', OF_FFMPEG)
def test_what_libsndfile_does_not_know(tmp_path, ffmpeg, other, name):
    path = ffmpeg(tmp_path/name, OF_FFMPEG[name][0])
    assert near(load_audio(path), X, OF_FFMPEG[name][1])


def test_sixty_files_prepared_at_once(tmp_path):
    "Whatever they are encoded as: each decodes, and its picture is that of the original, within half a decibel"
    (folder := tmp_path/'corpus'/'some').mkdir(parents=True)
    for n, (suffix, form, subtype, _) in enumerate(OF_SOUNDFILE):
        if sf.check_format(form, subtype) and subtype not in ('OPUS', 'MPEG_LAYER_III'):
            sf.write(folder/f'{n}{subtype.lower()}.{suffix}', X, 16000, format=form, subtype=subtype)
    for n, data in enumerate(WAVS.values()): (folder/f'hand{n}.wav').write_bytes(data)
    if shutil.which('ffmpeg'):
        sf.write(source := tmp_path/'source.wav', X, 16000, subtype='PCM_16')
        for name, (options, _) in OF_FFMPEG.items():
            if not name.endswith(('.mov', '.webm')): subprocess.run(['ffmpeg', '-v', 'error', '-i', source, *options.split(), folder/name])
    for n in range(8): sf.write(folder/f'rate{n}.flac', resample(X, 16000, 16000 + 4000*n), 16000 + 4000*n, subtype='PCM_24')
    prepared = prepare_corpus('folders', tmp_path/'corpus', tmp_path/'out', jobs=2, config=SpectrogramConfig(trim_db=0))
    df = prepared.manifest
    assert prepared.about['skipped'] == 0
    assert len(df) == len(list(folder.iterdir())) >= 60
    for row in df.itertuples():
        wave = load_audio(row.audio, root=prepared.root)
        assert near(wave, X, PICTURE), row.audio
        assert np.array_equal(np.asarray(Image.open(prepared.png(row))), to_image(wave, prepared.config)), row.audio


def test_amr(tmp_path, other):
    if not shutil.which('sox'): pytest.skip('needs sox')
    sf.write(tmp_path/'a.wav', x := resample(X, 16000, 8000), 8000, subtype='PCM_16')
    done = subprocess.run(['sox', tmp_path/'a.wav', '-t', 'amr-nb', tmp_path/'a.amr'], capture_output=True)
    if done.returncode: pytest.skip('this sox cannot write AMR')
    wave = load_audio(tmp_path/'a.amr', 8000)
    assert abs(len(wave) - len(x)) <= 320
    lags = np.correlate(wave, x[1000:5000], 'valid')
    assert lags.max()/np.linalg.norm(x[1000:5000])**2 > 0.6


def test_stretch_by_another_decoder(tmp_path, ffmpeg, other):
    x = speech(seconds=6)
    for name, options, most in (('a.mka', '-c:a flac', 1e-3), ('b.m4a', '-c:a alac', 1e-3)):
        path = ffmpeg(tmp_path/name, options, x)
        for start, end in ((0.5, 1), (3.25, 4.5), (5, 9)):
            wave, want = load_audio(f'{path}#t={start},{end}'), x[round(start*16000):round(end*16000)]
            assert len(wave) == len(want)
            assert np.abs(wave - want).max() < most


def test_without_another_decoder_the_error_says_what_helps(tmp_path, ffmpeg, monkeypatch):
    path = ffmpeg(tmp_path/'a.m4a')
    monkeypatch.setitem(sys.modules, 'av', None)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(AudioError, match=r'pip install "fastmer\[av\]" or put ffmpeg on the PATH'): load_audio(path)


@pytest.mark.parametrize('suffix', ['aiff', 'au', 'caf', 'w64', 'ogg', 'mp3', 'flac', 'rf64'])
@pytest.mark.parametrize('share', [0.3, 0.6, 0.95])
def test_cut_off_is_refused_in_every_format(tmp_path, suffix, share):
    sf.write(path := tmp_path/f'a.{suffix}', speech(seconds=4), 16000)
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size*share)])
    with pytest.raises(AudioError, match='cut off|cannot be decoded'): load_audio(path)


@pytest.mark.parametrize(('name', 'options'), [
    ('a.m4a', ''), ('b.m4a', '-movflags +faststart'), ('a.webm', '-ar 48000'), ('a.mka', '-c:a flac')])
def test_cut_off_is_refused_by_other_decoders(tmp_path, ffmpeg, other, name, options):
    path = ffmpeg(tmp_path/name, options, speech(seconds=4))
    path.write_bytes(path.read_bytes()[:path.stat().st_size*2//3])
    with pytest.raises(AudioError, match='cut off|cannot be decoded'): load_audio(path)


def test_mp3_whose_length_nobody_knows(tmp_path, ffmpeg):
    path = ffmpeg(tmp_path/'a.mp3', '-q:a 4 -write_xing 0', speech(seconds=5))
    assert abs(len(load_audio(path)) - 5*16000) < 3*1152  # libsndfile guesses from the first frame: a quarter of it
    path.write_bytes(path.read_bytes()*2)
    assert abs(len(load_audio(path)) - 10*16000) < 6*1152
    assert len(load_audio(f'{path}#t=2,3.5')) == 24000


def test_two_recordings_in_one_file(tmp_path, ffmpeg):
    for name in ('a.mp3', 'a.ogg'):
        path = ffmpeg(tmp_path/name)
        path.write_bytes(path.read_bytes()*2)
        assert abs(len(load_audio(path)) - 32000) < 6*1152, name


def test_flac_whose_length_nobody_knows(tmp_path):
    sf.write(path := tmp_path/'a.flac', X, 16000)
    data = bytearray(path.read_bytes())
    data[21], data[22:26] = data[21] & 0xF0, bytes(4)  # the number of samples in STREAMINFO
    path.write_bytes(data)
    assert np.abs(load_audio(path) - X).max() < 1e-3


@pytest.mark.parametrize('channels', [1, 2, 3, 6, 16])
@pytest.mark.parametrize('rate', [8000, 11025, 44100, 96000, 192000])
def test_channels_and_rates(tmp_path, channels, rate):
    sf.write(tmp_path/'a.wav', np.repeat(resample(X, 16000, rate)[:, None], channels, 1), rate, subtype='PCM_24')
    wave = load_audio(tmp_path/'a.wav')
    assert len(wave) == pytest.approx(16000, abs=2)
    want = resample(resample(X, 16000, rate), rate, 16000)
    assert np.abs(wave - want[:len(wave)]).max() < 1e-3


def test_channels_that_cancel(tmp_path):
    rng = np.random.default_rng(0)
    for second, want in ((-X, X), (-0.9*X + rng.normal(0, 1e-3, len(X)), X), (X, X), (0*X, X/2), (0.1 - X, X)):
        sf.write(tmp_path/'a.wav', np.stack([X, second], 1), 16000, subtype='FLOAT')
        assert np.abs(load_audio(tmp_path/'a.wav') - want).max() < 1e-3
    sf.write(tmp_path/'a.wav', np.stack([-0.5*X, X, -0.5*X], 1), 16000, subtype='FLOAT')
    assert np.abs(load_audio(tmp_path/'a.wav') - X).max() < 1e-6


def test_a_channel_that_is_no_number_leaves_the_other(tmp_path):
    sf.write(tmp_path/'a.wav', np.stack([X, X*np.nan], 1), 16000, subtype='FLOAT')
    assert np.abs(load_audio(tmp_path/'a.wav') - X/2).max() < 1e-6


def test_blocks_give_what_one_piece_gives(tmp_path, monkeypatch):
    sf.write(tmp_path/'a.flac', np.stack([x := speech(44100, 3), x], 1), 44100)
    whole = load_audio(tmp_path/'a.flac'), load_audio(f'{tmp_path}/a.flac#t=0.5,2.5'), load_audio(tmp_path/'a.flac', 44100)
    monkeypatch.setattr(decoders, 'BLOCK', 5000)
    parts = load_audio(tmp_path/'a.flac'), load_audio(f'{tmp_path}/a.flac#t=0.5,2.5'), load_audio(tmp_path/'a.flac', 44100)
    for a, b in zip(whole, parts, strict=True):
        assert np.array_equal(a, b)
        assert b.flags.writeable
    assert np.array_equal(whole[0], resample(whole[2], 44100, 16000))


@pytest.mark.parametrize('n', [1, 2, 5, 100])
def test_a_few_samples(tmp_path, n):
    sf.write(tmp_path/'a.wav', X[:n], 16000, subtype='FLOAT')
    assert np.array_equal(load_audio(tmp_path/'a.wav'), X[:n])


def test_sample_that_the_wanted_rate_has_no_room_for(tmp_path):
    sf.write(tmp_path/'a.wav', X[:1], 192000)
    with pytest.raises(AudioError, match='holds no sample'): load_audio(tmp_path/'a.wav')


def test_nothing_is_printed_or_warned_of(tmp_path, capfd):
    sf.write(tmp_path/'a.wav', np.stack([X*np.nan, X + 5e9], 1), 16000, subtype='FLOAT')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        wave = load_audio(tmp_path/'a.wav')
    assert np.isfinite(wave).all()
    assert capfd.readouterr() == ('', '')


def test_rate_of_no_sound(tmp_path):
    (tmp_path/'a.wav').write_bytes(riff(chunk(b'fmt ', fmt(rate=7)), DATA))
    with pytest.raises(AudioError, match='header says 7 Hz'): load_audio(tmp_path/'a.wav')


@pytest.mark.skipif(os.name != 'posix', reason='has no such files')
def test_what_is_no_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path/'fifo.wav')
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)
        listening.bind('s.wav')
        (tmp_path/'link.wav').symlink_to('fifo.wav')
        (tmp_path/'loop.wav').symlink_to('loop.wav')
        for name in ('fifo.wav', 's.wav', 'link.wav', 'loop.wav', '/dev/zero', '/dev/null', '/dev/tty', '.', '', 'a\0b.wav', 'x'*5000,
                     'a.wav/b', '~nobody_of_this_name/a.wav'):
            began = time.monotonic()
            with pytest.raises(AudioError): load_audio(name)
            assert time.monotonic() - began < 1


@pytest.mark.parametrize('how', ['grows', 'is touched', 'goes'])
def test_file_that_changes_while_it_is_read(tmp_path, how, monkeypatch):
    sf.write(path := tmp_path/'a.wav', speech(seconds=2), 16000)
    seen = audio_io.Mix.__call__

    def change(self, block):
        if how == 'grows': path.write_bytes(path.read_bytes() + bytes(100))
        elif how == 'is touched': os.utime(path, (1, 1))
        else: path.unlink(missing_ok=True)
        return seen(self, block)
    monkeypatch.setattr(audio_io.Mix, '__call__', change)
    with pytest.raises(AudioError, match='changed while it was read'): load_audio(path)


def test_decoder_that_does_not_end(tmp_path, ffmpeg, monkeypatch):
    path = ffmpeg(tmp_path/'a.m4a')
    tools = tmp_path/'tools'
    tools.mkdir()
    (tools/'ffmpeg').write_text('#!/bin/sh\nexec sleep 60\n')
    (tools/'ffmpeg').chmod(0o755)
    (tools/'ffprobe').symlink_to(shutil.which('ffprobe'))
    monkeypatch.setenv('PATH', f'{tools}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setattr(decoders, 'PATIENCE', 1)
    monkeypatch.setattr(decoders, 'DECODERS', dict(ffmpeg=decoders.DECODERS['ffmpeg']))
    began, threads = time.monotonic(), threading.active_count()
    with pytest.raises(AudioError): load_audio(path)
    assert time.monotonic() - began < 10
    assert threading.active_count() <= threads


def test_playlists_are_not_followed(tmp_path, other):
    sf.write(tmp_path/'secret.wav', X, 16000)
    (tmp_path/'a.wav').write_text('#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n')
    with pytest.raises(AudioError, match='cannot be decoded'): load_audio(tmp_path/'a.wav')
    (tmp_path/'b.wav').write_text('ffconcat version 1.0\nfile secret.wav\n')
    with pytest.raises(AudioError, match='cannot be decoded'): load_audio(tmp_path/'b.wav')


def test_longest(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_io, 'LONGEST', 3600/3600)
    sf.write(tmp_path/'a.wav', speech(seconds=1.5), 16000)
    with pytest.raises(AudioError, match='lasts over'): load_audio(tmp_path/'a.wav')
    assert len(load_audio(f'{tmp_path}/a.wav#t=0.5,1')) == 8000


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='the peak of memory is read from /proc')
def test_three_hours(tmp_path):
    "48 kHz stereo: the result takes 660 MiB, all the rest little"
    with sf.SoundFile(tmp_path/'a.wav', 'w', 48000, 2, 'PCM_16') as f:
        minute = np.stack([speech(48000, 60)]*2, 1)
        for _ in range(180): f.write(minute)
    code = f"""
import re
from fastmer.audio_io import load_audio
n = len(load_audio({str(tmp_path/'a.wav')!r}))
print(n, re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])  # getrusage counts what the parent had before exec, too
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    n, kib = map(int, done.stdout.split())
    assert n == 3*3600*16000
    assert kib < 1000*1024
    began = time.monotonic()
    assert len(load_audio(f'{tmp_path}/a.wav#t=10000,10005')) == 80000
    assert time.monotonic() - began < 5


def test_real_recordings(data_dir):
    for path in sorted((data_dir/'emodb/wav').glob('*.wav'))[:5]:
        wave, info = load_audio(path), sf.info(path)
        assert len(wave) == info.frames*16000//info.samplerate
        assert 0 < np.abs(wave).max() <= 1
