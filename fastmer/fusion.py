"""Paired items, a recording and a transcript -> emotion: the encoders of two unimodal learners under one head, any of `FUSIONS`

What an item lacks travels with it: a recording that is not there is a picture in which every pixel is the same (a silent clip is one too),
or a waveform of NaN; a transcript that is not there is padding alone. What encoders say of it is NaN, and the head knows it by that.
"""
import numpy as np
import torch
import torch.nn.functional as F
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
from scipy.optimize import minimize
from torch import nn

from .audio import AudioModel, OpenPicture, SpectrogramBlock, fit_bs, split_rows, with_png
from .augment import FitTime
from .calibration import fit_temperature
from .callbacks import FrozenEncoders
from .embeddings import embed_rows
from .errors import FastmerError, did_you_mean
from .speech import LoadWave, PadWave, SpeechModel, TensorWave, WaveBlock, speech_splitter, with_wave
from .targets import table_of, target_block, targets_of
from .text import PadText, Tokenize, TranscriptBlock, check_text, read_turn, with_context

NAN, MODALITIES = float('nan'), ('audio', 'text')


# --- heads: what two encoders say, NaN where there was nothing to hear or read -> logits ----------------------------------------------

def present(x): return ~x.flatten(1).isnan().all(1)


def lose(embedded, p):
    "What encoders say of `n` utterances, where each has lost one of its two modalities with probability `p`, and never both"
    here = [present(x) for x in embedded]
    lost = here[0] & here[1] & (torch.rand(len(here[0]), device=here[0].device) < p)
    which = torch.rand(len(lost), device=lost.device) < 0.5
    return tuple(x.masked_fill((lost & at).view(-1, *(1,)*(x.ndim - 1)), NAN) for x, at in zip(embedded, (which, ~which), strict=True))


class PresentNorm(nn.Module):
    "A batch norm without weights of `(..., width)`; `here` `(...)` says what is there, and the statistics are over that alone"
    def __init__(self, width, momentum=0.1, eps=1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer('mean', torch.zeros(width))
        self.register_buffer('var', torch.ones(width))

    def forward(self, x, here):
        mean, var = self.mean, self.var
        if self.training and (n := int(here.sum())) > 1:
            var, mean = torch.var_mean(x[here].float(), 0, unbiased=False)
            with torch.no_grad(): self.mean.lerp_(mean, self.momentum), self.var.lerp_(var*n/(n - 1), self.momentum)
        return (x - mean)*(var + self.eps).rsqrt()


class StandIn(nn.Module):
    "One encoder's `(n, width)`, normalised; a learned vector stands where it is NaN"
    def __init__(self, width, norm=True):
        super().__init__()
        self.norm, self.instead = PresentNorm(width) if norm else None, nn.Parameter(torch.zeros(width))

    def forward(self, x):
        here = present(x)
        x = x.masked_fill(~here[:, None], 0.)
        return torch.where(here[:, None], self.norm(x, here) if self.norm else x, self.instead)


class StandIns(nn.ModuleList):
    "A `StandIn` for each encoder"
    def __init__(self, widths, norm=True): super().__init__(StandIn(width, norm) for width in widths)
    def forward(self, embedded): return [instead(x) for instead, x in zip(self, embedded, strict=True)]


class Joined(StandIns):
    def forward(self, embedded): return torch.cat(super().forward(embedded), 1)


class Concat(nn.Sequential):
    "Both side by side, dropout, linear: the report's, which normalised nothing"
    def __init__(self, widths, n_out, p=0.5, norm=True):
        super().__init__(Joined(widths, norm), nn.Dropout(p), nn.Linear(sum(widths), n_out))


class Gated(nn.Module):
    "A gated multimodal unit: how much of each hidden unit comes from which encoder is learned (Arevalo et al., ICLR workshop 2017)"
    def __init__(self, widths, n_out, p=0.5, norm=True, hidden=128):
        super().__init__()
        self.instead, self.drop = StandIns(widths, norm), nn.Dropout(p)
        self.hidden = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.gate, self.out = nn.Linear(sum(widths), hidden), nn.Linear(hidden, n_out)

    def forward(self, embedded):
        xs = [self.drop(x) for x in self.instead(embedded)]
        a, b = (layer(x).tanh() for layer, x in zip(self.hidden, xs, strict=True))
        gate = self.gate(torch.cat(xs, 1)).sigmoid()
        return self.out(self.drop(gate*a + (1 - gate)*b))


class LowRank(nn.Module):
    "Low-rank multimodal fusion: the outer product of both, its weights a sum of `rank` products (Liu et al., ACL 2018)"
    def __init__(self, widths, n_out, p=0.5, norm=True, hidden=64, rank=4):
        super().__init__()
        self.instead, self.drop = StandIns(widths, norm), nn.Dropout(p)
        self.hidden = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.factors = nn.ParameterList(nn.init.xavier_normal_(torch.empty(rank, hidden + 1, n_out)) for _ in widths)
        self.weight, self.bias = nn.Parameter(torch.full((rank,), rank**-0.5)), nn.Parameter(torch.zeros(n_out))
        with torch.no_grad():
            for factor in self.factors: factor[:, -1] = 1.  # of the constant: what each says alone comes through from the start

    def forward(self, embedded):
        product = 1.
        for x, layer, factor in zip(self.instead(embedded), self.hidden, self.factors, strict=True):
            x = F.pad(layer(self.drop(x)).relu(), (0, 1), value=1.)
            product = product*torch.einsum('nd,rdo->nro', x, factor)
        return torch.einsum('nro,r->no', product, self.weight) + self.bias


class CrossAttention(nn.Module):
    """Tokens `(n, length, width)` of each encoder ask those of the other; masked means of the answers, linear

    Tokens behind the end are NaN. A learned token stands for an encoder that has none.
    """
    def __init__(self, widths, n_out, p=0.5, norm=True, hidden=128, heads=4):
        super().__init__()
        self.norms = nn.ModuleList(PresentNorm(width) for width in widths) if norm else None
        self.hidden = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.instead = nn.ParameterList(nn.Parameter(torch.randn(hidden)*0.02) for _ in widths)
        self.attend = nn.ModuleList(nn.MultiheadAttention(hidden, heads, batch_first=True) for _ in widths)
        self.after = nn.ModuleList(nn.LayerNorm(hidden) for _ in widths)
        self.head = nn.Sequential(nn.Dropout(p), nn.Linear(len(widths)*hidden, n_out))

    def tokens(self, i, x):
        "Tokens `(n, 1 + length, hidden)` of encoder `i`, the first of them learned, and which are to be attended to"
        here = ~x.isnan().any(-1)
        x = x.masked_fill(~here[..., None], 0.)
        if self.norms is not None: x = self.norms[i](x, here)
        x = torch.cat([self.instead[i].expand(len(x), 1, -1), self.hidden[i](x)], 1)
        return x, torch.cat([~here.any(1, keepdim=True), here], 1)

    def forward(self, embedded):
        (a, of_a), (b, of_b) = (self.tokens(i, x) for i, x in enumerate(embedded))
        pooled = []
        for i, (x, here, other, there) in enumerate(((a, of_a, b, of_b), (b, of_b, a, of_a))):
            answer, _ = self.attend[i](x, other, other, key_padding_mask=~there, need_weights=False)
            x = self.after[i](x + answer)*here[..., None]
            pooled.append(x.sum(1)/here.sum(1, keepdim=True))
        return self.head(torch.cat(pooled, 1))


class Late(nn.Module):
    """The weighted mean of calibrated probabilities of both learners; `fit` finds temperatures and weight on valid

    It is given their own logits, of which the first `n_out` are those of the labels.
    """
    def __init__(self, widths, n_out, p=0., norm=False):
        super().__init__()
        self.log_t, self.weight, self.bias = (nn.Parameter(torch.zeros(n)) for n in (2, 2, n_out))

    def of_labels(self, x): return x[:, :len(self.bias)]

    def calibrated(self, embedded):
        "Log probabilities of each `(n, n_out)`, 0 where it is absent, and where it is there `(n, 1)`"
        here = [present(x)[:, None] for x in embedded]
        logits = zip(map(self.of_labels, embedded), here, self.log_t.exp(), strict=True)
        logs = [(x.masked_fill(~at, 0.)/t).log_softmax(1) for x, at, t in logits]
        return logs, here

    def both(self, a, b):
        a_share, b_share = self.weight.log_softmax(0)
        return torch.logaddexp(a + a_share, b + b_share)

    def forward(self, embedded):
        (a, b), (a_here, b_here) = self.calibrated(embedded)
        return torch.where(a_here & b_here, self.both(a, b), torch.where(a_here, a, b))

    @torch.no_grad()
    def fit(self, embedded, y):
        "Temperatures, then weights, by the likelihood of the labels `y (n,)` of the valid part"
        embedded = tuple(self.of_labels(x).cpu() for x in embedded)
        here = [present(x) for x in embedded]
        for i, (x, at) in enumerate(zip(embedded, here, strict=True)):
            if at.any(): self.log_t[i] = np.log(fit_temperature(x[at].double().softmax(1).numpy(), y[at].numpy()))
        if (at := here[0] & here[1]).any(): self.fit_weights(*(log[at] for log in self.cpu().calibrated(embedded)[0]), y[at])

    def fit_weights(self, a, b, y):
        def loss(share):
            self.weight[0] = float(share[0])
            return float(F.nll_loss(self.both(a, b), y)) + 1e-4*float(share[0])**2
        loss(minimize(loss, [0.], method='Nelder-Mead').x)


class Stacking(Late):
    "A logistic regression on both learners' calibrated log probabilities: a weight for each learner, an offset for each label"
    def both(self, a, b): return (self.weight[0]*a + self.weight[1]*b + self.bias).log_softmax(1)

    def fit_weights(self, a, b, y):
        self.weight.fill_(1.)

        def loss(w):
            w = torch.as_tensor(w, dtype=torch.float32)
            self.weight.copy_(w[:2]), self.bias.copy_(w[2:])
            return float(F.nll_loss(self.both(a, b), y)) + 1e-3*float((w[:2] - 1).square().sum() + w[2:].square().sum())
        loss(minimize(loss, np.r_[1., 1., np.zeros(len(self.bias))], method='Powell').x)


FUSIONS = {  # what a fusion is given of each encoder (`SAYS`), and the head on that
    'concat': ('features', Concat),
    'gated': ('features', Gated),
    'low-rank': ('features', LowRank),
    'cross-attention': ('tokens', CrossAttention),
    'late': ('logits', Late),
    'stacking': ('logits', Stacking),
}


def find_fusion(name):
    if name not in FUSIONS: raise FastmerError(f'there is no fusion {name!r}{did_you_mean(name, FUSIONS)}; there are {", ".join(FUSIONS)}')
    return FUSIONS[name]


# --- the model ------------------------------------------------------------------------------------------------------------------------

def _features(model, x, pool): return model.features(x, pool) if isinstance(model, AudioModel) else model.features(x)


def _tokens(model, x, pool):
    states, own = model.tokens(x)
    return states.masked_fill(~own[..., None], NAN)


SAYS = {  # what is taken of an encoder, `(model, input, how pictures are pooled)` -> `(n, width)`, or of tokens `(n, length, width)`
    'features': _features,
    'tokens': _tokens,
    'logits': lambda model, x, pool: model(x),
}


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
    """What two encoders say of a recording and its transcript, and a head of `FUSIONS` on that: `(n, ...)`, `(n, tokens)` -> `(n, n_out)`

    `audio`: an `AudioModel` or `SpeechModel`; `text`: a `TextModel`; `pool`: how a picture's positions are pooled, `mean` or `sum`;
    `norm`: bring each feature to mean 0 and variance 1 first, since a picture's and a text's are of different sizes; `missing`: the
    probability that an utterance loses one modality in training.
    """
    def __init__(self, audio, text, n_out, widths, p=0.5, pool='mean', norm=True, fusion='concat', missing=0.):
        super().__init__()
        self.needs, head = find_fusion(fusion)
        self.audio, self.text, self.pool, self.widths, self.fusion, self.missing = audio, text, pool, tuple(widths), fusion, missing
        self.head = head(widths, n_out, p=p, norm=norm)

    def says(self, name, x, here):
        if here.any(): return put_back(SAYS[self.needs](getattr(self, name), x[here], self.pool), here)
        width = self.widths[MODALITIES.index(name)]
        return torch.full((len(here), 1, width) if self.needs == 'tokens' else (len(here), width), NAN, device=x.device)

    def embed(self, audio, ids):
        "What the encoders say `(n, width)`, or of tokens `(n, length, width)`; NaN where there is nothing to hear or to read"
        audio, ids = (torch.as_tensor(x).as_subclass(torch.Tensor) for x in (audio, ids))
        return self.says('audio', audio, heard(audio)), self.says('text', ids, (ids != self.text.pad_id).any(1))

    def head_of(self, *embedded): return self.head(lose(embedded, self.missing) if self.training and self.missing else embedded)
    def forward(self, audio, ids): return self.head_of(*self.embed(audio, ids))


def _own(model): return [p for group in speech_splitter(model) for p in group] if isinstance(model, SpeechModel) else params(model)
def fusion_splitter(model): return L(_own(model.audio), _own(model.text), params(model.head))


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
        rows = config.bands if config.kind != 'linear' else 1 + config.n_fft//2
        block.type_tfms = L(OpenAny(block.type_tfms[0], rows, fit.frames, fit.pad))
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
    with torch.no_grad(): widths = [SAYS[needs](model, x, pool).shape[-1] for model, x in zip(models, inputs, strict=True)]
    for model, training in zip(models, mode, strict=True): model.train(training)
    return widths


@delegates(Learner, but='dls,model,splitter,train_bn')
def fusion_learner(dls, audio, text, p=0.5, pool='mean', norm=True, fusion='concat', missing=0., cbs=None, **kwargs):
    """A fastai `Learner` with a `FusionModel` of the models of an audio and a text learner, both frozen until `unfreeze`.

    `FrozenEncoders` keeps their weights, running statistics and dropout still. Other arguments as in `FusionModel`.
    """
    device, (needs, _) = dls.device, find_fusion(fusion)
    audio, text = audio.to(device), text.to(device)
    model = FusionModel(audio, text, dls.c, _widths(dls, (audio, text), needs, pool), p, pool, norm, fusion, missing).to(device)
    learn = Learner(dls, model, splitter=fusion_splitter, train_bn=False, cbs=[*L(cbs), FrozenEncoders('audio', 'text')], **kwargs)
    learn.freeze()
    return learn


def embed_pairs(learn, rows, prepared, about, cache=True):
    "The `Embedded` of `rows` by a fusion learner: what its two encoders say, kept in the prepared folder where `cache` is on"
    model = learn.model
    about = dict(about, needs=model.needs, pool=model.pool, spectrogram=prepared.config.hash)
    return embed_rows(learn, rows, nn.ModuleList([model.audio, model.text]), prepared, about, cache=cache)


def fit_late(learn, embedded, rows):
    "Fit what a late fusion has to learn on `rows`, those of the valid part"
    learn.model.head.fit(embedded[embedded.positions(rows.id)], targets_of(learn.dls, rows))
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
