"Splits: what holds of every protocol, fold and seed, on an IEMOCAP-like manifest and on small odd ones"
import time
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from iemocap_fixture import make_iemocap

from fastmer.corpora import read_corpus
from fastmer.errors import FastmerError
from fastmer.manifest import as_manifest
from fastmer.splits import PROTOCOLS, Split, _grouped, _script_groups, n_folds, split


@pytest.fixture(scope='module')
def iemocap(tmp_path_factory):
    df = read_corpus('iemocap', make_iemocap(tmp_path_factory.mktemp('splits'), wavs=False)).manifest
    part = ['test' if s == df.session.max() else 'train' for s in df.session]
    return df.assign(part=part, corpus=np.where(df.session < '3', 'one', 'two'))


def make(n=120, labels=3, speakers=6, sessions=3, scripts=4, seed=0, **columns):
    "A manifest of `n` utterances: speakers nested in sessions, scripts in every session"
    rng = np.random.default_rng(seed)
    speaker = np.arange(n) % speakers
    rows = dict(id=[f'u{i:04d}' for i in range(n)], text='x', label=[f'l{i}' for i in rng.integers(0, labels, n)],
                speaker=[f's{i:02d}' for i in speaker], session=[str(i*sessions//speakers) for i in speaker],
                script=[f't{i:02d}' for i in rng.integers(0, scripts, n)], gender=['fm'[i % 2] for i in speaker],
                part=[('train', 'train', 'valid', 'test')[i] for i in rng.integers(0, 4, n)],
                corpus=['a' if i < speakers//2 else 'b' for i in speaker])
    return as_manifest(rows | columns)


def parts(df, found): return {part: df[df.id.isin(getattr(found, part))] for part in ('train', 'valid', 'test')}


def check(df, found):
    "What must hold of any split of `df`"
    ids = [*found.train, *found.valid, *found.test, *found.unused]
    assert Counter(ids) == Counter(df.id)
    assert found.train
    assert found.valid
    assert found.test
    assert all(list(getattr(found, part)) == sorted(getattr(found, part)) for part in ('train', 'valid', 'test'))
    p = parts(df, found)
    assert set(p['test'].label) <= set(p['train'].label)
    alone = {*p['train'].speaker, *p['valid'].speaker}  # one speaker cannot be both
    if found.protocol != 'part' and len(alone) > 1: assert not set(p['train'].speaker) & set(p['valid'].speaker)
    if found.protocol in ('speaker', 'session', 'session+script'): assert not set(p['train'].speaker) & set(p['test'].speaker)
    if found.protocol in ('session', 'session+script'):
        assert p['test'].session.nunique() == 1
        assert not set(p['test'].session) & (set(p['train'].session) | set(p['valid'].session))
    if found.protocol == 'corpus':
        assert p['test'].corpus.nunique() == 1
        assert not set(p['test'].corpus) & {*p['train'].corpus, *p['valid'].corpus}
    if found.protocol == 'session+script': assert not set(p['test'].script) & (set(p['train'].script) | set(p['valid'].script))
    return p


def everything(df, seeds=(0,), folds=None):
    return [split(df, name, fold, seed, folds) for name in PROTOCOLS for fold in range(1, n_folds(df, name, folds) + 1) for seed in seeds]


def test_every_protocol_fold_and_seed_on_iemocap(iemocap):
    for found in everything(iemocap, seeds=(7,)): check(iemocap, found)


@pytest.mark.parametrize('seed', [3])
@pytest.mark.parametrize('shape', [dict(), dict(speakers=8, sessions=4, scripts=10), dict(n=60, labels=2, speakers=3, sessions=3)])
def test_every_protocol_and_fold_on_made_up_manifests(shape, seed):
    df = make(**shape, seed=seed)
    found = everything(df, seeds=(seed,), folds=3)
    for one in found: check(df, one)
    assert len({one.sha256 for one in found}) == len(found)


@pytest.mark.parametrize('protocol', ['random', 'speaker', 'session', 'session+script'])
@pytest.mark.parametrize('folds', [None, 3])
def test_every_utterance_is_tested_once(iemocap, protocol, folds):
    found = [split(iemocap, protocol, fold, folds=folds) for fold in range(1, n_folds(iemocap, protocol, folds) + 1)]
    assert Counter(i for one in found for i in one.test) == Counter(iemocap.id)
    assert {one.n_folds for one in found} == {len(found)}


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_order_of_rows_does_not_matter(iemocap, protocol):
    want = split(iemocap, protocol, seed=3)
    for seed in range(2):
        found = split(iemocap.sample(frac=1, random_state=seed), protocol, seed=3)
        assert found == want
        assert found.sha256 == want.sha256


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_manifest_stays_as_it_was(iemocap, protocol):
    before = iemocap.copy()
    split(iemocap, protocol)
    assert iemocap.equals(before)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_sha256_is_that_of_protocol_fold_seed_and_ids(iemocap, protocol):
    found = split(iemocap, protocol, seed=0)
    assert found.sha256 == split(iemocap, protocol, seed=0).sha256
    assert found.sha256 != split(iemocap, protocol, seed=1).sha256
    assert len(found.sha256) == 64
    assert int(found.sha256, 16)
    assert Split(**asdict(found) | dict(train=found.train[1:])).sha256 != found.sha256
    if found.n_folds > 1: assert split(iemocap, protocol, fold=2).sha256 != found.sha256


@pytest.mark.parametrize('protocol', ['random', 'speaker'])
def test_another_seed_is_another_test_part(protocol):
    df = make(n=300, speakers=20, sessions=4)
    assert len({split(df, protocol, seed=seed).test for seed in range(5)}) == 5


@pytest.mark.parametrize('n', [23, 339, 1000])
def test_random_tests_a_tenth_with_its_mix_of_labels(n):
    df = make(n=n, labels=4)
    for fold in (1, 5, 10):
        p = parts(df, split(df, 'random', fold))
        assert len(p['test']) == pytest.approx(n/10, abs=1)
        for label, count in df.label.value_counts().items(): assert (p['test'].label == label).sum() == pytest.approx(count/10, abs=1)


def test_random_on_few_utterances_a_label_tests_some_in_every_fold():
    df = make(n=20, label=[f'l{i % 4}' for i in range(20)])
    assert [len(split(df, 'random', fold).test) for fold in range(1, 11)] == [2]*10


@pytest.mark.parametrize('folds', [None, 2, 5, 10])
def test_speaker_folds_are_alike(folds):
    df = make(n=400, speakers=10)
    found = [split(df, 'speaker', fold, folds=folds) for fold in range(1, (folds or 5) + 1)]
    tested = [df[df.id.isin(one.test)] for one in found]
    assert {p.speaker.nunique() for p in tested} == {10//(folds or 5)}
    if folds != 10: assert all(p.gender.nunique() == 2 for p in tested)


def test_fewer_speakers_than_folds():
    assert n_folds(make(speakers=3), 'speaker') == n_folds(make(speakers=3), 'speaker', 10) == 3


def test_valid_is_about_a_tenth_in_whole_speakers():
    df = make(n=1000, speakers=50, sessions=5)
    for protocol in ('random', 'speaker'):
        found = split(df, protocol)
        assert len(found.valid) == pytest.approx(0.1*(len(found.valid) + len(found.train)), rel=0.35)


def test_session_tests_one_and_watches_the_next(iemocap):
    names = sorted(iemocap.session.unique())
    for fold, name in enumerate(names, 1):
        p = parts(iemocap, split(iemocap, 'session', fold))
        assert set(p['test'].id) == set(iemocap.id[iemocap.session == name])
        assert set(p['valid'].id) == set(iemocap.id[iemocap.session == names[fold % len(names)]])


def test_session_where_speakers_come_back_watches_whole_speakers():
    df = make(session=[str(i // 40) for i in range(120)])
    assert df.groupby('speaker').session.nunique().min() == 3
    for fold in (1, 2, 3):
        p = parts(df, split(df, 'session', fold))
        assert not set(p['train'].speaker) & set(p['valid'].speaker)
        assert p['test'].session.nunique() == 1


def test_session_of_one_speaker_throughout_still_watches_a_session():
    p = parts(df := make(speakers=1, session=[str(i // 40) for i in range(120)]), split(df, 'session', 1))
    assert set(p['valid'].session) == {'1'}
    assert set(p['train'].session) == {'2'}


@pytest.mark.parametrize('protocol', ['session', 'session+script'])
def test_two_sessions(protocol):
    df = make(n=200, speakers=4, sessions=2, scripts=8)
    for fold in range(1, n_folds(df, protocol) + 1):
        p = check(df, split(df, protocol, fold))
        assert set(p['train'].session) == set(p['valid'].session)


def test_session_and_script_says_why_an_utterance_is_not_used(iemocap):
    found = split(iemocap, 'session+script', 1)
    tested = iemocap[iemocap.id.isin(found.test)]
    for name, reason in found.unused.items():
        row = iemocap[iemocap.id == name].iloc[0]
        if row.session in set(tested.session): assert reason == 'its session is tested, in another fold'
        else: assert (reason, row.script in set(tested.script)) == ('its script is tested', True)
    assert len(found.unused) < len(iemocap)/2 + (iemocap.session == tested.session.iloc[0]).sum()


def test_session_and_script_where_sessions_share_no_script_is_session():
    df = make(n=120)
    df['script'] = df.session + df.script
    assert n_folds(df, 'session+script') == n_folds(df, 'session') == 3
    for fold in (1, 2, 3):
        a, b = split(df, 'session+script', fold), split(df, 'session', fold)
        assert (a.train, a.valid, a.test, a.unused) == (b.train, b.valid, b.test, {})


def groups_by_definition(df):
    for groups in range(1, df.script.nunique() + 1):
        of = df.script.map(_grouped(df, 'script', groups, 0))
        for s in df.session.unique():
            other = df.session != s
            kept = [(other & ~df.script.isin(set(df.script[~other & (of == g)]))).sum() for g in range(groups)]
            if min(kept) < 0.5*other.sum(): break
        else: return groups
    return df.script.nunique()


@pytest.mark.parametrize('seed', range(6))
def test_script_groups_are_the_fewest_that_leave_half_of_the_others(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 120))
    script = rng.choice(9, n, p=rng.dirichlet(np.ones(9)*(0.3, 1, 5)[seed % 3]))
    df = make(n=n, sessions=int(rng.integers(2, 5)), script=[f't{t}' for t in script])
    assert _script_groups(df) == groups_by_definition(df)


@pytest.mark.parametrize('scripts', [22, 5000])
def test_ten_thousand_utterances_take_no_time(scripts):
    df = make(n=10_000, speakers=10, sessions=5, scripts=scripts)
    start = time.process_time()
    check(df, split(df, 'session+script', 2))
    assert time.process_time() - start < 5


def test_part_is_the_corpus_own():
    df = make(part=['train']*80 + ['valid']*20 + ['test']*15 + ['']*5)
    found = split(df, 'part')
    assert [len(found.train), len(found.valid), len(found.test), len(found.unused)] == [80, 20, 15, 5]
    assert found.test == tuple(df.id[100:115])
    assert set(found.unused.values()) == {'the corpus puts it in no part'}


def test_part_without_a_valid_part_takes_whole_speakers_of_train():
    df = make(part=['train']*90 + ['test']*30)
    p = parts(df, found := split(df, 'part'))
    assert set(found.valid) < set(df.id[:90])
    assert not set(p['valid'].speaker) & set(p['train'].speaker)


def test_valid_without_speakers_is_a_tenth_of_each_label():
    df = make(n=200, labels=2, speaker='')
    p = parts(df, split(df, 'random'))
    for label in ('l0', 'l1'): assert (p['valid'].label == label).sum() == pytest.approx(0.09*(df.label == label).sum(), abs=1)


def test_valid_takes_no_label_out_of_train():
    df = make(speakers=2, sessions=2, session='', script='', part=['train']*90 + ['test']*30)
    df.loc[df.speaker == 's00', 'label'] = df.label[df.speaker == 's00'].replace('l2', 'l0')
    assert set(split(df, 'part').train) & set(df.id[df.label == 'l2'])
    df.loc[df.speaker == 's01', 'label'] = df.label[df.speaker == 's01'].replace('l1', 'l0')  # each speaker has a label of its own
    p = parts(df, split(df, 'part'))
    assert set(p['train'].label) == {'l0', 'l1', 'l2'}


@pytest.mark.parametrize(('protocol', 'last'), [('random', 10), ('speaker', 5), ('session', 3), ('part', 1)])
@pytest.mark.parametrize('fold', [0, -1, 99])
def test_fold_out_of_range(protocol, last, fold):
    with pytest.raises(FastmerError, match=rf'fold {fold} is out of range: the {protocol} protocol has folds 1 to {last}'):
        split(make(), protocol, fold)


def test_fold_just_out_of_range(iemocap):
    for protocol in PROTOCOLS:
        last = n_folds(iemocap, protocol)
        assert split(iemocap, protocol, last).fold == last
        with pytest.raises(FastmerError, match='out of range'): split(iemocap, protocol, last + 1)


@pytest.mark.parametrize('folds', [1, 0, -3])
def test_too_few_folds(folds):
    with pytest.raises(FastmerError, match='at least 2 folds'): split(make(), 'random', folds=folds)


@pytest.mark.parametrize(('word', 'hint'), [('sesion', 'did you mean session'), ('speakers', 'did you mean speaker'),
                                            ('xyz', 'there are random, speaker')])
def test_mistyped_protocol(word, hint):
    with pytest.raises(FastmerError, match=hint): split(make(), word)


@pytest.mark.parametrize(('protocol', 'column'), [('speaker', 'speaker'), ('session', 'session'), ('session+script', 'session'),
                                                  ('session+script', 'script')])
def test_column_that_is_empty(protocol, column):
    for values, says in (('', f"'{column}' in the manifest, but 120 utterances have no {column}"), ('a', f'but there is only one {column}'),
                         (['', *'ab'*59, 'a'], f'1 utterances have no {column}')):
        with pytest.raises(FastmerError, match=says): split(make(**{column: values}), protocol)


@pytest.mark.parametrize('lacking', ['train', 'test'])
def test_part_that_is_empty(lacking):
    df = make(part={'train': 'test', 'test': 'train'}[lacking])
    with pytest.raises(FastmerError, match=f'whose part is {lacking}'): split(df, 'part')


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_label_with_one_utterance(protocol):
    df = make(label=['rare', *'ab'*59, 'a'])
    with pytest.raises(FastmerError, match="the label 'rare' has one utterance only"): split(df, protocol)


def test_label_that_only_the_test_part_has():
    df = make()
    with pytest.raises(FastmerError, match='tests rare, which no training utterance has'):
        split(df.assign(label=df.label.where(df.session != '1', 'rare')), 'session', 2)


def test_too_few_utterances():
    with pytest.raises(FastmerError, match='leaves no utterance for test'): split(make(n=6, labels=1), 'random', 10)


def test_about_is_what_a_sidecar_needs(iemocap):
    found = split(iemocap, 'session', 2, seed=4)
    about = found.about()
    assert (about['protocol'], about['fold'], about['n_folds'], about['seed'], about['sha256']) == ('session', 2, 5, 4, found.sha256)
    assert sum(about['counts'].values()) == len(iemocap)
    assert found.part_of() == {i: part for part in ('train', 'valid', 'test') for i in getattr(found, part)}
