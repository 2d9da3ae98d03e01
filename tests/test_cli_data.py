"prepare, show and split from the command line: the happy path, and one sentence and an exit code for everything a user can get wrong"
import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from click.testing import CliRunner
from PIL import Image

from fastmer.cli import COMMANDS, main
from fastmer.corpora import CORPORA
from fastmer.splits import split


def call(*args): return CliRunner().invoke(main, [str(arg) for arg in args])


def ok(*args):
    result = call(*args)
    assert (result.exit_code, result.stderr) == (0, ''), result.output
    return result.stdout


def error(*args, code=1):
    "The one sentence that `fastmer args` prints on stderr, its paths and spaces as they are"
    result = call(*args)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith('fastmer: ')
    assert 'Traceback' not in result.output
    return lines[0]


def test_prepare(corpus, tmp_path):
    out = tmp_path/'out'
    said = ok('prepare', 'table', corpus/'utterances.csv', out, '--jobs', 1, '--bands', 32)
    assert 'labels: angry 8, happy 8, neutral 8, sad 8' in said
    assert f'32 utterances, 32 drawn now, 0 left out -> {out}' in said
    assert len(list(csv.DictReader(open(out/'manifest.csv', encoding='utf-8')))) == 32  # noqa: SIM115
    assert '32 utterances, 0 drawn now' in ok('prepare', 'table', corpus/'utterances.csv', out, '--jobs', 1, '--bands', 32)
    assert '32 drawn now' in ok('prepare', 'table', corpus/'utterances.csv', out, '--jobs', 1, '--kind', 'mfcc', '--bands', 13)
    assert Image.open(out/'spectrograms/sad/01_sad_x.png').height == 13


def test_prepare_folders_with_labels_and_map(corpus, tmp_path):
    said = ok('prepare', 'folders', corpus/'wav', tmp_path/'out', '--jobs', 1, '--labels', 'angry,calm', '--map', 'sad=calm,neutral=calm')
    assert 'labels: angry 8, calm 16' in said
    assert '24 utterances, 24 drawn now, 8 left out (see' in said


def test_prepare_skips_what_cannot_be_decoded(copy_corpus, tmp_path):
    (copy_corpus/'wav/sad/01_sad_x.wav').write_text('no sound')
    said = ok('prepare', 'table', copy_corpus/'utterances.csv', tmp_path/'out', '--jobs', 1)
    assert f'31 utterances, 31 drawn now, 1 left out, of which 1 could not be decoded (see {tmp_path/"out/skipped.csv"})' in said
    assert 'warning' not in said


def test_prepare_warns(copy_corpus, tmp_path):
    sf.write(copy_corpus/'wav/sad/01_sad_x.wav', np.zeros(16000), 16000)
    for _ in range(2):
        said = ok('prepare', 'table', copy_corpus/'utterances.csv', tmp_path/'out', '--jobs', 1)
        assert f'warnings: 1 (clipped, silent and the like: see {tmp_path/"out/warnings.csv"})' in said


def test_show(prepared, tmp_path):
    said = ok('show', prepared.path, '--png', tmp_path/'grid.png')
    for word in ('by label', 'by speaker', 'by session', 'angry', '32 utterances', 'durations 0.20 to 0.82 s', str(tmp_path/'grid.png')):
        assert word in said
    with Image.open(tmp_path/'grid.png') as image: assert image.format == 'PNG'


def test_split_table(prepared):
    said = ok('split', prepared.path, '--protocol', 'session', '--fold', 2, '--seed', 5)
    assert 'session, fold 2 of 2, seed 5' in said
    assert split(prepared.manifest, 'session', 2, 5).sha256 in said
    assert all(part in said for part in ('train', 'valid', 'test', 'unused'))


@pytest.mark.parametrize('protocol', ['random', 'speaker', 'session', 'session+script', 'part'])
def test_split_json(prepared, protocol):
    got = json.loads(ok('split', prepared.path, '--protocol', protocol, '--json', '--seed', 2))
    want = split(prepared.manifest, protocol, seed=2)
    assert got['sha256'] == want.sha256
    assert tuple(got['test']) == want.test
    assert {*got['train'], *got['valid'], *got['test'], *got['unused']} == set(prepared.manifest.id)


def table(tmp_path, change):
    "A table of text alone, as `change` leaves it"
    df = pd.DataFrame([dict(id=f'u{n}', text=f'words {n}', label='xy'[n % 2], speaker=n % 3) for n in range(12)])
    change(df).to_csv(tmp_path/'t.csv', index=False)
    return tmp_path/'t.csv'


def first(column, value):
    def change(df):
        df[column] = df[column].astype(object)
        df.loc[0, column] = value
        return df
    return change


OUTSIDE = ['a/b', '../x', '/abs', 'C:\\x', '..', '.', '.x', 'é'*101]  # what would be written elsewhere, or cannot be


@pytest.mark.parametrize('corpus_name', sorted(CORPORA))
def test_links_in_a_circle(tmp_path, corpus_name):
    (tmp_path/'root/a/b').mkdir(parents=True)
    for name, target in (('loop', 'loop'), ('a/b/up', '../..'), ('a/root', tmp_path/'root'), ('a/ping', 'pong'), ('a/pong', 'ping')):
        (tmp_path/'root'/name).symlink_to(target, target_is_directory=True)
    began = time.perf_counter()
    assert str(tmp_path/'root') in error('prepare', corpus_name, tmp_path/'root', tmp_path/'out')
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize('corpus_name', ['iemocap', 'emodb', 'table', 'folders'])
class TestEveryReader:
    def test_path_not_there(self, tmp_path, corpus_name):
        assert 'is not there' in error('prepare', corpus_name, tmp_path/'nowhere', tmp_path/'out')
        assert not (tmp_path/'out').exists()

    def test_empty_folder(self, tmp_path, corpus_name):
        (tmp_path/'root').mkdir()
        assert str(tmp_path/'root') in error('prepare', corpus_name, tmp_path/'root', tmp_path/'out')

    def test_folder_that_is_no_such_corpus(self, tmp_path, corpus_name):
        (tmp_path/'root').mkdir()
        (tmp_path/'root/notes.txt').write_text('nothing here')
        assert str(tmp_path/'root') in error('prepare', corpus_name, tmp_path/'root', tmp_path/'out')

    def test_mistyped_label_and_map(self, tmp_path, corpus, corpus_name):
        if corpus_name not in ('table', 'folders'): pytest.skip('needs a corpus of its own; the readers share the code')
        root = corpus/dict(table='utterances.csv', folders='wav')[corpus_name]
        said = error('prepare', corpus_name, root, tmp_path/'out', '--labels', 'angy,sad')
        assert "--labels names 'angy', which this corpus does not have (did you mean angry?)" in said
        said = error('prepare', corpus_name, root, tmp_path/'out', '--map', 'hapy=angry')
        assert "--map names 'hapy', which this corpus does not have (did you mean happy?)" in said
        assert '--map wants code=label pairs' in error('prepare', corpus_name, root, tmp_path/'out', '--map', 'happy')
        assert not (tmp_path/'out').exists()


@pytest.mark.parametrize(('change', 'says'), [
    (lambda df: df[:0], 'but no row'), (lambda df: df.drop(columns='label'), 'has no column of labels; it has id, text, speaker'),
    (lambda df: df.drop(columns='text'), 'has neither a column of audio nor one of text'),
    (first('label', 'rare'), "the label 'rare' has one utterance only"), (first('id', 'u3'), "the id 'u3' stands on more than one row"),
    (first('id', 'U3'), 'differ only in case'), *((first('id', name), 'cannot name a file') for name in OUTSIDE),
    *((lambda df, name=name: df.replace(dict(label=dict(x=name))), 'cannot name a file') for name in OUTSIDE)])
def test_tables_that_are_wrong(tmp_path, change, says):
    assert says in error('prepare', 'table', table(tmp_path, change), tmp_path/'out')
    assert not (tmp_path/'out').exists()


def test_column_that_the_table_does_not_have(tmp_path):
    said = error('prepare', 'table', table(tmp_path, lambda df: df), tmp_path/'out', '--column', 'label=emotoin')
    assert "has no column 'emotoin'; it has id, text, label, speaker" in said
    assert 'did you mean label' in error('prepare', 'table', tmp_path/'t.csv', tmp_path/'out', '--column', 'labl=label')
    assert 'NAME=COLUMN' in error('prepare', 'table', tmp_path/'t.csv', tmp_path/'out', '--column', 'label', code=2)


def test_empty_file(tmp_path):
    (tmp_path/'t.csv').touch()
    assert 'is empty' in error('prepare', 'table', tmp_path/'t.csv', tmp_path/'out')


def test_no_recording_can_be_decoded(tmp_path):
    for label in 'ab': (tmp_path/'root'/label).mkdir(parents=True)
    for n in range(4): (tmp_path/'root'/'ab'[n % 2]/f'{n}.wav').write_text('x')
    assert 'none of the 4 recordings' in error('prepare', 'folders', tmp_path/'root', tmp_path/'out', '--jobs', 1)


def test_disk_full(corpus, tmp_path, monkeypatch):
    def full(self, path, *args, **kwargs):
        path.write_bytes(b'half')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as m:
        m.setattr(Image.Image, 'save', full)
        assert 'is full: make room' in error('prepare', 'table', corpus/'utterances.csv', tmp_path/'out', '--jobs', 1)
    assert not list((tmp_path/'out').rglob('*.png'))
    assert 'was not prepared to the end' in error('split', tmp_path/'out')
    assert '32 drawn now' in ok('prepare', 'table', corpus/'utterances.csv', tmp_path/'out', '--jobs', 1)


@pytest.mark.parametrize(('args', 'code', 'says'), [
    (('--kind', 'mell'), 1, 'did you mean mel'), (('--spectrogram', 'report-alex'), 1, 'did you mean report-alexnet'),
    (('--bands', '0'), 1, 'bands must be above 0'), (('--bands', 'many'), 2, "'many' is not a valid integer"), (('--jobs', '0'), 2, 'x>=1'),
    (('--label', 'x'), 2, 'No such option'), (('--kindd', 'mel'), 2, '--kind'), (('--n-fft', '10'), 1, 'shorter than the window'),
    (('--fmax', '99999'), 1, 'does not lie within'), (('--step', 'inf'), 1, 'step must be'), (('--bands',), 2, 'requires an argument'),
    (('--sheet', 'a'), 1, 'has no sheets'), (('--labels', ''), 1, 'labels asked for')])
def test_prepare_options_that_are_wrong(corpus, tmp_path, args, code, says):
    assert says in error('prepare', 'table', corpus/'utterances.csv', tmp_path/'out', *args, code=code)
    assert not (tmp_path/'out').exists()


def test_option_of_another_reader(corpus, tmp_path):
    assert '--column is for table only' in error('prepare', 'folders', corpus/'wav', tmp_path/'out', '--column', 'label=x')


def test_reader_and_command_that_are_mistyped(corpus, tmp_path):
    assert 'did you mean folders' in error('prepare', 'folder', corpus/'wav', tmp_path/'out')
    assert "there is no command 'prepair' (did you mean prepare?)" in error('prepair', code=2)
    assert 'No such option' in error('--verbos', code=2)
    assert "Missing argument 'OUT'" in error('prepare', 'folders', corpus/'wav', code=2)


def test_out_that_is_taken(corpus, prepared, tmp_path):
    assert 'already holds table' in error('prepare', 'folders', corpus/'wav', prepared.path)
    (tmp_path/'mine.txt').touch()
    assert 'is not empty' in error('prepare', 'folders', corpus/'wav', tmp_path)
    assert 'is a file' in error('prepare', 'folders', corpus/'wav', tmp_path/'mine.txt')


@pytest.mark.parametrize('command', ['show', 'split'])
def test_no_prepared_folder(tmp_path, command):
    assert 'is not there: make one with fastmer prepare' in error(command, tmp_path/'nowhere')
    assert 'is no prepared folder' in error(command, tmp_path)
    (tmp_path/'prepared.json').write_text('{"complete": true}')
    assert 'was not written by fastmer prepare' in error(command, tmp_path)


@pytest.mark.parametrize('command', ['show', 'split'])
@pytest.mark.parametrize(('text', 'says'), [
    (None, 'is not there'), ('', 'is no manifest that can be read'), ('id,label\n', 'holds no utterance'),
    ('id,text\na,b\n', "has no column 'label'"),
    ('id,label,text\na,x,1\na,x,2\n', 'stands on more than one row')])
def test_manifest_that_is_broken(prepared, tmp_path, command, text, says):
    shutil.copytree(prepared.path, tmp_path/'p')
    (tmp_path/'p/manifest.csv').unlink()
    if text is not None: (tmp_path/'p/manifest.csv').write_text(text)
    assert says in error(command, tmp_path/'p')


@pytest.mark.parametrize(('args', 'code', 'says'), [
    (('--protocol', 'sesion'), 1, 'did you mean session'), (('--fold', '0'), 1, 'out of range'),
    (('--fold', '9'), 1, 'fold 9 is out of range: the speaker protocol has folds 1 to 4'),
    (('--protocol', 'session', '--fold', '3'), 1, 'folds 1 to 2'), (('--folds', '1'), 1, 'at least 2 folds'),
    (('--protocl', 'session'), 2, '--protocol'), (('--seed', '-1'), 2, 'x>=0'), (('--fold', 'one'), 2, 'not a valid integer')])
def test_split_options_that_are_wrong(prepared, args, code, says):
    assert says in error('split', prepared.path, *args, code=code)


@pytest.mark.parametrize(('protocol', 'column'), [('speaker', 'speaker'), ('session', 'session'), ('session+script', 'script'),
                                                  ('part', 'part')])
def test_split_needs_a_column_that_is_empty(prepared, tmp_path, protocol, column):
    (tmp_path/'p').mkdir()
    shutil.copy(prepared.path/'prepared.json', tmp_path/'p')
    prepared.manifest.assign(**{column: ''}).to_csv(tmp_path/'p/manifest.csv', index=False)
    assert column in error('split', tmp_path/'p', '--protocol', protocol)


def test_show_cannot_write_its_picture(prepared, tmp_path):
    assert 'No such file or directory' in error('show', prepared.path, '--png', tmp_path/'nowhere/grid.png')


def test_show_misses_a_picture(prepared, tmp_path):
    shutil.copytree(prepared.path, tmp_path/'p')
    shutil.rmtree(tmp_path/'p/spectrograms/sad')
    assert 'No such file or directory' in error('show', tmp_path/'p')


@pytest.mark.parametrize('args', [(), ('--help',), *((name, '--help') for name in ('prepare', 'show', 'split'))])
def test_help(args):
    result = call(*args)
    assert result.exit_code in (0, 2)[:2 if not args else 1]
    assert 'Usage: ' in result.output
    if args in ((), ('--help',)): assert all(name in result.output for name in COMMANDS)


def test_help_and_errors_load_nothing_heavy(tmp_path):
    code = ('import sys; from fastmer.cli import main\n'
            'try: main(sys.argv[1:])\nexcept SystemExit: pass\n'
            'print([m for m in ("torch", "fastai", "librosa", "matplotlib", "pandas") if m in sys.modules])')
    result = subprocess.run([sys.executable, '-c', code, '--help'], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith('[]')


def test_emodb_from_end_to_end(data_dir, tmp_path):
    "The acceptance run: 339 pictures, nothing to do again, then two recordings spoiled"
    root, out = shutil.copytree(data_dir/'emodb', tmp_path/'emodb'), tmp_path/'out'
    fast = ('--jobs', 1, '--window', 0.064, '--n-fft', 1024, '--step', 0.064, '--bands', 16)
    assert '339 utterances, 339 drawn now, 0 left out' in ok('prepare', 'emodb', root, out, *fast)
    df = pd.read_csv(out/'manifest.csv', dtype=str)
    assert (len(df), df.speaker.nunique(), df.script.nunique()) == (339, 10, 10)
    pictures = {path.name: len(list(path.glob('*.png'))) for path in (out/'spectrograms').iterdir()}
    assert pictures == dict(angry=127, happy=71, neutral=79, sad=62)
    start = time.perf_counter()
    assert '339 utterances, 0 drawn now' in ok('prepare', 'emodb', root, out, *fast)
    assert time.perf_counter() - start < 5
    cut, text = root/'wav/03a01Fa.wav', root/'wav/03a01Nc.wav'
    for path in (cut, text): path.chmod(0o644)
    cut.write_bytes(cut.read_bytes()[:20000])
    text.write_text('no sound\n')
    said = ok('prepare', 'emodb', root, out, *fast)
    assert '337 utterances, 0 drawn now, 2 left out, of which 2 could not be decoded' in said
    assert sorted(pd.read_csv(out/'skipped.csv').id) == ['03a01Fa', '03a01Nc']
    assert len(list(out.glob('spectrograms/*/*.png'))) == 337
