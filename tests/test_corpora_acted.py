"The readers of acted corpora that go by file names: every published name as an empty file, the traps, and a few tones prepared"
from collections import Counter
from itertools import product

import pytest
from conftest import write_tone

from fastmer.corpora import CORPORA, crema_d, emovo, files, ravdess, read_corpus, savee, tess
from fastmer.errors import FastmerError
from fastmer.prepare import prepare_corpus

EMOTIONS = ('angry', 'disgust', 'fear', 'happy', 'neutral', 'sad')


def make(root, *names):
    for name in names:
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        (root/name).touch()
    return root


def ravdess_names(channel='01', emotions=ravdess.CODES, actors=ravdess.ACTORS):
    "A strong neutral is nowhere; songs have no disgust, no surprise, and none by actor 18"
    return [f'Actor_{actor}/03-{channel}-{emotion}-{intensity}-{script}-{take}-{actor}.wav'
            for actor, emotion, intensity, script, take in product(actors, emotions, ('01', '02'), ('01', '02'), ('01', '02'))
            if (emotion, intensity) != ('01', '02')]


def crema_d_names():
    "Every actor, sentence and emotion, `IEO` at three levels, less 20: which 20 the corpus lacks is made up, how many an emotion is not"
    out = {code: iter(crema_d.ACTORS[:5 if code == 'NEU' else 3]) for code in crema_d.CODES}
    gone = {f'{actor}_TIE_{code}_XX' for code, actors in out.items() for actor in actors}
    names = [f'{actor}_{script}_{code}_{level}' for actor, script, code in product(crema_d.ACTORS, crema_d.TEXTS, crema_d.CODES)
             for level in (('LO', 'MD', 'HI') if script == 'IEO' and code != 'NEU' else ('XX',))]
    return [f'AudioWAV/{"1040_ITH_SAD_X" if name == "1040_ITH_SAD_XX" else name}.wav' for name in names if name not in gone]


def savee_names(form='AudioData/{}/{}{:02}.wav'):
    return [form.format(speaker, code, n) for speaker, code in product(savee.SPEAKERS, savee.CODES)
            for n in range(1, 31 if code == 'n' else 16)]


def tess_names():
    "200 words, made up but for two; folders called as in the release, in whatever case"
    folders = dict(OAF=dict(ps='Pleasant_surprise', fear='Fear', sad='Sad'), YAF=dict(ps='pleasant_surprised'))
    words = ['back', 'bite', *(f'w{a}{b}' for a, b in product('abcdefghijklmnopqr', 'abcdefghijk'))]
    names = [f'{who}_{folders[who].get(code, code)}/{who}_{word}_{code}.wav' for who, code, word in product(folders, tess.CODES, words)]
    return [name.replace('OAF_bite_neutral', 'OA_bite_neutral') for name in names]


def emovo_names():
    return [f'EMOVO/{who}/{code}-{who}-{script}.wav'
            for who, code, script in product(('f1', 'f2', 'f3', 'm1', 'm2', 'm3'), emovo.CODES, emovo.TEXTS)]


# name: (names of the whole corpus, utterances by emotion, by gender, speakers, scripts, utterances of each speaker)
WHOLE = {
    'ravdess': (ravdess_names, dict(neutral=96, calm=192, happy=192, sad=192, angry=192, fear=192, disgust=192, surprised=192),
                dict(m=720, f=720), 24, 2, {60}),
    'crema-d': (crema_d_names, dict(angry=1271, disgust=1271, fear=1271, happy=1271, sad=1270, neutral=1087), None, 91, 12, None),
    'savee': (savee_names, dict(angry=60, disgust=60, fear=60, happy=60, neutral=120, sad=60, surprised=60), dict(m=480), 4,
              3 + 6*12 + 27, {120}),
    'tess': (tess_names, dict.fromkeys((*EMOTIONS, 'surprised'), 400), dict(f=2800), 2, 200, {1400}),
    'emovo': (emovo_names, dict.fromkeys((*EMOTIONS, 'surprised'), 84), dict(f=294, m=294), 6, 14, {98}),
}


@pytest.mark.parametrize('name', WHOLE)
def test_whole_corpus(tmp_path, name):
    names, labels, genders, speakers, scripts, each = WHOLE[name]
    corpus = read_corpus(name, make(tmp_path, *names()))
    df = corpus.manifest
    assert df.label.value_counts().to_dict() == labels
    assert (df.speaker.nunique(), df.script.nunique()) == (speakers, scripts)
    assert {tuple(row) for row in df[['corpus', 'language', 'session', 'part']].to_numpy()} == {
        (name, 'it' if name == 'emovo' else 'en', '', '')}
    assert (df[['speaker', 'script', 'gender']] != '').all(axis=None)
    assert all((tmp_path/audio).is_file() for audio in df.audio)
    if genders: assert df.gender.value_counts().to_dict() == genders
    if each: assert set(df.speaker.value_counts()) == each
    if name == 'crema-d':
        assert corpus.notes == ['7,441 of the 7,442 utterances of CREMA-D found: sad 1,270 of 1,271']
        assert [skip['reason'] for skip in corpus.skipped] == ['CREMA-D calls it faulty: very short and without sound']
        assert df.groupby('gender').speaker.nunique().to_dict() == dict(f=43, m=48)
    else:
        assert corpus.notes == ([savee.NOTE] if name == 'savee' else [])
        assert corpus.skipped == []


ONE = {  # name: (a file, its row in the manifest)
    'ravdess': ('Actor_12/03-01-06-01-02-01-12.wav', dict(id='03-01-06-01-02-01-12', label='06', speaker='12', gender='f', script='02',
                                                           text='Dogs are sitting by the door.')),
    'crema-d': ('AudioWAV/1001_DFA_ANG_XX.wav', dict(id='1001_DFA_ANG_XX', label='ANG', speaker='1001', gender='m', script='DFA',
                                                     text="Don't forget a jacket.")),
    'savee': ('AudioData/DC/su04.wav', dict(id='DC_su04', label='su', speaker='DC', gender='m', script='su04', text='')),
    'tess': ('OAF_Pleasant_surprise/OAF_back_ps.wav', dict(id='OAF_back_ps', label='ps', speaker='OAF', gender='f', script='back',
                                                          text='Say the word back.')),
    'emovo': ('f1/dis-f1-d2.wav', dict(id='dis-f1-d2', label='dis', speaker='f1', gender='f', script='d2',
                                        text='Porti con te quella cosa?')),
}
MODULES = {'ravdess': ravdess, 'crema-d': crema_d, 'savee': savee, 'tess': tess, 'emovo': emovo}
READ = {name: module.read for name, module in MODULES.items()}
CODES = {name: module.CODES for name, module in MODULES.items()}
CODE = {'ravdess': lambda path: path.split('-')[2], 'crema-d': lambda path: path.split('_')[2],
        'savee': lambda path: path.rpartition('/')[2][:-6], 'tess': lambda path: path.removesuffix('.wav').rpartition('_')[2],
        'emovo': lambda path: path.rpartition('/')[2][:3]}


@pytest.mark.parametrize('name', ONE)
def test_one_file(tmp_path, name):
    path, want = ONE[name]
    row, = READ[name](make(tmp_path, path)).manifest.to_dict('records')
    assert {key: row[key] for key in want} == want
    assert (row['audio'], row['corpus']) == (path, name)


@pytest.mark.parametrize('name', ONE)
def test_nested_hidden_and_upper_case(tmp_path, name):
    path, want = ONE[name]
    folder, _, file = path.rpartition('/')
    hidden = ('.git/' + file, f'{folder}/._{file}', f'__MACOSX/{folder}/._{file}')
    corpus = READ[name](make(tmp_path, f'a/b/{folder}/{file.removesuffix(".wav")}.WAV', *hidden, f'{folder}/readme.txt'))
    assert corpus.manifest.audio.to_list() == [f'a/b/{folder}/{file.removesuffix(".wav")}.WAV']
    assert (corpus.manifest.id.to_list(), corpus.skipped) == ([want['id']], [])


@pytest.mark.parametrize('name', ONE)
def test_a_copy_is_read_once(tmp_path, name):
    path, _ = ONE[name]
    corpus = READ[name](make(tmp_path, path, f'zzz copy/{path}'))
    assert corpus.manifest.audio.to_list() == [path]
    assert [(skip['audio'], skip['reason']) for skip in corpus.skipped] == [(f'zzz copy/{path}', f'it is the same utterance as {path}')]


@pytest.mark.parametrize('name', ONE)
def test_what_does_not_fit(tmp_path, name):
    path, _ = ONE[name]
    corpus = READ[name](make(tmp_path, path, 'noise 1.wav', 'b/03a01Fa.flac'))
    assert sorted(skip['audio'] for skip in corpus.skipped) == ['b/03a01Fa.flac', 'noise 1.wav']
    assert all('the name does not follow' in skip['reason'] for skip in corpus.skipped)
    with pytest.raises(FastmerError, match=r'holds no audio named like .*first of 1 others: x\.wav.*give the folder that holds'):
        read_corpus(name, make(tmp_path/'other', 'x.wav'))
    with pytest.raises(FastmerError, match=r'holds no audio named like [^()]*: give'): READ[name](make(tmp_path/'none', 'x.mp4'))
    with pytest.raises(FastmerError, match='is no folder'): READ[name](tmp_path/'noise 1.wav')


@pytest.mark.parametrize('name', ONE)
def test_what_is_missing_is_noted(tmp_path, name):
    path, _ = ONE[name]
    note = READ[name](make(tmp_path, path)).notes[0]
    whole = sum(WHOLE[name][1].values()) + (name == 'crema-d')
    assert note.startswith(f'1 of the {whole:,} utterances of ')
    assert f'{CODES[name][ONE[name][1]["label"]]} 1 of ' in note


@pytest.mark.parametrize(('name', 'path', 'reason'), [
    ('ravdess', 'Actor_25/03-01-06-01-02-01-25.wav', 'no actor 25'),
    ('ravdess', 'Actor_01/03-02-03-01-02-01-01.wav', 'it is sung'),
    ('ravdess', 'Actor_01/01-01-03-01-02-01-01.wav', 'it belongs to a video'),
    ('ravdess', 'Actor_01/03-01-09-01-02-01-01.wav', 'does not follow'),
    ('crema-d', '1092_DFA_ANG_XX.wav', 'no actor 1092'),
    ('crema-d', '1001_ABC_ANG_XX.wav', 'no sentence ABC'),
    ('crema-d', '1001_DFA_SUR_XX.wav', 'does not follow'),
    ('crema-d', 'AudioMP3/1064_IEO_DIS_MD.mp3', 'a minute of all emotions'),
    ('savee', 'AudioData/XX/a01.wav', 'in no folder of a speaker'),
    ('savee', 'AudioData/DC/a16.wav', 'no angry sentence 16'),
    ('savee', 'AudioData/DC/n31.wav', 'no neutral sentence 31'),
    ('savee', 'AudioData/DC/n00.wav', 'no neutral sentence 00'),
    ('savee', 'AudioData/DC/s01.wav', 'does not follow'),
    ('tess', 'OAF_back_surprised.wav', 'does not follow'),
    ('tess', 'MAF_back_angry.wav', 'does not follow'),
    ('emovo', 'f1/dis-f4-b1.wav', 'does not follow'),
    ('emovo', 'f1/dis-f1-b4.wav', 'no sentence b4')])
def test_reasons(tmp_path, name, path, reason):
    skip, = READ[name](make(tmp_path, ONE[name][0], path)).skipped
    assert skip['audio'] == path
    assert reason in skip['reason']


def test_ravdess_song_and_kaggle_copy(tmp_path):
    songs = ravdess_names('02', [*ravdess.CODES][:6], [actor for actor in ravdess.ACTORS if actor != '18'])
    speech = ravdess_names()
    make(tmp_path, *speech, *(f'audio_speech_actors_01-24/{name}' for name in speech), *(f'song/{name}' for name in songs),
         'Actor_01/01-01-03-01-02-01-01.mp4')
    corpus = read_corpus('ravdess', tmp_path)
    assert (len(speech), len(songs), len(corpus.manifest), corpus.notes) == (1440, 1012, 1440, [])
    assert corpus.manifest.audio.str.startswith('Actor_').all()
    assert Counter(skip['audio'].split('/')[0] for skip in corpus.skipped) == {'audio_speech_actors_01-24': 1440, 'song': 1012}
    with pytest.raises(FastmerError, match='it is sung'): ravdess.read(tmp_path/'song')


def test_crema_d_mp3(tmp_path):
    names = ('1001_DFA_ANG_XX', '1076_MTI_NEU_XX', '1064_TIE_SAD_XX', '1064_IEO_DIS_MD', '1076_MTI_SAD_XX')
    make(tmp_path, *(f'AudioMP3/{name}.mp3' for name in names))
    assert crema_d.read(tmp_path).manifest.id.to_list() == ['1001_DFA_ANG_XX']
    corpus = crema_d.read(make(tmp_path, *(f'AudioWAV/{name}.wav' for name in names)))
    assert corpus.manifest.audio.to_list() == sorted(f'AudioWAV/{name}.wav' for name in names[:4])
    assert {skip['audio']: skip['reason'] for skip in corpus.skipped}['AudioMP3/1001_DFA_ANG_XX.mp3'] == (
        'it is the same utterance as AudioWAV/1001_DFA_ANG_XX.wav')
    assert len(corpus.skipped) == 6


def test_crema_d_lacking_x_and_case(tmp_path):
    df = crema_d.read(make(tmp_path, '1040_ITH_SAD_X.wav', '1001_dfa_ang_xx.wav')).manifest
    assert df[['id', 'label', 'script']].to_numpy().tolist() == [['1001_DFA_ANG_XX', 'ANG', 'DFA'], ['1040_ITH_SAD_XX', 'SAD', 'ITH']]


def test_savee_flat_and_scripts(tmp_path, monkeypatch):
    flat = savee.read(make(tmp_path/'flat', *savee_names('ALL/{}_{}{:02}.wav')))
    deep = savee.read(make(tmp_path/'deep', *savee_names()))
    columns = ['id', 'label', 'speaker', 'script']
    assert flat.manifest.sort_values('id')[columns].to_numpy().tolist() == deep.manifest.sort_values('id')[columns].to_numpy().tolist()
    shared = deep.manifest.groupby('script').label.nunique()
    assert shared[shared > 1].to_dict() == {'01': 7, '02': 7, '03': 7}
    monkeypatch.chdir(tmp_path/'deep/AudioData/KL')
    assert set(savee.read('.').manifest.speaker) == {'KL'}


def test_tess_typo_case_and_nested_copy(tmp_path):
    top = 'TESS Toronto emotional speech set data'
    bite = f'{top}/OAF_neutral/OA_bite_neutral.wav'
    corpus = tess.read(make(tmp_path, bite, f'{top}/{bite}', f'{top}/YAF_sad/yaf_Back_SAD.wav'))
    df = corpus.manifest.sort_values('id')
    assert df[['id', 'speaker']].to_numpy().tolist() == [['OAF_bite_neutral', 'OAF'], ['YAF_back_sad', 'YAF']]
    assert [skip['audio'] for skip in corpus.skipped] == [f'{top}/{bite}']


def test_links(tmp_path):
    make(tmp_path, 'f1/dis-f1-b1.wav')
    (tmp_path/'f1/back').symlink_to(tmp_path, target_is_directory=True)
    (tmp_path/'f1/dis-f1-b2.wav').symlink_to(tmp_path/'nowhere.wav')
    assert [path.name for path in files.audio_files(tmp_path)] == ['dis-f1-b1.wav', 'dis-f1-b2.wav']
    corpus = emovo.read(tmp_path)
    assert corpus.manifest.id.to_list() == ['dis-f1-b1']
    assert [skip['reason'] for skip in corpus.skipped] == ['it is no file, or a link that leads nowhere']


def test_names_that_are_no_utf8(tmp_path):
    make(tmp_path, 'dis-f1-b1.wav')
    try: (tmp_path/'caf\udce9').mkdir()
    except (OSError, UnicodeError): pytest.skip('the file system takes UTF-8 alone')
    (tmp_path/'caf\udce9/dis-f1-b2.wav').touch()
    skip, = emovo.read(tmp_path).skipped
    assert skip == dict(id='caf_xe9_dis-f1-b2', audio='caf\\xe9/dis-f1-b2.wav', reason='the name is not valid UTF-8')


def test_table():
    assert {name: CORPORA[name] for name in MODULES} == {name: (name.replace('-', '_'), 'all') for name in MODULES}
    assert {emotion for codes in CODES.values() for emotion in codes.values()} == {*EMOTIONS, 'calm', 'surprised'}


def test_shortfall():
    assert files.shortfall('X', ['sad', 'sad'], dict(sad=2)) == files.shortfall('X', dict(sad=2), dict(sad=2)) == []
    assert files.shortfall('X', ['sad'], dict(sad=2, angry=1000)) == ['1 of the 1,002 utterances of X found: sad 1 of 2, angry 0 of 1,000']


@pytest.mark.parametrize('name', WHOLE)
def test_prepare(tmp_path, name):
    root, seen = tmp_path/'corpus', Counter()
    for path in WHOLE[name][0]():
        label = CODES[name][CODE[name](path)]
        if label in ('happy', 'sad') and seen[label] < 2: write_tone(root/path, dict(happy=330, sad=130)[label], seed=seen[label])
        elif (label, seen[label]) == ('sad', 2): lost = make(root, path)/path
        seen[label] += 1
    made = prepare_corpus(name, root, tmp_path/'out', labels='happy,sad', jobs=1)
    assert made.manifest.label.value_counts().to_dict() == dict(happy=2, sad=2)
    assert len(list((tmp_path/'out/spectrograms').glob('*/*.png'))) == 4
    assert (made.manifest.duration > 0.2).all()
    assert lost.relative_to(root).as_posix() in (tmp_path/'out/skipped.csv').read_text()
