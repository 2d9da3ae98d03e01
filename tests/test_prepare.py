"Corpus -> prepared folder: the same bytes in any order, resumed where it was, nothing half-written, nothing dropped in silence"
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import PITCHES, write_tone
from PIL import Image

from fastmer import prepare
from fastmer.audio_io import load_audio
from fastmer.check import inspect_audio
from fastmer.corpora import read_corpus
from fastmer.errors import FastmerError
from fastmer.join import join_prepared
from fastmer.prepare import Prepared, locked, prepare_corpus
from fastmer.spectrogram import SpectrogramConfig, read_stamp, save_png, to_image


def run(corpus, out, **kwargs): return prepare_corpus('table', corpus/'utterances.csv', out, **dict(jobs=1) | kwargs)


def pictures(folder): return {path.name: path.read_bytes() for path in sorted(Path(folder).glob('spectrograms/*/*.png'))}


def states(folder): return {path: path.stat().st_mtime_ns for path in Path(folder).glob('spectrograms/*/*.png')}


def edit(corpus, change):
    df = pd.read_csv(corpus/'utterances.csv', dtype=str, keep_default_na=False)
    change(df).to_csv(corpus/'utterances.csv', index=False)


def leftovers(folder): return [path for path in Path(folder).rglob('*') if path.name.startswith('.') or path.suffix == '.tmp']


def test_a_folder_a_label_a_picture_an_utterance(prepared):
    df = prepared.manifest
    assert len(df) == 32
    assert sorted(path.name for path in (prepared.path/'spectrograms').iterdir()) == sorted(PITCHES)
    inside = ['manifest.csv', 'prepared.json', 'skipped.csv', 'spectrograms', 'warnings.csv']
    assert sorted(path.name for path in prepared.path.iterdir()) == inside
    assert all(prepared.png(row).is_file() for row in df.itertuples())
    assert len(pictures(prepared.path)) == 32
    assert pd.read_csv(prepared.path/'skipped.csv').columns.to_list() == ['id', 'audio', 'reason']
    assert (prepared.path/'warnings.csv').read_text() == 'id,audio,warning\n'


def test_every_picture_is_to_image_of_its_recording(prepared):
    for row in prepared.manifest.itertuples():
        wave = load_audio(row.audio, prepared.config.rate, prepared.root)
        with Image.open(prepared.png(row)) as image: assert np.array_equal(np.asarray(image), to_image(wave, prepared.config))
        assert row.duration == pytest.approx(len(wave)/16000, abs=1e-6)


def test_about(prepared, corpus):
    about = json.loads((prepared.path/'prepared.json').read_text())
    assert about == prepared.about
    assert (about['corpus'], about['root'], about['complete'], about['utterances'], about['drawn']) == ('table', str(corpus), True, 32, 32)
    assert about['counts'] == dict.fromkeys(sorted(PITCHES), 8)
    assert prepared.config == SpectrogramConfig()
    assert prepared.labels == sorted(PITCHES)
    assert Prepared.open(prepared.path).manifest.equals(prepared.manifest)


def test_same_bytes_alone_first_last_and_in_parallel(corpus, prepared, tmp_path):
    want = pictures(prepared.path)
    assert pictures(run(corpus, tmp_path/'parallel', jobs=2).path) == want
    name = '03_neutral_x'
    path = f'wav/neutral/{name}.wav'
    for order in ([], ['00_first'], ['99_last'], ['00_first', '99_last']):  # ids sort before and after; all are the same sound
        out = tmp_path/f'out{len(order)}{"".join(order)}'
        audio = {name: path, '50': 'wav/sad/01_sad_x.wav', **dict.fromkeys(order, path)}
        pd.DataFrame(dict(id=audio.keys(), audio=audio.values(), label='x')).to_csv(tmp_path/'order.csv', index=False)
        got = pictures(prepare_corpus('table', tmp_path/'order.csv', out, jobs=1, audio_root=corpus).path)
        assert {got[f'{i}.png'] for i in (name, *order)} == {want[f'{name}.png']}


def test_same_bytes_wherever_the_recording_lies(corpus, prepared, tmp_path):
    for label in ('a', 'b'): shutil.copytree(corpus/'wav/sad', tmp_path/'other'/label)
    got = pictures(prepare_corpus('folders', tmp_path/'other', tmp_path/'out', jobs=1).path)
    want = pictures(prepared.path)
    assert {name.partition('_')[2]: data for name, data in got.items()} == {name: data for name, data in want.items() if '_sad_' in name}


def test_second_run_draws_nothing(copy_corpus, tmp_path):
    run(copy_corpus, tmp_path/'out')
    before, tables = states(tmp_path/'out'), [(tmp_path/'out'/name).read_bytes() for name in ('manifest.csv', 'skipped.csv')]
    again = run(copy_corpus, tmp_path/'out')
    assert again.about['drawn'] == 0
    assert states(tmp_path/'out') == before
    assert [(tmp_path/'out'/name).read_bytes() for name in ('manifest.csv', 'skipped.csv')] == tables


def test_only_what_is_missing_broken_or_changed_is_drawn(copy_corpus, prepared, tmp_path):
    out = run(copy_corpus, tmp_path/'out').path
    (out/'spectrograms/sad/01_sad_x.png').unlink()
    (out/'spectrograms/sad/01_sad_y.png').write_bytes(b'half a pict')
    write_tone(copy_corpus/'wav/angry/02_angry_x.wav', 999, 0.7)
    (copy_corpus/'wav/angry/02_angry_y.wav').touch()
    before = states(out)
    again = run(copy_corpus, out)
    assert again.about['drawn'] == 4
    drawn = {path.stem for path, state in states(out).items() if before.get(path) != state}
    assert drawn == {'01_sad_x', '01_sad_y', '02_angry_x', '02_angry_y'}
    want = pictures(prepared.path)
    assert {name for name, data in pictures(out).items() if data != want[name]} == {'02_angry_x.png'}


def test_other_settings_draw_everything_anew(copy_corpus, tmp_path):
    out = run(copy_corpus, tmp_path/'out').path
    again = run(copy_corpus, out, config=SpectrogramConfig(bands=32))
    assert (again.about['drawn'], again.config.bands) == (32, 32)
    assert {Image.open(path).height for path in states(out)} == {32}


def test_a_row_that_names_another_recording_is_drawn_anew(copy_corpus, tmp_path):
    twin = copy_corpus/'wav/angry/twin.wav'
    write_tone(twin, 700, 0.2 + 0.02*31)
    shutil.copystat(copy_corpus/'wav/sad/01_sad_x.wav', twin)
    out = run(copy_corpus, tmp_path/'out').path
    edit(copy_corpus, lambda df: df.assign(audio=df.audio.replace('wav/sad/04_sad_y.wav', 'wav/angry/twin.wav')))
    assert twin.stat().st_size == (copy_corpus/'wav/sad/04_sad_y.wav').stat().st_size
    assert run(copy_corpus, out).about['drawn'] == 1


def test_other_labels_move_pictures_and_leave_no_old_ones(copy_corpus, tmp_path):
    out = run(copy_corpus, tmp_path/'out').path
    again = run(copy_corpus, out, labels='angry,calm', mapping='sad=calm')
    assert again.about['counts'] == dict(angry=8, calm=8)
    assert again.about['drawn'] == 8
    assert sorted(path.name for path in (out/'spectrograms').iterdir()) == ['angry', 'calm']
    skipped = pd.read_csv(out/'skipped.csv')
    assert len(skipped) == 16
    assert skipped.reason.str.contains('is not among the labels asked for').all()


def test_stretches_of_one_recording(tmp_path):
    write_tone(tmp_path/'long.wav', seconds=2)
    times = [(0, 0.5), (0.5, 1), (1, 1.5), (1.5, 2)]
    rows = [dict(audio='long.wav', start=a, end=b, label='xy'[n % 2]) for n, (a, b) in enumerate(times)]
    pd.DataFrame(rows).to_csv(tmp_path/'t.csv', index=False)
    made = prepare_corpus('table', tmp_path/'t.csv', tmp_path/'out', jobs=1)
    assert made.manifest.duration.to_list() == [0.5]*4
    assert len(set(pictures(made.path).values())) == 4
    assert prepare_corpus('table', tmp_path/'t.csv', tmp_path/'out', jobs=1).about['drawn'] == 0


def test_what_cannot_be_decoded_is_skipped_counted_and_listed(copy_corpus, tmp_path):
    out = run(copy_corpus, tmp_path/'out').path
    cut, text = copy_corpus/'wav/sad/01_sad_x.wav', copy_corpus/'wav/sad/02_sad_x.wav'
    cut.write_bytes(cut.read_bytes()[:3000])
    text.write_text('not a wav')
    for folder in (out, tmp_path/'fresh'):  # gone on with, and from the start
        made = run(copy_corpus, folder)
        skipped = pd.read_csv(folder/'skipped.csv')
        assert (len(made.manifest), made.about['undecodable'], made.about['skipped']) == (30, 2, 2)
        assert skipped.id.to_list() == ['01_sad_x', '02_sad_x']
        assert skipped.reason.str.contains('is cut off').to_list() == [True, False]
        assert skipped.reason.str.contains('cannot be decoded').to_list() == [False, True]
        assert len(pictures(folder)) == 30
        assert made.about['complete']


def test_too_short_is_skipped(copy_corpus, tmp_path):
    made = run(copy_corpus, tmp_path/'out', config=SpectrogramConfig(window=0.04, step=0.016, trim_db=0, min_frames=30))
    skipped = pd.read_csv(made.path/'skipped.csv')
    assert len(skipped) + len(made.manifest) == 32
    assert (made.manifest.duration >= 0.46).all()
    assert skipped.reason.str.contains('is too short: .* below the 30 asked for').all()


def test_nothing_can_be_decoded(copy_corpus, tmp_path):
    for path in copy_corpus.rglob('*.wav'): path.write_text('no')
    with pytest.raises(FastmerError, match=r'none of the 32 recordings .* can be used; the first: .* cannot be decoded'):
        run(copy_corpus, tmp_path/'out')
    with pytest.raises(FastmerError, match='was not prepared to the end'): Prepared.open(tmp_path/'out')


def test_text_alone(tmp_path):
    pd.DataFrame([dict(text=f'words {n}', label='xy'[n % 2]) for n in range(6)]).to_csv(tmp_path/'t.csv', index=False)
    made = prepare_corpus('table', tmp_path/'t.csv', tmp_path/'out')
    assert len(made.manifest) == 6
    assert not (made.path/'spectrograms').exists()


def stop_after(monkeypatch, n, error):
    "From the `n`th picture on, writing half of it fails with `error`"
    save, count = Image.Image.save, iter(range(10**6))
    def broken(self, path, *args, **kwargs):
        if next(count) < n: return save(self, path, *args, **kwargs)
        Path(path).write_bytes(b'\x89PNG half')
        raise error
    monkeypatch.setattr(Image.Image, 'save', broken)


def test_disk_full_then_room_again(copy_corpus, prepared, tmp_path, monkeypatch):
    out = tmp_path/'out'
    with monkeypatch.context() as m:
        stop_after(m, 10, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(FastmerError, match=f'the disk that holds {out} is full: make room and run the same command again'):
            run(copy_corpus, out)
    assert len(pictures(out)) == 10
    assert leftovers(out) == []
    assert not (out/'manifest.csv').exists()
    with pytest.raises(FastmerError, match='was not prepared to the end'): Prepared.open(out)
    assert run(copy_corpus, out).about['drawn'] == 22
    assert pictures(out) == pictures(prepared.path)


def test_disk_full_before_anything(copy_corpus, tmp_path, monkeypatch):
    def full(*args): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(prepare, 'write_json', full)
    with pytest.raises(FastmerError, match='is full'): run(copy_corpus, tmp_path/'out')
    with pytest.raises(FastmerError, match='has no prepared'): Prepared.open(tmp_path/'out')


def test_disk_full_while_redrawing_leaves_a_folder_that_says_so(copy_corpus, tmp_path, monkeypatch):
    out = run(copy_corpus, tmp_path/'out').path
    with monkeypatch.context() as m:
        stop_after(m, 3, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(FastmerError, match='is full'): run(copy_corpus, out, config=SpectrogramConfig(bands=16))
    with pytest.raises(FastmerError, match='was not prepared to the end'): Prepared.open(out)
    assert run(copy_corpus, out, config=SpectrogramConfig(bands=16)).about['drawn'] == 29
    assert {Image.open(path).height for path in states(out)} == {16}


@pytest.fixture
def small_disk(tmp_path):
    "A real file system of 48 KiB"
    disk = tmp_path/'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=48k', 'tmpfs', disk], capture_output=True, check=False).returncode:
        pytest.skip('mounting a tmpfs is not allowed here')
    yield disk
    subprocess.run(['umount', disk], check=True)


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0 or not shutil.which('mount'), reason='only root can mount a small disk')
def test_disk_that_is_really_full(copy_corpus, small_disk):
    with pytest.raises(FastmerError, match='is full: make room'): run(copy_corpus, small_disk/'out')
    with pytest.raises(FastmerError, match=r'to the end|has no prepared'): Prepared.open(small_disk/'out')
    for path in pictures(small_disk/'out'): assert Image.open(next(small_disk.rglob(path))).load()
    assert leftovers(small_disk) == []


def test_stopped_by_hand(copy_corpus, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        stop_after(m, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt): run(copy_corpus, tmp_path/'out')
    assert leftovers(tmp_path/'out') == []
    assert run(copy_corpus, tmp_path/'out').about['drawn'] == 27


STUCK = """
import sys, time
from pathlib import Path
from PIL import Image
from fastmer.prepare import prepare_corpus
def stuck(self, path, *args, **kwargs):
    Path(path).write_bytes(b'half')
    print('drawing', flush=True)
    time.sleep(600)
Image.Image.save = stuck
prepare_corpus('table', sys.argv[1], sys.argv[2], jobs=1)
"""


def test_killed_run_leaves_no_lock_and_no_rubbish(corpus, prepared, tmp_path):
    out = tmp_path/'out'
    with subprocess.Popen([sys.executable, '-c', STUCK, corpus/'utterances.csv', out], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout.readline() == 'drawing\n'
            before = sorted(out.rglob('*'))
            with pytest.raises(FastmerError, match=f'another fastmer is writing into {out}: wait'): run(corpus, out)
            assert sorted(out.rglob('*')) == before
        finally: first.kill()
    assert leftovers(out)
    assert run(corpus, out).about['drawn'] == 32
    assert leftovers(out) == []
    assert pictures(out) == pictures(prepared.path)


def test_two_runs_at_once(corpus, tmp_path):
    command = [sys.executable, '-m', 'fastmer', 'prepare', 'table', corpus/'utterances.csv', tmp_path/'out', '--jobs', '1', '--bands']
    runs = [subprocess.Popen([*command, bands], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for bands in ('16', '32')]
    said = {run: run.communicate()[1] for run in runs}
    bad = [run for run in runs if run.returncode]
    assert len(bad) < 2, said
    assert all(f'another fastmer is writing into {tmp_path/"out"}' in said[run] for run in bad)
    made = Prepared.open(tmp_path/'out')
    assert {Image.open(path).height for path in states(made.path)} == {made.config.bands}
    assert len(pictures(made.path)) == len(made.manifest) == 32
    assert leftovers(made.path) == []


def test_worker_of_a_killed_run_draws_no_more(corpus, tmp_path):
    task = ('a', 'wav/sad/01_sad_x.wav', tmp_path/'a.png')
    with pytest.raises(FastmerError, match='was killed'): prepare._draw_batch([task], corpus, SpectrogramConfig(), 1 << 30)
    assert not (tmp_path/'a.png').exists()


@pytest.mark.skipif(os.name != 'posix', reason='has no flock')
@pytest.mark.parametrize('code', [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks(corpus, prepared, tmp_path, monkeypatch, code):
    def flock(*args): raise OSError(code, os.strerror(code))
    monkeypatch.setattr('fcntl.flock', flock)
    for drawn in (32, 0): assert run(corpus, tmp_path/'out').about['drawn'] == drawn
    assert pictures(tmp_path/'out') == pictures(prepared.path)


def test_recording_that_changes_while_it_is_decoded(copy_corpus, tmp_path, monkeypatch):
    path, times, hear = copy_corpus/'wav/sad/01_sad_x.wav', count(), prepare.Levels.__call__
    def touch(self, block):
        os.utime(path, (next(times),)*2)
        return hear(self, block)
    with monkeypatch.context() as m:
        m.setattr(prepare.Levels, '__call__', touch)
        made = run(copy_corpus, tmp_path/'out')
    skipped = pd.read_csv(made.path/'skipped.csv')
    assert skipped.id.to_list() == ['01_sad_x']
    assert skipped.reason[0] == f'{path} changed while it was read: try again when it is complete'
    assert (len(made.manifest), len(pictures(made.path))) == (31, 31)
    assert run(copy_corpus, tmp_path/'out').about['drawn'] == 1


def test_recording_that_grows_once_it_is_decoded(copy_corpus, tmp_path, monkeypatch):
    path, times = copy_corpus/'wav/angry/01_angry_x.wav', count()
    def grow(wave, config):
        if next(times) == 0: path.write_bytes(path.read_bytes() + bytes(100))  # while the first, this one, is drawn
        return to_image(wave, config)
    with monkeypatch.context() as m:
        m.setattr(prepare, 'to_image', grow)
        run(copy_corpus, tmp_path/'out')
    before = states(tmp_path/'out')
    assert run(copy_corpus, tmp_path/'out').about['drawn'] == 1
    assert [path.stem for path, state in states(tmp_path/'out').items() if before[path] != state] == ['01_angry_x']
    assert run(copy_corpus, tmp_path/'out').about['drawn'] == 0


TONE = (0.3*np.sin(np.arange(16000)*0.1)).astype('float32')
FAULTS = dict(not_numbers=[np.where(np.arange(16000) % 10, TONE, np.nan)], clipped=[np.clip(5*TONE, -1, 1)], offset=[TONE + 0.1],
              silent=[1e-5*TONE], inverted=[TONE, -TONE], over=[3*TONE + 0.3], silent_channel=[TONE, 0*TONE], fine=[TONE])


@pytest.fixture
def faulty(tmp_path):
    "A corpus of recordings of one fault each, and one of none"
    (tmp_path/'faulty').mkdir()
    for name, channels in FAULTS.items(): sf.write(tmp_path/f'faulty/{name}.wav', np.stack(channels, 1), 16000, subtype='FLOAT')
    df = pd.DataFrame([dict(id=f'{name}{n}', audio=f'{name}.wav', label='xy'[n % 2]) for name in FAULTS for n in range(5)])
    df.to_csv(tmp_path/'faulty/utterances.csv', index=False)
    return tmp_path/'faulty'


def tables(folder): return [(Path(folder)/name).read_bytes() for name in ('manifest.csv', 'skipped.csv', 'warnings.csv')]


def test_warnings_are_those_of_a_check(faulty, tmp_path):
    made = run(faulty, tmp_path/'out')
    told = pd.read_csv(made.path/'warnings.csv').set_index('id')
    assert made.about['warned'] == len(told) == 5*(len(FAULTS) - 1)
    for row in told.itertuples():
        problems = inspect_audio(row.audio, faulty)['problems']
        assert row.audio.partition('.')[0] in problems
        assert row.warning == '; '.join(problems.values())
    assert not any(name.startswith('fine') for name in told.index)


def test_warnings_are_the_same_however_they_came_about(faulty, tmp_path, monkeypatch):
    want = tables(run(faulty, tmp_path/'one').path)
    assert tables(run(faulty, tmp_path/'two', jobs=2).path) == want
    assert run(faulty, tmp_path/'one').about['drawn'] == 0
    assert tables(tmp_path/'one') == want
    with monkeypatch.context() as m:
        stop_after(m, 17, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt): run(faulty, tmp_path/'resumed')
    assert run(faulty, tmp_path/'resumed').about['drawn'] == 5*len(FAULTS) - 17
    assert tables(tmp_path/'resumed') == want
    distributed = pytest.importorskip('distributed')
    with distributed.LocalCluster(n_workers=1, protocol='tcp', processes=False, dashboard_address=None) as local:
        assert tables(run(faulty, tmp_path/'dask', cluster=local.scheduler_address.replace('tcp', 'dask')).path) == want


def test_stamps_are_read_as_pillow_reads_them(faulty, tmp_path):
    for path in states(run(faulty, tmp_path/'out').path):
        with Image.open(path) as image: assert read_stamp(path) == {name[8:]: value for name, value in image.info.items()}
        assert len(read_stamp(path)) == 5
    for data in (b'', b'half a pict', b'\x89PNG\r\n\x1a\n', path.read_bytes()[:20]):
        (tmp_path/'a.png').write_bytes(data)
        assert read_stamp(tmp_path/'a.png') == {}


def test_pictures_of_a_fastmer_that_knew_no_warnings_are_drawn_anew(faulty, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(prepare, 'save_png', lambda image, png, warning, **stamp: save_png(image, png, **stamp))
        run(faulty, tmp_path/'out')
    assert run(faulty, tmp_path/'out').about['drawn'] == 5*len(FAULTS)
    assert run(faulty, tmp_path/'out').about['drawn'] == 0


def test_warnings_are_joined(faulty, prepared, corpus, tmp_path):
    rate = pd.read_csv(corpus/'utterances.csv').assign(label=lambda df: df.emotion.replace(dict(sad='x')))
    rate.to_csv(tmp_path/'labels.csv', index=False)
    tones = prepare_corpus('table', tmp_path/'labels.csv', tmp_path/'tones', jobs=1, audio_root=corpus, corpus_name='tones')
    odd = run(faulty, tmp_path/'odd', corpus_name='odd')
    with locked(tmp_path/'joined'), pytest.raises(FastmerError, match='another fastmer is writing'):
        join_prepared([tones, odd], tmp_path/'joined')
    assert list((tmp_path/'joined').iterdir()) == []
    for left in (40 - 5, 0):  # those of an older fastmer have none
        joined = join_prepared([tones, odd], tmp_path/f'joined{left}')
        assert joined.about['warned'] == left
        told = pd.read_csv(joined.path/'warnings.csv')
        assert told.columns.to_list() == ['id', 'audio', 'warning']
        assert len(told) == left
        assert set(told.id) <= set(joined.manifest.id)
        (odd.path/'warnings.csv').unlink(missing_ok=True)


@pytest.fixture
def read_only(tmp_path):
    "A folder that cannot be written to"
    (folder := tmp_path/'read-only').mkdir()
    if not hasattr(os, 'geteuid'): pytest.skip('needs permissions')
    if mounted := os.geteuid() == 0:
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder], capture_output=True, check=False).returncode:
            pytest.skip('mounting a tmpfs is not allowed here')
    else: folder.chmod(0o555)
    yield folder
    if mounted: subprocess.run(['umount', folder], check=True)
    else: folder.chmod(0o755)


def test_folder_that_cannot_be_written_to(corpus, read_only):
    for out in (read_only, read_only/'out'):
        with pytest.raises(FastmerError, match=f'{out} cannot be written to .*: choose another folder'): run(corpus, out)


def test_names_that_are_long_or_not_of_this_alphabet(tmp_path):
    names = ['жёлтый — “тест”', '感情音声', 'e\u0301motion🙂', 'x'*251, 'ы'*125, 'a b', "it's, quoted"]
    rows = [dict(id=name.encode()[:200].decode(errors='ignore'), audio=f'wav/{label}/{name}.wav', label=label)
            for name, label in zip(names, ['ярость', '😀']*4, strict=False)]
    for n, row in enumerate(rows): write_tone(tmp_path/row['audio'], pitch=200 + 50*n)
    pd.DataFrame(rows).to_csv(tmp_path/'utterances.csv', index=False)
    by_table, by_folder = run(tmp_path, tmp_path/'table'), prepare_corpus('folders', tmp_path/'wav', tmp_path/'folders', jobs=1)
    for made in (by_table, by_folder):
        assert len(made.manifest) == len(pictures(made.path)) == len(names)
        assert all(made.png(row).is_file() for row in made.manifest.itertuples())
    assert set(pictures(by_table.path).values()) == set(pictures(by_folder.path).values())
    assert run(tmp_path, tmp_path/'table').about['drawn'] == 0


@pytest.mark.parametrize('audio', ['x'*300 + '.wav', 'x/'*3000 + 'a.wav', '~nobody_of_this_name/a.wav', '../'*40 + 'etc/nothing.wav'])
def test_audio_that_no_file_can_be_called(copy_corpus, tmp_path, audio):
    edit(copy_corpus, lambda df: df.assign(audio=df.audio.replace('wav/sad/04_sad_y.wav', audio)))
    for drawn in (31, 0):
        made = run(copy_corpus, tmp_path/'out')
        assert pd.read_csv(made.path/'skipped.csv').id.to_list() == ['04_sad_y']
        assert made.about['drawn'] == drawn


def test_stopped_while_taking_labels_out_is_not_complete(copy_corpus, tmp_path, monkeypatch):
    out = run(copy_corpus, tmp_path/'out').path
    def stop(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(prepare, 'write_manifest', stop)
        with pytest.raises(KeyboardInterrupt): run(copy_corpus, out, labels='angry,sad')
    with pytest.raises(FastmerError, match='was not prepared to the end'): Prepared.open(out)
    assert len(run(copy_corpus, out, labels='angry,sad').manifest) == 16


def test_another_corpus_is_not_mixed_in(corpus, prepared):
    before = pictures(prepared.path)
    with pytest.raises(FastmerError, match=r'already holds table from .*: prepare into another folder'):
        prepare_corpus('folders', corpus/'wav', prepared.path)
    assert pictures(prepared.path) == before


def test_somebody_elses_folder_is_left_alone(corpus, tmp_path):
    (tmp_path/'thesis.doc').touch()
    with pytest.raises(FastmerError, match='is not empty and is no prepared folder'): run(corpus, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.doc']


def test_out_that_is_a_file(corpus, tmp_path):
    (tmp_path/'out').touch()
    with pytest.raises(FastmerError, match='is a file'): run(corpus, tmp_path/'out')
    with pytest.raises(FastmerError, match='cannot be written to'): run(corpus, tmp_path/'out/deeper')


@pytest.mark.parametrize('text', ['', '{', '[1]', '{"complete": true}'])
def test_prepared_json_that_is_broken(corpus, tmp_path, text):
    (tmp_path/'prepared.json').write_text(text)
    for call in (lambda: Prepared.open(tmp_path), lambda: run(corpus, tmp_path)):
        with pytest.raises(FastmerError, match=r'prepared.json (cannot be read|was not written by fastmer prepare)'): call()


def test_open_where_nothing_is(tmp_path):
    with pytest.raises(FastmerError, match='is not there: make one with fastmer prepare'): Prepared.open(tmp_path/'a')
    with pytest.raises(FastmerError, match='is no prepared folder'): Prepared.open(tmp_path)


def test_progress_counts_every_recording(corpus, tmp_path):
    totals, steps = [], []
    def progress(total):
        totals.append(total)
        return steps.append
    run(corpus, tmp_path/'out', progress=progress)
    assert (totals, sum(steps)) == ([32], 32)


def test_arguments_stay_as_they_were(corpus, tmp_path):
    mapping, config = dict(sad='calm'), SpectrogramConfig()
    run(corpus, tmp_path/'out', mapping=mapping, config=config)
    assert (mapping, config) == (dict(sad='calm'), replace(config))


def test_real_emodb_reads_as_it_should(data_dir):
    found = read_corpus('emodb', data_dir/'emodb')
    root = found.root
    config = SpectrogramConfig()
    for row in found.manifest.iloc[::40].itertuples():
        image = to_image(load_audio(row.audio, 16000, root), config)
        assert image.shape[0] == 128
        assert 30 < image.shape[1] < 600
