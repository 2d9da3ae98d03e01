"The readers of MELD, ShEMO, ESD, MSP-Podcast and JL-Corpus, on made-up copies: their layouts and names, with every trap of the real ones"
import json
from itertools import product
from pathlib import Path

import pytest
from conftest import PITCHES, write_tone

from fastmer.corpora import esd, jl_corpus, meld, msp_podcast, read_corpus, shemo
from fastmer.errors import FastmerError
from fastmer.prepare import prepare_corpus


def make(root, *names):
    "Empty files, whose sound no reader looks at"
    for folder in {(root/name).parent for name in names}: folder.mkdir(parents=True, exist_ok=True)
    for name in names: (root/name).touch()
    return root


def tones(root, names):
    for n, name in enumerate(names): write_tone(root/name, pitch=[*PITCHES.values()][n % 4], seconds=0.25, seed=n)
    return root


def reasons(corpus): return {Path(row['audio'] or row['id']).name: row['reason'] for row in corpus.skipped}


# MELD

HEAD = 'Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n'
FOLDERS = dict(train='train/train_splits', dev='dev/dev_splits_complete', test='test/output_repeated_splits_test')


def meld_line(dialogue, number, emotion='neutral', text='Hey!', speaker='Joey', start='00:16:16,059', end='0:16:21,731'):
    return f'1,"{text}",{speaker},{emotion},neutral,{dialogue},{number},8,21,"{start}","{end}"\n'


def make_meld(root, lines, folders=FOLDERS, suffix='.wav', encoding='utf-8'):
    "Tables of `lines`, part -> [(dialogue, utterance, ...)], and an empty clip for each"
    make(root)
    root.mkdir(exist_ok=True)
    for part, rows in lines.items():
        (root/f'{part}_sent_emo.csv').write_text(HEAD + ''.join(meld_line(*row) for row in rows), encoding, newline='')
        make(root, *(f'{folders[part]}/dia{row[0]}_utt{row[1]}{suffix}' for row in rows if suffix))
    return root


SMALL = dict(train=[(0, 0, 'joy'), (0, 1, 'anger')], dev=[(0, 0, 'sadness')], test=[(0, 0, 'surprise'), (1, 10)])


def test_meld_columns(tmp_path):
    df = meld.read(make_meld(tmp_path, SMALL)).manifest.set_index('id')
    assert [*df.index] == ['train_dia0_utt0', 'train_dia0_utt1', 'dev_dia0_utt0', 'test_dia0_utt0', 'test_dia1_utt10']
    row = df.loc['dev_dia0_utt0']
    assert (row.label, row.speaker, row.dialogue, row.part) == ('sadness', 'Joey', 'dev_dia0', 'valid')
    assert (row.language, row.corpus) == ('en', 'meld')
    assert (row.audio, row.text, row.script, row.gender) == ('dev/dev_splits_complete/dia0_utt0.wav', 'Hey!', '', '')
    assert (row.start, row.end) == (0, 5.672)
    assert df.dialogue.nunique() == 4
    assert [*df.part] == ['train', 'train', 'valid', 'test', 'test']


@pytest.mark.parametrize(('folders', 'suffix'), [
    (dict(train='audio/train', dev='audio/dev', test='audio/test'), '.flac'), (dict(train='Train', dev='Valid', test='Test'), '.WAV'),
    (dict(train='train_splits_wav', dev='dev_splits_wav', test='test_splits_wav'), '.mp3'),
    (dict(train='test_data/train', dev='test_data/validation', test='test_data/test'), '.m4a')])
def test_meld_audio_beside_the_clips(tmp_path, folders, suffix):
    corpus = meld.read(make_meld(tmp_path, SMALL, folders, suffix))
    assert (len(corpus.manifest), corpus.skipped) == (5, [])
    assert corpus.manifest.audio.iloc[2] == f'{folders["dev"]}/dia0_utt0{suffix}'


def test_meld_wav_goes_before_other_formats(tmp_path):
    corpus = meld.read(make(make_meld(tmp_path, SMALL), 'audio/train/dia0_utt0.flac'))
    assert corpus.manifest.audio.iloc[0] == 'train/train_splits/dia0_utt0.wav'
    assert reasons(corpus) == {'dia0_utt0.flac': 'it is the same utterance as train/train_splits/dia0_utt0.wav'}


def test_meld_files_that_belong_to_no_row(tmp_path):
    test = FOLDERS['test']
    root = make(make_meld(tmp_path, SMALL), f'{test}/._dia0_utt0.wav', f'{test}/final_videos_testdia101_utt0.wav',
                f'{test}/dia108_utt2.wav', 'final_videos_test/dia0_utt0.wav', 'dia0_utt1.wav', f'{test}/dia0_utt0.mp4')
    corpus = meld.read(root)
    assert len(corpus.manifest) == 5
    assert reasons(corpus) == {
        'final_videos_testdia101_utt0.wav': 'the name does not follow MELD (dia0_utt0.wav)',
        'dia108_utt2.wav': 'no row of test_sent_emo.csv that can be used is about it',
        'dia0_utt0.wav': 'it is the same utterance as final_videos_test/dia0_utt0.wav',
        'dia0_utt1.wav': 'no folder above it is named after a part (train, dev or test)'}


def test_meld_rows_without_a_recording(tmp_path):
    root = make_meld(tmp_path, dict(SMALL, train=[*SMALL['train'], (125, 3)], dev=[*SMALL['dev'], (110, 7)]))
    for path in ('train/train_splits/dia125_utt3.wav', 'dev/dev_splits_complete/dia110_utt7.wav', f'{FOLDERS["test"]}/dia0_utt0.wav'):
        (root/path).unlink()
    corpus = meld.read(root)
    assert reasons(corpus) == {'train_dia125_utt3': 'its clip is broken as published',
                               'dev_dia110_utt7': 'its clip is missing as published',
                               'test_dia0_utt0': 'its recording is not there'}
    assert corpus.notes == ['4 of the 13,708 utterances of MELD found: train 2 of 9,989, dev 1 of 1,109, test 1 of 2,610']
    make(root, 'audio/train/dia125_utt3.wav')
    assert 'train_dia125_utt3' in set(meld.read(root).manifest.id)


def test_meld_without_audio_is_text(tmp_path):
    corpus = meld.read(make_meld(tmp_path, SMALL, suffix='.mp4'))
    assert {*corpus.manifest.audio} == {''}
    assert (len(corpus.manifest), corpus.skipped) == (5, [])
    assert sum('read as text only' in note for note in corpus.notes) == 1


@pytest.mark.parametrize('data', ['you\xc2\x92ve \xc2\x93had\xc2\x94', 'you\x92ve  \x93had\x94'])
def test_meld_quotes_are_mended(tmp_path, data):
    make_meld(tmp_path, dict(train=[(0, 0, 'joy', data)]), suffix='', encoding='latin1')
    assert meld.read(tmp_path).manifest.text[0] == 'you’ve “had”'


def test_meld_rows_that_cannot_be_used(tmp_path):
    root = make_meld(tmp_path, dict(train=[(0, 0), (0, 0, 'joy'), (0, 1, 'bliss'), ('x', 2), (0, 3, 'Joy ')]), suffix='')
    corpus = meld.read(root)
    assert corpus.manifest.label.to_list() == ['neutral', 'joy']
    assert [row['reason'] for row in corpus.skipped] == [
        'it has a second row, line 3 of train_sent_emo.csv',
        "line 4 of train_sent_emo.csv has the emotion 'bliss', which is none of anger, disgust, fear, joy, neutral, sadness, surprise",
        'line 5 of train_sent_emo.csv numbers no utterance']
    assert 'dev_sent_emo.csv is not there' in corpus.notes


@pytest.mark.parametrize(('start', 'end', 'want'), [
    ('0:16:18,059', '0:16:19,5', (2, 3.441)), ('00:16:20,000', '00:16:19,000', None), ('', '', None)])
def test_meld_times(tmp_path, start, end, want):
    make_meld(tmp_path, dict(train=[(0, 0), (0, 1, 'joy', 'Hi', 'Ross', start, end)]), suffix='')
    row = meld.read(tmp_path).manifest.iloc[1]
    assert (row.start, row.end) == want if want else row[['start', 'end']].isna().all()


def test_meld_complete(tmp_path):
    "Published counts, the missing clip of dev among them"
    counts = dict(train=dict(anger=1109, disgust=271, fear=268, joy=1743, neutral=4710, sadness=683, surprise=1205),
                  dev=dict(anger=153, disgust=22, fear=40, joy=163, neutral=470, sadness=111, surprise=150),
                  test=dict(anger=345, disgust=68, fear=50, joy=402, neutral=1256, sadness=208, surprise=281))
    assert {part: sum(of.values()) for part, of in counts.items()} == meld.UTTERANCES
    lines = {part: [(n//9, n % 9, label) for n, label in enumerate(label for label, many in of.items() for _ in range(many))]
             for part, of in counts.items()}
    corpus = read_corpus('meld', make_meld(tmp_path, lines))
    assert (corpus.notes, corpus.skipped, len(corpus.manifest)) == ([], [], 13708)
    assert corpus.manifest.part.value_counts().to_dict() == dict(train=9989, valid=1109, test=2610)
    assert corpus.manifest.label.value_counts().to_dict() == dict(
        neutral=6436, happy=2308, surprised=1636, angry=1607, sad=1002, disgust=361, fear=358)


@pytest.mark.parametrize('change', [lambda root: None, lambda root: make(root, 'train/dia0_utt0.wav'),
                                    lambda root: (root/'train_sent_emo.csv').write_text('a,b\n1,2\n'),
                                    lambda root: (root/'train_sent_emo.csv').write_text(HEAD + meld_line('x', 'y'))])
def test_what_is_no_meld(tmp_path, change):
    change(tmp_path)
    with pytest.raises(FastmerError, match='no train_sent_emo.csv|no column Utterance|no row'): meld.read(tmp_path)


# ShEMO

def test_shemo_columns(tmp_path):
    corpus = shemo.read(make(tmp_path, 'female/F03S02.wav', 'male/M02F01.WAV', 'male/m11w10.wav'))
    want = [('F03S02', 'female/F03S02.wav', 'S', 'F03', 'f'), ('M02F01', 'male/M02F01.WAV', 'F', 'M02', 'm'),
            ('M11W10', 'male/m11w10.wav', 'W', 'M11', 'm')]
    assert [*corpus.manifest[['id', 'audio', 'label', 'speaker', 'gender']].itertuples(index=False, name=None)] == want
    assert {*corpus.manifest.language} == {'fa'}
    assert {shemo.CODES[code] for code in 'AFHNSW'} == {'angry', 'fear', 'happy', 'neutral', 'sad', 'surprised'}
    assert corpus.notes == ['3 of the 3,000 utterances of ShEMO found, 3 of 87 speakers']


def test_shemo_names_that_do_not_fit(tmp_path):
    corpus = shemo.read(make(tmp_path, 'F01A01.wav', '._F01A02.wav', 'F01X01.wav', 'X01A01.wav', 'copy/F01A01.flac', 'F01A01.ort',
                             'male/.DS_Store'))
    assert corpus.manifest.id.to_list() == ['F01A01']
    assert reasons(corpus) == dict.fromkeys(('F01X01.wav', 'X01A01.wav'), 'the name does not follow ShEMO (F01A01.wav)') | {
        'F01A01.flac': 'it is the same utterance as F01A01.wav'}


def test_shemo_transcripts(tmp_path):
    root = make(tmp_path, 'female/F01A01.wav', 'female/F01A02.wav')
    assert shemo.read(root).manifest.text.to_list() == ['', '']
    for name, text in dict(F01A01='\ufeffسلام  دنیا\n', F01A02='نه').items():
        make(root, f'transcript/{name}.ort')
        (root/f'transcript/{name}.ort').write_text(text, 'utf-8')
    corpus = shemo.read(root)
    assert corpus.manifest.text.to_list() == ['سلام دنیا', 'نه']
    assert corpus.notes[1:] == [shemo.SHIFTED]
    (root/'shemo.json').write_text(json.dumps([dict(id='F01A01', transcript='\ufeffبله')]), 'utf-8')
    assert shemo.read(root).manifest.text.to_list() == ['بله', '']
    mended = {'F01A02.wav': dict(speech_name='F01A02', text_name='F01A01', transcript='چرا')}
    (root/'modified_shemo.json').write_text(json.dumps(mended), 'utf-8')
    corpus = shemo.read(root)
    assert corpus.manifest.text.to_list() == ['', 'چرا']
    assert len(corpus.notes) == 1
    (root/'modified_shemo.json').write_text('<html>')
    with pytest.raises(FastmerError, match=r'modified_shemo\.json cannot be read'): shemo.read(root)


def test_shemo_complete(tmp_path):
    "31 women and 56 men, 3,000 names"
    speakers = [*(f'female/F{n:02d}' for n in range(1, 32)), *(f'male/M{n:02d}' for n in range(1, 57))]
    names = [f'{speaker}{code}{n:02d}.wav' for n in range(1, 7) for code in 'AFHNSW' for speaker in speakers][:3000]
    corpus = read_corpus('shemo', make(tmp_path, *names))
    assert (len(corpus.manifest), corpus.manifest.speaker.nunique(), corpus.notes, corpus.skipped) == (3000, 87, [], [])
    assert {*corpus.manifest.label} == {*shemo.CODES.values()}


# ESD

ESD = ('Neutral', 'Angry', 'Happy', 'Sad', 'Surprise')  # in the order of their numbers


def esd_names(speakers, sentences, part=''):
    return [f'{s:04d}/{label}/{part}{s:04d}_{n*350 + k:06d}.wav' for s, (n, label), k in product(speakers, enumerate(ESD), sentences)]


def test_esd_columns(tmp_path):
    root = make(tmp_path, *esd_names((1, 11), (1, 350)))
    df = esd.read(root).manifest.set_index('id')
    row = df.loc['0001_000351']
    assert (row.label, row.speaker, row.script, row.gender) == ('Angry', '0001', 'zh001', 'f')
    assert (row.language, row.part, row.corpus) == ('zh', '', 'esd')
    assert row.audio == '0001/Angry/0001_000351.wav'
    assert df.loc[['0011_000350', '0011_001750']].script.to_list() == ['en350', 'en350']
    assert df.groupby('script').label.nunique().to_dict() == dict(zh001=5, zh350=5, en001=5, en350=5)
    assert sorted(esd.GENDERS.values()).count('f') == 10
    assert [esd.GENDERS[name] for name in ('0004', '0007', '0011', '0015', '0020')] == ['m', 'f', 'm', 'f', 'm']


def test_esd_with_parts(tmp_path):
    root = tmp_path/'Emotional Speech Dataset (ESD)'
    for part, k in dict(train=51, evaluation=1, test=21).items(): make(root, *esd_names((12,), (k,), f'{part}/'))
    corpus = esd.read(tmp_path)
    assert corpus.manifest.groupby('part').script.unique().map(list).to_dict() == dict(train=['en051'], valid=['en001'], test=['en021'])
    assert {*corpus.manifest.label} == {*ESD}
    assert not corpus.skipped


def test_esd_names_that_do_not_fit(tmp_path):
    corpus = esd.read(make(tmp_path, '0001/angry/0001_000351.WAV', '0001/Angry/._0001_000352.wav', '0001/Angry/0021_000351.wav',
                           '0001/Angry/0001_001751.wav', '0001/Angry/1_351.wav', '0001/0001_000353.wav', 'copy/0001/Angry/0001_000351.wav'))
    assert corpus.manifest.audio.to_list() == ['0001/angry/0001_000351.WAV']
    assert corpus.manifest.label.to_list() == ['Angry']
    assert reasons(corpus) == {
        '0021_000351.wav': 'ESD has no speaker 0021', '0001_001751.wav': 'ESD has no utterance 001751',
        '1_351.wav': 'the name does not follow ESD (0001_000351.wav)',
        '0001_000351.wav': 'it is the same utterance as 0001/angry/0001_000351.WAV',
        '0001_000353.wav': 'it lies in no folder of an emotion (Angry, Happy, Neutral, Sad, Surprise)'}
    assert corpus.notes[0].startswith('1 of the 35,000 utterances of ESD found: angry 1 of 7,000, happy 0 of 7,000')


@pytest.mark.parametrize(('speaker', 'data', 'want'), [
    ('0001', '0001_000351\t打远一看，\t生气\r\n'.encode('gbk'), '打远一看，'),
    ('0003', '0003_000351\t打远一看，\t生气\n'.encode('utf-16'), '打远一看，'),
    ('0006', '0006_000351\t打远一看，\t生气\n'.encode('utf-16-le'), '打远一看，'),
    ('0002', '0002_000351 打远一看， 生气'.encode('utf-8-sig'), '打远一看，'),
    ('0011', b'0011_000351\tThe nine the eggs, I keep.\tAngry\n', 'The nine the eggs, I keep.'),
    ('0012', '0012_000351\tI keep.\tAngry\n'.encode('utf-16'), 'I keep.'), ('0015', b'0015_000351 I am angry.  Angry ', 'I am angry.'),
    ('0016', b'0016_000351\tIt\x92s me\tAngry', 'It’s me'), ('0017', '0017_000351\tIt’s me\n\n'.encode('gbk'), 'It’s me'),
    ('0018', b'\n0018_000352\tNo\tAngry', '')])
def test_esd_transcripts(tmp_path, speaker, data, want):
    for folder in ('', 'train/'): make(tmp_path/(folder or 'flat'), f'{speaker}/Angry/{folder}{speaker}_000351.wav')
    for path in tmp_path.iterdir():
        (path/speaker/f'{speaker}.txt').write_bytes(data)
        assert esd.read(path).manifest.text.to_list() == [want]


def test_esd_complete(tmp_path):
    corpus = read_corpus('esd', make(tmp_path, *esd_names(range(1, 21), range(1, 351))))
    assert (len(corpus.manifest), corpus.notes, corpus.skipped) == (35000, [], [])
    assert corpus.manifest.label.value_counts().to_dict() == dict.fromkeys(esd.CODES.values(), 7000)
    assert corpus.manifest.groupby('language')[['speaker', 'script']].nunique().to_numpy().tolist() == [[10, 350]]*2


# MSP-Podcast

MSP = [('0001_0008', 'N', 30, 'Male', 'Test1'), ('0001_0009', 'H', 'Unknown', 'Unknown', 'Test2'), ('0002_0033', 'A', 7, 'Female', 'Train'),
       ('0003_0001', 'X', 8, 'Female', 'Development'), ('0003_0002_0001', 'C', 8, 'Female', 'train')]


def msp_line(name, label, speaker, gender, part): return f'MSP-PODCAST_{name}.wav,{label},2.2,4.0,2.6,{speaker},{gender},{part}\n'


def make_msp(root, rows=MSP, table='Labels/labels_consensus.csv', audio='Audios', suffix='.wav'):
    make(root, table, *(f'{audio}/MSP-PODCAST_{row[0]}{suffix}' for row in rows))
    (root/table).write_text('FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n' + ''.join(msp_line(*row) for row in rows))
    return root


@pytest.mark.parametrize('places', [
    {}, dict(table='Labels/labels_concensus.csv'), dict(table='labels/labels_consensus.csv', audio='audios'),
    dict(table='labels_consensus.csv'), dict(audio='Audios/audio_files', suffix='.WAV')])
def test_msp_columns(tmp_path, places):
    corpus = msp_podcast.read(make_msp(tmp_path, **places))
    df = corpus.manifest.set_index('id')
    row = df.loc['MSP-PODCAST_0001_0008']
    assert (row.label, row.speaker, row.gender, row.dialogue, row.part) == ('N', '30', 'm', '0001', 'test')
    assert (row.language, row.corpus) == ('en', 'msp-podcast')
    assert (row.arousal, row.valence, row.dominance, row.text, row.script) == (2.2, 4.0, 2.6, '', '')
    assert row.audio == f'{places.get("audio", "Audios")}/MSP-PODCAST_0001_0008{places.get("suffix", ".wav")}'
    assert df.part.to_list() == ['test', '', 'train', 'valid', 'train']
    assert df.speaker.to_list() == ['30', '', '7', '8', '8']
    assert df.gender.to_list() == ['m', '', 'f', 'f', 'f']
    assert df.dialogue.to_list() == ['0001', '0001', '0002', '0003', '0003']
    assert (corpus.skipped, corpus.notes) == ([], ['in no part, as the test sets share speakers: 1 of Test2'])


def test_msp_other_test_set(tmp_path):
    corpus = msp_podcast.read(make_msp(tmp_path), test='Test2')
    assert corpus.manifest.part.to_list() == ['', 'test', 'train', 'valid', 'train']
    assert corpus.notes == ['in no part, as the test sets share speakers: 1 of Test1']
    with pytest.raises(FastmerError, match="no test set 'test2'"): msp_podcast.read(tmp_path, test='test2')


def test_msp_transcripts_and_parent_folder(tmp_path):
    root = make_msp(tmp_path/'MSP-PODCAST-Publish-1.12')
    make(root, 'Transcripts/MSP-PODCAST_0002_0033.txt')
    (root/'Transcripts/MSP-PODCAST_0002_0033.txt').write_text('well  yes\n')
    corpus = msp_podcast.read(tmp_path)
    assert corpus.root == root
    assert corpus.manifest.text.to_list() == ['', '', 'well yes', '', '']


def test_msp_what_does_not_fit(tmp_path):
    root = make_msp(tmp_path, [*MSP, MSP[0], ('0004_0001', '', 1, 'Male', 'Train'), ('0004_0002', 'N', 1, 'Male', 'Train')])
    make(root, 'Audios/MSP-PODCAST_test3_0001.wav', 'Audios/._MSP-PODCAST_0001_0008.wav',
         'Previous_releases_information/MSP-PODCAST_0009_0001.wav')
    (root/'Audios/MSP-PODCAST_0004_0002.wav').unlink()
    corpus = msp_podcast.read(root)
    assert len(corpus.manifest) == 5
    assert reasons(corpus) == {
        'MSP-PODCAST_0001_0008.wav': 'labels_consensus.csv has a second row of it', 'MSP-PODCAST_0004_0002': 'the recording is not there',
        'MSP-PODCAST_0004_0001.wav': "'' is none of the codes A, S, H, U, F, D, C, N, O, X",
        'MSP-PODCAST_test3_0001.wav': 'labels_consensus.csv has no row of it (Test3 has no labels)'}


def test_msp_released_totals(tmp_path):
    root = make_msp(tmp_path)
    (root/'readme.txt').write_text('#  Release 1.12 (June 6, 2024) #\n')
    assert msp_podcast.read(root).notes[0] == '5 of the 207,136 recordings of MSP-Podcast 1.12 found'
    (root/'readme.txt').write_text('#  Release 9.9 #\n')
    assert len(msp_podcast.read(root).notes) == 1
    assert msp_podcast.TURNS['1.11'] == 84030 + 19815 + 30647 + 14815 + 2347


def test_what_is_no_msp(tmp_path):
    with pytest.raises(FastmerError, match='holds no Labels/labels_consensus.csv'): msp_podcast.read(tmp_path)
    root = make_msp(tmp_path)
    for path in (root/'Audios').iterdir(): path.unlink()
    with pytest.raises(FastmerError, match='no recording that labels_consensus.csv labels'): msp_podcast.read(root)
    (root/'Labels/labels_consensus.csv').write_text('FileName,EmoAct\n')
    with pytest.raises(FastmerError, match='has no column EmoClass'): msp_podcast.read(root)


def test_msp_labels(tmp_path):
    rows = [(f'{n:04d}_{k:04d}', code, n, 'Male', 'Train') for n, code in enumerate(msp_podcast.CODES) for k in range(2)]
    corpus = read_corpus('msp-podcast', make_msp(tmp_path, rows))
    assert {*corpus.manifest.label} == {*msp_podcast.CODES.values()}
    assert {*read_corpus('msp-podcast', tmp_path, '4').manifest.label} == {'angry', 'happy', 'neutral', 'sad'}


# JL-Corpus

RAW = 'Raw JL corpus (unchecked and unannotated)/JL(wav+txt)'


def test_jl_columns(tmp_path):
    root = make(tmp_path, f'{RAW}/female1_angry_10a_1.wav', f'{RAW}/male2_encouraging_14b_2.WAV', f'{RAW}/male2_sad_14a_1.wav')
    (root/RAW/'female1_angry_10a_1.txt').write_text('Water harms the  new born boy.\n')
    df = jl_corpus.read(root).manifest.set_index('id')
    row = df.loc['female1_angry_10a_1']
    assert (row.label, row.speaker, row.script, row.gender, row.language, row.session) == ('angry', 'female1', '10', 'f', 'en', '')
    assert (row.text, row.audio) == ('Water harms the new born boy.', f'{RAW}/female1_angry_10a_1.wav')
    assert df.loc['male2_encouraging_14b_2', ['speaker', 'script', 'gender', 'text']].to_list() == ['male2', '14encouraging', 'm', '']
    assert df.script['male2_sad_14a_1'] == '14'


def test_jl_names_that_do_not_fit(tmp_path):
    corpus = jl_corpus.read(make(tmp_path, 'male1_sad_1a_1.wav', '._male1_sad_1a_2.wav', 'male3_sad_1a_1.wav', 'male1_bored_1a_1.wav',
                                 'male1_sad_16a_1.wav', 'male1_sad_1.wav', 'Male1_Sad_1a_1.flac', 'Format_Intro.txt'))
    fits = 'the name does not follow JL-Corpus (female1_angry_10a_1.wav)'
    assert corpus.manifest.id.to_list() == ['male1_sad_1a_1']
    assert reasons(corpus) == {
        'male3_sad_1a_1.wav': fits, 'male1_sad_1.wav': fits, 'male1_bored_1a_1.wav': 'JL-Corpus has no emotion bored',
        'male1_sad_16a_1.wav': 'JL-Corpus has no sentence 16', 'Male1_Sad_1a_1.flac': 'it is the same utterance as male1_sad_1a_1.wav'}
    assert corpus.notes[0].startswith('1 of the 2,400 utterances of JL-Corpus found: angry 0 of 240, sad 1 of 240')


def test_jl_complete(tmp_path):
    names = product(('female1', 'female2', 'male1', 'male2'), jl_corpus.CODES, range(1, 16), 'ab', (1, 2))
    make(tmp_path, *(f'{RAW}/{who}_{code}_{n}{session}_{take}.wav' for who, code, n, session, take in names))
    corpus = read_corpus('jl-corpus', tmp_path)
    assert (len(corpus.manifest), corpus.notes, corpus.skipped) == (2400, [], [])
    assert corpus.manifest.speaker.value_counts().to_dict() == dict.fromkeys(('female1', 'female2', 'male1', 'male2'), 600)
    assert corpus.manifest.script.nunique() == 15 + 5*2
    assert {*corpus.manifest.label[corpus.manifest.script == '14']} == {*jl_corpus.PRIMARY}
    assert corpus.manifest.label[corpus.manifest.script == '13'].nunique() == 10


# All of them

EXAMPLES = {  # name: the files of a small copy, and how many emotions they have
    'meld': [f'{FOLDERS["train"]}/dia{n}_utt0.wav' for n in range(4)],
    'shemo': [f'female/F0{n}{code}01.wav' for n in (1, 2) for code in 'AS'],
    'esd': [f'00{s}/{label}/00{s}_{n:06d}.wav' for s in (10, 11) for label, n in (('Angry', 351), ('Sad', 1051))],
    'msp-podcast': [f'Audios/MSP-PODCAST_{n:04d}_0001.wav' for n in range(4)],
    'jl-corpus': [f'{RAW}/{who}_{label}_1a_1.wav' for who in ('female1', 'male1') for label in ('angry', 'sad')],
}
TABLES = {
    'meld': lambda root: make_meld(root, dict(train=[(n, 0, ('anger', 'sadness')[n % 2]) for n in range(4)]), suffix=''),
    'msp-podcast': lambda root: make_msp(root, [(f'{n:04d}_0001', 'AS'[n % 2], n, 'Male', 'Train') for n in range(4)]),
}


@pytest.mark.parametrize('name', EXAMPLES)
def test_prepare(tmp_path, name):
    root = tmp_path/'corpus'
    TABLES.get(name, make)(root)
    prepared = prepare_corpus(name, tones(root, EXAMPLES[name]), tmp_path/'prepared', jobs=1)
    assert prepared.labels == ['angry', 'sad']
    assert len(prepared.manifest) == 4
    assert (prepared.manifest.duration > 0.2).all()
    assert all(prepared.png(row).is_file() for row in prepared.manifest.itertuples())


@pytest.mark.parametrize('name', EXAMPLES)
def test_what_is_none(tmp_path, name):
    make(tmp_path, 'notes/one.wav', '._F01A01.wav')
    with pytest.raises(FastmerError, match=r'give the folder'): read_corpus(name, tmp_path)
    with pytest.raises(FastmerError): read_corpus(name, tmp_path/'notes/one.wav')
