"Planted leaks are found, and a clean split passes"
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from click.testing import CliRunner

from fastmer.audio_io import load_audio
from fastmer.audit import audit_protocol, audit_split, plain_name
from fastmer.cli import main
from fastmer.manifest import as_manifest, write_manifest
from fastmer.prepare import Prepared, prepare_corpus
from fastmer.shortcuts import score_shortcut
from fastmer.splits import Split, split

WORDS = ('cats', 'dogs', 'ships', 'trains')


def found(result, check): return [f for f in result['findings'] if f['check'] == check]


def rows(n=24, **columns):
    "A manifest of texts without recordings: four speakers, each in a session of its own"
    base = [dict(id=f'u{i:02}', text=f'sentence number {i} is about {WORDS[i % 4]} and {i*37} others', label='ab'[i % 2],
                 speaker=f's{i % 4}', session=str(i % 4)) for i in range(n)]
    return as_manifest(base).assign(**columns)


def by_speaker(df, tested='s0', valid='s1'):
    ids = lambda names: tuple(df.id[df.speaker.isin(names)])
    rest = sorted(set(df.speaker) - {tested, valid})
    return Split('speaker', 1, 4, 0, ids(rest), ids([valid]), ids([tested]))


def test_a_clean_split_passes():
    df = rows()
    result = audit_split(df, by_speaker(df))
    assert result['passes']
    assert (result['leaks'], result['warnings']) == ([], [])
    assert found(result, 'speaker')[0]['severity'] == 'ok'


@pytest.mark.parametrize('column', ['session', 'dialogue', 'script'])
@pytest.mark.parametrize(('protocol', 'fails'), [('speaker', ()), ('session', ('session', 'dialogue')),
                                                 ('session+script', ('session', 'dialogue', 'script'))])
def test_what_a_protocol_promises(column, protocol, fails):
    df = rows(**{column: 'same', **({} if column == 'session' else dict(session=[str(i % 4) for i in range(24)]))})
    s = by_speaker(df)
    result = audit_split(df, Split(protocol, 1, 4, 0, s.train, s.valid, s.test))
    line = found(result, column)[0]
    assert line['severity'] == ('leak' if column in fails else 'warning')
    assert (line['n'], line['of'], line['examples']) == (6, 6, ['same'])
    assert result['passes'] == (column not in fails)


def test_two_spellings_of_a_speaker():
    assert plain_name('Spk_03 ') == plain_name('spk3') != plain_name('spk30')
    df = rows()
    df.loc[df.index % 8 == 0, 'speaker'] = 'S_00'
    result = audit_split(df, by_speaker(df))
    assert result['leaks'] == ['speaker name']
    assert set(found(result, 'speaker name')[0]['examples']) == {'s0', 'S_00'}


def test_equal_names_in_two_corpora_are_two_speakers():
    df = rows(corpus=['a', 'b']*12, speaker=['x', 'x']*12)
    s = Split('speaker', 1, 2, 0, tuple(df.id[1::2]), tuple(df.id[:4:2]), tuple(df.id[4::2]))
    line = found(audit_split(df, s), 'speaker')[0]
    assert line['severity'] == 'leak'  # corpus a stands in valid and test
    s = Split('speaker', 1, 2, 0, tuple(df.id[5::2]), tuple(df.id[1:5:2]), tuple(df.id[::2]))
    assert found(audit_split(df, s), 'speaker')[0]['severity'] == 'ok'


def test_one_word_changed_is_found(tmp_path):
    df = rows()
    df.loc[df.id == 'u00', 'text'] = 'I really never wanted to come here at all'
    df.loc[df.id == 'u02', 'text'] = 'I really never wanted to go here at all'
    prepared = text_folder(df, tmp_path)
    result = audit_protocol(prepared, 'speaker')
    line = found(result, 'near words')[0]
    assert line['severity'] == 'warning'
    assert line['n'] == 2  # each is tested once, in a fold whose training part has the other
    assert 'wanted to come' in line['says']
    assert 'wanted to go' in line['says']
    assert found(result, 'same words')[0]['severity'] == 'ok'


def text_folder(df, path):
    df.drop(columns=['audio']).to_csv(path/'t.csv', index=False)
    return prepare_corpus('table', path/'t.csv', path/'prepared')


def test_equal_words_by_chance_and_by_the_dozen(tmp_path):
    df = rows()
    df.loc[df.id.isin(['u00', 'u02']), 'text'] = 'Well, yes!'
    df.loc[df.id.isin(['u04', 'u06']), 'text'] = 'That is what you always say.'
    result = audit_split(df, by_speaker(df))
    assert found(result, 'short words')[0]['severity'] == 'note'
    assert found(result, 'same words')[0]['severity'] == 'warning'
    s = by_speaker(df)
    strict = Split('session+script', 1, 4, 0, s.train, s.valid, s.test)
    assert found(audit_split(df, strict), 'same words')[0]['severity'] == 'leak'  # one of six test utterances
    assert result['passes']


def test_one_file_under_two_ids():
    df = rows(text='', audio=[f'{i % 23}.wav' for i in range(24)])
    df.loc[23, 'speaker'] = 's3'
    assert audit_split(df, by_speaker(df))['leaks'] == ['same file']


@pytest.fixture(scope='module')
def voices(tmp_path_factory):
    "Five speakers with a formant and a pitch of their own, 16 clips each of one of two labels, as a table; a copy may be spoiled"
    root = tmp_path_factory.mktemp('voices')
    rng, out = np.random.default_rng(0), []
    for speaker in range(5):
        for i in range(16):
            label = ('calm', 'loud')[i % 2]
            write_voice(root/f'{speaker}_{i}.wav', speaker, rng, 1 + 0.3*(label == 'loud'))
            out.append(dict(id=f'{speaker}_{i}', audio=f'{speaker}_{i}.wav', label=label, speaker=f'v{speaker}'))
    pd.DataFrame(out).to_csv(root/'t.csv', index=False)
    return root


def write_voice(path, speaker, rng, lift):
    from scipy.signal import lfilter
    t = np.arange(int(rng.uniform(0.6, 1.1)*16000))/16000
    source = np.sign(np.sin(2*np.pi*np.cumsum((90 + 25*speaker)*lift*(1 + 0.1*np.sin(2*np.pi*rng.uniform(2, 5)*t)))/16000))
    for formant in (400 + 130*speaker, 1200 + 210*speaker, 2500 + 150*speaker):
        r = 0.97
        formant *= rng.uniform(0.98, 1.02)
        source = lfilter([1 - r], [1, -2*r*np.cos(2*np.pi*formant/16000), r*r], source)
    x = source/np.abs(source).max()*0.3*(0.6 + 0.4*np.sin(2*np.pi*rng.uniform(1, 4)*t))
    sf.write(path, x + rng.normal(0, 1e-4, len(x)), 16000)


@pytest.fixture
def spoiled(voices, tmp_path):
    "A function that changes a copy of `voices` and audits it: `change(root, table) -> table`"
    root = shutil.copytree(voices, tmp_path/'voices')

    def run(change, protocol='speaker', **kwargs):
        df = change(root, pd.read_csv(root/'t.csv', dtype=str))
        df.to_csv(root/'t.csv', index=False)
        return audit_protocol(prepare_corpus('table', root/'t.csv', tmp_path/'prepared', jobs=1), protocol, jobs=1, **kwargs)
    return run


def test_voices_as_they_are_pass(spoiled):
    result = spoiled(lambda root, df: df)
    assert result['passes'], result['leaks']
    for check in ('same audio', 'same picture', 'near audio', 'voice'): assert found(result, check)[0]['severity'] == 'ok'
    assert result['tested'] == 80


def test_a_copied_wav_under_another_name(spoiled):
    def change(root, df):
        shutil.copy(root/'0_0.wav', root/'copy.wav')
        return pd.concat([df, pd.DataFrame([dict(id='copy', audio='copy.wav', label='calm', speaker='v1')])])
    result = spoiled(change)
    assert not result['passes']
    assert found(result, 'same audio')[0]['examples'] == ['0_0 = copy']
    assert found(result, 'same picture')[0]['severity'] == 'leak'


def test_a_re_encoded_and_trimmed_copy(spoiled):
    def change(root, df):
        wave = load_audio(root/'0_0.wav', 16000)[2000:]*0.5
        sf.write(root/'copy.ogg', wave, 16000, format='OGG', subtype='VORBIS')
        return pd.concat([df, pd.DataFrame([dict(id='copy', audio='copy.ogg', label='calm', speaker='v1')])])
    result = spoiled(change)
    assert 'near audio' in result['leaks']
    assert found(result, 'near audio')[0]['examples'][0].startswith('0_0 ~ copy')
    assert found(result, 'same audio')[0]['severity'] == 'ok'


def test_a_renamed_speaker(spoiled):
    def change(root, df): return df.assign(speaker=[f'new{s}' if s == 'v2' and i % 4 < 2 else s for i, s in enumerate(df.speaker)])
    result = spoiled(change, folds=6)
    line = found(result, 'voice')[0]
    assert line['severity'] == 'leak'
    assert set(line['examples']) == {'v2', 'newv2'}
    assert len(found(result, 'voice')) == 1
    assert not result['passes']


def test_labels_by_duration_and_by_file_format(spoiled):
    def change(root, df):
        for i, row in enumerate(df.itertuples()):
            wave = load_audio(root/row.audio, 16000)
            sf.write(root/row.audio, wave[:4000 + 60*i] if row.label == 'calm' else wave[:9000 + 8*i], 16000)
            if row.label == 'loud' and i % 8: (root/row.audio).rename(root/f'{row.id}.flac')
            if row.label == 'loud' and i % 8: sf.write(root/f'{row.id}.flac', wave, 16000, format='FLAC')
        return df.assign(audio=[f'{i}.flac' if (root/f'{i}.flac').is_file() else a for i, a in zip(df.id, df.audio, strict=True)])
    result = spoiled(change)
    for name in ('duration', 'file format'):
        line = found(result, f'shortcut: {name}')[0]
        assert line['severity'] == 'warning'
        assert line['ua'] > 0.8
        assert line['chance'] == 0.5
    assert found(result, 'shortcut: speaker')[0]['severity'] == 'ok'
    assert result['passes']  # the protocol is what its name says; the corpus is not


def test_a_recording_that_has_gone_is_said(copy_corpus, tmp_path):
    prepared = prepare_corpus('table', copy_corpus/'utterances.csv', tmp_path/'prepared', jobs=1)
    assert not found(audit_protocol(prepared, 'session', jobs=1), 'recordings')
    (copy_corpus/prepared.manifest.audio[0]).unlink()
    assert '1 recordings could not be read' in found(audit_protocol(prepared, 'session', jobs=1), 'recordings')[0]['says']


class TestCommand:
    def run(self, prepared, *args): return CliRunner().invoke(main, ['audit', str(prepared.path), *args])

    def test_random_fails_and_names_what_is_shared(self, prepared):
        done = self.run(prepared, '--protocol', 'random', '--fold', '1', '--no-audio', '--json')
        assert done.exit_code == 1
        result = json.loads(done.stdout)
        assert {'speaker', 'script'} <= set(result['leaks'])
        assert set(found(result, 'speaker')[0]['examples']) <= {'01', '02', '03', '04'}

    def test_speaker_passes_and_names_the_scripts(self, prepared):
        done = self.run(prepared, '--protocol', 'speaker', '--no-audio')
        assert done.exit_code == 0, done.output
        assert 'the protocol is what its name promises' in ' '.join(done.output.split())
        assert '2 of 2 scripts on both sides' in ' '.join(done.output.split()).replace('│', '').replace('  ', ' ')

    def test_bad_requests_are_one_sentence(self, prepared, tmp_path):
        for args, says in ((['--protocol', 'spaeker'], 'did you mean speaker'), (['--fold', '99'], 'fold 99 is out of range')):
            done = self.run(prepared, *args)
            assert done.exit_code == 1
            assert says in done.stderr
        assert CliRunner().invoke(main, ['audit', str(tmp_path/'nope')]).exit_code == 1


def test_one_utterance_tells_of_no_shortcut():
    n = 30
    df = pd.DataFrame(dict(label=['a', 'b']*(n//2), duration=np.linspace(1, 2, n)), index=[str(i) for i in range(n)])
    s = Split('random', 1, 1, 0, tuple(df.index[2:]), (), tuple(df.index[:1]))
    assert score_shortcut(df.assign(speaker='', session='', corpus='x'), ['duration'], [s]) is None


def test_all_folds_are_looked_at(prepared):
    every, one = audit_protocol(prepared, 'session', audio=False), audit_protocol(prepared, 'session', fold=1, audio=False)
    assert (every['folds'], one['folds']) == ([1, 2], [1])
    assert every['tested'] == len(prepared.manifest) > one['tested']
    assert every['splits'][0] == one['splits'][0] == split(prepared.manifest, 'session', 1).sha256


@pytest.mark.slow
def test_emodb(data_dir, tmp_path):
    prepared = prepare_corpus('emodb', data_dir/'emodb', tmp_path/'emodb')
    honest = audit_protocol(prepared, 'speaker')
    assert honest['passes']
    assert found(honest, 'script')[0]['severity'] == 'warning'
    assert len(found(honest, 'script')[0]['examples']) == 10
    for check in ('speaker', 'same audio', 'near audio', 'same picture', 'voice'): assert found(honest, check)[0]['severity'] == 'ok', check
    leaky = audit_protocol(prepared, 'random', audio=False)
    assert not leaky['passes']
    assert {'speaker', 'script'} <= set(leaky['leaks'])
    df = prepared.manifest
    half = (df.speaker == '08') & (df.index % 2 == 0)
    write_manifest(df.assign(speaker=df.speaker.where(~half, '77')), prepared.path/'manifest.csv')
    renamed = audit_protocol(Prepared.open(prepared.path), 'speaker', folds=11)
    assert [set(f['examples']) for f in found(renamed, 'voice')] == [{'08', '77'}]


def test_pairs_have_no_text_twice(data_dir, tmp_path):
    df = pd.read_csv(data_dir/'pairs/emodb_x_goemotions.csv', dtype=str)
    df.drop(columns='wav').to_csv(tmp_path/'pairs.csv', index=False)
    result = audit_protocol(prepare_corpus('table', tmp_path/'pairs.csv', tmp_path/'prepared'), 'session')
    assert found(result, 'same words')[0]['severity'] == 'ok'
    assert found(result, 'near words')[0]['severity'] == 'ok'
    assert result['passes']


def test_the_bundled_corpus_keeps_what_it_says(demo_prepared):
    result = audit_protocol(demo_prepared, 'session+script', jobs=1)
    assert result['passes'], result['leaks']  # two of its first ten speakers had one voice: espeak-ng ignores variants of en-gb
    assert found(result, 'voice')[0]['severity'] == 'ok'
