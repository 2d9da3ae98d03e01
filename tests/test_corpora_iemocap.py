"The IEMOCAP reader on a made-up corpus with every trap of the real one"
import re
import shutil
import time

import pytest
from iemocap_fixture import CATEGORIES, FULL_LABELS, SMALL_LABELS, make_iemocap

from fastmer.corpora import read_corpus
from fastmer.corpora.iemocap import CODES, DIALOGUES, FOUR, NAME, TURNS, read
from fastmer.errors import FastmerError
from fastmer.labels import parse_votes


@pytest.fixture(scope='module')
def small(tmp_path_factory): return make_iemocap(tmp_path_factory.mktemp('small'))


@pytest.fixture(scope='module')
def df(small): return read(small).manifest.set_index('id')


@pytest.fixture
def text_only(tmp_path): return make_iemocap(tmp_path, wavs=False)


def evaluation(root, dialogue): return root/f'Session{dialogue[4]}/dialog/EmoEvaluation/{dialogue}.txt'


def rewrite(path, change): path.write_bytes(change(path.read_bytes().decode('cp1252')).encode('cp1252'))


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    start = time.perf_counter()
    corpus = read(make_iemocap(tmp_path_factory.mktemp('full'), full=True))
    assert time.perf_counter() - start < 60
    return corpus


def test_complete_release_has_nothing_to_note(full):
    assert full.notes == []
    assert full.skipped == []
    assert full.manifest.label.value_counts().to_dict() == TURNS
    assert len(full.manifest) == 10039
    assert full.manifest.groupby('session').dialogue.nunique().to_dict() == DIALOGUES
    assert sum(DIALOGUES.values()) == 151


def test_complete_release_in_four_classes(full):
    df = read_corpus('iemocap', full.root).manifest
    assert df.label.value_counts().to_dict() == dict(neutral=1708, happy=1636, angry=1103, sad=1084)
    assert df.session.value_counts().to_dict() == FOUR
    assert len(df) == sum(FOUR.values()) == 5531
    assert df.speaker.nunique() == 10


def test_complete_release_shares_scripts_between_sessions(full):
    scripted = full.manifest[full.manifest.script.str.startswith('script') & (full.manifest.text != '')]
    assert (scripted.groupby('script').session.nunique() == 5).all()
    assert (scripted.groupby('text').session.nunique() > 1).mean() > 0.1
    assert full.manifest.script.nunique() == 7 + 8


def test_fifty_four_turns_of_tags_only_stay(full):
    assert (full.manifest.text == '').sum() == 54
    assert not full.manifest.text.str.contains(r'[\[\]]').any()


def test_known_counts_agree_with_the_fixture():
    assert {code: sum(labels[code] for labels in FULL_LABELS.values()) for code in CODES} == TURNS


def test_every_labelled_turn_is_read_once(small, df):
    assert df.index.is_unique
    assert df.label.value_counts().to_dict() == {
        code: n for code in CODES if (n := sum(labels[code] for labels in SMALL_LABELS.values()))}
    assert not df.index.str.contains('XX').any()


def test_columns(small, df):
    path = evaluation(small, 'Ses03M_impro05b')
    line = next(line for line in path.read_text('cp1252').splitlines() if line.startswith('['))
    start, end, name, label, *vad = re.fullmatch(r'\[(\S+) - (\S+)\]\t(\S+)\t(\w+)\t\[(\S+), (\S+), (\S+)\]', line).groups()
    row = df.loc[name]
    assert (row.start, row.end, row.label) == (float(start), float(end), label)
    assert row.duration == pytest.approx(row.end - row.start)
    assert [row.valence, row.arousal, row.dominance] == [float(x) for x in vad]
    assert (row.session, row.dialogue, row.script) == ('3', 'Ses03M_impro05b', 'impro05')
    assert (row.language, row.corpus) == ('en', 'iemocap')
    assert row.audio == f'Session3/sentences/wav/Ses03M_impro05b/{name}.wav'
    assert (small/row.audio).is_file()


def test_speaker_is_the_letter_of_the_turn_not_of_the_dialogue(df):
    letters = df.index.str.extract(r'_([FM])\d+$')[0].to_numpy()
    assert (df.gender == [letter.lower() for letter in letters]).all()
    assert (df.speaker == [f'Ses0{s}{letter}' for s, letter in zip(df.session, letters, strict=True)]).all()
    assert df.speaker.nunique() == 10
    crossed = df[df.dialogue.str[5] != letters]
    assert {*crossed.gender} == {'f', 'm'}


@pytest.mark.parametrize(('dialogue', 'script'), [
    ('Ses01F_impro01', 'impro01'), ('Ses03M_impro05a', 'impro05'), ('Ses03M_impro05b', 'impro05'),
    ('Ses03M_impro08b', 'impro08'),
    ('Ses05M_script01_1', 'script01_1'), ('Ses05M_script01_1b', 'script01_1'), ('Ses04F_script03_2', 'script03_2')])
def test_takes_are_one_script(dialogue, script): assert NAME.fullmatch(dialogue).groups() == (dialogue[4], script)


def test_takes_keep_their_own_turns(df):
    for name in ('Ses05M_script01_1', 'Ses05M_script01_1b', 'Ses03M_impro05a', 'Ses03M_impro05b'):
        turns = df[df.dialogue == name]
        assert len(turns) > 3
        assert turns.index.str.match(rf'{name}_[FM]\d\d\d$').all()


def test_text_is_that_of_the_transcript_without_tags(small, df):
    paths = small.glob('Session*/dialog/transcriptions/Ses*.txt')
    lines = [line for path in paths for line in path.read_text('cp1252').splitlines()]
    said = {line.split()[0]: line.split(']:', 1)[1] for line in lines if line.startswith('Ses')}
    plain = {name for name in df.index if '[' not in said[name]}
    assert all(df.text[name] == said[name].strip() for name in plain)
    assert (df.text == '').sum() == 5
    tagged = [name for name in df.index if name not in plain and df.text[name]]
    assert tagged
    assert all(df.text[name] == ' '.join(re.sub(r'\[\w+\]', ' ', said[name]).split()) for name in tagged)
    assert df.text.str.contains('kélo').any()


def test_text_is_split_on_the_first_bracket_colon(text_only):
    path = text_only/'Session1/dialog/transcriptions/Ses01M_impro02.txt'
    name = re.search(r'^Ses\w+_[FM]\d+', path.read_text('cp1252'), re.MULTILINE)[0]
    rewrite(path, lambda text: re.sub(rf'({name} \[\S+\]:).*', r'\1 [zibu]: ra 7]: na.', text))
    assert read(text_only).manifest.set_index('id').text[name] == ': ra 7]: na.'


def test_root_may_be_the_parent(small):
    corpus = read_corpus('iemocap', small.parent)
    assert corpus.root == small.resolve()
    assert (corpus.root/corpus.manifest.audio.iloc[0]).is_file()


def test_root_may_be_a_parent_with_another_name(text_only):
    text_only.rename(other := text_only.with_name('iemocap_copy'))
    assert read(other.parent).root == other
    shutil.copytree(other, other.with_name('iemocap_twin'))
    with pytest.raises(FastmerError, match='iemocap_copy, iemocap_twin'): read(other.parent)


@pytest.mark.parametrize('make', [lambda path: path.mkdir(), lambda path: path.write_text('a,b\n')])
def test_what_is_no_iemocap(tmp_path, make):
    make(tmp_path/'x')
    with pytest.raises(FastmerError, match=r'no IEMOCAP.*IEMOCAP_full_release'): read(tmp_path/'x')


def test_labels_of_raters_are_not_labels(small):
    decoys = [path for path in small.glob('Session*/dialog/EmoEvaluation/*/Ses*.txt') if '\toth\t' in path.read_text('cp1252')]
    assert decoys
    assert (read(small).manifest.label == 'oth').sum() == 1


def test_a_missing_wav_is_skipped(small, tmp_path):
    shutil.copytree(small, root := tmp_path/'copy')
    name = 'Ses02F_impro01_F000'
    (root/f'Session2/sentences/wav/Ses02F_impro01/{name}.wav').unlink()
    corpus = read(root)
    assert corpus.skipped == [dict(id=name, audio=f'Session2/sentences/wav/Ses02F_impro01/{name}.wav',
                                   reason='the wav is not there')]
    assert name not in corpus.manifest.id.to_list()
    assert '1 labelled turn without a wav left out' in corpus.notes


def test_without_any_wav_the_text_stays(text_only, df):
    corpus = read(text_only)
    assert len(corpus.manifest) == len(df)
    assert {*corpus.manifest.audio} == {''}
    assert sum('text only' in note for note in corpus.notes) == 1
    assert len(read_corpus('iemocap', text_only).manifest) == 140


def test_what_is_missing_is_noted(text_only):
    shutil.rmtree(text_only/'Session3')
    notes = read(text_only).notes
    assert 'session 3 is missing' in notes
    assert 'session 2 has 4 of 30 dialogues' in notes
    assert any(note.startswith('labelled turns found 158 of 10,039: neu 32 of 1,708') for note in notes)
    assert any('four classes 112 of 5,531' in note and '3 0 of 1,151' in note for note in notes)


def test_a_turn_without_a_transcript_has_no_text(text_only):
    path = text_only/'Session4/dialog/transcriptions/Ses04F_impro01.txt'
    path.unlink()
    corpus = read(text_only)
    turns = corpus.manifest[corpus.manifest.dialogue == 'Ses04F_impro01']
    assert {*turns.text} == {''}
    assert any(note.startswith(f'{len(turns)} labelled turns without a transcript') for note in corpus.notes)


@pytest.mark.parametrize('line', [
    '[1.0000 - 2.0000]\tSes01M_impro02_F900\t', '[1.0000 -\tSes01M_impro02_F900\tneu\t[2.5, 2.5, 2.5]', '[]',
    'Ses01M_impro02_F900 neu',
    '[2.0000 - 1.0000]\tSes01M_impro02_F900\tneu\t[2.5, 2.5, 2.5]', '[1.0 - 2.0]\tSes01M_impro01_F900\tneu\t[2.5, 2.5, 2.5]',
    '[1.0.0 - 2.0]\tSes01M_impro02_F900\tneu\t[2.5, 2.5, 2.5]', '[1.0 - 2.0]\tSes01M_impro02_F900\tneu\t[2.5, 2.5'])
def test_a_line_that_cannot_be_read_is_noted(text_only, df, line):
    rewrite(evaluation(text_only, 'Ses01M_impro02'), lambda text: f'{line}\n{text}')
    corpus = read(text_only)
    assert len(corpus.manifest) == len(df)
    assert '1 line that cannot be read left out, first Session1/dialog/EmoEvaluation/Ses01M_impro02.txt line 1' in corpus.notes


def test_scores_that_cannot_be_read_are_nan(text_only):
    rewrite(evaluation(text_only, 'Ses01M_impro02'), lambda text: f'[1.0 - 2.5]\tSes01M_impro02_F900\tneu\t[2.5, , x]\n{text}')
    row = read(text_only).manifest.set_index('id').loc['Ses01M_impro02_F900']
    assert (row.label, row.duration) == ('neu', 1.5)
    assert row.dominance != row.dominance
    assert row.valence == 2.5


def test_an_unknown_code_and_a_second_label_are_skipped(text_only, df):
    path = evaluation(text_only, 'Ses01M_impro02')
    first = next(line for line in path.read_text('cp1252').splitlines() if line.startswith('['))
    rewrite(path, lambda text: text + f'[1.0 - 2.5]\tSes01M_impro02_F900\tjoy\t[2.5, 2.5, 2.5]\n\n{first}\n')
    corpus = read(text_only)
    assert len(corpus.manifest) == len(df)
    assert [skip['id'] for skip in corpus.skipped] == ['Ses01M_impro02_F900', first.split('\t')[1]]
    assert "'joy' is none of the codes ang" in corpus.skipped[0]['reason']
    assert 'second time' in corpus.skipped[1]['reason']


def test_a_file_named_after_no_dialogue_is_noted(text_only, df):
    path = evaluation(text_only, 'Ses01M_impro02')
    shutil.copy(path, path.with_name('Ses01M_impro02 (1).txt'))
    corpus = read(text_only)
    assert len(corpus.manifest) == len(df)
    assert '1 file in EmoEvaluation named after no dialogue left out, first Ses01M_impro02 (1).txt' in corpus.notes


def test_windows_line_ends_and_a_byte_order_mark(text_only, df):
    for path in text_only.glob('Session*/dialog/*/Ses*.txt'):
        path.write_bytes(path.read_bytes().decode('cp1252').replace('\r\n', '\n').replace('\n', '\r\n').encode('utf-8-sig'))
    again = read(text_only).manifest.set_index('id')
    assert (again.text == df.text).all()
    assert (again.label == df.label).all()


def test_bytes_that_are_no_text_do_no_harm(text_only, df):
    path = text_only/'Session1/dialog/transcriptions/Ses01M_impro02.txt'
    path.write_bytes(b'\x81\x8d\x85\xff\n' + path.read_bytes())
    path = evaluation(text_only, 'Ses01M_impro02')
    path.write_bytes(b'C-E1:\tNeutral;\t(\x81\x85)\n' + path.read_bytes())
    again = read(text_only).manifest.set_index('id')
    assert (again.text == df.text).all()


def test_no_turn_at_all(text_only):
    for path in text_only.glob('Session*/dialog/EmoEvaluation/Ses*.txt'): path.write_text('')
    with pytest.raises(FastmerError, match='has no labelled turn'): read(text_only)


@pytest.mark.parametrize(('labels', 'mapping', 'want'), [
    (None, None, dict(neutral=40, happy=40, angry=30, sad=30)),
    ('6', None, dict(neutral=40, happy=20, excited=20, frustrated=20, angry=30, sad=30)),
    ('4', 'exc=angry', dict(neutral=40, happy=20, angry=50, sad=30)), ('happy,sad', None, dict(happy=20, sad=30)),
    ('4', 'fru=angry', dict(neutral=40, happy=40, angry=50, sad=30))])
def test_labels(small, labels, mapping, want):
    corpus = read_corpus('iemocap', small, labels, mapping)
    assert corpus.manifest.label.value_counts().to_dict() == want
    assert len(corpus.skipped) == 197 - sum(want.values())
    assert all('not among the labels' in skip['reason'] for skip in corpus.skipped)


def test_a_label_that_occurs_once_cannot_be_both_learned_and_tested(small):
    with pytest.raises(FastmerError, match=r"'(disgust|other)' has one utterance only"): read_corpus('iemocap', small, 'all')


def test_the_fixture_is_reproducible(text_only, tmp_path):
    again = make_iemocap(tmp_path/'again', wavs=False)
    name = 'Session3/dialog/transcriptions/Ses03M_impro05a.txt'
    assert (again/name).read_bytes() == (text_only/name).read_bytes()


def test_votes_are_those_of_the_evaluators(small, df):
    path = evaluation(small, 'Ses03M_impro05b')
    block = next(block for block in re.split(r'\r?\n\r?\n', path.read_text('cp1252')) if 'C-E' in block and 'Frustration' in block)
    name = block.split('\t')[1]
    votes = {}
    for said in re.findall(r'C-E\d:\t([^(]*)', block):
        words = [word.strip() for word in said.split(';') if word.strip()]
        for word in words:
            code = next(code for code, category in CATEGORIES.items() if category == word)
            votes[code] = votes.get(code, 0) + 1/len(words)
    assert parse_votes(df.votes[name]) == pytest.approx(votes)
    assert all(sum(parse_votes(votes).values()) in (2, 3, 4) for votes in df.votes)


def test_votes_go_by_label(small):
    votes = read_corpus('iemocap', small).manifest.votes
    assert {label for text in votes for label in parse_votes(text)} == {'angry', 'happy', 'neutral', 'sad', 'frustrated'}
    mapped = read_corpus('iemocap', small, mapping='fru=angry').manifest.votes
    assert {label for text in mapped for label in parse_votes(text)} == {'angry', 'happy', 'neutral', 'sad'}


def test_votes_stay_with_their_turn(text_only):
    path = evaluation(text_only, 'Ses01F_impro01')
    def change(text):
        blocks = text.split('\r\n\r\n')
        blocks[1] = '\r\n'.join([*blocks[1].split('\r\n')[:1], 'C-E1:\tAnger; Sadness; Anger;\t(Fear; (bad)', 'C-F1:\tFear;\t()',
                                'C-E2:\t\t()', 'C-E3:\tDread;\t()'])
        blocks[2] = blocks[2].replace('[', '(', 1)  # a turn that cannot be read, whose raters are not those of the turn before
        return '\r\n\r\n'.join(blocks)
    rewrite(path, change)
    corpus = read(text_only)
    first = path.read_text('cp1252').splitlines()[2].split('\t')[1]
    assert parse_votes(corpus.manifest.set_index('id').votes[first]) == pytest.approx(dict(ang=2/3, sad=1/3), abs=1e-5)
    assert "1 vote that cannot be read left out, first 'dread'" in corpus.notes
