"`fastmer check` tells what is wrong with sound files, and which cannot be decoded"
import json

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner
from conftest import write_tone

from fastmer.check import audio_files, check_audio, check_table, in_runs, inspect_audio
from fastmer.cli import main
from fastmer.errors import FastmerError

TONE = (0.3*np.sin(np.arange(16000)*0.1)).astype('float32')
LOUD = np.clip(5*TONE, -1, 1)


def write(path, *channels, rate=16000, **kwargs):
    sf.write(path, np.stack(channels, 1), rate, **kwargs)
    return path


def test_nothing_wrong(tmp_path):
    about = inspect_audio(write(tmp_path/'a.wav', TONE, 0.5*TONE))
    assert about == dict(path=f'{tmp_path}/a.wav', format='WAV', encoding='PCM_16', rate=16000, channels=2, seconds=1.0, peak_db=-10.5,
                         decoder='libsndfile', problems={}, error=None)


@pytest.mark.parametrize(('kind', 'says', 'channels'), [
    ('silent', 'every sample is 0', [0*TONE]), ('silent', 'silent', [1e-4*TONE]), ('silent_channel', 'channel 2 of 2', [TONE, 0*TONE]),
    ('inverted', 'cancel each other: only 1', [TONE, -TONE]), ('offset', 'offset of 10 %', [TONE + 0.1]),
    ('not_numbers', '1600 samples', [np.where(np.arange(16000) % 10, TONE, np.nan).astype('float32')]),
    ('not_numbers', '2 samples', [np.r_[TONE, np.inf, -np.inf].astype('float32')]), ('clipped', 'clipped: 5', [LOUD]),
    ('over', 'beyond full scale', [5*TONE]), ('short', 'shorter than a frame', [TONE[:500]])])
def test_what_is_wrong(tmp_path, kind, says, channels):
    about = inspect_audio(write(tmp_path/'a.wav', *channels, subtype='FLOAT'))
    assert about['error'] is None
    assert list(about['problems']) == [kind]
    assert says in about['problems'][kind]


def test_clipped_whatever_the_encoding(tmp_path):
    for subtype in ('PCM_U8', 'PCM_16', 'PCM_24', 'ULAW'):
        assert 'clipped' in inspect_audio(write(tmp_path/'a.wav', LOUD, subtype=subtype))['problems']
    assert not inspect_audio(write(tmp_path/'b.wav', TONE*3.3))['problems']  # near full scale, but round


def test_runs():
    assert in_runs(np.array([1, 1, 1, 0, 1, 1, 0, -1, -1, -1, -1, 0.5, 0.5, 0.5], dtype='float32')) == 7
    assert in_runs(np.zeros(0, dtype='float32')) == 0
    assert in_runs(np.ones(1, dtype='float32')) == 0


def test_low_rate_and_wrong_suffix(tmp_path):
    assert list(inspect_audio(write_tone(tmp_path/'a.wav', rate=6000))['problems']) == ['rate']
    write_tone(tmp_path/'b.flac').rename(tmp_path/'b.wav')
    assert inspect_audio(tmp_path/'b.wav')['problems'] == dict(suffix='it is FLAC, whatever .wav says')


def test_lengths_of_headers(tmp_path):
    data = bytearray(write_tone(tmp_path/'a.wav').read_bytes())
    at = data.index(b'data') + 4
    data[at:at + 4] = b'\xff'*4
    (tmp_path/'a.wav').write_bytes(data)
    assert list(inspect_audio(tmp_path/'a.wav')['problems']) == ['no_length']
    data[at:at + 4] = (5000).to_bytes(4, 'little')
    (tmp_path/'a.wav').write_bytes(data)
    assert list(inspect_audio(tmp_path/'a.wav')['problems']) == ['stray']


def test_what_cannot_be_decoded(tmp_path):
    write_tone(tmp_path/'cut.wav').write_bytes((tmp_path/'cut.wav').read_bytes()[:3000])
    (tmp_path/'text.wav').write_text('hello')
    cut, text, none = check_audio([tmp_path/'cut.wav', tmp_path/'text.wav', tmp_path/'none.wav'], jobs=1)
    assert 'is cut off' in cut['error']
    assert 'cannot be decoded' in text['error']
    assert 'is not there' in none['error']
    assert cut['problems'] == text['problems'] == {}


def test_files_of_folders(tmp_path):
    for name in ('b/2.wav', 'b/1.mp3', 'a/x.txt', '.hidden/3.wav', 'b/._1.wav', 'c.FLAC'):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_bytes(b'')
    assert audio_files([tmp_path, tmp_path/'a/x.txt']) == [f'{tmp_path}/{name}' for name in ('c.FLAC', 'b/1.mp3', 'b/2.wav', 'a/x.txt')]
    with pytest.raises(FastmerError, match='there is no sound file in'): check_audio(tmp_path/'a')


def test_links_in_a_circle(tmp_path):
    write_tone(tmp_path/'a/1.wav')
    (tmp_path/'a/up').symlink_to(tmp_path, target_is_directory=True)
    (tmp_path/'a/loop.wav').symlink_to('loop.wav')
    one, loop = check_audio(tmp_path, jobs=1)
    assert (one['error'], loop['error'] is None) == (None, False)


def test_a_part(tmp_path):
    about = inspect_audio(f'{write_tone(tmp_path/"a.wav", seconds=1)}#t=0.25,0.75')
    assert (about['seconds'], about['problems']) == (0.5, {})


def test_jobs_and_progress(tmp_path):
    for n in range(20): write_tone(tmp_path/f'{n:02}.wav', seconds=0.1)
    done = []
    two = check_audio([tmp_path], jobs=2, progress=lambda total: done.append(-total) or done.append)
    assert two == check_audio([tmp_path], jobs=1)
    assert done == [-20, 16, 4]


def test_table(tmp_path):
    from rich.console import Console
    write(tmp_path/'[red].wav', TONE, -TONE)
    (tmp_path/'text.wav').write_text('hello')
    console = Console(width=200, record=True)
    console.print(check_table(check_audio(tmp_path, jobs=1)))
    shown = console.export_text()
    for word in ('[red].wav', 'cancel each other', '2 files: 1 cannot be decoded, 1 have something wrong'): assert word in shown


@pytest.mark.parametrize('as_json', [True, False])
def test_command(tmp_path, as_json):
    write(tmp_path/'a.wav', TONE, -TONE)
    arguments = ['check', str(tmp_path), '--jobs', '1', *(['--json'] if as_json else [])]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    (tmp_path/'b.wav').write_text('hello')
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    if as_json:
        a, b = map(json.loads, done.stdout.splitlines())
        assert list(a['problems']) == ['inverted']
        assert 'cannot be decoded' in b['error']
    done = CliRunner().invoke(main, ['check', str(tmp_path/'a.wav'), str(tmp_path/'nothing')])
    assert done.exit_code == 1
    assert CliRunner().invoke(main, ['check']).exit_code == 2
