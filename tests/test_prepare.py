"Corpus -> prepared folder: the same bytes in any order, resumed where it was, nothing half-written, nothing dropped in silence"
import errno
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PITCHES, write_tone
from PIL import Image

from fastmer import prepare
from fastmer.audio_io import load_audio
from fastmer.corpora import read_corpus
from fastmer.errors import FastmerError
from fastmer.prepare import Prepared, prepare_corpus
from fastmer.spectrogram import SpectrogramConfig, to_image


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
    assert {path.name for path in prepared.path.iterdir()} == {'manifest.csv', 'prepared.json', 'skipped.csv', 'spectrograms'}
    assert all(prepared.png(row).is_file() for row in df.itertuples())
    assert len(pictures(prepared.path)) == 32
    assert pd.read_csv(prepared.path/'skipped.csv').columns.to_list() == ['id', 'audio', 'reason']


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
