"""Paired items, a recording and a transcript -> emotion: the encoders of two unimodal learners under one head, any of `heads.FUSIONS`

What an item lacks travels with it: a recording that is not there is a picture in which every pixel is the same (a silent clip is one too),
or a waveform of NaN; a transcript that is not there is padding alone. What encoders say of it is NaN, and the head knows it by that.
"""
from functools import partial

import numpy as np
import torch
from fastai.data.block import DataBlock
from fastai.data.transforms import ColReader
from fastai.learner import Learner
from fastai.text.data import TensorText
from fastai.torch_core import params
from fastai.vision.core import PILImage, TensorImage
from fastai.vision.data import get_grid
from fastcore.foundation import L
from fastcore.meta import delegates
from plum import dispatch
from torch import nn

from .audio import AudioModel, OpenPicture, SpectrogramBlock, fit_bs, split_rows, with_png
from .augment import FitTime
from .callbacks import FrozenEncoders
from .embeddings import Embedded, embed_rows
from .errors import FastmerError
from .heads import NAN, Residual, find_fusion, lose
from .speech import LoadWave, PadWave, SpeechModel, TensorWave, WaveBlock, speech_splitter, with_wave
from .targets import table_of, target_block, targets_of
from .text import PadText, Tokenize, TranscriptBlock, check_text, read_turn, with_context

MODALITIES = ('audio', 'text')


# --- the model ------------------------------------------------------------------------------------------------------------------------

def _tokens(model, said, pool):
    states, own = model.tokens_of(*said)
    return states.masked_fill(~own[..., None], NAN)


SAYS = {  # what is taken of `said`, which a model's `encode` gave, and how pictures are pooled: `(n, width)`, tokens `(n, length, width)`
    'features': lambda model, said, pool: model.features_of(*said, *([pool] if isinstance(model, AudioModel) else [])),
    'tokens': _tokens,
    'logits': lambda model, said, pool: model.logits_of(*said),
}


def taken(model, x, needs, pool='mean', answers=0):
    "What a fusion needs of an encoder that is given `x`; behind it, along the last dimension, its own first `answers` logits"
    said = model.encode(x)
    out = SAYS[needs](model, said, pool)
    if not answers: return out
    own = model.logits_of(*said)[:, :answers]
    own = own.view(len(own), *(1,)*(out.ndim - 2), answers).expand(*out.shape[:-1], -1)
    return torch.cat([out, own.masked_fill(out.isnan().all(-1, keepdim=True), NAN)], -1)


def heard(x):
    "Which recordings of a batch are there `(n,)`: pictures in which pixels differ, waveforms that are not NaN"
    if x.ndim == 2: return ~x.isnan().all(1)
    x = (x if x.ndim == 4 else x.transpose(1, 2)).flatten(2)  # by channel, over all windows
    return (x.amax(2) - x.amin(2) > 1e-4).any(1)


def put_back(part, here):
    "`part` `(k, ...)` at the `k` rows of `here` `(n,)`, NaN at the others"
    if here.all(): return part
    out = part.new_full((len(here), *part.shape[1:]), NAN)
    out[here] = part
    return out


class FusionModel(nn.Module):
    """What two encoders say of an utterance, and a head of `heads.FUSIONS` on that: `(n, ...)`, `(n, tokens)` -> `(n, n_out)`

    `audio`: an `AudioModel` or `SpeechModel`; `text`: a `TextModel`; `pool`: how a picture's positions are pooled, `mean` or `sum`;
    `norm`: bring each feature to mean 0 and variance 1 first, since a picture's and a text's are of different sizes; `missing`: the
    probability that an utterance loses one modality in training; `answers`: how many labels both know, for a head that begins at their
    own answers (`heads.Residual`), or 0.
    """
    def __init__(self, audio, text, n_out, widths, p=0.5, pool='mean', norm=True, fusion='concat', missing=0., answers=0):
        super().__init__()
        self.needs, head = find_fusion(fusion)
        self.audio, self.text, self.pool, self.widths, self.fusion, self.missing = audio, text, pool, tuple(widths), fusion, missing
        self.answers, self.head = answers, head(widths, n_out, p=p, norm=norm)
        if answers: self.head = Residual(self.head, answers)

    def says(self, name, x, here):
        if here.any(): return put_back(taken(getattr(self, name), x[here], self.needs, self.pool, self.answers), here)
        width = self.widths[MODALITIES.index(name)] + self.answers
        return torch.full((len(here), 1, width) if self.needs == 'tokens' else (len(here), width), NAN, device=x.device)

    def embed(self, audio, ids):
        "What the encoders say `(n, width)`, or of tokens `(n, length, width)`; NaN where there is nothing to hear or to read"
        audio, ids = (torch.as_tensor(x).as_subclass(torch.Tensor) for x in (audio, ids))
        return self.says('audio', audio, heard(audio)), self.says('text', ids, (ids != self.text.pad_id).any(1))

    def train(self, mode=True):
        "As ever, but that batch norms of the audio learner's own head stay as they are: of a batch, one recording alone may be there"
        super().train(mode)
        for m in self.audio.modules():
            if isinstance(m, nn.BatchNorm1d): m.eval()
        return self

    def head_of(self, *embedded): return self.head(lose(embedded, self.missing) if self.training and self.missing else embedded)
    def forward(self, audio, ids): return self.head_of(*self.embed(audio, ids))


def _own(model): return [p for group in speech_splitter(model) for p in group] if isinstance(model, SpeechModel) else params(model)
def fusion_splitter(model): return L(_own(model.audio), _own(model.text), [p for p in params(model.head) if p.requires_grad])


# --- data -----------------------------------------------------------------------------------------------------------------------------

class OpenAny(OpenPicture):
    "The path of a PNG -> `PILImage`, as `opened` makes it; an empty path -> a blank one, `rows` by `columns` pixels of the colour `fill`"
    def __init__(self, opened, rows, columns, fill):
        super().__init__(getattr(opened, 'normaliser', 'utterance'))
        self.opened, self.rows, self.columns, self.fill = opened, rows, columns, tuple(fill)

    def encodes(self, path):
        return self.opened(path) if path else PILImage.create(np.full((self.rows, self.columns, 3), self.fill, dtype=np.uint8))


class LoadAny(LoadWave):
    "A recording's path -> `TensorWave`; an empty path -> a second of NaN"
    def wave(self, audio): return super().wave(audio) if audio else TensorWave(torch.full((self.rate,), NAN))


class TokenizeAny(Tokenize):
    "Transcript -> token ids; an empty one -> a single id of padding"
    def ids(self, text): return super().ids(text) if text.strip() else [self.tokenizer.pad_token_id]


def AnyRecordingBlock(config, encoder=None, trim_db=40., **kwargs):
    "A `SpectrogramBlock`, or with a speech `encoder` a `WaveBlock`, whose recordings may be absent"
    if encoder is not None:
        block = WaveBlock(encoder, trim_db, **kwargs)
        block.type_tfms = L(LoadAny(encoder.rate, trim_db))
    else:
        block = SpectrogramBlock(config, **kwargs)
        fit = next(tfm for tfm in block.item_tfms if isinstance(tfm, FitTime))
        block.type_tfms = L(OpenAny(block.type_tfms[0], config.rows, fit.frames, fit.pad))
    return block


def with_audio(prepared, df, wave=False):
    "The rows of `df` with a column `png` or `wave`, empty where there is no recording; raises `FastmerError` where there is no text either"
    if (bare := (df.audio == '') & (df.text.str.strip() == '')).any():
        raise FastmerError(f'utterance {df.id[bare].iloc[0]!r} in {prepared.path} has neither a recording nor a transcript: leave it out')
    name, found = ('wave', with_wave) if wave else ('png', with_png)
    paths = found(prepared, df[df.audio != '']).set_index('id')[name]
    return df.assign(**{name: df.id.map(paths).fillna('')})


@delegates(SpectrogramBlock, but='config')
def fusion_dls(prepared, split, tokenizer, bs=None, max_length=128, clean=None, num_workers=0, device=None, encoder=None, context=0,
               target=None, **kwargs):
    """`DataLoaders` of (picture, token ids, label or `target`): train and valid of `split` in a `Prepared` folder; rows may lack either

    With a speech `encoder` waveforms stand for pictures, and `kwargs` are `trim_db` and those of `speech.WaveBlock`. `context` as in
    `text_dls`.
    """
    wave = encoder is not None
    rows = with_context(prepared, with_audio(prepared, prepared.manifest, wave), context)
    rows, splitter = split_rows(check_text(prepared, rows), split)
    recording, text = AnyRecordingBlock(prepared.config, encoder, **kwargs), TranscriptBlock(tokenizer)
    text.type_tfms = L(TokenizeAny(tokenizer, max_length, clean, context))
    for block in (recording, text): block.dl_type, block.dls_kwargs = None, {}  # a SortedDL would open every picture to sort them
    learned, get_y = target_block(prepared.labels, target)
    block = DataBlock(blocks=(recording, text, learned), n_inp=2, getters=[ColReader('wave' if wave else 'png'), read_turn, get_y],
                      splitter=splitter)
    pads = [*([PadWave()] if wave else []), PadText(tokenizer.pad_token_id)]
    return block.dataloaders(rows, bs=fit_bs(bs, len(split.train)), num_workers=num_workers, device=device, before_batch=pads)


# --- learners -------------------------------------------------------------------------------------------------------------------------

def _widths(dls, models, needs, pool):
    "How wide what is taken of each encoder is, found by running one item"
    inputs = [x.as_subclass(torch.Tensor)[:1] for x in dls.valid.one_batch()[:2]]
    if inputs[0].is_floating_point(): inputs[0] = inputs[0].nan_to_num(0.)
    mode = [model.training for model in models]
    for model in models: model.eval()
    with torch.no_grad(): widths = [taken(model, x, needs, pool).shape[-1] for model, x in zip(models, inputs, strict=True)]
    for model, training in zip(models, mode, strict=True): model.train(training)
    return widths


@delegates(Learner, but='dls,model,splitter,train_bn')
def fusion_learner(dls, audio, text, p=0.5, pool='mean', norm=True, fusion='concat', missing=0., answers=0, cbs=None, **kwargs):
    """A fastai `Learner` with a `FusionModel` of the models of an audio and a text learner, both frozen until `unfreeze`.

    `FrozenEncoders` keeps their weights, running statistics and dropout still. Other arguments as in `FusionModel`.
    """
    device, (needs, _) = dls.device, find_fusion(fusion)
    audio, text = audio.to(device), text.to(device)
    widths = _widths(dls, (audio, text), needs, pool)
    model = FusionModel(audio, text, dls.c, widths, p, pool, norm, fusion, missing, answers).to(device)
    learn = Learner(dls, model, splitter=fusion_splitter, train_bn=False, cbs=[*L(cbs), FrozenEncoders('audio', 'text')], **kwargs)
    learn.freeze()
    return learn


def embed_pairs(learn, rows, prepared, about, cache=True, views=0):
    """The `Embedded` of `rows` by a fusion learner: what its two encoders say, kept in the prepared folder where `cache` is on

    With so many `views` of the recordings, changed as in training; their words are said as they are.
    """
    model = learn.model
    about = dict(about, needs=model.needs, pool=model.pool, answers=model.answers, spectrogram=prepared.config.hash)
    embed = partial(embed_rows, learn, encoders=nn.ModuleList([model.audio, model.text]), prepared=prepared, cache=cache)
    embedded = embed(rows, about=about)
    of_view = lambda k: embed(rows.assign(text=''), about=about | dict(view=k), view=k).outputs[0]
    embedded.views = [Embedded(rows, [of_view(k), embedded.outputs[1]]) for k in range(views)]
    return embedded


def fit_answers(learn, embedded, rows):
    "Calibrate what both learners say themselves on `rows`, those of the valid part, for a late fusion or a residual head"
    y = targets_of(learn.dls, rows)
    learn.model.head.fit(embedded[embedded.positions(rows.id)], y[:, 0].long() if y.ndim == 2 else y)
    learn.model.to(learn.dls.device)


@torch.no_grad()
def mixed(learn, embedded, audio, text, bs=64):
    "What `learn` says `(n, outputs)` of recordings at positions `audio` with transcripts at positions `text`; either `None`: without them"
    model, device, probs = learn.model.eval(), learn.dls.device, []
    for b in torch.arange(len(audio if text is None else text)).split(bs):
        outs = [embedded[(other if of is None else of)[b]][i].to(device) for i, (of, other) in enumerate(((audio, text), (text, audio)))]
        outs = [torch.full_like(out, NAN) if of is None else out for out, of in zip(outs, (audio, text), strict=True)]
        probs.append(learn.loss_func.activation(model.head_of(*outs).float()).cpu())
    return torch.cat(probs)


def by_modality(learn, embedded, rows, seed=0):
    """A fusion learner on `rows` from recordings alone, transcripts alone, both, and recordings with another utterance's transcript

    `{name: table of predictions}`, each of the rows that have what it wants.
    """
    has = dict(audio=rows.audio != '', text=rows.text.str.strip() != '')
    has['both'] = has['wrong_text'] = has['audio'] & has['text']
    tables = {}
    for name, here in has.items():
        if (of := rows[here]).empty: continue
        at = embedded.positions(of.id)
        order = torch.randperm(len(at), generator=torch.Generator().manual_seed(seed))
        wrong = torch.empty_like(at)
        wrong[order] = at[order.roll(1)]
        said = dict(audio=(at, None), text=(None, at), both=(at, at), wrong_text=(at, wrong))[name]
        tables[name] = table_of(learn.dls, of, mixed(learn, embedded, *said).numpy())
    return tables


# --- showing --------------------------------------------------------------------------------------------------------------------------

def _show_pairs(samples, ctxs, max_n, nrows, ncols, figsize, outs=None):
    n = min(len(samples), max_n)
    ctxs = ctxs or get_grid(n, nrows=nrows, ncols=ncols, figsize=figsize)
    for i, (sample, ctx) in enumerate(zip(samples[:n], ctxs, strict=False)):
        if isinstance(sample[0], TensorWave): ctx.plot(np.asarray(sample[0]), lw=0.3)
        else: sample[0].show(ctx=ctx)
        ctx.set_title('\n'.join(map(str, [*sample[1:], *([f'predicted: {outs[i][0]}'] if outs else [])])), fontsize=8)
    return ctxs


@dispatch
def show_batch(x: tuple[TensorImage, TensorText], y, samples, ctxs=None, max_n=9, nrows=None, ncols=None, figsize=None, **kwargs):
    "Pictures with their transcripts and labels"
    return _show_pairs(samples, ctxs, max_n, nrows, ncols, figsize)


@dispatch
def show_batch(x: tuple[TensorWave, TensorText], y, samples, ctxs=None, max_n=9, nrows=None, ncols=None, figsize=None, **kwargs):  # noqa: F811
    "Waveforms with their transcripts and labels"
    return _show_pairs(samples, ctxs, max_n, nrows, ncols, figsize)


@dispatch
def show_results(x: tuple[TensorImage, TensorText], y, samples, outs, ctxs=None, max_n=9, nrows=None, ncols=None, figsize=None, **kwargs):
    "Pictures with their transcripts, labels and what was predicted"
    return _show_pairs(samples, ctxs, max_n, nrows, ncols, figsize, outs)


@dispatch
def show_results(x: tuple[TensorWave, TensorText], y, samples, outs, ctxs=None, max_n=9, nrows=None, ncols=None,  # noqa: F811
                 figsize=None, **kwargs):
    "Waveforms with their transcripts, labels and what was predicted"
    return _show_pairs(samples, ctxs, max_n, nrows, ncols, figsize, outs)
