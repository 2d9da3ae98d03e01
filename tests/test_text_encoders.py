"Text encoders of any family: tiny random ones, made here and saved to folders, through `train_text`, LoRA, export and a fresh process"
import json
import sys

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, RobertaForMaskedLM

from fastmer.adapters import add_lora, find_targets, has_lora, learnable, merge_lora
from fastmer.cli import main
from fastmer.errors import FastmerError
from fastmer.export import load_checked
from fastmer.runs import Run
from fastmer.splits import split
from fastmer.systems import train_text
from fastmer.text import TextModel, Tokenize, clean_text, find_pool, fit_length, load_encoder, longest_input, text_dls, text_learner
from fastmer.text import tiny_encoder as make_tiny
from fastmer.training import Recipe, set_seed, two_stage

QUICK = dict(protocol='session', fold=1, lr=1e-3, head_epochs=1, epochs=1, bs=16)
SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
BERT = dict(pad_token='[PAD]', unk_token='[UNK]', cls_token='[CLS]', sep_token='[SEP]', mask_token='[MASK]')
ROBERTA = dict(cls_token='<s>', pad_token='<pad>', sep_token='</s>', unk_token='<unk>', mask_token='<mask>')  # the padding's id is 1


def make_tokenizer(texts, model, specials, trainer, normalizer, pre_tokenizer, decoder, **kwargs):
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, pre_tokenizer, decoder
    tokenizer.train_from_iterator(texts, trainer(vocab_size=400, special_tokens=list(specials.values()), show_progress=False, **kwargs))
    at = {name: (specials[name], tokenizer.token_to_id(specials[name])) for name in ('sep_token', 'cls_token')}
    tokenizer.post_processor = processors.BertProcessing(at['sep_token'], at['cls_token'])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=['input_ids', 'attention_mask'], **specials)


def word_piece(texts, specials):
    return make_tokenizer(texts, models.WordPiece(unk_token=specials['unk_token']), specials, trainers.WordPieceTrainer,
                          normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece())


def byte_bpe(texts, specials):
    return make_tokenizer(texts, models.BPE(), specials, trainers.BpeTrainer, normalizers.NFC(), pre_tokenizers.ByteLevel(),
                          decoders.ByteLevel(), initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def sentence_piece(texts, specials):
    return make_tokenizer(texts, models.Unigram(), specials, trainers.UnigramTrainer, normalizers.NFKC(), pre_tokenizers.Metaspace(),
                          decoders.Metaspace(), unk_token=specials['unk_token'])


FAMILIES = {  # model type: tokenizer, special tokens, positions, what is adapted by LoRA
    'bert': (word_piece, BERT, 64, ['query', 'value']),
    'distilbert': (word_piece, BERT, 64, ['q_lin', 'v_lin']),
    'roberta': (byte_bpe, ROBERTA, 66, ['query', 'value']),
    'xlm-roberta': (sentence_piece, ROBERTA, 66, ['query', 'value']),
    'mpnet': (word_piece, ROBERTA, 66, ['q', 'v']),
    'albert': (sentence_piece, BERT, 64, ['query', 'value']),
    'electra': (word_piece, BERT, 64, ['query', 'value']),
    'deberta-v2': (sentence_piece, BERT, 64, ['query_proj', 'value_proj'])}
TRAINED = ('bert', 'distilbert', 'roberta', 'xlm-roberta', 'mpnet')


@pytest.fixture(scope='module')
def folders(demo_prepared, tmp_path_factory):
    "A folder an encoder, as `save_pretrained` writes it"
    out, texts = tmp_path_factory.mktemp('encoders'), list(demo_prepared.manifest.text)
    set_seed(0)
    for name, (make, specials, positions, _) in FAMILIES.items():
        tokenizer = make(texts, specials)
        small = dict(dim=32, n_layers=2, n_heads=2, hidden_dim=64) if name == 'distilbert' else SMALL
        config = AutoConfig.for_model(name, vocab_size=len(tokenizer), max_position_embeddings=positions, embedding_size=16,
                                      pad_token_id=tokenizer.pad_token_id, **small)
        model = AutoModel.from_config(config)
        tokenizer.save_pretrained(out/name)
        model.save_pretrained(out/name)
    return {name: str(out/name) for name in FAMILIES}


@pytest.fixture(scope='module')
def runs(demo_prepared, folders, tmp_path_factory):
    "A run of each family, one with LoRA, and what each training said"
    out, made = tmp_path_factory.mktemp('runs'), {}
    for name, more in {**{name: {} for name in TRAINED}, 'lora': dict(lora=2)}.items():
        said = []
        if name == 'lora': pytest.importorskip('peft')
        made[name] = train_text(demo_prepared, out/name, folders.get(name, folders['roberta']), max_length=100, say=said.append, **QUICK,
                                **more), said
    return made


def test_a_fresh_process_without_peft_gives_the_same_probabilities(runs, demo_prepared, says_the_same):
    says_the_same(demo_prepared, [run.path for run, _ in runs.values()], n=1000, without=['peft'])  # nothing that was exported needs it


def test_what_a_run_says_of_its_encoder(runs):
    assert {name: run.sidecar['pool'] for name, (run, _) in runs.items()} == dict.fromkeys(runs, 'pooler') | dict(distilbert='mean')
    assert runs['lora'][0].sidecar['lora'] == 2
    for run, said in runs.values():
        assert run.sidecar['tokenizer']['max_length'] == 64
        assert [line for line in said if line.startswith('note: --max-length 100')], said


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize('pool', ['auto', 'mean', 'first'])
def test_padding_changes_nothing(folders, name, pool):
    tokenizer, encoder = load_encoder(folders[name])
    model = TextModel(encoder, 4, pad_id=tokenizer.pad_token_id, pool=find_pool(encoder, pool)).eval()
    ids = torch.tensor([Tokenize(tokenizer, 20).ids('the letter from the bank')])
    assert not (ids == tokenizer.pad_token_id).any()
    padded = torch.nn.functional.pad(ids, (0, 64 - ids.shape[1]), value=tokenizer.pad_token_id)
    with torch.inference_mode(): torch.testing.assert_close(model(padded).softmax(-1), model(ids).softmax(-1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', FAMILIES)
def test_max_length_is_held_to_what_the_encoder_takes(folders, name):
    tokenizer, encoder = load_encoder(folders[name])
    texts, said = ['word '*200, 'short', 'also short'], []
    assert longest_input(encoder) == 64
    assert fit_length(encoder, tokenizer, 512, texts, say=said.append) == 64
    assert ['more than the encoder can take: 64' in said[0], said[1].startswith('warning: 1 of 3 transcripts')] == [True, True]
    assert fit_length(encoder, tokenizer, 8, texts[1:2]) == 8
    ids = torch.tensor([Tokenize(tokenizer, 64).ids(texts[0])])
    assert ids.shape == (1, 64)
    with torch.inference_mode(): assert TextModel(encoder, 4, pad_id=tokenizer.pad_token_id, pool='mean').eval()(ids).isfinite().all()


@pytest.mark.parametrize('name', FAMILIES)
def test_words_come_back_and_nothing_is_empty(folders, name):
    tokenize = Tokenize(load_encoder(folders[name])[0], 30)
    assert tokenize.decodes(tokenize.encodes('the letter from the bank')).strip() == 'the letter from the bank'
    assert tokenize.ids('')
    assert tokenize.lengths(['', 'word '*90])[1] == 31


def test_truncation_is_said_in_one_line(demo_prepared, tmp_path):
    said = []
    train_text(demo_prepared, tmp_path/'x', 'tiny', max_length=5, say=said.append, **QUICK)
    assert len([line for line in said if 'lose their last words' in line]) == 1
    n = len(demo_prepared.manifest)
    assert any(line.startswith('warning: ') and f' of {n} transcripts have more than 5 tokens' in line for line in said)


def test_poolers(folders, tmp_path):
    _, distil = load_encoder(folders['distilbert'])
    with pytest.raises(FastmerError, match='distilbert encoder has no pretrained pooler: take --pool mean'): find_pool(distil, 'pooler')
    with pytest.raises(FastmerError, match='did you mean mean'): find_pool(distil, 'meen')
    tokenizer, encoder = load_encoder(folders['roberta'])
    tokenizer.save_pretrained(tmp_path)
    language_model = RobertaForMaskedLM(encoder.config)
    language_model.save_pretrained(tmp_path)
    _, bare = load_encoder(str(tmp_path))  # as roberta-base: what its pooler would say is random
    assert bare.pooler is None
    assert find_pool(bare) == 'mean'
    torch.testing.assert_close(bare.embeddings.word_embeddings.weight, language_model.roberta.embeddings.word_embeddings.weight)


def test_an_encoder_without_all_its_weights_is_refused(folders, tmp_path):
    tokenizer, encoder = load_encoder(folders['bert'])
    tokenizer.save_pretrained(tmp_path)
    state = {name: value for name, value in encoder.state_dict().items() if 'layer.1' not in name}
    encoder.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(FastmerError, match='does not hold all weights of its bert encoder: 16 tensors'): load_encoder(str(tmp_path))


def test_languages():
    tokenizer, _ = make_tiny(['Schöne Grüße', 'नमस्ते दुनिया'])
    assert Tokenize(tokenizer).decodes(Tokenize(tokenizer).encodes('schöne grüße नमस्ते')) == 'schöne grüße नमस्ते'
    pytest.importorskip('snowballstemmer')
    assert clean_text('नमस्ते, दुनिया!', 'hindi').split()[0].startswith('नमस्')
    assert clean_text('I’m running', 'english') == clean_text("I'm running", 'english')
    with pytest.raises(FastmerError, match='no stemmer with stop words for .estonian.'): clean_text('x', 'estonian')


# --- LoRA ---------------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def peft(): return pytest.importorskip('peft')


def named(encoder): return {name.replace('.base_layer', ''): p for name, p in encoder.named_parameters() if 'lora_' not in name}


def test_only_adapters_and_head_learn(peft, demo_prepared, folders):
    tokenizer, encoder = load_encoder(folders['roberta'])
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    kind, config = type(encoder), encoder.config
    assert (type(add_lora(encoder, 4)), encoder.config) == (kind, config)
    dls = text_dls(demo_prepared, split(demo_prepared.manifest, 'session', 1), tokenizer, bs=16)
    learn = text_learner(dls, encoder, tokenizer.pad_token_id)
    groups = learn.splitter(learn.model)
    assert len(groups) == 3
    assert sorted(len(group) for group in groups) == [2, 4, 4]
    adapters = {name: p.detach().clone() for name, p in learnable(encoder)}
    two_stage(learn, Recipe(head_epochs=1, head_lr=1e-2, epochs=2, lr=1e-2), say=None)
    learn.unfreeze()
    assert {name for name, p in learn.model.named_parameters() if p.requires_grad} == {
        *('encoder.' + name for name in adapters), 'head.1.weight', 'head.1.bias'}
    assert named(encoder).keys() == before.keys()
    assert all(torch.equal(before[name], p) for name, p in named(encoder).items())
    assert not any(torch.equal(adapters[name], p) for name, p in learnable(encoder))


def test_a_copy_has_its_adapters_merged(peft, folders):
    tokenizer, encoder = load_encoder(folders['bert'])
    model = TextModel(add_lora(encoder, 2), 4, pad_id=tokenizer.pad_token_id).eval()
    for name, p in learnable(encoder):
        if 'lora_B' in name: torch.nn.init.normal_(p, std=0.1)
    from copy import deepcopy
    merged, ids = deepcopy(model), torch.tensor([[2, 9, 10, 3]])
    assert has_lora(model)
    assert not has_lora(merged)
    assert all(p.requires_grad for p in merged.parameters())
    assert 'peft' not in ' '.join(f'{type(m).__module__} {list(m.__dict__)}' for m in merged.modules())
    with torch.inference_mode(): torch.testing.assert_close(merged(ids), model(ids), atol=1e-5, rtol=1e-5)


SPEECH = dict(wav2vec2=['q_proj', 'v_proj'], hubert=['q_proj', 'v_proj'], wavlm=['intermediate_dense', 'output_dense'],
              whisper=['q_proj', 'v_proj'])
SPEECH_SMALL = dict(conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(5, 4), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
                    apply_spec_augment=False, layerdrop=0.)
WHISPER = dict(d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
               decoder_ffn_dim=64, num_mel_bins=8, max_source_positions=20, vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2,
               decoder_start_token_id=1)


@pytest.mark.parametrize('name', [*FAMILIES, *SPEECH])
def test_every_adapter_of_every_family_is_heard(peft, folders, name):
    if name in FAMILIES: encoder, x = load_encoder(folders[name])[1], torch.tensor([[2, 9, 10, 3]])
    elif name == 'whisper': encoder, x = AutoModel.from_config(AutoConfig.for_model(name, **WHISPER)).get_encoder(), torch.randn(1, 8, 40)
    else: encoder, x = AutoModel.from_config(AutoConfig.for_model(name, **SMALL, **SPEECH_SMALL)), torch.randn(1, 2000)
    assert find_targets(encoder) == (FAMILIES[name][-1] if name in FAMILIES else SPEECH[name])
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    add_lora(encoder, 2).train()
    encoder(x).last_hidden_state.square().sum().backward()
    ours = dict(learnable(encoder))
    assert {key for key, p in encoder.named_parameters() if p.requires_grad} == ours.keys()
    assert all('lora_' in key and p.grad is not None for key, p in ours.items())
    assert all(p.grad.abs().sum() > 0 for key, p in ours.items() if 'lora_B' in key)
    assert merge_lora(encoder).state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())  # nothing was learned


def test_layers_of_no_known_name_are_adapted_all(peft):
    body = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    assert find_targets(body) == 'all-linear'
    assert len(learnable(add_lora(body, 2))) == 4


def test_what_lora_cannot_do(peft, demo_prepared, folders, tmp_path, monkeypatch):
    _, encoder = load_encoder(folders['bert'])
    with pytest.raises(FastmerError, match='at least 1, not 0'): add_lora(encoder, 0)
    with pytest.raises(FastmerError, match='has LoRA adapters already'): add_lora(add_lora(encoder, 2), 2)
    with pytest.raises(FastmerError, match='tiny is none'): train_text(demo_prepared, tmp_path/'x', 'tiny', lora=4, say=None, **QUICK)
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(FastmerError, match=r'pip install "fastmer\[peft\]"'): add_lora(load_encoder(folders['bert'])[1], 2)


def test_a_lora_learner_can_be_loaded_and_fine_tuned_again(runs):
    learn, sidecar = load_checked(runs['lora'][0].path)
    assert not has_lora(learn.model)
    assert all(p.requires_grad for p in learn.model.parameters())
    assert sum(map(len, learn.splitter(learn.model))) == len(list(learn.model.parameters()))
    assert sidecar['recipe']['lr_range'][0] >= 5e-4 or sidecar['recipe']['lr'] == 1e-3


def test_the_command(demo_prepared, folders, tmp_path):
    args = ['train-text', str(demo_prepared.path), '--protocol', 'session', '--arch', folders['distilbert'], '--head-epochs', '1',
            '--epochs', '0', '--lr', '1e-3', '--device', 'cpu', '--out', str(tmp_path/'x')]
    refused = CliRunner().invoke(main, [*args, '--pool', 'pooler'])
    assert refused.exit_code == 1
    assert 'no pretrained pooler' in refused.stderr
    assert not (tmp_path/'x').exists()
    done = CliRunner().invoke(main, [*args, '--pool', 'first', '--max-length', '99'])
    assert done.exit_code == 0, done.output
    assert 'note: --max-length 99' in done.output
    assert json.loads((tmp_path/'x'/'learner.json').read_text())['pool'] == 'first'
    assert len(pd.read_csv(tmp_path/'x'/'predictions.csv')) == len(Run.open(tmp_path/'x').predictions)
