"Transcripts read with those before them: which, in what order, cut where; trained, exported, fused, predicted; what it leaks"
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from test_text_encoders import BERT, ROBERTA, byte_bpe, sentence_piece, word_piece
from tokenizers import processors

import fastmer
from fastmer.audit import context_leaks
from fastmer.cli import main
from fastmer.embeddings import FOLDER, hash_rows
from fastmer.errors import FastmerError
from fastmer.export import load_checked
from fastmer.fusion import TokenizeAny
from fastmer.manifest import as_manifest, turns_before
from fastmer.prepare import Prepared, prepare_corpus
from fastmer.runs import protocol_line, read_json
from fastmer.splits import Split, split
from fastmer.systems import train_audio, train_fusion, train_text
from fastmer.text import Tokenize, Turn, as_context, text_dls, turns_of, with_context

WORDS = dict(red='angry', blue='sad')
QUICK = dict(protocol='session', fold=1, device='cpu', say=None)


def talk(n_dialogues=30, turns=10):
    "Dialogues in which a turn's label is what colour was named in the turn before it; its own words tell nothing"
    rng, rows = np.random.default_rng(0), []
    for d in range(n_dialogues):
        before = rng.choice([*WORDS])
        for n in range(turns):
            said, word, who = rng.choice(['well', 'so', 'and then']), rng.choice([*WORDS]), 'fm'[n % 2]
            rows.append(dict(id=f'd{d}_u{n}', text=f'{said} it is {word}', label=WORDS[before], gender=who, speaker=f'{d % 5}{who}',
                             session=str(d % 5), dialogue=f'd{d}', start=2.*n))
            before = word
    return pd.DataFrame(rows)


@pytest.fixture(scope='module')
def talks(tmp_path_factory):
    root = tmp_path_factory.mktemp('talks')
    talk().to_csv(root/'talks.csv', index=False)
    return prepare_corpus('table', root/'talks.csv', root/'prepared', jobs=1)


@pytest.fixture(scope='module')
def runs(talks, tmp_path_factory):
    "Trained with the turn before, and without"
    out = tmp_path_factory.mktemp('runs')
    return {k: train_text(talks, out/str(k), 'tiny', context=k, epochs=5, lr=2e-3, bs=16, **QUICK) for k in (0, 1)}


# --- which turns ----------------------------------------------------------------------------------------------------------------------

def rows(*about): return as_manifest([dict(zip(('id', 'dialogue', 'start', 'text'), row, strict=True), label='sad') for row in about])


def before(df, k): return [' '.join(df.id.iloc[at]) for at in turns_before(df, k)]


def test_turns_come_in_order_and_of_their_own_dialogue_alone():
    df = rows(('c', 'x', 3, 'c'), ('a', 'y', 0, 'a'), ('b', 'x', 1, 'b'), ('d', '', 2, 'd'), ('e', 'x', 2, 'e'), ('f', '', 3, 'f'),
              ('g', 'y', 9, 'g'))
    assert before(df, 1) == ['e', '', '', '', 'b', '', 'a']
    assert before(df, 2) == ['b e', '', '', '', 'b', '', 'a']
    assert before(df, 99) == before(df, 2)


def test_two_corpora_may_name_a_dialogue_alike():
    df = rows(('a', 'x', 1, 'a'), ('b', 'x', 2, 'b')).assign(corpus=['one', 'two'])
    assert before(df, 3) == ['', '']


def test_ties_and_missing_starts_go_by_number():
    nan = float('nan')
    assert before(rows(('u10', 'x', 5, 'a'), ('u2', 'x', 5, 'b'), ('u3', 'x', 1, 'c')), 9) == ['u3 u2', 'u3', '']
    assert before(rows(('u10', 'x', 1, 'a'), ('u2', 'x', nan, 'b'), ('u3', 'x', 2, 'c')), 9) == ['u2 u3', '', 'u2']


def test_turns_without_words_are_no_context():
    df = rows(('a', 'x', 1, 'first\nline'), ('b', 'x', 2, ' '), ('c', 'x', 3, 'c'))
    assert before(df, 1) == ['', 'a', 'a']
    prepared = type('P', (), dict(path='p', manifest=df))
    assert list(with_context(prepared, df, 2).context) == ['', 'first line', 'first line']
    assert with_context(prepared, df, 0) is df


def test_a_corpus_without_dialogues_is_refused(demo_prepared, tmp_path):
    prepared = Prepared(demo_prepared.path, demo_prepared.about)
    vars(prepared)['manifest'] = demo_prepared.manifest.assign(dialogue='')
    with pytest.raises(FastmerError, match='which dialogue an utterance is of: --context needs the column dialogue'):
        train_text(prepared, tmp_path/'x', 'tiny', context=1, **QUICK)
    assert not (tmp_path/'x').exists()


# --- token ids ------------------------------------------------------------------------------------------------------------------------

TEXTS = ['well it is red and then it is blue', 'the letter from the bank', 'so she said nothing']


def roberta(texts):
    tokenizer = byte_bpe(texts, ROBERTA)
    at = {name: (ROBERTA[name], tokenizer.convert_tokens_to_ids(ROBERTA[name])) for name in ('sep_token', 'cls_token')}
    tokenizer.backend_tokenizer.post_processor = processors.RobertaProcessing(at['sep_token'], at['cls_token'], add_prefix_space=False)
    return tokenizer


def bare(texts):
    "No special token around or between texts"
    tokenizer = word_piece(texts, BERT)
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    tokenizer.sep_token = None
    return tokenizer


PAIRS = {  # tokenizer, and what stands between context and utterance
    'bert': (lambda texts: word_piece(texts, BERT), '[CLS] {} [SEP] {} [SEP]'),
    'roberta': (roberta, '<s> {} </s> </s> {} </s>'),
    'xlm-roberta': (lambda texts: sentence_piece(texts, ROBERTA), '<s> {} </s> {} </s>'),
    'bare': (bare, '{} {}')}


@pytest.fixture(params=PAIRS)
def family(request):
    make, template = PAIRS[request.param]
    tokenizer = make(TEXTS)
    plain = lambda text: ' '.join(tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)['input_ids']))
    return tokenizer, lambda *turns: template.format((f' {tokenizer.sep_token} ' if tokenizer.sep_token else ' ').join(
        map(plain, turns[:-1])), plain(turns[-1])).split()


def tokens(tokenizer, ids): return tokenizer.convert_ids_to_tokens(list(ids))


def test_the_pair_is_the_tokenizers_own(family):
    tokenizer, pair = family
    a, b, c = TEXTS
    assert tokens(tokenizer, Tokenize(tokenizer, context=2).ids(Turn(c, f'{a}\n{b}'))) == pair(a, b, c)
    assert tokens(tokenizer, Tokenize(tokenizer, context=1).ids(Turn(c, f'{a}\n{b}'))) == pair(b, c)


def test_context_is_cut_from_its_beginning_and_the_utterance_only_without_it(family):
    tokenizer, pair = family
    a, b, c = TEXTS
    whole = pair(a, b, c)
    first = next(i for i, token in enumerate(whole) if token not in tokenizer.all_special_tokens)
    shortest = len(pair(a, c)) - len(tokenizer(a, add_special_tokens=False)['input_ids'])  # with nothing left of the context
    for length in range(4, len(whole) + 3):
        ids = tokens(tokenizer, Tokenize(tokenizer, length, context=2).ids(Turn(c, f'{a}\n{b}')))
        assert len(ids) <= length
        if length >= len(whole): assert ids == whole
        elif length > shortest: assert ids == whole[:first] + whole[first + len(whole) - length:]
        else: assert ids == tokens(tokenizer, Tokenize(tokenizer, length).ids(c))


def test_without_context_nothing_changes(family):
    tokenizer, _ = family
    for text in [*TEXTS, '', ' ', 'an unheard-of word', 'x '*300]:
        want = tokenizer([text], truncation=True, max_length=20)['input_ids'][0] or [tokenizer.unk_token_id]
        for k, said in ((0, Turn(text, 'before')), (2, text), (2, Turn(text)), (2, Turn(text, ' \n\n')), (0, text)):
            assert Tokenize(tokenizer, 20, context=k).ids(said) == want, (k, text)


def test_nothing_was_said_is_nothing_whatever_was_said_before(family):
    tokenizer, _ = family
    assert TokenizeAny(tokenizer, context=2).ids(Turn(' ', 'before')) == [tokenizer.pad_token_id]
    assert len(TokenizeAny(tokenizer, context=2).ids(Turn('so', 'it is red'))) > len(TokenizeAny(tokenizer, context=2).ids('so'))
    assert Tokenize(tokenizer, context=2).ids(Turn('', 'before')) == Tokenize(tokenizer).ids('')


def test_lengths_and_what_is_shown(family):
    tokenizer, pair = family
    a, b, c = TEXTS
    said = [c, Turn(c, a), Turn(c, as_context([a, b])), 'x '*99, Turn('x '*99, a)]
    tokenize = Tokenize(tokenizer, 80, context=2)
    assert tokenize.lengths(said) == [min(81, len(Tokenize(tokenizer, 9999, context=2).ids(text))) for text in said]
    assert tokenize.lengths(said)[2] == len(pair(a, b, c))
    shown = tokenize.decodes(tokenize.encodes(said[2]))
    assert [part.strip() for part in shown.split('/')] == [a, b, c] or tokenizer.sep_token is None


def test_words_that_come_to_nothing():
    tokenizer = word_piece(TEXTS, BERT)
    assert Tokenize(tokenizer, context=1).ids(Turn('\u200b', '\u200b'))
    assert Tokenize(tokenizer, 6, context=1).ids(Turn('so she', '\u200b'))[-1] == tokenizer.sep_token_id


def test_context_is_cleaned_turn_by_turn():
    pytest.importorskip('snowballstemmer')
    tokenizer = word_piece(TEXTS, BERT)
    ids = Tokenize(tokenizer, clean='english', context=3).ids(Turn('She was running!', 'Letters.\nThe banks?\nWas it so?'))
    plain = [tokenizer(text, add_special_tokens=False)['input_ids'] for text in ('letter', 'bank', 'run')]
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    assert ids == cls + plain[0] + sep + plain[1] + sep + plain[2] + sep


# --- training, exporting, predicting ----------------------------------------------------------------------------------------------------

def test_context_is_learned_from_and_without_it_there_is_only_chance(runs):
    without, read = (runs[k].evaluate() for k in (0, 1))
    assert read['ua'] > 0.85
    assert without['ua'] < 0.65
    assert 'USES the transcripts before each utterance, of its dialogue (--context 1)' in protocol_line(read)
    assert 'USES' not in protocol_line(without)
    assert 'LEAKS' not in protocol_line(read)
    assert {k: run.sidecar['tokenizer']['context'] for k, run in runs.items()} == {0: 0, 1: 1}


def test_batches_hold_pairs_of_the_length_that_they_are_sorted_by(talks, runs):
    tokenizer = load_checked(runs[1].path)[0].dls.tls[0].tfms.fs[-1].tokenizer
    fold = split(talks.manifest, 'session', 1)
    dls = text_dls(talks, fold, tokenizer, bs=8, context=2)
    x, _ = dls.train_ds[5]
    assert (x == tokenizer.sep_token_id).sum() == 3  # of two turns before it, and its own
    assert dls.train.res == [len(x) for x, _ in dls.train_ds]
    rows = with_context(talks, talks.manifest, 2)
    assert [len(x[0]) for x in dls.test_dl(rows).dataset] == Tokenize(tokenizer, context=2).lengths(turns_of(rows))


def test_what_is_cut_is_said(talks, tmp_path):
    said = []
    train_text(talks, tmp_path/'x', 'tiny', context=3, max_length=12, epochs=1, **QUICK | dict(say=said.append))
    assert not [line for line in said if 'lose their last words' in line]
    assert [line for line in said if line.startswith('note: ') and 'tokens with their context and lose the earliest of it' in line], said


def test_a_fresh_process_gives_the_same_probabilities(talks, runs, says_the_same):
    says_the_same(talks, [runs[1].path], n=1000, context=1)


def test_predict(runs, tmp_path):
    learner = fastmer.load(runs[1].path)
    says = lambda *context: learner.predict(text='well it is red', context=context or None)['label']
    assert [says('so it is red'), says('so it is blue')] == ['angry', 'sad']
    assert [says('it is red', 'so it is blue'), says('so it is blue', 'so it is red')] == ['sad', 'angry']  # the last one
    assert learner.predict(text='so', context='it is red\nit is blue') == learner.predict(text='so', context=['it is blue'])
    assert learner.predict(text='so') == learner.predict(text='so', context='') == learner.predict(text='so', context=[])


def test_the_command(runs, tmp_path):
    call = lambda run, *args: CliRunner().invoke(main, ['predict', str(run.path), *map(str, args), '--json'])
    done = call(runs[1], '--text', 'so it is red', '--context', 'well it is red', '--context', 'well it\nis blue')
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer['label'], answer['context']) == ('sad', 'well it is red\nwell it is blue')
    context = ['so it is blue\nso it is red', 'so it is blue', '']
    pd.DataFrame(dict(text='so it is red', context=context)).to_csv(tmp_path/'t.csv', index=False)
    answers = [json.loads(line) for line in call(runs[1], '--table', tmp_path/'t.csv').stdout.splitlines()]
    assert [answer['label'] for answer in answers[:2]] == ['angry', 'sad']
    assert answers[2] == json.loads(call(runs[1], '--text', 'so it is red').stdout) | dict(audio=None)
    for args, why in ((['--table', tmp_path/'t.csv'], 'this text learner reads no context'),
                      (['--text', 'so', '--context', 'x'], 'this text learner reads no context'),
                      (['--text', 'a', '--text', 'b', '--context', 'x'], 'before one --text, and 2 were given'),
                      (['a.wav', '--context', 'x'], 'and 0 were given'), (['--table', tmp_path/'t.csv', '--context', 'x'], 'not both')):
        refused = call(runs[0], *args)
        assert refused.exit_code == 1
        assert why in refused.stderr
        assert refused.stderr.count('fastmer:') == 1


# --- fusion -----------------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def fused(demo_prepared, tmp_path_factory):
    "A fusion on the demo's dialogues with a text learner that reads two turns before, some of the utterances without transcript"
    prepared, out = Prepared(demo_prepared.path, demo_prepared.about), tmp_path_factory.mktemp('fused')
    n = np.arange(len(demo_prepared.manifest))
    vars(prepared)['manifest'] = demo_prepared.manifest.assign(text=demo_prepared.manifest.text.where(n % 5 != 0, ''))
    audio = train_audio(prepared, out/'audio', 'alexnet', epochs=1, seconds=3.3, lr=1e-3, **QUICK)
    text = train_text(prepared, out/'text', 'tiny', context=2, epochs=2, lr=1e-3, **QUICK)
    return prepared, train_fusion(prepared, audio.path, text.path, out/'fusion', head_epochs=3, device='cpu', say=None)


def test_fusion_reads_the_context_that_its_text_learner_read(fused):
    prepared, run = fused
    learner, rows = fastmer.load(run.path), with_context(prepared, prepared.manifest, 2).set_index('id')
    assert run.sidecar['tokenizer']['context'] == 2
    assert 'USES the transcripts before each utterance, of its dialogue (--context 2)' in protocol_line(run.evaluate())
    changed = 0
    for row in run.predictions.itertuples():
        of = rows.loc[row.id]
        given = dict(audio=prepared.root/of.audio, text=of.text)
        got = learner.predict(**given, context=of.context)
        changed += got['probabilities'] != learner.predict(**given)['probabilities']
        assert got['modalities'] == (['audio', 'text'] if of.text else ['audio'])
        if not of.text: assert got == learner.predict(**given)
        for label, p in got['probabilities'].items(): assert p == pytest.approx(getattr(row, f'p_{label}'), abs=1e-4)
    assert changed


def test_what_encoders_say_is_kept_by_context(fused):
    prepared, _ = fused
    plain = prepared.manifest
    hashes = [hash_rows(with_context(prepared, plain, k)) for k in (0, 1, 2)]
    assert len(set(hashes)) == 3
    assert hashes[2] != hash_rows(with_context(prepared, plain, 2).assign(context='')) != hashes[0]
    assert hash_rows(plain) == hashes[0]
    assert list((prepared.path/FOLDER).glob('*.npz'))


# --- leaks ------------------------------------------------------------------------------------------------------------------------------

def parts(train, valid, test): return Split('session', 1, 2, 0, tuple(train), tuple(valid), tuple(test))


def test_context_that_was_learned_from_is_a_leak():
    df = rows(*((name, 'x' if name < 'e' else 'y', float(n), name) for n, name in enumerate('abcdefgh')))
    assert context_leaks(df, parts('abc', 'd', 'efgh'), 3) == []
    assert context_leaks(df, parts('abe', 'f', 'dgh'), 0) == []
    assert context_leaks(df, parts('ab', 'ef', 'cdgh'), 1) == ['2 of 4 test utterances are read with transcripts that were learned from '
                                                              '(--context 1)']  # b before c, f before g
    assert context_leaks(df, parts('cdef', 'gh', 'ab'), 2) == ['2 of 2 test utterances were read in training, as the context of others '
                                                              '(--context 2)']
    both = context_leaks(df, parts('ace', 'g', 'bdfh'), 1)
    assert both == ['4 of 4 test utterances are read with transcripts that were learned from (--context 1)',
                    '2 of 4 test utterances were read in training, as the context of others (--context 1)']
    assert context_leaks(df, parts('eg', 'f', 'abcd'), 9) == []
    assert context_leaks(df, parts('b', 'ef', 'd'), 1) == []  # c, between them, stands in no part


def test_a_score_of_a_split_through_dialogues_says_so(talks, tmp_path):
    run = train_text(talks, tmp_path/'x', 'tiny', context=1, epochs=1, protocol='speaker', folds=10, device='cpu', say=None)
    line = protocol_line(read_json(run.path/'metrics.json'))
    assert 'LEAKS: ' in line
    assert 'test utterances are read with transcripts that were learned from (--context 1)' in line
    found = context_leaks(talks.manifest, split(talks.manifest, 'speaker', 1, folds=10), 1)
    assert run.sidecar['leaks'] == found
    assert len(found) == 2


def test_context_goes_through_cross_validation(talks, tmp_path):
    args = ['cross-validate', str(talks.path), '--system', 'text', '--protocol', 'session', '--only', '1', '--out', str(tmp_path/'cv')]
    done = CliRunner().invoke(main, [*args, '--arch', 'tiny', '--context', '1', '--epochs', '1', '--device', 'cpu'])
    assert done.exit_code == 0, done.output
    assert 'USES the transcripts before each utterance' in ' '.join(done.output.split())
    assert read_json(tmp_path/'cv/text/seed0-fold1/learner.json')['tokenizer']['context'] == 1
