"Label sets and maps"
import pytest

from fastmer.corpora.iemocap import CODES, TURNS
from fastmer.errors import FastmerError
from fastmer.labels import LABEL_SETS, as_votes, label_map, parse_map, parse_votes


@pytest.mark.parametrize(('text', 'want'), [
    ('exc=happy,fru=angry', dict(exc='happy', fru='angry')), (' exc = happy , ', dict(exc='happy')), ('', {}), (',', {})])
def test_parse_map(text, want): assert parse_map(text) == want


@pytest.mark.parametrize('text', ['exc', 'exc=', '=happy', 'a=b=c', 'exc=happy,fru'])
def test_parse_map_refuses(text):
    with pytest.raises(FastmerError, match='wants code=label pairs'): parse_map(text)


@pytest.mark.parametrize(('labels', 'turns'), [('4', 5531), ('5', 7380), ('6', 7380), ('all', 10039)])
def test_label_sets_on_iemocap(labels, turns):
    made = label_map(CODES, labels)
    assert sum(TURNS[code] for code in made) == turns
    assert len({*made.values()}) == (11 if labels == 'all' else int(labels))


def test_four_merges_excited_into_happy():
    assert label_map(CODES, '4') == dict(ang='angry', hap='happy', exc='happy', sad='sad', neu='neutral')
    assert label_map(CODES, 6)['exc'] == 'excited'
    assert [len({*LABEL_SETS[n].values()}) for n in '456'] == [4, 5, 6]


@pytest.mark.parametrize(('labels', 'mapping', 'want'), [
    ('all', None, dict(a='angry', b='happy', c='excited')), ('happy,angry', None, dict(a='angry', b='happy')),
    ('all', dict(c='happy'), dict(a='angry', b='happy', c='happy')),
    ('all', dict(excited='happy'), dict(a='angry', b='happy', c='happy')),
    ('happy', dict(excited='happy'), dict(b='happy', c='happy')), ('4', dict(c='angry'), dict(a='angry', b='happy', c='angry')),
    ('all', dict(a='tense', c='tense'), dict(a='tense', b='happy', c='tense'))])
def test_label_map(labels, mapping, want): assert label_map(dict(a='angry', b='happy', c='excited'), labels, mapping) == want


def test_label_map_leaves_its_arguments_alone():
    codes, mapping = dict(a='angry'), dict(a='tense')
    label_map(codes, 'all', mapping)
    assert (codes, mapping) == (dict(a='angry'), dict(a='tense'))


@pytest.mark.parametrize(('labels', 'mapping', 'match'), [
    ('all', dict(excitd='happy'), r"--map names 'excitd'.*did you mean excited\?"),
    ('all', dict(exc='hapy'), r"looks misspelt.*happy"),
    ('happy,sadd', None, r"--labels names 'sadd'.*did you mean sad\?"),
    ('7', None, "--labels names '7'.*the sets 4, 5, 6 and all")])
def test_a_misspelt_class_does_not_vanish(labels, mapping, match):
    with pytest.raises(FastmerError, match=match): label_map(CODES, labels, mapping)


def test_votes_there_and_back():
    assert parse_votes(' angry=2; a=b=0.5;angry=1;') == {'angry': 3., 'a=b': 0.5}
    assert parse_votes('') == {}
    assert as_votes({'angry': 3., 'b': 1/3}) == 'angry=3;b=0.333333'
    assert as_votes(dict(exc=1, hap=2, fru=1), dict(exc='happy', hap='happy')) == 'happy=3;fru=1'
