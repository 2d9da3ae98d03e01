"The utterance table: typed, checked, the same after a round trip"
import os

import pandas as pd
import pytest

from fastmer.errors import FastmerError
from fastmer.manifest import (
    COLUMNS,
    MAX_ID_BYTES,
    NUMBER_COLUMNS,
    PARTS,
    as_manifest,
    atomic,
    bad_id,
    check_manifest,
    read_manifest,
    write_csv,
    write_manifest,
)

ROWS = [dict(id='a', audio='x/a.wav', text='NA', label='sad', speaker='03', start=0.5, part='train'),
        dict(id='b', audio='', text='Ja, "gut"\nso é', label='happy', speaker='3', valence='2.5'),
        dict(id='c', audio='x/c.wav#t=1,2', text='', label='null', speaker=None, end='x')]


def test_as_manifest_has_every_column_typed():
    df = as_manifest(ROWS)
    assert tuple(df.columns) == COLUMNS
    assert all(df[name].dtype == 'float64' for name in NUMBER_COLUMNS)
    assert all(isinstance(value, str) for name in COLUMNS if name not in NUMBER_COLUMNS for value in df[name])
    assert df.speaker.to_list() == ['03', '3', '']
    assert df.valence[1] == 2.5
    assert df.end.isna().all()


def test_as_manifest_leaves_its_argument_alone():
    rows = pd.DataFrame(ROWS)
    before = rows.copy()
    as_manifest(rows)
    pd.testing.assert_frame_equal(rows, before)


def test_as_manifest_of_nothing(): assert tuple(as_manifest([]).columns) == COLUMNS


def test_round_trip(tmp_path):
    df = as_manifest(ROWS)
    again = read_manifest(write_manifest(df, tmp_path/'deep/manifest.csv'))
    pd.testing.assert_frame_equal(again, df)
    assert os.listdir(tmp_path/'deep') == ['manifest.csv']
    assert b'\r' not in (tmp_path/'deep/manifest.csv').read_bytes()


@pytest.mark.parametrize('name', ['a', '03a01Fa', 'Ses05M_script01_1b_F000', 'é', 'take 1', 'a.b', 'x'*MAX_ID_BYTES])
def test_good_ids(name): assert bad_id(name) == ''


@pytest.mark.parametrize('name', ['', ' ', '.', '..', '.a', '-a', 'a/b', 'a\\b', 'a:b', 'a\nb', 'a\0', 'a?', 'a*',
                                  'x'*(MAX_ID_BYTES + 1), 'é'*101, 'a\udce9'])
def test_bad_ids(name): assert bad_id(name)


@pytest.mark.parametrize(('change', 'match'), [
    (dict(id='b'), "'b' stands on more than one row"), (dict(id='B'), 'ids B, b differ only in case'),
    (dict(id='../a'), 'begins with a dot'),
    (dict(id=''), 'is empty'), (dict(label=''), "'a' has no label"), (dict(label='a/b'), "label 'a/b' cannot name a file"),
    (dict(part='dev'), "part 'dev' of 'a' is none of train, valid, test")])
def test_check_manifest_refuses(change, match):
    with pytest.raises(FastmerError, match=match): check_manifest(pd.DataFrame([ROWS[0] | change, *ROWS[1:]]), 'here')


@pytest.mark.parametrize(('df', 'match'), [
    (pd.DataFrame(dict(id=['a'])), "no column 'label'; it has id"), (pd.DataFrame(dict(id=[], label=[])), 'no utterance'),
    (pd.DataFrame(dict(id=['a'], label=['sad'])), 'neither audio nor text in any row'),
    (pd.DataFrame(dict(id=['a', 'b'], label='sad', audio=['a.wav', ''])), "'b' has neither audio nor text")])
def test_check_manifest_refuses_tables(df, match):
    with pytest.raises(FastmerError, match=match): check_manifest(df)


@pytest.mark.parametrize('part', [*PARTS, ''])
def test_parts(part): assert check_manifest(pd.DataFrame([ROWS[0] | dict(part=part)])).part[0] == part


@pytest.mark.parametrize(('data', 'match'), [
    (None, 'is not there: run fastmer prepare first'), (b'', 'no manifest'), (b'\xff\xfe\x00', 'no manifest'),
    (b'id,label\n"a,sad\n', 'no manifest'),
    (b'x,y\n1,2\n', "no column 'id'"), (b'id,label\n', 'no utterance')])
def test_read_manifest_refuses(tmp_path, data, match):
    if data is not None: (tmp_path/'m.csv').write_bytes(data)
    with pytest.raises(FastmerError, match=match): read_manifest(tmp_path/'m.csv')


def test_half_a_file_is_never_met(tmp_path):
    path = write_csv(pd.DataFrame(dict(a=[1])), tmp_path/'t.csv')

    def interrupted():
        with atomic(path) as tmp:
            tmp.write_text('half')
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): interrupted()
    assert path.read_text() == 'a\n1\n'
    assert os.listdir(tmp_path) == ['t.csv']


def test_a_manifest_from_before_there_were_votes(tmp_path):
    df = as_manifest(ROWS)
    write_csv(df.drop(columns='votes'), tmp_path/'manifest.csv')
    pd.testing.assert_frame_equal(read_manifest(tmp_path/'manifest.csv'), df)


def test_votes_are_checked(tmp_path):
    write_manifest(as_manifest([*ROWS, dict(id='d', text='x', label='sad', votes='sad=2;happy')]), tmp_path/'manifest.csv')
    with pytest.raises(FastmerError, match=r"manifest\.csv, 'd': votes are label=number pairs such as angry=2;happy=1, not 'sad=2;happy'"):
        read_manifest(tmp_path/'manifest.csv')
