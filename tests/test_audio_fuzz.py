"Broken files: whatever the bytes are, finite samples or an `AudioError`, and soon"
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmer import decoders
from fastmer.audio_io import AudioError, load_audio
from fastmer.check import inspect_audio
from fastmer.prepare import prepare_corpus

SEEDS = {  # what is broken: the suffix it is written with, how soundfile writes it, how often it is broken
    'wav': ('.wav', 'WAV', 'PCM_16', 700), 'float': ('.wav', 'WAV', 'FLOAT', 200), 'adpcm': ('.wav', 'WAV', 'IMA_ADPCM', 150),
    'rf64': ('.wav', 'RF64', 'PCM_16', 100), 'flac': ('.flac', 'FLAC', 'PCM_16', 350), 'vorbis': ('.ogg', 'OGG', 'VORBIS', 250),
    'opus': ('.opus', 'OGG', 'OPUS', 100), 'mp3': ('.mp3', 'MP3', 'MPEG_LAYER_III', 250), 'aiff': ('.aiff', 'AIFF', 'PCM_16', 100),
    'caf': ('.caf', 'CAF', 'PCM_16', 60), 'au': ('.au', 'AU', 'PCM_16', 60)}
ODD = [0, 1, 2, 7, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def flip(data, rng):
    for at in rng.integers(0, len(data), rng.integers(1, 6)): data[at] ^= 1 << rng.integers(8)


def cut(data, rng): del data[int(rng.integers(0, len(data))):]


def header(data, rng):
    at = int(rng.integers(0, min(60, len(data) - 4)))
    data[at:at + 4] = struct.pack('<I', int(rng.choice(ODD)))


def scramble(data, rng):
    at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 40))
    data[at:at + n] = rng.bytes(n)


def insert(data, rng):
    at = int(rng.integers(0, len(data)))
    data[at:at] = rng.bytes(int(rng.integers(1, 20)))


def double(data, rng): data += data[int(rng.integers(0, len(data))):]


BREAK = [flip, flip, cut, header, header, scramble, insert, double]


@pytest.fixture
def quick(monkeypatch):
    "Without the ffmpeg program, which takes too long to start two thousand times"
    monkeypatch.setattr(decoders, 'DECODERS', {'libsndfile': decoders.DECODERS['libsndfile'], 'PyAV': decoders.DECODERS['PyAV']})


def seed_file(path, kind, form, subtype):
    if form not in sf.available_formats(): pytest.skip(f'this libsndfile has no {form}')
    rate = 48000 if subtype == 'OPUS' else 16000
    t = np.arange(rate//5)/rate
    sf.write(path, (0.3*np.sin(1500*t) + np.random.default_rng(0).normal(0, 0.01, len(t))).astype('float32'), rate, format=form,
             subtype=subtype)
    return path.read_bytes()


def survives(path, what):
    "Whether the file was decoded; fails where it breaks a promise"
    began = time.monotonic()
    wave, error = None, None
    try: wave = load_audio(path)
    except AudioError as e: error = str(e)
    took = time.monotonic() - began
    assert took < 5, f'{what}: {took:.1f} s'
    if error: assert (str(path) in error, '\n' in error) == (True, False), what
    else:
        assert (wave.dtype, wave.ndim) == (np.float32, 1), what
        assert len(wave), what
        assert np.isfinite(wave).all(), what
    return error is None


@pytest.mark.parametrize('kind', SEEDS)
def test_broken_files(tmp_path, quick, kind):
    suffix, form, subtype, times = SEEDS[kind]
    whole, path, decoded = seed_file(tmp_path/f'whole{suffix}', kind, form, subtype), tmp_path/f'broken{suffix}', 0
    for n in range(times):
        rng, data = np.random.default_rng([n, len(kind)]), bytearray(whole)
        how = BREAK[n % len(BREAK)]
        how(data, rng)
        path.write_bytes(data)
        decoded += survives(path, f'{kind} {how.__name__} {n}')
        if n % 10 == 0:
            about = inspect_audio(path)
            assert about['error'] is None or about['seconds'] is None
    assert decoded


def test_random_bytes(tmp_path, quick):
    magics = [b'', b'RIFF\xff\xff\xff\xffWAVE', b'fLaC', b'OggS', b'ID3', b'\xff\xfb\x90', b'FORM', b'caff', b'\x1a\x45\xdf\xa3',
              b'\0\0\0\x18ftypM4A ', b'.snd', b'riff\x2e\x91', b'RF64', b'#!AMR\n',
              b'RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0']
    for n in range(150):
        rng = np.random.default_rng(n)
        (path := tmp_path/f'a{rng.choice([".wav", ".mp3", ".au", ".raw", ".vox", ""])}').write_bytes(
            magics[n % len(magics)] + rng.bytes(int(rng.integers(1, 3000))))
        survives(path, f'random {n}')


def test_broken_files_with_every_decoder(tmp_path, ffmpeg):
    whole = seed_file(tmp_path/'whole.wav', 'wav', 'WAV', 'PCM_16')
    subprocess.run([ffmpeg, '-v', 'error', '-i', tmp_path/'whole.wav', tmp_path/'whole.m4a'], check=True)
    for n in range(12):
        rng, data = np.random.default_rng(n), bytearray((tmp_path/'whole.m4a').read_bytes() if n % 2 else whole)
        BREAK[n % len(BREAK)](data, rng)
        (tmp_path/'broken.m4a').write_bytes(data)
        survives(tmp_path/'broken.m4a', f'm4a {n}')


@pytest.fixture
def ffmpeg():
    if not (shutil.which('ffmpeg') and shutil.which('ffprobe')): pytest.skip('needs ffmpeg')
    return shutil.which('ffmpeg')


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_edit_of_a_wav(tmp_path_factory, data):
    "Cuts, insertions and other bytes, wherever hypothesis puts them, the header above all"
    path = tmp_path_factory.getbasetemp()/'edited.wav'
    whole = bytearray(seed_file(path, 'wav', 'WAV', 'PCM_16'))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 64), st.integers(0, len(whole))))
        whole[at:at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    path.write_bytes(whole)
    survives(path, whole[:80])


def test_broken_real_recordings_are_drawn_or_listed(data_dir, tmp_path, quick):
    (folder := tmp_path/'corpus'/'some').mkdir(parents=True)
    for n, source in enumerate(sorted((data_dir/'emodb/wav').glob('*.wav'))[:160]):
        data = bytearray(source.read_bytes())
        if n % 9: BREAK[n % len(BREAK)](data, np.random.default_rng(n))
        (folder/source.name).write_bytes(data)
    prepared = prepare_corpus('folders', tmp_path/'corpus', tmp_path/'out', jobs=1)
    skipped = pd.read_csv(prepared.path/'skipped.csv', dtype=str)
    drawn = {Path(audio).name for audio in prepared.manifest.audio}
    assert drawn | {Path(audio).name for audio in skipped.audio} == {path.name for path in folder.iterdir()}
    assert len(drawn) + len(skipped) == 160
    assert len(drawn) > 20
    assert len(skipped) > 20
    assert all(skipped.reason.str.len() > 10)
