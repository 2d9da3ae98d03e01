"Texts and recordings that stand in a corpus twice are found, others are not, and many copies of one do not take for ever"
import numpy as np
import pytest
import soundfile as sf
from conftest import write_tone

from fastmer import duplicates
from fastmer.audio_io import load_audio, resample
from fastmer.duplicates import LANDMARK, fingerprint, near_audio, near_texts, normalise, same_texts

TEXT = 'the cloth lies on the old fridge'
WORDS = [f'{a}{b}{c}' for a in 'bdfgklm' for b in 'aeiou' for c in 'nrst']


def sentences(n, seed=0, words=10):
    "`n` texts of random words"
    return [' '.join(row) for row in np.random.default_rng(seed).choice(WORDS, (n, words))]


def say(sentence, take=0, seconds=2., rate=16000):
    "Something like speech: a voice's overtones change with every syllable; another take has other lengths and another melody"
    what, how = np.random.default_rng([sentence, 1]), np.random.default_rng([sentence, take, 2])
    n, t = round(seconds*6), np.arange(round(seconds*rate))
    heights, lengths = what.gamma(0.5, 1, (n, 20)), how.uniform(0.7, 1.3, n)
    at = np.linspace(0, 1, len(t))
    edges = np.cumsum(lengths)/lengths.sum()
    phase = 2*np.pi*np.cumsum(np.interp(at, edges, how.uniform(110, 180, n)))/rate
    wave = sum(np.interp(at, edges, heights[:, k])*np.sin((k + 1)*phase) for k in range(20))*np.abs(np.sin(np.pi*n*at))
    return (0.3*wave/np.abs(wave).max() + how.normal(0, 1e-3, len(t))).astype(np.float32)


def near(*waves, **kwargs):
    "`near_audio` of waves at 16000 Hz"
    prints = [fingerprint(resample(wave, 16000, 8000), 8000)[1] for wave in waves]
    return near_audio(prints, lambda i: resample(waves[i], 16000, 4000), **kwargs)


@pytest.mark.parametrize(('text', 'want'), [
    ('  Hello,   WORLD! ', 'hello world'), ("Don't — don’t", 'dont dont'), ('Straße', 'strasse'), ('ﬁne Ａ１', 'fine a1'),
    ('... ?!', ''), ('', ''), ('нет, НЕТ', 'нет нет'), ('e\u0301t\u0301e \u00e9', 'ét́e é'), ('नमस्ते।', 'नमस्ते'), ('你好，世界', '你好 世界'),
    ('so\u00adft', 'soft'), ('a_b-c', 'a b c'), ('❤\ufe0f', '')])
def test_normalise(text, want):
    assert normalise(text) == want
    assert normalise(want) == want


def test_same_texts():
    got = same_texts(['Is it you?', 'No.', 'is it... YOU', '', '?!', 'no', 'on'])
    assert got.tolist() == [0, 1, 0, -1, -1, 1, 2]
    assert same_texts([]).tolist() == []


@pytest.mark.parametrize('other', [
    'the cloth lies on the new fridge', 'this cloth lies on the old fridge', 'the cloth lies on the old cupboard',
    'cloth lies on the old fridge', 'the cloth lies on the old', 'the cloth lies the old fridge',
    'so the cloth lies on the old fridge', 'the cloth lies on the very old fridge', 'the cloth lies on the old fridge today'])
def test_one_word_changed_added_or_missing(other):
    texts = ['nothing of this is like the others', other, *sentences(50), TEXT.upper() + '.', TEXT]
    (i, j, similarity), = near_texts(texts, least=0.99)
    assert (i, j) == (1, 52)
    assert 0.6 < similarity < 0.99


def test_likeness_counts_where_more_than_one_word_differs():
    texts = [f'{TEXT} and nobody knows why', f'{TEXT} but nobody knew why', f'{TEXT} when we come home at night, or so they say']
    assert [(i, j) for i, j, _ in near_texts(texts)] == [(0, 1)]
    assert near_texts(texts, least=0.95) == []
    assert len(near_texts(texts, least=0.5)) == 3


@pytest.mark.parametrize('texts', [
    sentences(300), [TEXT]*300, ['yes i do', 'yes i did', 'i do'], [], [''], ['a b c d', 'd c b a', 'b a d c'],
    [TEXT, 'old the cloth lies on the fridge']])
def test_texts_that_are_not_near(texts): assert near_texts(texts, least=0.95) == []


def test_letters_are_words_where_no_space_is_written():
    assert [(i, j) for i, j, _ in near_texts(['今天天气很好', '天气预报说下雨', '今天天气不好。'], least=0.99)] == [(0, 2)]


def test_parts_and_chunks_change_nothing(monkeypatch):
    texts = sentences(500)
    texts += [' '.join(f'x{n}' if k == n % 10 else word for k, word in enumerate(text.split())) for n, text in enumerate(texts[::5])]
    want = near_texts(texts)
    monkeypatch.setattr(duplicates, 'CHUNK', 64)
    monkeypatch.setattr(duplicates, 'PART', 1000)
    assert near_texts(texts) == want
    assert {(5*n, 500 + n) for n in range(100)} <= {(i, j) for i, j, _ in want}


def test_texts_that_all_share_their_phrases_are_not_all_compared():
    pairs = near_texts([f'kids number {n} are talking by the door' for n in range(3000)])
    assert 3000 <= len(pairs) <= 3000*40
    assert {i for i, _, _ in pairs} | {j for _, j, _ in pairs} == set(range(3000))


def test_digest_is_of_the_samples_between_silence():
    wave, quiet = say(1), np.zeros(500, dtype=np.float32)
    digest = fingerprint(wave, 16000)[0]
    assert len(digest) == 64
    assert fingerprint(np.r_[quiet, wave, quiet], 16000)[0] == digest
    assert fingerprint(wave*0.9, 16000)[0] != digest
    assert fingerprint(np.r_[wave[:9000], quiet, wave[9000:]], 16000)[0] != digest
    assert fingerprint(quiet, 16000)[0] == ''


def test_landmarks_are_where_the_sound_is():
    marks = fingerprint(np.r_[np.zeros(32000, dtype=np.float32), say(1)], 16000)[1]
    assert marks.dtype == LANDMARK
    assert len(marks) > 50
    assert 2/0.016 - 5 <= marks['time'].min() <= marks['time'].max() <= 4/0.016
    assert len(np.unique(marks['hash'])) > 0.9*len(marks)


def test_long_recordings_are_cut_up_for_the_spectrogram_alone():
    wave = np.concatenate([say(n, seconds=35, rate=8000) for n in range(5)])  # 175 s: two stretches
    whole = fingerprint(wave, 8000)[1]
    at = 8192 - 500
    part = fingerprint(wave[at*128:], 8000)[1]
    part['time'] += at
    inner = lambda marks: set(marks[(marks['time'] > at + 100) & (marks['time'] < at + 900)].tolist())
    assert len(inner(whole)) > 500
    assert inner(whole) == inner(part)


@pytest.mark.parametrize('wave', [np.zeros(8000), np.full(8000, 0.3), np.ones(1), np.zeros(1), np.r_[np.zeros(500), 1, np.zeros(500)],
                                  np.sign(np.sin(np.arange(8000)/5 + 0.1)), np.random.default_rng(0).normal(0, 0.1, 800)])
def test_waves_that_hold_little(wave):
    digest, marks = fingerprint(wave.astype(np.float32), 8000)
    assert (digest == '') == (not wave.any())
    assert marks.dtype == LANDMARK
    if np.ptp(wave) == 0: assert len(marks) == 0
    found = near_audio([marks, fingerprint(say(1, rate=8000), 8000)[1]], lambda i: [wave.astype(np.float32)[::2], say(1, rate=4000)][i])
    assert found == []


@pytest.mark.parametrize('change', [
    lambda x: x*0.25, lambda x: -x, lambda x: x[4801:], lambda x: x[:-4801], lambda x: x[len(x)//5:-len(x)//5],
    lambda x: np.r_[x, x[:99]] + np.float32(0.2), lambda x: np.r_[say(7), x, say(8)],
    lambda x: resample(resample(x, 16000, 11025), 11025, 16000),
    lambda x: x + np.random.default_rng(3).normal(0, 0.01, len(x)).astype(np.float32)],
    ids=['gain', 'polarity', 'start', 'end', 'middle', 'offset', 'within', 'rate', 'noise'])
def test_changed_copy(change):
    (i, j, similarity), = near(say(2), say(3), change(say(3)), say(4))
    assert (i, j) == (1, 2)
    assert 0.9 < similarity <= 1


def test_other_takes_and_other_sentences_are_not_near():
    assert near(*(say(n, take) for n in range(4) for take in range(4)), least=0.5) == []


def test_least_is_of_the_correlation():
    half = np.r_[say(1)[:16000], say(2)[16000:]]
    (_, _, similarity), = near(say(1), half, least=0.1)
    assert 0.2 < similarity < 0.8
    assert near(say(1), half) == near(say(1), half, least=similarity + 0.01) == []
    assert len(near(say(1), half, least=similarity - 0.01)) == 1


def test_two_takes_are_alike_at_no_lag_at_all(monkeypatch):
    monkeypatch.setattr(duplicates, 'SLACK', 3)
    a, b = say(1, rate=4000), say(1, take=1, rate=4000)
    assert duplicates._correlation(a, np.r_[np.zeros(6000, dtype=np.float32), a], 0.) > 0.99
    assert duplicates._correlation(a, b, 0.) < 0.5


def test_many_copies_are_compared_with_a_few_others_each():
    marks, wave, asked = fingerprint(say(1, seconds=1, rate=8000), 8000)[1], say(1, seconds=1, rate=4000), []
    pairs = near_audio([marks]*300, lambda i: asked.append(i) or wave)
    assert {i for i, _, _ in pairs} | {j for _, j, _ in pairs} == set(range(300))
    assert len(asked) <= 2*300*10


def files(paths, root=None):
    "Digests of sound files, and what `near_audio` says of them"
    prints = [fingerprint(load_audio(path, 8000, root), 8000) for path in paths]
    return [digest for digest, _ in prints], near_audio([marks for _, marks in prints], lambda i: load_audio(paths[i], 4000, root))


def test_files(tmp_path):
    waves = {name: np.round(32767*say(n)).astype(np.int16) for n, name in enumerate('abcd')}
    for name, wave in waves.items(): sf.write(tmp_path/f'{name}.wav', wave, 16000)
    sf.write(tmp_path/'a again.flac', waves['a'], 16000)
    sf.write(tmp_path/'b.ogg', waves['b'], 16000)
    sf.write(tmp_path/'c cut.wav', waves['c'][3000:]//2, 16000)
    sf.write(tmp_path/'a.ogg', resample(waves['a']/32768, 16000, 44100), 44100)
    sf.write(tmp_path/'silence.wav', np.zeros(8000), 16000)
    write_tone(tmp_path/'short.wav', seconds=0.1)
    paths = ['a.wav', 'b.wav', 'c.wav', 'd.wav', 'a again.flac', 'b.ogg', 'c cut.wav', 'a.ogg', 'silence.wav', 'short.wav',
             'd.wav#t=0.5,1.6']
    digests, near = files(paths, tmp_path)
    assert [i for i, digest in enumerate(digests) if digest == digests[0]] == [0, 4]
    assert [(i, j) for i, j, _ in near] == [(0, 4), (0, 7), (1, 5), (2, 6), (3, 10), (4, 7)]
    assert all(similarity > 0.9 for _, _, similarity in near)


def test_nothing_is_near_nothing(): assert near_audio([], None) == near_audio([fingerprint(np.zeros(800), 8000)[1]]*3, None) == []


def test_real_recordings(data_dir, tmp_path):
    paths = sorted((data_dir/'emodb/wav').glob('*.wav'))[:40]  # sentences that one actor says in several emotions and takes
    assert files(paths)[1] == []
    for n, path in enumerate(paths[:3]):
        sf.write(tmp_path/f'{n}.ogg', wave := load_audio(path), 16000)
        sf.write(tmp_path/f'{n}.wav', 0.25*wave[2731:], 16000)
    copies = [tmp_path/f'{n}{suffix}' for n in range(3) for suffix in ('.ogg', '.wav')]
    near = {(i, j) for i, j, _ in files(paths + copies)[1]}
    assert near == {(n, 40 + 2*n + k) for n in range(3) for k in range(2)} | {(40 + 2*n, 41 + 2*n) for n in range(3)}
