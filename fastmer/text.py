"Transcripts -> emotion: a Hugging Face encoder in a fastai `Learner`"
import re
from collections import Counter
from functools import lru_cache, partial
from pathlib import Path

import torch
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.transforms import ColReader
from fastai.learner import Learner
from fastai.optimizer import Adam
from fastai.text.data import SortedDL, TensorText
from fastai.torch_core import TitledStr, params
from fastcore.foundation import L
from fastcore.meta import delegates
from fasttransform import DisplayedTransform, Transform
from torch import nn

from .audio import fit_bs, split_rows
from .errors import FastmerError, did_you_mean

TINY = 'tiny'  # an architecture of fastmer's own: a small BERT, its vocabulary taken from the training texts, nothing pretrained
AdamW = partial(Adam, eps=1e-8)  # fastai's Adam decouples weight decay; eps as in PyTorch's AdamW


class TextModel(nn.Module):
    """Encoder, dropout, linear: token ids `(n, tokens)` -> logits `(n, n_out)`; ids equal to `pad_id` are masked

    `pool`: `pooler` (the encoder's own pooled output; the first token where it has none) or `mean` over tokens.
    """
    def __init__(self, encoder, n_out, p=0.1, pad_id=0, pool='pooler'):
        super().__init__()
        self.encoder, self.pad_id, self.pool = encoder, pad_id, pool
        self.head = nn.Sequential(nn.Dropout(p), nn.Linear(encoder.config.hidden_size, n_out))

    def features(self, ids):
        "Pooled output of the encoder: `(n, hidden)`"
        mask = (ids != self.pad_id).long()
        out = self.encoder(input_ids=ids, attention_mask=mask)
        if self.pool == 'mean': return (out.last_hidden_state*mask[..., None]).sum(1)/mask.sum(1, keepdim=True).clamp_min(1)
        pooled = getattr(out, 'pooler_output', None)
        return out.last_hidden_state[:, 0] if pooled is None else pooled

    def forward(self, ids): return self.head(self.features(ids))


def text_splitter(model):
    "Three groups: embeddings and the lower half of the layers; the upper half and the pooler; the head"
    layers = max((m for m in model.encoder.modules() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())
    upper = {id(p) for layer in layers[len(layers)//2:] for p in layer.parameters()}
    upper |= {id(p) for name, p in model.encoder.named_parameters() if 'pooler' in name}
    body = list(model.encoder.parameters())
    return L([p for p in body if id(p) not in upper], [p for p in body if id(p) in upper], params(model.head))


@lru_cache
def _cleaner(language):
    try:
        import snowballstemmer
        from stop_words import get_stop_words
    except ImportError: raise FastmerError('--clean needs a stemmer and stop words: pip install "fastmer[clean]"') from None
    known = snowballstemmer.algorithms()
    if language not in known:
        raise FastmerError(f'there is no stemmer for {language!r}{did_you_mean(language, known)}; there are {", ".join(known)}')
    return frozenset(get_stop_words(language)), snowballstemmer.stemmer(language)


def clean_text(text, language='english'):
    "Lower-case, without punctuation and stop words, stemmed (Snowball): what the report said it did"
    stop, stemmer = _cleaner(language)
    words = [word for word in re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()) if word not in stop]
    return ' '.join(stemmer.stemWords([word.replace("'", '') for word in words]))


class Tokenize(Transform):
    "Transcript -> token ids, and back; holds the tokenizer only. `clean`: a language for `clean_text`, or `None`"
    def __init__(self, tokenizer, max_length=128, clean=None):
        super().__init__()
        self.tokenizer, self.max_length, self.clean = tokenizer, max_length, clean

    def ids(self, text): return self.tokenizer(clean_text(text, self.clean) if self.clean else text, truncation=True,
                                               max_length=self.max_length)['input_ids']
    def encodes(self, text: str): return TensorText(self.ids(text))
    def decodes(self, ids: TensorText): return TitledStr(self.tokenizer.decode(ids.tolist(), skip_special_tokens=True))


class PadText(DisplayedTransform):
    "Pad the token ids of a batch to its longest, whatever else its items hold"
    def __init__(self, pad_id=0):
        super().__init__()
        self.pad_id, self.longest = pad_id, 0

    def __call__(self, samples, **kwargs):
        self.longest = max(len(x) for sample in samples for x in sample if isinstance(x, TensorText))
        return super().__call__(tuple(samples), **kwargs)

    def encodes(self, x: TensorText): return torch.nn.functional.pad(x, (0, self.longest - len(x)), value=self.pad_id)


def TranscriptBlock(tokenizer, max_length=128, clean=None):
    "A `TransformBlock` for transcripts, tokenised by a Hugging Face `tokenizer` and padded by batch"
    return TransformBlock(type_tfms=Tokenize(tokenizer, max_length, clean), dl_type=SortedDL,
                          dls_kwargs=dict(before_batch=PadText(tokenizer.pad_token_id)))


def tiny_encoder(texts, hidden=96, layers=2, heads=4, vocab=2000):
    "`(tokenizer, encoder)`: a small untrained BERT over the letters and the commonest words of `texts` (the training part's alone)"
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    split, words = pre_tokenizers.BertPreTokenizer(), Counter()
    for text in texts: words.update(word for word, _ in split.pre_tokenize_str(normalizers.BertNormalizer().normalize_str(text)))
    letters = sorted({letter for word in words for letter in word})
    common = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if len(word) > 1][:vocab]
    ids = {token: n for n, token in enumerate([*specials, *letters, *('##' + letter for letter in letters), *common])}
    wordpiece = Tokenizer(models.WordPiece(ids, unk_token='[UNK]'))
    wordpiece.normalizer, wordpiece.pre_tokenizer, wordpiece.decoder = normalizers.BertNormalizer(), split, decoders.WordPiece()
    wordpiece.post_processor = processors.BertProcessing(('[SEP]', ids['[SEP]']), ('[CLS]', ids['[CLS]']))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=wordpiece, unk_token='[UNK]', pad_token='[PAD]', cls_token='[CLS]',
                                        sep_token='[SEP]', mask_token='[MASK]', model_max_length=128)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                        intermediate_size=4*hidden, max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id)
    return tokenizer, BertModel(config)


def load_encoder(arch, texts=()):
    """`(tokenizer, encoder)` of the Hugging Face encoder `arch`, a name or a local folder; `tiny` is built from `texts`.

    Raises `FastmerError` where it is not there or cannot be fetched.
    """
    if arch == TINY: return tiny_encoder(texts)
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging
    logging.disable_progress_bar()
    local = Path(arch).expanduser()
    if (arch.startswith(('.', '/', '~')) or arch.count('/') > 1) and not local.is_dir():
        raise FastmerError(f'{arch} is not there: give the folder of a Hugging Face encoder (config.json, weights, tokenizer) to --arch')
    source = str(local) if local.is_dir() else arch
    try: tokenizer, encoder = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source)
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        if local.is_dir(): raise FastmerError(f'{arch} holds no encoder that transformers can load ({str(e).splitlines()[0]})') from None
        raise FastmerError(f'the encoder {arch!r} could not be fetched ({type(e).__name__}): give the local folder of one with '
                           '--arch PATH, or train a small one from nothing with --arch tiny') from None
    if tokenizer.pad_token_id is None: raise FastmerError(f'the tokenizer of {arch} has no padding token: choose an encoder such as BERT')
    if encoder.config.is_encoder_decoder: raise FastmerError(f'{arch} is an encoder-decoder: choose an encoder such as BERT')
    return tokenizer, encoder


def check_text(prepared, df):
    "`df` if it has transcripts; raises `FastmerError` where all are empty"
    if (df.text.str.strip() == '').all(): raise FastmerError(f'{prepared.path} holds no transcript: only train-audio can use it')
    return df


def text_dls(prepared, split, tokenizer, bs=None, max_length=128, clean=None, num_workers=0, device=None):
    "`DataLoaders` of token ids and labels, batched by length: train and valid of `split` in a `Prepared` folder"
    rows, splitter = split_rows(check_text(prepared, prepared.manifest), split)
    tokenize = Tokenize(tokenizer, max_length, clean)
    lengths = [len(tokenize.ids(text)) for text in rows.text]
    train, valid = splitter(rows)
    block = DataBlock(blocks=(TranscriptBlock(tokenizer, max_length, clean), CategoryBlock(vocab=prepared.labels)),
                      get_x=ColReader('text'), get_y=ColReader('label'), splitter=splitter)
    return block.dataloaders(rows, bs=fit_bs(bs, len(split.train)), num_workers=num_workers, device=device,
                             dl_kwargs=[dict(res=[lengths[i] for i in train]), dict(val_res=[lengths[i] for i in valid])])


@delegates(Learner, but='dls,model,splitter')
def text_learner(dls, encoder, pad_id=0, p=0.1, pool='pooler', opt_func=AdamW, **kwargs):
    "A fastai `Learner` with a `TextModel` around `encoder`, in three layer groups; the encoder is frozen until `unfreeze`"
    model = TextModel(encoder, len(dls.vocab), p, pad_id, pool)
    learn = Learner(dls, model, splitter=text_splitter, opt_func=opt_func, **kwargs)
    learn.freeze()
    return learn
