"The EMO-DB reader: names only, on empty files and on the real corpus"
import csv

import pytest

from fastmer.corpora import read_corpus
from fastmer.corpora.emodb import CODES, GENDERS, TEXTS, UTTERANCES, read
from fastmer.errors import FastmerError


def make(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names: (folder/name).touch()
    return folder


@pytest.mark.parametrize(('name', 'want'), [
    ('03a01Fa', ('F', '03', 'm', 'a01')), ('14b10Wc', ('W', '14', 'f', 'b10')), ('16a05Lb', ('L', '16', 'f', 'a05')),
    ('10b03Nd', ('N', '10', 'm', 'b03')), ('09a07Ta', ('T', '09', 'f', 'a07')), ('15b01Ea', ('E', '15', 'm', 'b01')),
    ('13a02Ac', ('A', '13', 'f', 'a02')), ('08b09F', ('F', '08', 'f', 'b09'))])
def test_name(tmp_path, name, want):
    row = read(make(tmp_path, f'{name}.wav')).manifest.iloc[0]
    assert (row.label, row.speaker, row.gender, row.script) == want
    assert (row.id, row.audio, row.text, row.language, row.corpus) == (name, f'{name}.wav', TEXTS[want[3]], 'de', 'emodb')
    assert row.session == row.dialogue == row.part == ''


def test_f_is_happiness():
    assert (CODES['F'], CODES['A'], CODES['E']) == ('happy', 'fear', 'disgust')
    assert sum(UTTERANCES.values()) == 535
    assert [*GENDERS.values()].count('f') == [*GENDERS.values()].count('m') == 5


@pytest.mark.parametrize(('folder', 'prefix'), [('.', ''), ('wav', 'wav/'), ('WAV', 'WAV/')])
def test_root_holds_the_wavs_or_the_folder_with_them(tmp_path, folder, prefix):
    make(tmp_path/folder, '03a01Fa.wav', '03a01Nc.WAV')
    make(tmp_path, 'labels.csv')
    assert read(tmp_path).manifest.audio.to_list() == [f'{prefix}03a01Fa.wav', f'{prefix}03a01Nc.WAV']


def test_names_that_do_not_fit_are_skipped(tmp_path):
    make(tmp_path/'wav', '03a01Fa.wav', '._03a01Fa.wav', '03a01Xa.wav', '3a01Fa.wav', '99a01Fa.wav', '03a03Fa.wav',
         'notes.txt', '03a01Fab.wav')
    corpus = read(tmp_path)
    assert corpus.manifest.id.to_list() == ['03a01Fa']
    assert {skip['id']: skip['reason'] for skip in corpus.skipped} == {
        '03a01Fab': 'the name does not follow EMO-DB (03a01Fa.wav)', '03a01Xa': 'the name does not follow EMO-DB (03a01Fa.wav)',
        '3a01Fa': 'the name does not follow EMO-DB (03a01Fa.wav)', '99a01Fa': 'EMO-DB has no speaker 99',
        '03a03Fa': 'EMO-DB has no text a03'}
    assert all(skip['audio'] == f'wav/{skip["id"]}.wav' for skip in corpus.skipped)


def test_what_is_missing_is_noted(tmp_path):
    note, = read(make(tmp_path, '03a01Fa.wav', '03a01Wa.wav')).notes
    assert note.startswith('2 of the 535 utterances of EMO-DB found: angry 1 of 127, boredom 0 of 81')


@pytest.mark.parametrize('names', [(), ('angry.wav', 'a.mp3'), ('._03a01Fa.wav',)])
def test_what_is_no_emodb(tmp_path, names):
    with pytest.raises(FastmerError, match='no wav named like 03a01Fa'): read(make(tmp_path, *names))


def test_a_file_is_no_emodb(tmp_path):
    make(tmp_path, 'emodb.zip')
    with pytest.raises(FastmerError, match='is no folder'): read(tmp_path/'emodb.zip')


def test_real_corpus(data_dir):
    corpus = read_corpus('emodb', data_dir/'emodb')
    df = corpus.manifest
    assert df.label.value_counts().to_dict() == dict(angry=127, neutral=79, happy=71, sad=62)
    assert (len(df), df.speaker.nunique(), df.script.nunique(), corpus.skipped) == (339, 10, 10, [])
    assert corpus.notes == ['339 of the 535 utterances of EMO-DB found: boredom 0 of 81, disgust 0 of 46, fear 0 of 69']
    with open(data_dir/'emodb/labels.csv', encoding='utf-8',
              newline='') as f: helper = {row['file']: row for row in csv.DictReader(f)}
    for row in df.itertuples():
        want = helper[row.audio]
        assert (row.speaker, row.gender, row.label, row.script, row.text) == tuple(
            want[name] for name in ('speaker', 'gender', 'emotion', 'text_id', 'text'))


def test_labels_that_this_copy_has_none_of(tmp_path):
    make(tmp_path, '03a01Wa.wav', '03a01Wb.wav', '08a01Ta.wav', '08a01Tb.wav')
    with pytest.raises(FastmerError, match='holds no utterance labelled boredom'): read_corpus('emodb', tmp_path, labels='angry,boredom')
    assert any('labelled happy, neutral, which the label set 4 has' in note for note in read_corpus('emodb', tmp_path, labels='4').notes)
