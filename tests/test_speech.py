"Speech encoders: tiny random ones of each family against transformers' own, padding, training, embeddings, export and a fresh process"
import json

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from click.testing import CliRunner
from torch.nn.functional import pad

import fastmer
from fastmer.callbacks import KeepBest
from fastmer.cli import main
from fastmer.embeddings import FOLDER, Ragged, by_speaker, embed_rows
from fastmer.errors import FastmerError, LeakageError
from fastmer.export import load_checked
from fastmer.runs import Run
from fastmer.speech import AttentivePool, CropWave, SpeechModel, TensorWave, WaveAugment, is_speech, load_encoder, prepare_wave, with_wave
from fastmer.splits import split
from fastmer.systems import train_audio
from fastmer.training import set_seed

CONV = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, conv_dim=(16, 16, 16), conv_stride=(5, 8, 8),
            conv_kernel=(10, 8, 8), num_feat_extract_layers=3, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)
LARGE = CONV | dict(feat_extract_norm='layer', do_stable_layer_norm=True)
WHISPER = dict(d_model=32, encoder_layers=3, encoder_attention_heads=2, decoder_layers=1, decoder_attention_heads=2, encoder_ffn_dim=48,
               decoder_ffn_dim=48, vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)
AST = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48)
FAMILIES = {'wav2vec2': transformers.Wav2Vec2Config(**CONV), 'wav2vec2-large': transformers.Wav2Vec2Config(**LARGE),
            'hubert': transformers.HubertConfig(**CONV), 'wavlm': transformers.WavLMConfig(**CONV),
            'data2vec-audio': transformers.Data2VecAudioConfig(**CONV | dict(num_conv_pos_embeddings=5, conv_pos_kernel_size=9)),
            'whisper': transformers.WhisperConfig(**WHISPER), 'ast': transformers.ASTConfig(**AST)}
TRAINED = ('wav2vec2', 'hubert', 'wavlm', 'whisper', 'ast')
QUICK = dict(protocol='session', fold=1, lr=1e-3, head_epochs=1, epochs=1, bs=4, say=None)


def noise(seconds, seed=0): return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.1, round(seconds*16000)).astype(np.float32))


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    "A folder an encoder, as `save_pretrained` writes it"
    out = tmp_path_factory.mktemp('speech')
    set_seed(0)
    for name, config in FAMILIES.items():
        model = transformers.AutoModel.from_config(config)
        if name == 'ast': torch.nn.init.normal_(model.embeddings.position_embeddings)
        model.save_pretrained(out/name)
    return {name: str(out/name) for name in FAMILIES}


@pytest.fixture(scope='module')
def runs(prepared, folders, tmp_path_factory):
    "A fine-tuned run of each family, one with LoRA, one with attentive pooling, one of a frozen encoder"
    out = tmp_path_factory.mktemp('runs')
    how = {**{name: {} for name in TRAINED}, 'attentive': dict(pool='attentive', hidden=8),
           'frozen': dict(epochs=0, head_epochs=3), 'lora': dict(lora=2, layers='sum')}
    return {name: train_audio(prepared, out/name, folders.get(name, folders['whisper']), **QUICK | more) for name, more in how.items()}


@pytest.mark.parametrize('name', [name for name in FAMILIES if name not in ('whisper', 'ast')])
def test_states_of_one_clip_are_transformers_own(folders, name):
    wave, encoder = noise(1), load_encoder(folders[name]).eval()
    given = transformers.Wav2Vec2FeatureExtractor()(wave.numpy(), sampling_rate=16000, return_tensors='pt').input_values
    with torch.no_grad():
        theirs = transformers.AutoModel.from_pretrained(folders[name]).eval()(given, output_hidden_states=True)
        want = *theirs.hidden_states[:-1], theirs.last_hidden_state  # behind the last norm, where there is one
        got, mask = encoder(wave[None], torch.tensor([len(wave)]))
    assert mask.all()
    assert got.shape == (1, encoder.n_states, mask.shape[1], encoder.width)
    torch.testing.assert_close(got, torch.stack(want, 1), atol=1e-5, rtol=1e-4)


def test_thirty_seconds_are_whispers_own(folders):
    wave, encoder = noise(30), load_encoder(folders['whisper']).eval()
    given = transformers.WhisperFeatureExtractor()(wave.numpy(), sampling_rate=16000, return_tensors='pt').input_features
    with torch.no_grad():
        theirs = transformers.AutoModel.from_pretrained(folders['whisper']).get_encoder().eval()
        want = theirs(given, output_hidden_states=True).hidden_states
        got, _ = encoder(wave[None], torch.tensor([len(wave)]))
    torch.testing.assert_close(got[:, :, :-5], torch.stack(want, 1)[:, :, :-5], atol=1e-3, rtol=0)  # they mirror the end, here is silence


def test_ten_seconds_are_asts_own(folders):
    encoder = load_encoder(folders['ast']).eval()
    wave = noise(encoder.longest)
    given = transformers.ASTFeatureExtractor()(wave.numpy(), sampling_rate=16000, return_tensors='pt').input_values
    with torch.no_grad():
        want = transformers.AutoModel.from_pretrained(folders['ast']).eval()(given).last_hidden_state[:, 2:]
        got, mask = encoder(wave[None], torch.tensor([len(wave)]))
    assert mask.shape == (1, 101)
    torch.testing.assert_close(got[:, -1], want.unflatten(1, (12, 101)).mean(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('layers', ['sum', 'concat'])
@pytest.mark.parametrize('pool', ['mean', 'attentive'])
@pytest.mark.parametrize('name', FAMILIES)
def test_padding_changes_nothing(folders, name, pool, layers):
    set_seed(0)
    model = SpeechModel(load_encoder(folders[name]), 4, pool, layers=layers).eval()
    torch.nn.init.normal_(model.head[-1].weight, std=3)
    short, long = noise(1), noise(1.613, 1)
    batch = torch.stack([pad(short, (0, len(long) - len(short)), value=float('nan')), long])
    with torch.no_grad():
        alone, together = [model.encode(TensorWave(x)) for x in (short[None], batch)]
        n = alone[1].sum()
        assert together[1][0].sum() == n
        torch.testing.assert_close(together[0][0, :n], alone[0][0, :n], atol=2e-5, rtol=0)
        torch.testing.assert_close(model(TensorWave(batch))[:1], model(TensorWave(short[None])), atol=1e-4, rtol=0)
        if pool == 'mean': torch.testing.assert_close(model.head_of(*model.embed(TensorWave(batch))), model(TensorWave(batch)))


def test_layers_side_by_side(folders):
    "A head of each layer's states is one of their sum where its weights repeat; frames for a fusion are the sum in either"
    encoder = load_encoder(folders['whisper'])
    summed, beside = (SpeechModel(encoder, 4, layers=layers).eval() for layers in ('sum', 'concat'))
    width, n = encoder.width, encoder.n_states
    assert beside.head[-1].in_features == n*width
    for model in (summed, beside): model.weights.data = torch.linspace(-1, 1, n)
    beside.head[-1].load_state_dict(dict(weight=summed.head[-1].weight.repeat(1, n), bias=summed.head[-1].bias))
    wave = TensorWave(torch.stack([noise(1), noise(1, 1)]))
    with torch.no_grad():
        torch.testing.assert_close(beside(wave), summed(wave))
        torch.testing.assert_close(beside.tokens_of(*beside.encode(wave))[0], summed.tokens_of(*summed.encode(wave))[0])
        states = beside.states(wave)[0]
        last = beside.features_of(*beside.encode(wave))[:, -width:]  # standardising does nothing yet
        torch.testing.assert_close(last, states[:, -1].mean(1)*torch.linspace(-1, 1, n).softmax(0)[-1])
    with pytest.raises(FastmerError, match='layers .last. is not known; there are sum, concat'): SpeechModel(encoder, 4, layers='last')


@pytest.mark.parametrize('name', ['wavlm', 'whisper'])
def test_a_short_clip_costs_little(folders, name, monkeypatch):
    encoder, seen = load_encoder(folders[name]), []
    layer = encoder.model.layers[0] if name == 'whisper' else encoder.model.encoder.layers[0]
    layer.register_forward_pre_hook(lambda m, args, kwargs: seen.append((args or tuple(kwargs.values()))[0].shape[1]), with_kwargs=True)
    encoder(noise(1)[None], torch.tensor([16000]))
    assert seen == [50 if name == 'whisper' else 49]


def test_a_fresh_process_gives_the_same_probabilities(runs, prepared, says_the_same):
    says_the_same(prepared, [run.path for run in runs.values()])


def test_what_moves_and_what_does_not(runs, folders):
    "Fine-tuning moves the layers and never the convolutions over samples; a frozen encoder and one with adapters keep every weight"
    for name in TRAINED:
        after, before = load_checked(runs[name].path)[0].model.encoder, load_encoder(folders[name])
        moved = {key for key, x in after.state_dict().items() if not torch.equal(x, before.state_dict()[key])}
        assert bool(moved) == (runs[name].sidecar['best']['epoch'] == 2), name  # the head's epoch may have been the better one
        assert not any(part in key for key in moved for part in ('feature_extractor', 'embed_positions', 'filters', 'window')), name
    assert any(runs[name].sidecar['best']['epoch'] == 2 for name in TRAINED)
    after, before = load_checked(runs['frozen'].path)[0].model.encoder, load_encoder(folders['whisper'])
    assert all(torch.equal(x, before.state_dict()[key]) for key, x in after.state_dict().items())
    merged = load_checked(runs['lora'].path)[0].model.encoder.state_dict()
    moved = {key for key, x in merged.items() if not torch.equal(x, before.state_dict()[key])}
    assert moved
    assert all('q_proj.weight' in key or 'v_proj.weight' in key for key in moved)


def test_embeddings_are_kept_and_are_those_of_their_encoder(prepared, folders, runs, tmp_path, monkeypatch):
    learn, _sidecar = load_checked(runs['frozen'].path)
    rows, how = with_wave(prepared, prepared.manifest), dict(arch='x')
    first = embed_rows(learn, rows, learn.model.encoder, prepared, how)
    files = set((prepared.path/FOLDER).iterdir())
    with monkeypatch.context() as m:
        m.setattr(SpeechModel, 'embed', None)  # nothing is worked out again
        again = embed_rows(learn, rows, learn.model.encoder, prepared, how)
    everything = list(range(len(rows)))
    assert torch.equal(first[everything][0], again[everything][0])
    whole = learn.get_preds(dl=learn.dls.test_dl(rows, bs=7))[0]
    with torch.no_grad(): torch.testing.assert_close(learn.model.head_of(*again[everything]).softmax(-1), whole, atol=1e-5, rtol=0)
    with torch.no_grad(): next(learn.model.encoder.parameters()).add_(0.1)
    embed_rows(learn, rows, learn.model.encoder, prepared, how)
    embed_rows(learn, rows.assign(text='others'), learn.model.encoder, prepared, how)
    assert len(set((prepared.path/FOLDER).iterdir()) - files) == 2
    next(iter(files)).write_bytes(b'half a file')
    embed_rows(learn, rows, learn.model.encoder, prepared, how)


def test_ragged():
    parts = [torch.arange(6.).view(3, 2), torch.ones(1, 2)]
    assert Ragged.of(parts)[[1, 0]].isnan().sum() == 4
    assert torch.equal(Ragged.of(parts[:1]*2)[[1]], parts[0][None])


def test_speakers_are_standardised_without_labels(prepared, folders, tmp_path):
    quick = QUICK | dict(epochs=0, normalise='speaker')
    run = train_audio(prepared, tmp_path/'a', folders['whisper'], **quick)
    assert 'USES the unlabelled recordings of each test speaker' in CliRunner().invoke(main, ['evaluate', str(run.path)]).output
    learn, _ = load_checked(run.path)
    rows = with_wave(prepared, prepared.manifest)
    embedded = embed_rows(learn, rows, learn.model.encoder, prepared, {}, cache=False)
    own = by_speaker(embedded, rows, learn.model.mean, learn.model.std)
    for _, at in rows.groupby('speaker').indices.items():
        z = (own[at.tolist()][0] - learn.model.mean)/learn.model.std
        torch.testing.assert_close(z.mean(0), torch.zeros_like(learn.model.mean), atol=1e-3, rtol=0)
        torch.testing.assert_close(z.std(0, unbiased=False), torch.ones_like(learn.model.mean), atol=1e-2, rtol=0)
    alone = by_speaker(embedded, rows.assign(speaker=rows.speaker.mask(rows.index == 3, 'nobody else')), learn.model.mean, learn.model.std)
    torch.testing.assert_close(alone[[3]][0], embedded[[3]][0], atol=1e-5, rtol=1e-4)  # it goes by the training part
    other = by_speaker(embedded, rows.assign(label='angry'), learn.model.mean, learn.model.std)
    assert torch.equal(own[[0, 1]][0], other[[0, 1]][0])
    for bad, match in ((dict(epochs=1), 'frozen'), (dict(pool='attentive'), 'mean pooling'), (dict(normalise='utterance'), 'by corpus')):
        with pytest.raises(FastmerError, match=match): train_audio(prepared, tmp_path/'b', folders['whisper'], **quick | bad)
    table = tmp_path/'new.csv'
    rows = rows[rows.speaker.isin(rows.speaker[rows.id.isin(run.predictions.id)])]
    table.write_text('audio,speaker\n' + ''.join(f'{row.wave},{row.speaker}\n' for row in rows.itertuples()) + 'gone.wav,03\n')
    done = CliRunner().invoke(main, ['predict', str(run.path), '--table', str(table), '--json'])
    assert done.exit_code == 1, done.output
    said = pd.DataFrame([json.loads(line)['probabilities'] for line in done.stdout.splitlines() if '"error"' not in line], index=rows.id)
    np.testing.assert_allclose(said.loc[run.predictions.id], run.predictions.filter(like='p_'), atol=1e-4)
    alone = CliRunner().invoke(main, ['predict', str(run.path), rows.wave.iloc[0], '--same-speaker', '--json'])
    plain = CliRunner().invoke(main, ['predict', str(run.path), rows.wave.iloc[0], '--json'])
    assert json.loads(alone.stdout)['probabilities'] == json.loads(plain.stdout)['probabilities']  # one recording tells of no speaker


def test_views_are_drawn_once_and_the_head_learns_from_them(prepared, folders, tmp_path):
    rows, kept = with_wave(prepared, prepared.manifest), lambda: set((prepared.path/FOLDER).glob('*'))
    quick, before = QUICK | dict(epochs=0, head_epochs=2, normalise='speaker'), kept()
    run = train_audio(prepared, tmp_path/'a', folders['wav2vec2-large'], views=2, min_scale=0.5, **quick)
    assert len(kept() - before) == 3
    assert {name: run.sidecar['input'][name] for name in ('views', 'min_scale')} == dict(views=2, min_scale=0.5)
    before = kept()
    again = train_audio(prepared, tmp_path/'b', folders['wav2vec2-large'], views=2, min_scale=0.5, **quick)
    pd.testing.assert_frame_equal(run.predictions, again.predictions, atol=1e-6)
    none = train_audio(prepared, tmp_path/'c', folders['wav2vec2-large'], augment=False, **quick)
    tuned = train_audio(prepared, tmp_path/'t', folders['wav2vec2-large'], **QUICK | dict(head_epochs=0))
    assert [run.sidecar['input']['views'] for run in (none, tuned)] == [0, 0]  # no stage 1, nothing that hears them
    assert kept() == before
    assert not np.allclose(run.predictions.filter(like='p_'), none.predictions.filter(like='p_'), atol=1e-5)
    learn, _ = load_checked(run.path)
    embed = lambda view: embed_rows(learn, rows, learn.model.encoder, prepared, {}, cache=False, view=view)
    at, state = list(range(len(rows))), torch.get_rng_state()
    plain, one, same, two = map(embed, (None, 0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one[at][0], same[at][0])
    for a, b in ((plain, one), (one, two)): assert torch.isclose(a[at][0], b[at][0]).all((1, 2)).sum() < 4  # very short ones are not cut
    plain.views = [one, two]
    drawn = plain.drawn(at)[0]
    which = [next(k for k, x in enumerate((plain, one, two)) if torch.equal(x[[i]][0][0], drawn[i])) for i in at]
    assert set(which) == {0, 1, 2}
    own = by_speaker(plain, rows, learn.model.mean, learn.model.std)
    for _, of in rows.groupby('speaker').indices.items():  # the same shift and scale as of the speaker's recordings as they are
        back = (own.views[0][of.tolist()][0] - own[of.tolist()][0])*plain[of.tolist()][0].std(0, unbiased=False)/learn.model.std
        torch.testing.assert_close(back, one[of.tolist()][0] - plain[of.tolist()][0], atol=1e-3, rtol=1e-2)
    with pytest.raises(FastmerError, match='mean pooling'):
        train_audio(prepared, tmp_path/'d', folders['wav2vec2-large'], pool='attentive', views=1)
    with pytest.raises(FastmerError, match='--views is for speech'): train_audio(prepared, tmp_path/'d', 'alexnet', views=1)


def test_refit_learns_from_valid_and_says_so(prepared, folders, runs, tmp_path):
    how = QUICK | dict(epochs=0, head_epochs=3)
    run = train_audio(prepared, tmp_path/'a', folders['whisper'], refit=True, **how)
    sidecar, before = run.sidecar, runs['frozen'].sidecar
    assert set(sidecar['train_ids']) == {*before['train_ids'], *before['valid_ids']}
    assert sidecar['split'] == before['split']
    assert list(run.history.stage) == ['head']*3 + ['refit head']*3
    assert run.history.train_loss.notna().all()
    assert list(run.history.valid_loss.notna()) == [True]*3 + [False]*3
    pd.testing.assert_frame_equal(run.valid, runs['frozen'].valid, atol=1e-5)  # held out: of the training that did not see it
    assert not np.allclose(run.predictions.filter(like='p_'), runs['frozen'].predictions.filter(like='p_'), atol=1e-5)
    assert 'learned from train and valid' in CliRunner().invoke(main, ['evaluate', str(run.path)]).output
    text = fastmer.systems.train_text(prepared, tmp_path/'t', 'tiny', **QUICK)
    with pytest.raises(LeakageError, match='stand in valid or test'):
        fastmer.systems.train_fusion(prepared, run.path, text.path, tmp_path/'f', say=None)


def test_keep_best_copies_what_changes():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    keep = KeepBest(whole=model)
    model[0].requires_grad_(False)
    keep.state = keep.copy(model)
    first = keep.state
    with torch.no_grad(): model[1].weight.add_(1)
    keep.state = keep.copy(model)
    assert keep.state['0.weight'] is first['0.weight']
    assert not torch.equal(keep.state['1.weight'], first['1.weight'])
    model.requires_grad_(True)
    with torch.no_grad(): model[0].weight.add_(1)
    assert not torch.equal(keep.copy(model)['0.weight'], first['0.weight'])


def test_crops_and_augmentation():
    x = TensorWave(noise(2))
    crop = CropWave(16000, 0.5, 1.)
    assert len(crop(x, split_idx=0)) == 8000
    assert len(crop(x, split_idx=1)) == 16000
    assert torch.equal(crop(x, split_idx=1), x[8000:24000])
    assert torch.equal(crop(x[:4000], split_idx=0), x[:4000])
    changed = WaveAugment(p=1.)(x, split_idx=0)
    assert isinstance(changed, TensorWave)
    assert 0.9 < len(x)/len(changed) < 1.12
    assert not changed.isnan().any()
    levels = [float(WaveAugment(speed=0., snr=90., gain=6., p=1.)(x, split_idx=0).std()/x.std()) for _ in range(20)]
    assert 0.5 < min(levels) < 0.9
    assert 1.1 < max(levels) < 2
    with pytest.raises(FastmerError, match='such as 0.1,15,6'): WaveAugment(1.5)
    part = CropWave(16000, 8., 30., min_scale=0.4)
    parts = [part(x, split_idx=0) for _ in range(50)]
    assert 0.4*len(x) - 1 <= min(map(len, parts)) < 0.5*len(x)
    assert 0.9*len(x) < max(map(len, parts)) <= len(x)
    assert len({float(p[0]) for p in parts}) > 25  # from anywhere
    assert len(part(x[:5000], split_idx=0)) >= 4000
    assert torch.equal(part(x, split_idx=1), x)
    with pytest.raises(FastmerError, match='--min-scale is a share above 0'): CropWave(16000, 8., 30., min_scale=0.)
    assert torch.equal(WaveAugment(p=1.)(x, split_idx=1), x)
    assert len(prepare_wave(np.ones(10, np.float32), 16000)) == 4000


def test_attention_never_looks_behind_the_end():
    pool = AttentivePool(4)
    x, mask = torch.randn(2, 5, 4), torch.tensor([[True]*3 + [False]*2, [True]*5])
    torch.testing.assert_close(pool(x, mask)[:1], pool(x[:1, :3], mask[:1, :3]))


def test_what_is_no_speech_encoder(prepared, folders, tmp_path, monkeypatch):
    assert is_speech('microsoft/wavlm-base')
    assert is_speech(folders['wavlm'])
    assert not is_speech('resnet34')
    (tmp_path/'resnet34').mkdir()  # a run of that name
    monkeypatch.chdir(tmp_path)
    assert not is_speech('resnet34')
    transformers.AutoModel.from_config(transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=20,
                                                               intermediate_size=8)).save_pretrained(tmp_path/'bert')
    (tmp_path/'empty').mkdir()
    for arch, match in (('bert', 'is a bert model, no speech encoder'), ('empty', 'holds no speech encoder')):
        done = CliRunner().invoke(main, ['train-audio', str(prepared.path), '--arch', str(tmp_path/arch), '--out', str(tmp_path/'r')])
        assert done.exit_code == 1
        assert match in done.output
        assert 'Traceback' not in done.output
    with pytest.raises(FastmerError, match='brings its own'):
        train_audio(prepared, tmp_path/'r', folders['whisper'], weights='imagenet', **QUICK)


@pytest.mark.parametrize('name', ['whisper', 'wav2vec2-large', 'ast'])
def test_half_precision_is_read_as_single(folders, tmp_path, name):
    transformers.AutoModel.from_pretrained(folders[name]).half().save_pretrained(tmp_path/name)
    encoder = load_encoder(tmp_path/name)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    states, _ = encoder.eval()(noise(1)[None], torch.tensor([16000]))
    assert states.isfinite().all()


def test_settings_that_do_nothing_are_refused(prepared, folders, tmp_path):
    for more, match in ((dict(lora=2, epochs=0), '--lora trains adapters in stage 2'), (dict(seconds=-1.), '--seconds must be above 0')):
        with pytest.raises(FastmerError, match=match): train_audio(prepared, tmp_path/'r', folders['whisper'], **QUICK | more)
    for more in (dict(lora=2), dict(pool='attentive'), dict(hidden=8), dict(layers='sum')):
        with pytest.raises(FastmerError, match=f'--{next(iter(more))} is for speech encoders'):
            train_audio(prepared, tmp_path/'r', 'alexnet', **QUICK | more)


@pytest.mark.parametrize('name', ['wavlm', 'ast'])
def test_the_shortest_parts_can_be_heard(folders, name):
    from fastmer.speech import WaveBlock
    encoder = load_encoder(folders[name]).eval()
    block = WaveBlock(encoder, seconds=0.01, perturb=(0.9, 15., 0.))
    fit = [tfm for tfm in block.item_tfms if isinstance(tfm, (WaveAugment, CropWave))]
    for tfm in fit: tfm.p = 1.
    for _ in range(20):
        wave = TensorWave(noise(0.25))
        for tfm in fit:
            tfm.before_call(wave, 0)
            wave = tfm.encodes(wave)
        assert len(wave) >= 4000
    with torch.no_grad(): encoder(wave.as_subclass(torch.Tensor)[None], torch.tensor([len(wave)]))


def test_recordings_that_are_gone(copy_corpus, folders, tmp_path):
    from fastmer.prepare import prepare_corpus
    here = prepare_corpus('table', copy_corpus/'utterances.csv', tmp_path/'p', jobs=1)
    gone = copy_corpus/'wav/sad/01_sad_x.wav'
    gone.unlink()
    with pytest.raises(FastmerError, match=r'01_sad_x\.wav is not there: speech encoders listen to the recordings'):
        train_audio(here, tmp_path/'r', folders['whisper'], **QUICK)


def test_predict_by_command_and_from_an_array(runs, prepared):
    row = prepared.manifest.iloc[0]
    done = CliRunner().invoke(main, ['predict', str(runs['wavlm'].path), str(prepared.root/row.audio), '--json'])
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    learner = fastmer.load(runs['wavlm'].path)
    wave = fastmer.audio_io.load_audio(prepared.root/row.audio, 22050)
    near = learner.predict(audio=wave, rate=22050)['probabilities']
    one = (said[0] if isinstance(said, list) else said)['probabilities']
    assert max(abs(near[label] - one[label]) for label in near) < 0.02
    for same in ((wave*32768).round().astype(np.int16), np.stack([wave, wave], 1)):
        again = learner.predict(audio=same, rate=22050)['probabilities']
        assert max(abs(near[label] - again[label]) for label in near) < 1e-3
    with pytest.raises(FastmerError, match=r'\(samples, channels\), not \(1, '): learner.predict(audio=wave[None], rate=22050)
    assert Run.open(runs['wavlm'].path).labels == learner.labels


def test_cross_validation_works_out_embeddings_once(prepared, folders, tmp_path, monkeypatch):
    calls, embed = [], SpeechModel.embed
    monkeypatch.setattr(SpeechModel, 'embed', lambda self, x: calls.append(len(x)) or embed(self, x))
    out = fastmer.crossval.cross_validate(prepared, 'audio', tmp_path/'cv', 'session', only=[1, 2], say=None,
                                          settings=dict(audio=dict(arch=folders['data2vec-audio'], epochs=0, head_epochs=1, lr=1e-3)))
    assert sum(calls) == 4*len(prepared.manifest)  # as they are, and three views: once for both folds
    assert len(out['audio'].predictions) == len({i for n in (1, 2) for i in split(prepared.manifest, 'session', n).test})
