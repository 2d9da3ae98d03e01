"A folder a label"
import os

import pytest

from fastmer.corpora import read_corpus
from fastmer.corpora.folders import LONGEST, flat_id, path_ids, read
from fastmer.errors import FastmerError
from fastmer.manifest import bad_id

NO_SPEAKERS = 'the folders name no speakers: only the random protocol can be used'


def make(root, *names):
    for name in names:
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        (root/name).touch()
    return root


def test_labels_are_the_first_folders(tmp_path):
    corpus = read(make(tmp_path, 'angry/a.wav', 'angry/deep/er/b.FLAC', 'sad/a.Mp3', 'sad/notes.txt', 'sad/c.opus'))
    rows = {row.id: (row.audio, row.label) for row in corpus.manifest.itertuples()}
    assert rows == {'angry_a': ('angry/a.wav', 'angry'), 'angry_deep_er_b': ('angry/deep/er/b.FLAC', 'angry'),
                    'sad_a': ('sad/a.Mp3', 'sad'), 'sad_c': ('sad/c.opus', 'sad')}
    assert corpus.codes == dict(angry='angry', sad='sad')
    assert corpus.notes == [NO_SPEAKERS]
    assert {*corpus.manifest.speaker} == {''}
    assert {*corpus.manifest.corpus} == {tmp_path.name}


def test_hidden_and_stray_files(tmp_path):
    make(tmp_path, 'a/x.wav', 'a/y.wav', 'a/._x.wav', 'a/.cache/z.wav', '.git/z.wav', 'top.wav', 'readme.md', 'calm/notes.txt')
    corpus = read_corpus('folders', tmp_path)
    assert corpus.manifest.id.to_list() == ['a_x', 'a_y']
    assert corpus.skipped == [dict(id='top', audio='top.wav', reason='it lies in no label folder')]
    assert corpus.notes == [NO_SPEAKERS, 'no audio in calm']


@pytest.mark.parametrize('names', [(), ('a.wav',), ('angry/a.txt',), ('.hidden/a.wav',)])
def test_no_audio(tmp_path, names):
    with pytest.raises(FastmerError, match='holds no audio in folders named after labels'): read(make(tmp_path, *names))


def test_a_file_is_no_folder(tmp_path):
    make(tmp_path, 'a.wav')
    with pytest.raises(FastmerError, match='is no folder'): read(tmp_path/'a.wav')


@pytest.mark.timeout(30)
def test_circles_of_links_end(tmp_path):
    make(tmp_path, 'angry/a.wav', 'angry/deep/b.wav', 'sad/c.wav')
    links = [('angry/up', tmp_path), ('angry/self', tmp_path/'angry'), ('angry/deep/other', tmp_path/'sad'),
             ('sad/here', tmp_path/'sad'),
             ('sad/loop', tmp_path/'sad/loop')]
    try:
        for name, target in links: (tmp_path/name).symlink_to(target, target_is_directory=True)
    except OSError: pytest.skip('this system makes no links')
    assert sorted(read(tmp_path).manifest.id) == ['angry_a', 'angry_deep_b', 'sad_c']


def test_links_are_followed_and_broken_ones_skipped(tmp_path):
    make(tmp_path/'far', 'a.wav', 'sub/b.wav')
    root = make(tmp_path/'root', 'sad/c.wav')
    try:
        (root/'angry').symlink_to(tmp_path/'far', target_is_directory=True)
        (root/'sad/gone.wav').symlink_to(tmp_path/'nowhere.wav')
    except OSError: pytest.skip('this system makes no links')
    corpus = read(root)
    assert corpus.manifest.audio.to_list() == ['angry/a.wav', 'angry/sub/b.wav', 'sad/c.wav']
    assert corpus.skipped == [dict(id='sad_gone', audio='sad/gone.wav', reason='it is no file, or a link that leads nowhere')]


@pytest.mark.skipif(os.name != 'posix', reason='names are bytes on POSIX only')
def test_a_name_that_is_no_utf8_is_skipped(tmp_path):
    make(tmp_path, 'sad/a.wav')
    try: open(os.fsencode(tmp_path) + b'/sad/caf\xe9.wav', 'wb').close()
    except OSError: pytest.skip('this file system takes UTF-8 only')
    corpus = read(tmp_path)
    assert corpus.manifest.id.to_list() == ['sad_a']
    assert corpus.skipped[0]['audio'] == r'sad/caf\xe9.wav'
    assert corpus.skipped[0]['audio'].encode()


@pytest.mark.parametrize(('paths', 'ids'), [
    (['a/x.wav', 'a/y.wav'], ['a_x', 'a_y']),
    (['a/x.wav', 'a/x.mp3', 'b/x.wav'], ['a_x_wav', 'a_x_mp3', 'b_x']),
    (['a/X.wav', 'a/x.mp3'], ['a_X_wav', 'a_x_mp3'])])
def test_path_ids(paths, ids): assert path_ids(paths) == ids


def test_path_ids_are_unique_and_do_not_depend_on_order():
    paths = ['a/b_c.wav', 'a_b/c.wav', 'a/b/c.wav', 'a/b/c.mp3', 'a/b_c_mp3.wav', 'A/B/C.wav', f'a/{"é"*300}.wav',
             f'a/{"é"*301}.wav']
    ids = path_ids(paths)
    assert len({name.casefold() for name in ids}) == len(paths)
    assert not any(map(bad_id, ids))
    assert path_ids(paths[::-1]) == ids[::-1]


@pytest.mark.parametrize(('path', 'name'), [
    ('a/b c.wav', 'a_b c'), ('/mnt/x.wav', 'mnt_x'), ('a/q?:1.wav', 'a_q_1'), ('-a/b.wav', '_a_b'), ('a/b.c.wav', 'a_b.c'),
    ('..', '_.')])
def test_flat_id(path, name): assert flat_id(path) == name


def test_long_paths_become_short_ids():
    name = flat_id(f'a/{"x"*300}.wav')
    assert len(name.encode()) <= LONGEST
    assert name != flat_id(f'a/{"x"*301}.wav')


def test_read_corpus_wants_two_of_each(tmp_path):
    make(tmp_path, 'angry/a.wav', 'angry/b.wav', 'sad/a.wav')
    with pytest.raises(FastmerError, match="'sad' has one utterance only"): read_corpus('folders', tmp_path)
    assert len(read_corpus('folders', tmp_path, labels='angry').manifest) == 2
