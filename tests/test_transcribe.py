"Speech recognisers, tiny and random: what they hear against transformers' own, transcripts.csv, and trainings on what it holds"
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from click.testing import CliRunner
from conftest import write_tone
from tokenizers import Tokenizer, models, pre_tokenizers

import fastmer
from fastmer import transcribe
from fastmer.audio_io import load_audio
from fastmer.cli import main
from fastmer.compare import fusion_gain
from fastmer.crossval import cross_validate
from fastmer.errors import FastmerError
from fastmer.metrics import word_error_rate
from fastmer.prepare import Prepared, prepare_corpus, read_transcripts
from fastmer.runs import Run, protocol_line, read_json
from fastmer.speech import prepare_wave
from fastmer.splits import split
from fastmer.systems import _with_words, train_audio, train_fusion, train_text
from fastmer.transcribe import find_language, load_recogniser, pieces, recognise, transcribe_prepared

SPECIALS = ('<|endoftext|>', '<|startoftranscript|>', '<|en|>', '<|de|>', '<|transcribe|>', '<|translate|>', '<|notimestamps|>')
WHISPER = dict(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
               decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=50, max_target_positions=40, vocab_size=60, pad_token_id=53,
               bos_token_id=53, eos_token_id=53, decoder_start_token_id=54, init_std=0.5)  # as Whisper's own: what is no word comes last
CTC = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, conv_dim=(16, 16, 16), conv_stride=(5, 8, 8),
           conv_kernel=(10, 8, 8), num_feat_extract_layers=3, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, vocab_size=12,
           pad_token_id=0, initializer_range=1.)
QUICK = dict(protocol='session', fold=1, lr=1e-3, device='cpu', say=None)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    "Recognisers in folders, as `save_pretrained` writes them: two Whispers that take a second at once, and a CTC model"
    out = tmp_path_factory.mktemp('recognisers')
    ids = {token: i for i, token in enumerate([*(f'w{n}' for n in range(53)), *SPECIALS])}
    words = Tokenizer(models.WordLevel(ids, unk_token=SPECIALS[0]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token=SPECIALS[0], pad_token=SPECIALS[0],
                                                additional_special_tokens=list(SPECIALS[1:]))
    for seed, name in enumerate(('whisper', 'other')):
        torch.manual_seed(seed)
        transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER)).save_pretrained(out/name)
        transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(out/name)
        fast.save_pretrained(out/name)
    torch.manual_seed(0)
    transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**CTC)).save_pretrained(out/'ctc')
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(out/'ctc')
    letters = {token: i for i, token in enumerate(['<pad>', '<s>', '</s>', '<unk>', '|', *'abcdefg'])}
    (out/'ctc'/'vocab.json').write_text(json.dumps(letters))
    transformers.Wav2Vec2CTCTokenizer(str(out/'ctc'/'vocab.json')).save_pretrained(out/'ctc')
    return {path.name: str(path) for path in out.iterdir()}


@pytest.fixture
def tones(corpus, tmp_path):
    "Eight tones prepared, of one's own, one of them a stretch of its file, one German; and the corpus they lie in"
    rows = pd.read_csv(corpus/'utterances.csv', dtype=str)[:8].assign(language='en')
    rows.loc[2, 'audio'] += '#t=0.05,0.2'
    rows.loc[3, 'language'] = 'de'
    for audio in rows.audio:
        to = tmp_path/'corpus'/audio.partition('#')[0]
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus/audio.partition('#')[0], to)
    rows.to_csv(tmp_path/'corpus'/'utterances.csv', index=False)
    return prepare_corpus('table', tmp_path/'corpus'/'utterances.csv', tmp_path/'prepared', jobs=1), tmp_path/'corpus'


def wave_of(prepared, row): return np.asarray(prepare_wave(load_audio(row.audio, 16000, prepared.root), 16000, trim_db=0))


# --- recognisers ------------------------------------------------------------------------------------------------------------------------

def test_whisper_hears_what_transformers_own_does(tones, folders):
    prepared, _ = tones
    transcribe_prepared(prepared, folders['whisper'], device='cpu', bs=3, say=None)
    heard = read_transcripts(prepared.path)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folders['whisper']).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders['whisper'])
    for row in prepared.manifest.itertuples():
        wave = wave_of(prepared, row)
        given = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)(wave, sampling_rate=16000, return_tensors='pt')
        ids = torch.tensor([[54, 59]])  # <|startoftranscript|><|notimestamps|>, and token by token what is likeliest
        with torch.no_grad():
            while ids.shape[1] < 38 and ids[0, -1] != 53:
                ids = torch.cat([ids, model(**given, decoder_input_ids=ids).logits[:, -1:].argmax(-1)], 1)
        want, got = (text.split() for text in (tokenizer.decode(ids[0], skip_special_tokens=True), heard.asr_text[row.id]))
        assert got == want[:len(got)]
        assert len(got) >= min(len(want), 20)  # a batch ends with its longest recording's share
    assert heard.asr_text.nunique() > 2


def test_ctc_hears_what_transformers_own_does(tones, folders):
    prepared, _ = tones
    transcribe_prepared(prepared, folders['ctc'], device='cpu', bs=3, say=None)
    heard = read_transcripts(prepared.path)
    model, tokenizer = (auto.from_pretrained(folders['ctc']) for auto in (transformers.Wav2Vec2ForCTC, transformers.Wav2Vec2CTCTokenizer))
    for row in prepared.manifest.itertuples():
        wave = torch.from_numpy(wave_of(prepared, row))
        wave = (wave - wave.mean())/(wave.var(unbiased=False) + 1e-7).sqrt()
        with torch.no_grad(): ids = model.eval()(wave[None]).logits.argmax(-1)[0]
        assert heard.asr_text[row.id] == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert heard.asr_text.nunique() > 2
    assert set(heard.language) == {''}


def test_long_recordings_are_cut_where_it_is_quiet():
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, 50_000).astype(np.float32)
    for at in (9_000, 17_500): wave[at:at + 400] = 0
    parts = pieces(wave, 10_000)
    np.testing.assert_array_equal(np.concatenate(parts), wave)
    assert all(0 < len(part) <= 10_000 for part in parts)
    assert 9_000 <= len(parts[0]) <= 9_400
    assert 17_500 <= len(parts[0]) + len(parts[1]) <= 17_900
    assert [len(part) for part in pieces(wave[:10_000], 10_000)] == [10_000]


def test_long_silent_and_short_recordings(folders):
    recogniser = load_recogniser(folders['whisper'], 'cpu')
    tone = np.sin(2*np.pi*300*np.arange(12_000)/16000).astype(np.float32)
    silence, gap = np.full(20_000, 5e-5, np.float32), np.zeros(16_000, np.float32)
    long = np.concatenate([tone, gap, tone])
    alone, twice, none, blip = recognise(recogniser, [tone, long, silence, tone[:10]], bs=1)
    assert alone
    assert (none, recognise(recogniser, [])) == ('', [])
    assert isinstance(blip, str)
    assert twice == ' '.join(filter(None, recognise(recogniser, pieces(long, recogniser.longest), bs=1)))
    assert len(twice.split()) > len(alone.split())


def test_languages(folders, monkeypatch):
    english = load_recogniser(folders['whisper'], 'cpu')
    assert [find_language(name, english, 'x') for name in ('en', 'English')] == ['en', 'en']
    with pytest.raises(FastmerError, match="x knows no language 'de': it knows en"): find_language('de', english, 'x')
    with pytest.raises(FastmerError, match='leave out --language'): find_language('de', load_recogniser(folders['ctc'], 'cpu'), 'x')
    monkeypatch.setattr(transcribe, 'FIRST_MULTILINGUAL', 60)
    many = load_recogniser(folders['whisper'], 'cpu')  # its generation_config.json tells of no language
    assert many.languages == ['de', 'en']
    with pytest.raises(FastmerError, match="no language 'french': it knows de, en"): find_language('french', many, 'x')
    prompts, generate = [], many.model.generate
    many.model.generate = lambda **kwargs: prompts.append(kwargs) or generate(**kwargs)
    tone = np.sin(2*np.pi*300*np.arange(12_000)/16000).astype(np.float32)
    texts = [recognise(many, [tone], language)[0] for language in ('en', 'de', None)]
    assert [(p['language'], p['task']) for p in prompts] == [('en', 'transcribe'), ('de', 'transcribe'), (None, 'transcribe')]
    assert texts[0] != texts[1]
    assert texts[2] in texts[:2]  # the model chose one of them


def test_what_is_no_recogniser(folders, tmp_path):
    with pytest.raises(FastmerError, match='holds no recogniser'): load_recogniser(tmp_path)
    with pytest.raises(FastmerError, match=r'could not be fetched .*--model PATH'): load_recogniser(str(tmp_path/'nowhere'))
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(FastmerError, match='is a bert model that writes no words'): load_recogniser(str(tmp_path))
    shutil.copytree(folders['ctc'], tmp_path/'headless')
    model = transformers.Wav2Vec2ForCTC.from_pretrained(folders['ctc'])
    model.save_pretrained(tmp_path/'headless', state_dict={k: v for k, v in model.state_dict().items() if not k.startswith('lm_head')})
    with pytest.raises(FastmerError, match=r'does not hold all weights .* lm_head'): load_recogniser(str(tmp_path/'headless'))
    shutil.copytree(folders['whisper'], tmp_path/'mute')
    for name in ('tokenizer.json', 'tokenizer_config.json'): (tmp_path/'mute'/name).unlink()
    with pytest.raises(FastmerError, match='has no tokenizer for its 60 tokens'): load_recogniser(str(tmp_path/'mute'))


# --- the prepared folder ----------------------------------------------------------------------------------------------------------------

def test_a_second_run_does_what_is_new_or_changed(tones, folders, monkeypatch):
    prepared, root = tones
    before = (prepared.path/'manifest.csv').read_bytes()
    done = transcribe_prepared(prepared, folders['whisper'], device='cpu', say=None)
    assert (done['utterances'], done['now'], done['failed'], done['no_audio']) == (8, 8, [], 0)
    first = (prepared.path/'transcripts.csv').read_bytes()
    heard, loads = read_transcripts(prepared.path), []
    assert list(heard.columns) == ['id', 'audio', 'asr_text', 'model', 'language', 'error', 'stamp']
    assert done['wer'] == pytest.approx(word_error_rate(prepared.manifest.text, heard.asr_text.loc[prepared.manifest.id]))
    listen = transcribe.recognise
    monkeypatch.setattr(transcribe, 'recognise', lambda r, waves, *args: loads.append(len(waves)) or listen(r, waves, *args))
    run = lambda model='whisper', **kwargs: (loads.clear(), transcribe_prepared(prepared, folders[model], device='cpu', say=None, **kwargs),
                                             sum(loads))[1:]
    assert [run()[0]['now'], sum(loads), (prepared.path/'transcripts.csv').read_bytes()] == [0, 0, first]
    row = prepared.manifest.iloc[0]
    write_tone(root/row.audio, 700, 0.4)
    prepare_corpus('table', root/'utterances.csv', prepared.path, jobs=1)  # and a second prepare keeps the transcripts
    done, n = run()
    assert (done['now'], n) == (1, 1)
    again = read_transcripts(prepared.path)
    assert again.stamp[row.id] != heard.stamp[row.id]
    assert again.drop(row.id).equals(heard.drop(row.id))
    assert run(language='en')[1] == 1  # of the one that was German
    assert run('other')[1] == 8
    assert run('other')[1] == 0
    assert run('other', overwrite=True)[1] == 8
    assert set(read_transcripts(prepared.path).model) == {folders['other']}
    assert (prepared.path/'manifest.csv').read_bytes() != before  # since a recording changed its length ...
    assert Prepared.open(prepared.path).manifest.text.equals(prepared.manifest.text)  # ... and its text is gold


def test_a_killed_run_goes_on(tones, folders, monkeypatch):
    prepared, _ = tones
    monkeypatch.setattr(transcribe, 'EVERY', -1)  # to write after every batch
    transcribe_prepared(prepared, folders['whisper'], device='cpu', bs=2, say=None)
    want = read_transcripts(prepared.path)
    (prepared.path/'transcripts.csv').unlink()
    on_disk = []

    def killed(total):
        def advance(n):
            on_disk.append(len(read_transcripts(prepared.path)))
            if len(on_disk) == 4: raise KeyboardInterrupt
        return advance
    with pytest.raises(KeyboardInterrupt): transcribe_prepared(prepared, folders['whisper'], device='cpu', bs=2, progress=killed, say=None)
    assert on_disk == [0, 0, 2, 4]  # what a kill without a word would have left: all but the batch that was just heard
    assert len(read_transcripts(prepared.path)) == 6
    with pytest.raises(FastmerError, match=r'no ASR text of 2 of 8 utterances .* run fastmer transcribe'): prepared.with_transcripts()
    assert transcribe_prepared(prepared, folders['whisper'], device='cpu', say=None)['now'] == 2
    assert read_transcripts(prepared.path).equals(want)


def test_recordings_that_are_gone_or_broken(tones, folders):
    prepared, root = tones
    df = prepared.manifest
    (root/df.audio[0]).unlink()
    (root/df.audio[1]).write_bytes(b'RIFF and nothing else')
    bare = prepared.with_manifest(df.assign(audio=df.audio.where(df.index != 4, '')))
    said = []
    done = transcribe_prepared(bare, folders['whisper'], device='cpu', bs=3, say=said.append)
    assert (done['utterances'], done['now'], done['no_audio'], sorted(name for name, _ in done['failed'])) == (7, 5, 1, sorted(df.id[:2]))
    for (name, reason), line in zip(done['failed'], said[1:], strict=True): assert line == f'{name}: {reason}'
    assert 'whisper knows no de, as the manifest calls' in said[0]
    assert dict(done['failed'])[df.id[0]].endswith('is not there')
    heard = read_transcripts(prepared.path)
    assert list(heard.asr_text[df.id[:2]]) == ['', '']
    assert all(heard.asr_text[df.id[5:]])
    read = bare.with_transcripts().manifest
    assert list(read.text[[0, 1, 4]]) == ['', '', '']
    assert list(read.gold_text) == list(df.text)
    write_tone(root/df.audio[1], 300, 0.3)
    assert transcribe_prepared(bare, folders['whisper'], device='cpu', say=None)['now'] == 1  # what failed is tried again
    for audio in {audio.partition('#')[0] for audio in df.audio}: (root/audio).unlink(missing_ok=True)
    with pytest.raises(FastmerError, match=r'none of the 7 recordings under .* can be read; the first: .* is not there'):
        transcribe_prepared(bare, folders['whisper'], device='cpu', say=None)
    with pytest.raises(FastmerError, match='holds no recording to transcribe'):
        transcribe_prepared(prepared.with_manifest(df.assign(audio='')), folders['whisper'])


def test_the_command(tones, folders):
    prepared, root = tones
    (root/prepared.manifest.audio[0]).write_bytes(b'')
    args = ['transcribe', str(prepared.path), '--model', folders['whisper'], '--device', 'cpu']
    done = CliRunner().invoke(main, [*args, '--language', 'en', '--bs', '2'])
    assert done.exit_code == 0, done.output
    first, last = done.output.strip().splitlines()
    assert first.startswith(f'{prepared.manifest.id[0]}: ')
    assert first.endswith('is empty')
    assert last.startswith('8 recordings, 7 transcribed now, 1 could not be read · word error rate ')
    assert '8 recordings, 0 transcribed now, 1 could not be read' in CliRunner().invoke(main, [*args, '--language', 'en']).output
    for more, says in ((['--language', 'xx'], 'knows no language'), (['--bs', '0'], '--bs'), (['--model', 'no/where/at/all'], 'fetched')):
        refused = CliRunner().invoke(main, [*args, *more])
        assert refused.exit_code in (1, 2)
        assert says in refused.stderr
        assert 'Traceback' not in refused.stderr


# --- what is trained on it --------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def heard(demo_prepared, tmp_path_factory):
    "The demo's slice with transcripts in which one word in four is another; and that table"
    path = Path(shutil.copytree(demo_prepared.path, tmp_path_factory.mktemp('heard')/'demo'))
    rng, df = np.random.default_rng(0), demo_prepared.manifest
    spoil = lambda text: ' '.join('blah' if rng.random() < 0.25 else word for word in text.split())
    table = pd.DataFrame(dict(id=df.id, audio=df.audio, asr_text=df.text.map(spoil), model='someone/whisper', language='en', error='',
                              stamp='x'))
    table.to_csv(path/'transcripts.csv', index=False)
    return Prepared.open(path), table.set_index('id')


def test_with_transcripts(heard, tmp_path):
    prepared, table = heard
    gold, read = prepared.manifest, prepared.with_transcripts().manifest
    assert list(read.text) == list(table.asr_text.loc[gold.id])
    assert list(read.gold_text) == list(gold.text)
    assert set(read.asr_model) == {'someone/whisper'}
    assert read.drop(columns=['text', 'gold_text', 'asr_model']).equals(gold.drop(columns='text'))
    assert 'gold_text' not in prepared.manifest
    some = prepared.with_transcripts(gold.id[:5]).manifest
    assert list(some.text[:5]) == list(read.text[:5])
    assert list(some.text[5:]) == list(gold.text[5:])
    assert [list(some.asr_model[:5]), set(some.asr_model[5:])] == [['someone/whisper']*5, {''}]
    other = Prepared(Path(shutil.copytree(prepared.path, tmp_path/'other')), prepared.about)
    write = lambda df: df.to_csv(other.path/'transcripts.csv', index=False)
    flat = table.reset_index()
    write(flat.assign(audio=flat.audio.where(flat.index != 3, 'another.wav')))  # prepared anew, with another recording
    with pytest.raises(FastmerError, match=rf'no ASR text of 1 of {len(gold)} utterances \(the first: {flat.id[3]!r}\)'):
        other.with_transcripts()
    write(flat.assign(model=['a', *['b']*(len(flat) - 1)]))
    with pytest.raises(FastmerError, match='ASR text of a and of b: run fastmer transcribe with one of them'): other.with_transcripts()
    for bad in (flat.drop(columns='audio'), pd.concat([flat, flat[:1]])):
        write(bad)
        with pytest.raises(FastmerError, match='delete it and run fastmer transcribe'): other.with_transcripts()
    (other.path/'transcripts.csv').unlink()
    with pytest.raises(FastmerError, match='run fastmer transcribe'): other.with_transcripts()


def slow_distance(a, b):
    "Levenshtein's, by its definition"
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1): last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_word_error_rate():
    assert word_error_rate(["It's  NINE, o'clock!"], ['its nine oclock']) == 0
    assert word_error_rate(['a b c d', 'e'], ['a x c', 'e f g']) == 4/5  # one other, one left out, two put in
    assert word_error_rate(['a b', ''], ['', 'hallucinated']) == 1
    assert word_error_rate(['', '...'], ['x', 'y']) is None
    assert word_error_rate(['我很好'], ['我不好']) == pytest.approx(1/3)
    rng = np.random.default_rng(0)
    pairs = [[' '.join(rng.choice(list('abcdé'), n)) for n in rng.integers(1, 9, 2)] for _ in range(50)]
    want = sum(slow_distance(a.split(), b.split()) for a, b in pairs)/sum(len(a.split()) for a, _ in pairs)
    assert word_error_rate(*zip(*pairs, strict=True)) == pytest.approx(want)


@pytest.fixture(scope='module')
def runs(heard, tmp_path_factory):
    "Text runs by what they learned from and were tested on, and an audio run"
    prepared, out = heard[0], tmp_path_factory.mktemp('runs')
    text = lambda name, **kwargs: train_text(prepared, out/name, 'tiny', epochs=1, **QUICK, **kwargs)
    return dict(gold=text('gold'), asr=text('asr', transcripts='asr'), tested=text('tested', test_transcripts='asr'),
                learned=text('learned', transcripts='asr', test_transcripts='gold'),
                audio=train_audio(prepared, out/'audio', 'alexnet-report', epochs=1, seconds=3.3, crops=1, **QUICK))


def test_text_runs_read_what_they_say(heard, runs):
    prepared, table = heard
    gold, fold = prepared.manifest.set_index('id').text, split(prepared.manifest, 'session', 1)
    for name, learn, test in (('gold', 'gold', 'gold'), ('asr', 'asr', 'asr'), ('tested', 'gold', 'asr'), ('learned', 'asr', 'gold')):
        run, learner, words = runs[name], fastmer.load(runs[name].path), dict(gold=gold, asr=table.asr_text)
        assert run.sidecar.get('transcripts') == (dict(learn=learn, test=test, model='someone/whisper') if name != 'gold' else None)
        for ids, kind, said in ((fold.test, test, run.predictions), (fold.valid, learn, run.valid)):
            for row in said.iloc[::7].to_dict('records'):
                assert row['id'] in ids
                got = learner.predict(text=words[kind][row['id']])['probabilities']
                assert got == pytest.approx({label: row[f'p_{label}'] for label in run.labels}, abs=1e-5)
            assert list(run.utterances.text[said.id]) == list(words[kind][said.id])
        vocabulary = set(learner.tokenize.tokenizer.get_vocab())
        assert ('blah' in vocabulary) == (learn == 'asr')
        scores, want = read_json(run.path/'metrics.json'), word_error_rate(gold[list(fold.test)], table.asr_text[list(fold.test)])
        assert scores.get('wer') == (pytest.approx(want) if test == 'asr' else None)
        assert run.sidecar['audit'] == runs['gold'].sidecar['audit']  # of gold text
    assert 0.1 < want < 0.5
    assert not runs['tested'].valid.equals(runs['asr'].valid)
    assert runs['tested'].valid.equals(runs['gold'].valid)  # the same learner


def test_scores_on_asr_say_so(runs):
    line = lambda name: protocol_line(runs[name].evaluate())
    assert 'transcripts' not in line('gold')
    assert ' · transcripts asr (whisper)' in line('asr')
    assert ' · transcripts gold learned, asr tested (whisper)' in line('tested')
    shown = CliRunner().invoke(main, ['evaluate', str(runs['asr'].path)]).output
    assert f'WER {runs["asr"].evaluate()["wer"]:.3f}' in shown


def test_the_commands_take_transcripts(heard, runs, tmp_path):
    prepared = heard[0]
    args = [str(prepared.path), '--head-epochs', '1', '--epochs', '0', '--lr', '1e-3', '--device', 'cpu']
    done = CliRunner().invoke(main, ['train-text', *args, '--arch', 'tiny', '--protocol', 'session', '--transcripts', 'asr', '--out',
                                     str(tmp_path/'text')])
    assert done.exit_code == 0, done.output
    scores = read_json(tmp_path/'text'/'metrics.json')
    assert f'test: WA {scores["wa"]:.3f}  UA {scores["ua"]:.3f}  WER {scores["wer"]:.3f}  (' in done.output
    done = CliRunner().invoke(main, ['report', str(tmp_path/'text'), '--html', str(tmp_path/'x.html')])
    assert done.exit_code == 0, done.output
    page = (tmp_path/'x.html').read_text()
    assert f'<dd>{scores["wer"]:.3f}</dd>' in page
    assert 'learn asr · test asr · model someone/whisper' in page
    bare = Path(shutil.copytree(prepared.path, tmp_path/'bare'))
    (bare/'transcripts.csv').unlink()
    refused = CliRunner().invoke(main, ['train-text', str(bare), '--arch', 'tiny', '--test-transcripts', 'asr', '--out', str(tmp_path/'y')])
    assert refused.exit_code == 1
    assert 'run fastmer transcribe' in refused.stderr
    assert not (tmp_path/'y').exists()
    with pytest.raises(FastmerError, match='gold or asr, not .ars. .did you mean asr'): train_text(prepared, transcripts='ars', arch='tiny')


def test_fusion_on_asr_with_a_text_learner_of_gold(heard, runs, tmp_path):
    prepared, table = heard
    more = dict(head_epochs=2, lr=1e-3, say=None, device='cpu')
    fuse = lambda name, text='gold', **kwargs: train_fusion(prepared, runs['audio'].path, runs[text].path, tmp_path/name, **more, **kwargs)
    gold, asr, tested = fuse('g'), fuse('a', transcripts='asr'), fuse('t', 'asr', test_transcripts='asr')
    assert not asr.valid.equals(gold.valid)
    assert asr.evaluate()['wer'] == tested.evaluate()['wer'] == runs['asr'].evaluate()['wer']
    assert 'wer' not in gold.evaluate()
    assert 'transcripts asr (whisper)' in protocol_line(asr.evaluate())
    gold_text, asr_text, audio = prepared.manifest.set_index('id').text, table.asr_text, prepared.manifest.set_index('id').audio
    for run, learn, test in ((gold, gold_text, gold_text), (asr, asr_text, asr_text), (tested, gold_text, asr_text)):
        learner = fastmer.load(run.path)
        for words, said in ((learn, run.valid), (test, run.predictions)):
            for row in said.iloc[::9].to_dict('records'):
                got = learner.predict(audio=prepared.root/audio[row['id']], text=words[row['id']])['probabilities']
                assert got == pytest.approx({label: row[f'p_{label}'] for label in run.labels}, abs=1e-5)
    assert tested.sidecar['encoders']['text']['transcripts']['learn'] == 'asr'
    assert asr.sidecar['encoders']['text']['transcripts'] is None
    alike = (tested, None, None), (gold, None, None), (asr, runs['audio'].path, runs['tested'].path)
    assert [fusion_gain(*of)['note'] for of in alike] == ['', '', '']
    shown = CliRunner().invoke(main, ['fusion-gain', str(asr.path)])
    assert 'the text half read gold transcripts and fusion asr ones' in ' '.join(shown.output.split()), shown.output


def test_cross_validation_pools_and_knows_its_transcripts(heard, tmp_path):
    prepared = Prepared(Path(shutil.copytree(heard[0].path, tmp_path/'prepared')), heard[0].about)
    run = lambda **kwargs: cross_validate(prepared, 'text', tmp_path/'cv', 'session', only=[1, 2], say=None, settings=dict(text=dict(
        arch='tiny', head_epochs=1, epochs=0, lr=1e-3, device='cpu', **kwargs)))
    pooled = run(transcripts='asr')['text']
    ids = pooled.predictions.id
    scores = Run.open(pooled.path).evaluate()
    assert scores['wer'] == pytest.approx(word_error_rate(prepared.manifest.set_index('id').text[ids], heard[1].asr_text[ids]))
    assert 'transcripts asr' in protocol_line(scores)
    heard[1].reset_index().assign(asr_text='no').to_csv(prepared.path/'transcripts.csv', index=False)
    with pytest.raises(FastmerError, match=r'another cross-validation \(manifest differs\)'): run(transcripts='asr')
    with pytest.raises(FastmerError, match=r'another cross-validation \(settings differs\)'): run()


def test_a_split_without_a_test_part(heard):
    "That of a trial of `fastmer tune`"
    from fastmer.tune import without_test
    blind = without_test(heard[0], split(heard[0].manifest, 'session', 1))
    read, about = _with_words(*blind, 'gold', 'asr')
    assert list(read.manifest.text) == list(blind[0].manifest.text)
    assert about['transcripts']['test'] == 'asr'
    read, _ = _with_words(*blind, 'asr', None)
    assert list(read.manifest.text) == list(heard[1].asr_text[read.manifest.id])


# --- real speech ------------------------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_whisper_tiny_on_the_demo_corpus(demo_prepared, weights, tmp_path):
    "espeak's English, of the three voices that are bent least: far from what Whisper learned from, and yet most words are heard"
    path = Path(shutil.copytree(demo_prepared.path, tmp_path/'demo'))
    df = demo_prepared.manifest[demo_prepared.manifest.speaker.isin(['m1', 'm5', 'f2'])].reset_index(drop=True)
    done = transcribe_prepared(Prepared.open(path).with_manifest(df), str(weights/'whisper-tiny-en'), say=None)
    assert (done['utterances'], done['failed']) == (len(df), [])
    assert done['wer'] < 0.5
    recogniser = load_recogniser(str(weights/'whisper-tiny-en'), 'cpu')
    some = df[df.speaker == 'm1']
    waves = [np.pad(load_audio(audio, 16000, demo_prepared.root), 4000) for audio in [*some.audio]*2]
    assert sum(map(len, waves)) > recogniser.longest
    text, = recognise(recogniser, [np.concatenate(waves)])
    assert word_error_rate([' '.join([*some.text]*2)], [text]) < 0.6
