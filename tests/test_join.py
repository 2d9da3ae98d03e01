"Prepared folders of several corpora in one: nothing is taken for another's, and one corpus can be tested by what others taught"
import json

import pandas as pd
import pytest
from click.testing import CliRunner

from fastmer.audit import audit_protocol
from fastmer.cli import main
from fastmer.errors import FastmerError
from fastmer.join import join_prepared
from fastmer.prepare import Prepared, prepare_corpus
from fastmer.spectrogram import SpectrogramConfig
from fastmer.splits import n_folds, split
from fastmer.systems import train_text


@pytest.fixture(scope='module')
def parts(corpus, tmp_path_factory):
    "The tones prepared as three corpora; the third has one more label"
    out, folders = tmp_path_factory.mktemp('parts'), []
    for name, mapping in (('one', None), ('two', None), ('three', 'sad=bored')):
        folders.append(prepare_corpus('table', corpus/'utterances.csv', out/name, mapping=mapping, jobs=1, corpus_name=name))
    return folders


@pytest.fixture(scope='module')
def joined(parts, tmp_path_factory): return join_prepared([part.path for part in parts], tmp_path_factory.mktemp('joined')/'all')


def test_nothing_is_lost_or_mixed_up(parts, joined):
    df = joined.manifest
    assert len(df) == sum(len(part.manifest) for part in parts)
    assert df.speaker.nunique() == sum(part.manifest.speaker.nunique() for part in parts)
    assert sorted(df.corpus.unique()) == ['one', 'three', 'two']
    for part, name in zip(parts, ('one', 'two', 'three'), strict=True):
        for row in part.manifest.itertuples():
            new = df[df.id == f'{name}-{row.id}'].iloc[0]
            assert (new.label, new.script) == (row.label, row.script)
            assert (new.speaker, new.session) == (f'{name}:{row.speaker}', f'{name}:{row.session}')
            assert joined.png(new).read_bytes() == part.png(row).read_bytes()
            assert (joined.root/new.audio).read_bytes() == (part.root/row.audio).read_bytes()
    assert Prepared.open(joined.path).about['label_map']['three']['sad'] == 'bored'


def test_one_corpus_is_tested_by_what_the_others_taught(joined):
    df = joined.manifest
    assert n_folds(df, 'corpus') == 3
    for fold, name in enumerate(('one', 'three', 'two'), 1):
        s = split(df, 'corpus', fold)
        assert set(df.corpus[df.id.isin(list(s.test))]) == {name}
        assert name not in set(df.corpus[df.id.isin([*s.train, *s.valid])])
    s = split(df, 'corpus', 2)
    assert set(df.label[df.id.isin(list(s.unused))]) == {'bored'}
    assert set(s.unused.values()) == {'no corpus that is learned from has its label'}


def test_train_and_test_corpus(joined):
    df = joined.manifest
    s = split(df, test_corpus='two', train_corpus=['one'])
    assert (s.protocol, s.fold) == ('corpus', 3)
    assert set(df.corpus[df.id.isin([*s.train, *s.valid])]) == {'one'}
    assert set(df.corpus[df.id.isin(list(s.unused))]) == {'three'}
    assert s.sha256 != split(df, test_corpus='two').sha256
    assert audit_protocol(joined, test_corpus='two', audio=False)['leaks'] == ['same file']  # all three were read from one folder
    for kwargs, says in ((dict(test_corpus='tow'), 'did you mean two'), (dict(train_corpus='one'), 'say with --test-corpus'),
                         (dict(test_corpus='one', train_corpus='one'), 'both learned from and tested')):
        with pytest.raises(FastmerError, match=says): split(df, **kwargs)


def test_equal_recordings_in_two_corpora_are_a_leak(joined):
    result = audit_protocol(joined, test_corpus='two', jobs=1)
    assert 'same audio' in result['leaks']


def test_training_across_corpora(joined, tmp_path):
    run = train_text(joined, tmp_path/'x', 'tiny', test_corpus='two', train_corpus='one', epochs=1, lr=1e-3, say=None)
    assert run.split['protocol'] == 'corpus'
    assert all(name.startswith('two-') for name in run.predictions.id)


def test_what_cannot_be_joined(parts, corpus, tmp_path):
    with pytest.raises(FastmerError, match='at least two'): join_prepared(parts[:1], tmp_path/'x')
    with pytest.raises(FastmerError, match='both hold one'): join_prepared([parts[0], parts[0]], tmp_path/'x')
    with pytest.raises(FastmerError, match='is not empty'): join_prepared(parts, parts[0].path)
    small = prepare_corpus('table', corpus/'utterances.csv', tmp_path/'small', config=SpectrogramConfig(bands=32), jobs=1,
                           corpus_name='small')
    with pytest.raises(FastmerError, match='different spectrogram settings'): join_prepared([parts[0], small], tmp_path/'x')
    odd = prepare_corpus('table', corpus/'utterances.csv', tmp_path/'odd', mapping='angry=a1,happy=a2,sad=a3,neutral=a4', jobs=1,
                         corpus_name='odd')
    with pytest.raises(FastmerError, match='no label in common'): join_prepared([parts[0], odd], tmp_path/'x')
    assert not (tmp_path/'x').exists()


def test_commands(parts, tmp_path):
    done = CliRunner().invoke(main, ['join', *(str(part.path) for part in parts), str(tmp_path/'out')])
    assert done.exit_code == 0, done.output
    assert 'sad=bored' in done.output
    done = CliRunner().invoke(main, ['split', str(tmp_path/'out'), '--test-corpus', 'one', '--train-corpus', 'two', '--json'])
    found = json.loads(done.stdout)
    assert all(name.startswith('one-') for name in found['test'])
    left = pd.read_csv(tmp_path/'out/skipped.csv')
    assert list(left) == ['id', 'audio', 'reason']
    assert CliRunner().invoke(main, ['join', str(parts[0].path), str(tmp_path/'z')]).exit_code == 1
