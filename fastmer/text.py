"Transcripts -> emotion: a Hugging Face encoder in a fastai `Learner`"
import re
import unicodedata
from collections import Counter
from functools import lru_cache, partial
from itertools import groupby, repeat
from pathlib import Path

import torch
from fastai.data.block import DataBlock, TransformBlock
from fastai.learner import Learner
from fastai.optimizer import Adam
from fastai.text.data import TensorText
from fastai.torch_core import TitledStr, params
from fastcore.foundation import L
from fastcore.meta import delegates
from fasttransform import DisplayedTransform, Transform
from torch import nn

from .adapters import Adaptable, learnable
from .audio import check_whole, fit_bs, split_rows
from .errors import FastmerError, did_you_mean
from .loaders import ByLengthDL
from .manifest import turns_before
from .targets import target_block

TINY = 'tiny'  # an architecture of fastmer's own: a small BERT, its vocabulary taken from the training texts, nothing pretrained
AdamW = partial(Adam, eps=1e-8)  # fastai's Adam decouples weight decay; eps as in PyTorch's AdamW


POOLS = {  # how what the encoder says of the tokens `(n, tokens, hidden)` becomes one vector `(n, hidden)`
    'pooler': lambda out, mask: out.last_hidden_state[:, 0] if getattr(out, 'pooler_output', None) is None else out.pooler_output,
    'mean': lambda out, mask: (out.last_hidden_state*mask[..., None]).sum(1)/mask.sum(1, keepdim=True).clamp_min(1),
    'first': lambda out, mask: out.last_hidden_state[:, 0],
}


def find_pool(encoder, pool='auto'):
    "The name in `POOLS` that `pool` stands for: with `auto` the encoder's pretrained pooler where it has one, else the mean over tokens"
    if pool not in POOLS and pool != 'auto':
        raise FastmerError(f'there is no pooling {pool!r}{did_you_mean(pool, POOLS)}; there are auto, {", ".join(POOLS)}')
    has = getattr(encoder, 'pooler', None) is not None
    if pool == 'pooler' and not has:
        raise FastmerError(f'this {encoder.config.model_type} encoder has no pretrained pooler: take --pool mean or --pool first')
    return pool if pool != 'auto' else 'pooler' if has else 'mean'


class TextModel(Adaptable):
    """Encoder, dropout, linear: token ids `(n, tokens)` -> logits `(n, n_out)`; ids equal to `pad_id` are masked

    `pool`: `pooler` (the encoder's own pooled output), `mean` over tokens, or the `first` token.
    """
    def __init__(self, encoder, n_out, p=0.1, pad_id=0, pool='pooler'):
        super().__init__()
        self.encoder, self.pad_id, self.pool = encoder, pad_id, pool
        self.head = nn.Sequential(nn.Dropout(p), nn.Linear(encoder.config.hidden_size, n_out))

    def encode(self, ids):
        "What the encoder gives, and which tokens `(n, tokens)` are not padding: what the functions below take"
        mask = ids != self.pad_id
        return self.encoder(input_ids=ids, attention_mask=mask.long()), mask

    def features_of(self, out, mask):
        "Pooled output of the encoder: `(n, hidden)`"
        return POOLS[self.pool](out, mask.long())

    def tokens_of(self, out, mask):
        "What the encoder says of each token `(n, tokens, hidden)`, and which are words; one token, the pooled output, where it says less"
        states = getattr(out, 'last_hidden_state', None)
        if states is not None and states.shape[:2] == mask.shape: return states, mask
        return self.features_of(out, mask)[:, None], mask[:, :1] | True

    def logits_of(self, out, mask): return self.head(self.features_of(out, mask))
    def features(self, ids): return self.features_of(*self.encode(ids))
    def forward(self, ids): return self.logits_of(*self.encode(ids))


def text_splitter(model):
    "Three groups: embeddings and the lower half of the layers; upper half and pooler; the head. Where LoRA is, adapters stand for layers"
    layers = max((m for m in model.encoder.modules() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())
    upper = {id(p) for layer in layers[len(layers)//2:] for p in layer.parameters()}
    upper |= {id(p) for name, p in model.encoder.named_parameters() if 'pooler' in name}
    body = [p for _, p in learnable(model.encoder)]
    return L([p for p in body if id(p) not in upper], [p for p in body if id(p) in upper], params(model.head))


@lru_cache
def _cleaner(language):
    try:
        import snowballstemmer
        from stop_words import AVAILABLE_LANGUAGES, get_stop_words
    except ImportError: raise FastmerError('--clean needs a stemmer and stop words: pip install "fastmer[clean]"') from None
    known = sorted({*snowballstemmer.algorithms()} & {*AVAILABLE_LANGUAGES})
    if language not in known:
        raise FastmerError(f'there is no stemmer with stop words for {language!r}{did_you_mean(language, known)}; '
                           f'there are {", ".join(known)}')
    return frozenset(get_stop_words(language)), snowballstemmer.stemmer(language)


@lru_cache
def _words():
    "A pattern of words in any script: letters, digits and the marks that belong to them, and apostrophes between them"
    marks = ''.join(c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] == 'M')
    return re.compile(f"(?:[^\\W_]|[{marks}])+(?:'(?:[^\\W_]|[{marks}])+)*")


def clean_text(text, language='english'):
    "Lower-case, without punctuation and stop words, stemmed (Snowball): what the report said it did"
    stop, stemmer = _cleaner(language)
    words = [word for word in _words().findall(text.lower().replace('’', "'")) if word not in stop]
    return ' '.join(stemmer.stemWords([word.replace("'", '') for word in words]))


class Turn(str):
    "A transcript, and in `context` what was said before it: a turn a line, the earliest first"
    def __new__(cls, text, context=''):
        self = super().__new__(cls, text)
        self.context = context
        return self


def read_turn(row): return Turn(row['text'], row.get('context', ''))
def turns_of(df): return [*map(Turn, df.text, df.context if 'context' in df else repeat(''))]
def as_context(texts): return '\n'.join(' '.join(text.split()) for text in texts)


def with_context(prepared, df, k):
    "The rows of `df`, all of a prepared folder, with a column `context` where `k` is above 0: the last `k` transcripts, as `Turn` has them"
    if not k: return df
    if (df.dialogue == '').all():
        raise FastmerError(f'{prepared.path} does not say which dialogue an utterance is of: --context needs the column dialogue')
    text = df.text.to_numpy()
    return df.assign(context=[as_context(text[before]) for before in turns_before(df, k)])


class Tokenize(Transform):
    """Transcript -> token ids, and back; holds the tokenizer only. `clean`: a language for `clean_text`, or `None`

    `context`: how many turns before it are read with a `Turn`, as the first part of a pair, the tokenizer's separator between them. What
    is longer than `max_length` loses its earliest tokens of context; where a transcript alone is, its last words.
    """
    def __init__(self, tokenizer, max_length=128, clean=None, context=0):
        super().__init__()
        self.tokenizer, self.max_length, self.clean, self.context = tokenizer, max_length, clean, context

    def _cleaned(self, text): return clean_text(text, self.clean) if self.clean else text

    def _before(self, text):
        if not (self.context and text.strip()): return ''
        turns = [turn.strip() for turn in getattr(text, 'context', '').split('\n') if turn.strip()]
        turns = [self._cleaned(turn) for turn in turns[-self.context:]]
        return (self.tokenizer.sep_token or '\n').join(turn for turn in turns if turn)

    @property
    def _more(self):
        "How many special tokens a pair has more than a single text"
        return self.tokenizer.num_special_tokens_to_add(True) - self.tokenizer.num_special_tokens_to_add(False)

    def _ids(self, texts, max_length):
        before, texts = [self._before(text) for text in texts], [self._cleaned(text) for text in texts]
        out = self.tokenizer(texts, truncation=True, max_length=max_length)['input_ids']
        at = [i for i, context in enumerate(before) if context and len(out[i]) + self._more < max_length]
        if not at: return out
        pairs = self.tokenizer([before[i] for i in at], [texts[i] for i in at], return_special_tokens_mask=True, verbose=False)
        for i, ids, special in zip(at, pairs['input_ids'], pairs['special_tokens_mask'], strict=True):
            first = [*special, 0].index(0)  # of the context, whose earliest tokens are cut off
            out[i] = ids[:first] + ids[first + max(0, len(ids) - max_length):]
        return out

    def ids(self, text):
        "Token ids of a transcript, at most `max_length`, at least one"
        ids, = self._ids([text], self.max_length)
        return ids or [self.tokenizer.pad_token_id if self.tokenizer.unk_token_id is None else self.tokenizer.unk_token_id]

    def lengths(self, texts):
        "How many tokens each transcript has, with its context, counted to one more than are kept"
        most = self.max_length + 1
        return [min(len(ids), most) for ids in self._ids(list(texts), most + self._more)]

    def encodes(self, text: str): return TensorText(self.ids(text))

    def decodes(self, ids: TensorText):
        turns = [list(part) for end, part in groupby(ids.tolist(), lambda i: i == self.tokenizer.sep_token_id) if not end]
        turns = [self.tokenizer.decode(part, skip_special_tokens=True) for part in turns]
        return TitledStr(' / '.join(turn for turn in turns if turn))


class PadText(DisplayedTransform):
    "Pad the token ids of a batch to its longest, whatever else its items hold"
    def __init__(self, pad_id=0):
        super().__init__()
        self.pad_id, self.longest = pad_id, 0

    def __call__(self, samples, **kwargs):
        self.longest = max(len(x) for sample in samples for x in sample if isinstance(x, TensorText))
        return super().__call__(tuple(samples), **kwargs)

    def encodes(self, x: TensorText): return torch.nn.functional.pad(x, (0, self.longest - len(x)), value=self.pad_id)


def TranscriptBlock(tokenizer, max_length=128, clean=None, context=0):
    "A `TransformBlock` for transcripts, tokenised by a Hugging Face `tokenizer` and padded by batch"
    return TransformBlock(type_tfms=Tokenize(tokenizer, max_length, clean, context), dl_type=ByLengthDL,
                          dls_kwargs=dict(before_batch=PadText(tokenizer.pad_token_id)))


def tiny_encoder(texts, hidden=96, layers=2, heads=4, vocab=2000):
    "`(tokenizer, encoder)`: a small untrained BERT over the letters and the commonest words of `texts` (the training part's alone)"
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    split, normal, words = pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(strip_accents=False), Counter()
    for text in texts: words.update(word for word, _ in split.pre_tokenize_str(normal.normalize_str(text)))
    letters = sorted({letter for word in words for letter in word})
    common = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if len(word) > 1][:vocab]
    ids = {token: n for n, token in enumerate([*specials, *letters, *('##' + letter for letter in letters), *common])}
    wordpiece = Tokenizer(models.WordPiece(ids, unk_token='[UNK]'))
    wordpiece.normalizer, wordpiece.pre_tokenizer, wordpiece.decoder = normal, split, decoders.WordPiece()
    wordpiece.post_processor = processors.BertProcessing(('[SEP]', ids['[SEP]']), ('[CLS]', ids['[CLS]']))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=wordpiece, unk_token='[UNK]', pad_token='[PAD]', cls_token='[CLS]',
                                        sep_token='[SEP]', mask_token='[MASK]', model_max_length=128)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                        intermediate_size=4*hidden, max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id)
    return tokenizer, BertModel(config)


def load_encoder(arch, texts=()):
    """`(tokenizer, encoder)` of the Hugging Face encoder `arch`, a name or a local folder; `tiny` is built from `texts`.

    A pooler without pretrained weights (RoBERTa's, where only its language model was published) is taken out. Raises `FastmerError` where
    the encoder is not there or cannot be fetched.
    """
    if arch == TINY: return tiny_encoder(texts)
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging
    logging.disable_progress_bar()
    local = Path(arch).expanduser()
    if (arch.startswith(('.', '/', '~')) or arch.count('/') > 1) and not local.is_dir():
        raise FastmerError(f'{arch} is not there: give the folder of a Hugging Face encoder (config.json, weights, tokenizer) to --arch')
    source = str(local) if local.is_dir() else arch
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        encoder, loaded = AutoModel.from_pretrained(source, output_loading_info=True)
        encoder = encoder.float()  # some are published in half precision
    except ImportError as e:
        raise FastmerError(f'the tokenizer of {arch} needs a package that is not installed ({str(e).strip().splitlines()[0]}): '
                           'pip install sentencepiece protobuf') from None
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        if local.is_dir(): raise FastmerError(f'{arch} holds no encoder that transformers can load ({str(e).splitlines()[0]})') from None
        raise FastmerError(f'the encoder {arch!r} could not be fetched ({type(e).__name__}): give the local folder of one with '
                           '--arch PATH, or train a small one from nothing with --arch tiny') from None
    if tokenizer.pad_token_id is None: raise FastmerError(f'the tokenizer of {arch} has no padding token: choose an encoder such as BERT')
    if encoder.config.is_encoder_decoder: raise FastmerError(f'{arch} is an encoder-decoder: choose an encoder such as BERT')
    lacking = loaded['missing_keys']
    if any(key.startswith('pooler.') for key in lacking): encoder.pooler = None
    check_whole(arch, encoder.config, [key for key in lacking if not key.startswith('pooler.')])
    return tokenizer, encoder


def longest_input(encoder):
    "How many tokens `encoder` can take, `None` where there is no end: RoBERTa's positions begin behind that of padding, and two are lost"
    for name, module in encoder.named_modules():
        if name.endswith('position_embeddings') and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return getattr(encoder.config, 'max_position_embeddings', None)


def fit_length(encoder, tokenizer, max_length, texts=(), clean=None, say=None, context=0):
    "`max_length`, or what `encoder` can take where that is less; `say` is told so, and how many of `texts` lose words or context"
    say, most = say or (lambda line: None), longest_input(encoder)
    if most and max_length > most:
        say(f'note: --max-length {max_length} is more than the encoder can take: {most} tokens are kept of a transcript')
        max_length = most
    count = lambda k: sum(n > max_length for n in Tokenize(tokenizer, max_length, clean, k).lengths(texts)) if len(texts) else 0
    cut, more = count(0), 'the encoder takes no more' if max_length == most else 'a larger --max-length keeps more of them'
    if cut: say(f'warning: {cut:,} of {len(texts):,} transcripts have more than {max_length} tokens and lose their last words; {more}')
    if context and (short := count(context) - cut):
        say(f'note: {short:,} of {len(texts):,} transcripts have more than {max_length} tokens with their context and lose the earliest of '
            f'it; {more}')
    return max_length


def check_text(prepared, df):
    "`df` if it has transcripts; raises `FastmerError` where all are empty"
    if (df.text.str.strip() == '').all(): raise FastmerError(f'{prepared.path} holds no transcript: only train-audio can use it')
    return df


def text_dls(prepared, split, tokenizer, bs=None, max_length=128, clean=None, num_workers=0, device=None, context=0, target=None):
    """`DataLoaders` of token ids and labels (or `target`), batched by length: train and valid of `split` in a `Prepared` folder

    `context`: how many transcripts before each are read with it; `dls.test_dl` takes them from a column `context`, as `with_context` gives.
    """
    rows, splitter = split_rows(with_context(prepared, check_text(prepared, prepared.manifest), context), split)
    lengths = [min(n, max_length) for n in Tokenize(tokenizer, max_length, clean, context).lengths(turns_of(rows))]
    train, valid = splitter(rows)
    learned, get_y = target_block(prepared.labels, target)
    block = DataBlock(blocks=(TranscriptBlock(tokenizer, max_length, clean, context), learned), get_x=read_turn, get_y=get_y,
                      splitter=splitter)
    return block.dataloaders(rows, bs=fit_bs(bs, len(split.train)), num_workers=num_workers, device=device,
                             dl_kwargs=[dict(res=[lengths[i] for i in train]), dict(val_res=[lengths[i] for i in valid])])


@delegates(Learner, but='dls,model,splitter')
def text_learner(dls, encoder, pad_id=0, p=0.1, pool='auto', opt_func=AdamW, **kwargs):
    """A fastai `Learner` with a `TextModel` around `encoder`, in three layer groups; the encoder is frozen until `unfreeze`.

    `pool`: as in `find_pool`. The weights of an encoder from `add_lora` stay frozen; what is exported has the adapters merged.
    """
    model = TextModel(encoder, dls.c, p, pad_id, find_pool(encoder, pool))
    learn = Learner(dls, model, splitter=text_splitter, opt_func=opt_func, **kwargs)
    learn.freeze()
    return learn
