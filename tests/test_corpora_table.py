"Tables as people have them: encodings, delimiters, columns, paths"
import sys

import pandas as pd
import pytest

from fastmer.corpora import read_corpus
from fastmer.corpora.table import read
from fastmer.errors import FastmerError

NO_AUDIO = 'id,text,label\na,ja,sad\nb,nein,happy\n'


def make(folder, text, *wavs, name='table.csv', encoding='utf-8'):
    (folder/name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    for wav in wavs:
        (folder/wav).parent.mkdir(parents=True, exist_ok=True)
        (folder/wav).touch()
    return folder/name


def test_audio_and_text(tmp_path):
    corpus = read(make(tmp_path, 'wav,speaker,emotion,transcript\nx/a.wav,03, sad , "Ja, ""gut""\nso"\nx/b.wav,1,happy,\n',
                       'x/a.wav', 'x/b.wav'))
    df = corpus.manifest
    assert df.id.to_list() == ['a', 'b']
    assert df.audio.to_list() == ['x/a.wav', 'x/b.wav']
    assert df.speaker.to_list() == ['03', '1']
    assert df.label.to_list() == ['sad', 'happy']
    assert df.text.to_list() == ['Ja, "gut"\nso', '']
    assert {*df.corpus} == {'table'}
    assert corpus.codes == dict(sad='sad', happy='happy')
    assert corpus.root == tmp_path
    assert corpus.notes == ['columns: audio from wav, text from transcript, label from emotion']


def test_text_only(tmp_path):
    corpus = read_corpus('table', make(tmp_path, 'sentence,class\nja,sad\nnein,sad\nnie,happy\noft,happy\n'))
    assert corpus.manifest.id.to_list() == ['row000001', 'row000002', 'row000003', 'row000004']
    assert {*corpus.manifest.audio} == {''}
    assert corpus.skipped == []


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'cp1252'])
@pytest.mark.parametrize('delimiter', [',', ';', '\t', '|'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_encodings_delimiters_and_line_ends(tmp_path, encoding, delimiter, end):
    rows = [['id', 'text', 'label'], ['03', f'"Für, und; so | ja{delimiter}"', 'traurig'], ['04', 'schön', 'fröhlich']]
    df = read(make(tmp_path, end.join(delimiter.join(row) for row in rows) + end, encoding=encoding)).manifest
    assert df.id.to_list() == ['03', '04']
    assert df.text.to_list() == [f'Für, und; so | ja{delimiter}'.strip(), 'schön']
    assert df.label.to_list() == ['traurig', 'fröhlich']


def test_commas_in_text_do_not_beat_the_semicolons_of_the_header(tmp_path):
    text = 'id;text;label\n' + ''.join(f'{n};eins, zwei, drei, vier;sad\n' for n in range(20))
    assert read(make(tmp_path, text)).manifest.text.iloc[0] == 'eins, zwei, drei, vier'


def test_first_line_of_excel_names_the_delimiter(tmp_path):
    assert read(make(tmp_path, 'sep=;\r\nid;text;label\r\na;ja;sad\r\n')).manifest.id.to_list() == ['a']


@pytest.mark.parametrize('said', ['\t', 'tab', '\\t'])
def test_delimiter_is_taken_as_told(tmp_path, said):
    assert read(make(tmp_path, NO_AUDIO.replace(',', '\t')), delimiter=said).manifest.id.to_list() == ['a', 'b']


def test_tsv_takes_stray_quotes_as_they_are(tmp_path):
    df = read(make(tmp_path, 'id\ttext\tlabel\na\t"Ja" sagt er\tsad\nb\tnein\thappy\n', name='t.tsv')).manifest
    assert df.text.to_list() == ['"Ja" sagt er', 'nein']


@pytest.mark.parametrize(('text', 'options', 'match'), [
    ('', {}, 'is empty'), ('\n\n', {}, 'is empty'), ('id,text,label\n', {}, 'a header but no row'),
    ('id,text,label\n,,\n', {}, 'no row'),
    ('id,text\na,ja\n', {}, 'no column of labels; it has id, text'),
    ('id,label\na,sad\n', {}, 'neither a column of audio nor one of text'),
    ('id,text,label,text\na,ja,sad,nein\n', {}, "two columns named 'text'"),
    (NO_AUDIO + 'c,ja,gut,sad\n', {}, 'line 4: 4 cells under a header'),
    (NO_AUDIO + 'c,"ja,sad\n', {}, 'line 4: a double quote is out of place'), (b'\x00\x01\x02', {}, 'is no text'),
    (NO_AUDIO, dict(delimiter='::'), '--delimiter wants one character'), (NO_AUDIO, dict(sheet='one'), 'has no sheets'),
    (NO_AUDIO, dict(columns='label=emotoin'), "no column 'emotoin'; it has id, text, label"),
    (NO_AUDIO, dict(columns='label=labels'), r"no column 'labels' \(did you mean label\?\)"),
    (NO_AUDIO, dict(columns='lable=label'), r"names 'lable', which no manifest has \(did you mean label\?\)"),
    (NO_AUDIO, dict(columns='label'), "--columns wants pairs such as audio=wav,label=emotion, but got 'label'"),
    ('id,text,label\na,ja,\n', {}, 'no row that can be used: of the first, it has no label')])
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, text, options, match):
    with pytest.raises(FastmerError, match=match) as error: read(make(tmp_path, text), **options)
    assert '\n' not in str(error.value)


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(FastmerError, match='is a folder'): read(tmp_path)


@pytest.mark.parametrize('columns', ['label=mood,text=Said', dict(label='mood', text='said'), 'label=mood, text=said ,'])
def test_columns_as_told(tmp_path, columns):
    df = read(make(tmp_path, 'Said,mood,emotion,Speaker_ID\nja,sad,x,07\n'), columns).manifest
    assert (df.text[0], df.label[0], df.speaker[0]) == ('ja', 'sad', '07')


def test_a_column_can_be_left_out(tmp_path):
    df = read(make(tmp_path, 'id,wav,text,label\na,a.wav,ja,sad\n', 'a.wav'), 'text=,id=').manifest
    assert (df.text[0], df.id[0]) == ('', 'a')


def test_columns_found_by_their_usual_names(tmp_path):
    rows = [dict(FileName='a.wav', Emotion='sad', Utterance='ja', Actor='01', Sentence_ID='s1', Conversation='d1', Subset='Dev',
                 Sex='Female', Lang='de', Activation='2,5', valence='3', Dataset='mine', Utterance_ID='u1', Session='1')]
    rows += [rows[0] | dict(FileName='b.wav', Utterance_ID='u2', Sex='M', Subset='training', Activation='x'),
             rows[0] | dict(FileName='c.wav', Utterance_ID='u3', Sex='w', Subset='TEST', Activation='')]
    corpus = read(make(tmp_path, pd.DataFrame(rows).to_csv(index=False), 'a.wav', 'b.wav', 'c.wav'))
    want = dict(id='u1', audio='a.wav', text='ja', label='sad', speaker='01', session='1', dialogue='d1', script='s1',
                gender='f', language='de', part='valid', corpus='mine', arousal=2.5, valence=3)
    assert corpus.manifest.iloc[0][list(want)].to_dict() == want
    assert corpus.manifest.part.to_list() == ['valid', 'train', 'test']
    assert corpus.manifest.gender.to_list() == ['f', 'm', 'f']
    assert corpus.notes[1:] == ['1 of 3 values of Activation are no numbers']


@pytest.mark.parametrize(('said', 'want'), [
    ('dev', 'valid'), ('Validation', 'valid'), ('val', 'valid'), ('train', 'train'), ('Training', 'train'), ('test', 'test'),
    ('eval', 'test'), ('', '')])
def test_parts(tmp_path, said, want):
    assert read(make(tmp_path, f'text,label,split\nja,sad,{said}\n')).manifest.part[0] == want


def test_an_unknown_part_is_an_error(tmp_path):
    table = make(tmp_path, 'text,label,split\nja,sad,Third\nso,sad,test\n')
    with pytest.raises(FastmerError, match="part 'third'"): read_corpus('table', table)


def test_rows_that_cannot_be_used_are_skipped(tmp_path):
    corpus = read(make(tmp_path, 'audio,text,label\na.wav,ja,sad\nb.wav,ja,\nc.wav,ja,sad\n,,sad\n,so,sad\n.,ja,sad\n',
                       'a.wav', 'b.wav'))
    assert corpus.manifest.id.to_list() == ['row000001', 'row000005']
    assert [(skip['id'], skip['audio'], skip['reason']) for skip in corpus.skipped] == [
        ('row000002', 'b.wav', 'it has no label'), ('row000003', 'c.wav', 'the recording is not there'),
        ('row000004', '', 'it has neither audio nor text'), ('row000006', '.', 'the recording is not there')]


def test_no_recording_at_all_is_an_error(tmp_path):
    table = make(tmp_path, 'wav,label\na.wav,sad\nb.wav,sad\n', 'x/a.wav')
    with pytest.raises(FastmerError, match=r'none of its 2 recordings is there.*/a\.wav; name .* --audio-root'): read(table)
    away = tmp_path/'away'
    with pytest.raises(FastmerError, match=r'none of its 2.*away/a\.wav; check --audio-root'): read(table, audio_root=away)
    corpus = read(table, audio_root=str(tmp_path/'x'))
    assert corpus.manifest.audio.to_list() == ['a.wav']
    assert corpus.root == tmp_path/'x'
    assert len(corpus.skipped) == 1


def test_paths(tmp_path):
    other = tmp_path/'other'
    table = make(tmp_path/'.', f'path,label\n{tmp_path}/root/a.wav,sad\nd\\e\\b.wav,sad\n{other}/c.wav,sad\n./d//f.wav,sad\n',
                 'root/a.wav', 'root/d/e/b.wav', 'other/c.wav', 'root/d/f.wav')
    df = read(table, audio_root=tmp_path/'root').manifest
    assert df.audio.to_list() == ['a.wav', 'd/e/b.wav', (other/'c.wav').as_posix(), 'd/f.wav']


@pytest.mark.parametrize(('names', 'ids'), [
    (['x/a.wav', 'y/b.wav'], ['a', 'b']), (['x/a.wav', 'y/a.wav'], ['x_a', 'y_a']),
    (['a.wav', 'a.mp3'], ['a_wav', 'a_mp3']), (['a.wav', 'a.wav'], ['row000001', 'row000002'])])
def test_ids_made_from_paths(tmp_path, names, ids):
    df = read(make(tmp_path, 'wav,label\n' + ''.join(f'{name},sad\n' for name in names), *names)).manifest
    assert df.id.to_list() == ids


@pytest.mark.parametrize(('rows', 'match'), [
    ('a,ja,sad\na,so,sad\n', "id 'a' stands on more than one row"), ('a,ja,sad\nA,so,sad\n', 'differ only in case'),
    ('../a,ja,sad\nb,so,sad\n', 'begins with a dot'), ('a/b,ja,sad\nc,so,sad\n', 'character that file names cannot'),
    (',ja,sad\nb,so,sad\n', 'is empty')])
def test_ids_of_the_table_are_checked(tmp_path, rows, match):
    with pytest.raises(FastmerError, match=match): read_corpus('table', make(tmp_path, 'id,text,label\n' + rows))


def test_stretches_of_one_recording_are_cut(tmp_path):
    rows = ['l.wav;0;1,5', 'l.wav;1.5;2.25', 'm.wav;3;4', 'l.wav;5;4', 'l.wav;;2', 'm.wav;;']
    corpus = read(make(tmp_path, 'file;start;end;label\n' + ''.join(f'{row};sad\n' for row in rows), 'l.wav', 'm.wav'))
    assert corpus.manifest.audio.to_list() == ['l.wav#t=0,1.5', 'l.wav#t=1.5,2.25', 'm.wav#t=3,4', 'm.wav']
    assert corpus.manifest.id.to_list() == ['row000001', 'row000002', 'row000003', 'row000006']
    assert [skip['reason'] for skip in corpus.skipped] == ['start and end are no stretch of a recording, in seconds']*2


@pytest.mark.parametrize('rows', ['a.wav,6,8,sad\nb.wav,8,9,sad\n', 'a.wav,6,8,sad\na.wav,6,8,sad\n'])
def test_one_recording_a_row_is_not_cut(tmp_path, rows):
    df = read(make(tmp_path, 'file,start,end,label\n' + rows, 'a.wav', 'b.wav')).manifest
    assert not df.audio.str.contains('#').any()
    assert df.start[0] == 6


def test_a_fragment_in_the_table_stays(tmp_path):
    df = read(make(tmp_path, 'file,label\n"l.wav#t=0,1.5",sad\n"l.wav#t=1.5,2",sad\n', 'l.wav')).manifest
    assert df.audio.to_list() == ['l.wav#t=0,1.5', 'l.wav#t=1.5,2']


def test_labels_that_differ_in_case_are_noted(tmp_path):
    corpus = read(make(tmp_path, 'text,label\nja,Sad\nso,sad\n'))
    assert corpus.notes == ['the labels Sad, sad differ only in case: --map can merge them']
    assert corpus.codes == dict(Sad='Sad', sad='sad')
    assert {*read_corpus('table', tmp_path/'table.csv', mapping='Sad=sad').manifest.label} == {'sad'}


def test_corpus_name(tmp_path):
    table = make(tmp_path, 'text,label,corpus\nja,sad,one\nso,sad,two\n')
    assert read(table).manifest.corpus.to_list() == ['one', 'two']
    assert read(table, corpus_name='both').manifest.corpus.to_list() == ['both', 'both']


def test_excel(tmp_path):
    pytest.importorskip('openpyxl')
    with pd.ExcelWriter(tmp_path/'t.xlsx') as book:
        rows = dict(text=['ja', None, 'no'], label=['sad', '', 'happy'], speaker=['03', None, 4], valence=[1.5, None, 3])
        pd.DataFrame(rows).to_excel(book, sheet_name='first', index=False)
        pd.DataFrame(dict(text=['oh'], label=['angry'])).to_excel(book, sheet_name='second', index=False)
    df = read(tmp_path/'t.xlsx').manifest
    assert df[['text', 'label', 'speaker', 'valence']].values.tolist() == [['ja', 'sad', '03', 1.5], ['no', 'happy', '4', 3]]
    assert read(tmp_path/'t.xlsx', sheet='second').manifest.label.to_list() == ['angry']
    told = r"no sheet 'secnd' \(did you mean second\?\)"
    with pytest.raises(FastmerError, match=told): read(tmp_path/'t.xlsx', sheet='secnd')
    broken = make(tmp_path, b'PK\x03\x04no', name='broken.xlsx')
    with pytest.raises(FastmerError, match='is no readable Excel file'): read(broken)


def test_excel_without_openpyxl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openpyxl', None)
    with pytest.raises(FastmerError, match=r'pip install fastmer\[excel\]'): read(make(tmp_path, b'PK', name='t.xlsx'))


def test_real_pairs(data_dir):
    corpus = read_corpus('table', data_dir/'pairs/emodb_x_goemotions.csv', audio_root=data_dir/'emodb',
                         corpus_name='pseudo-paired')
    df = corpus.manifest
    assert (len(df), df.speaker.nunique(), corpus.skipped) == (339, 10, [])
    assert sorted(df.session.unique()) == ['1', '2', '3', '4', '5']
    assert df.gender.value_counts().to_dict() == dict(f=188, m=151)
    assert df.label.value_counts().to_dict() == dict(angry=127, neutral=79, happy=71, sad=62)
    assert (df.text != '').all()
    assert {*df.corpus} == {'pseudo-paired'}
    assert df.id[0] == '03a01Fa'
    assert all((corpus.root/name).is_file() for name in df.audio)


def test_real_sentences(data_dir):
    df = read_corpus('table', data_dir/'goemotions/test.csv').manifest
    assert (len(df), df.label.nunique()) == (4324, 4)


def test_votes(tmp_path):
    text = 'id,text,label,rated\na,ja,sad,sad=2; happy=0.5\nb,nein,happy,\nc,so,sad,bored=3\nd,oft,happy,happy=1;sad=1\n'
    corpus = read_corpus('table', make(tmp_path, text), mapping='sad=low', columns=dict(votes='rated'))
    assert corpus.manifest.votes.to_list() == ['low=2;happy=0.5', '', 'bored=3', 'happy=1;low=1']
    assert 'votes name bored, which no utterance is labelled' in corpus.notes
    assert read(make(tmp_path, text), columns=dict(votes='')).manifest.votes.to_list() == ['']*4


@pytest.mark.parametrize('votes', ['3', 'sad', 'sad=', '=2', 'sad=-1', 'sad=nan', 'sad=inf', 'sad=1;x', 'sad:1', 'x'*9999])
def test_votes_that_cannot_be_read(tmp_path, votes):
    path = make(tmp_path, f'id,text,label,votes\na,ja,sad,\nb,nein,happy,{votes}\n')
    with pytest.raises(FastmerError, match=r'table\.csv, row 2: votes are label=number pairs') as e: read(path)
    assert len(str(e.value)) < 300


def test_votes_for_what_another_label_is_called(tmp_path):
    text = 'id,text,label,votes\na,ja,glad,glad=1;happy=2\nb,ja,glad,\nc,so,sad,sad=1;happy=1\nd,oft,sad,\ne,oft,happy,\n'
    corpus = read_corpus('table', make(tmp_path, text), 'happy,sad', 'glad=happy,happy=joy')
    assert corpus.manifest.votes.to_list() == ['happy=1', '', 'sad=1', '']
