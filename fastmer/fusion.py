"Paired items, a spectrogram picture and a transcript -> emotion: both encoders of unimodal learners under one head"
import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import ColReader
from fastai.learner import Learner
from fastai.text.data import TensorText
from fastai.vision.core import TensorImage
from fastai.vision.data import get_grid
from fastcore.foundation import L
from fastcore.meta import delegates
from plum import dispatch
from torch import nn

from .audio import SpectrogramBlock, fit_bs, split_rows, with_png
from .callbacks import FrozenEncoders
from .text import TranscriptBlock, check_text


class FusionModel(nn.Module):
    """`concat(audio.features(picture), text.features(ids))`, dropout, linear

    `audio`, `text`: an `AudioModel` and a `TextModel`; `pool`: how the audio encoder's positions are pooled, `mean` or `sum`; `norm`: bring
    each feature to mean 0 and variance 1 first (a batch norm without weights), since a picture's and a text's are of different sizes.
    """
    def __init__(self, audio, text, n_out, widths, p=0.5, pool='mean', norm=True):
        super().__init__()
        self.audio, self.text, self.pool, self.widths = audio, text, pool, tuple(widths)
        scale = nn.BatchNorm1d(sum(widths), affine=False) if norm else nn.Identity()
        self.head = nn.Sequential(scale, nn.Dropout(p), nn.Linear(sum(widths), n_out))

    def features(self, picture, ids): return torch.cat([self.audio.features(picture, self.pool), self.text.features(ids)], dim=1)
    def forward(self, picture, ids): return self.head(self.features(picture, ids))


def fusion_splitter(model): return L(list(model.audio.parameters()), list(model.text.parameters()), list(model.head.parameters()))


@delegates(SpectrogramBlock, but='config')
def fusion_dls(prepared, split, tokenizer, bs=None, max_length=128, clean=None, num_workers=0, device=None, **kwargs):
    "`DataLoaders` of (picture, token ids, label): train and valid of `split` in a `Prepared` folder"
    rows, splitter = split_rows(check_text(prepared, with_png(prepared, prepared.manifest)), split)
    text = TranscriptBlock(tokenizer, max_length, clean)
    text.dl_type = None  # a SortedDL would open every picture to sort them
    block = DataBlock(blocks=(SpectrogramBlock(prepared.config, **kwargs), text, CategoryBlock(vocab=prepared.labels)), n_inp=2,
                      getters=[ColReader('png'), ColReader('text'), ColReader('label')], splitter=splitter)
    return block.dataloaders(rows, bs=fit_bs(bs, len(split.train)), num_workers=num_workers, device=device)


def _widths(dls, audio, text, pool):
    "How wide the features of each encoder are, found by running one item"
    picture, ids, _ = dls.valid.one_batch()
    mode = audio.training, text.training
    audio.eval(), text.eval()
    with torch.no_grad(): widths = [audio.features(picture.as_subclass(torch.Tensor)[:1], pool).shape[1],
                                    text.features(ids.as_subclass(torch.Tensor)[:1]).shape[1]]
    audio.train(mode[0]), text.train(mode[1])
    return widths


@delegates(Learner, but='dls,model,splitter,train_bn')
def fusion_learner(dls, audio, text, p=0.5, pool='mean', norm=True, cbs=None, **kwargs):
    """A fastai `Learner` with a `FusionModel` of the models of an audio and a text learner, both frozen until `unfreeze`.

    `FrozenEncoders` keeps their weights, running statistics and dropout still.
    """
    device = dls.device
    audio, text = audio.to(device), text.to(device)
    model = FusionModel(audio, text, len(dls.vocab), _widths(dls, audio, text, pool), p, pool, norm)
    learn = Learner(dls, model, splitter=fusion_splitter, train_bn=False, cbs=[*L(cbs), FrozenEncoders('audio', 'text')], **kwargs)
    learn.freeze()
    return learn


def _titles(ctx, *lines): ctx.set_title('\n'.join(str(line) for line in lines), fontsize=8)


@dispatch
def show_batch(x: tuple[TensorImage, TensorText], y, samples, ctxs=None, max_n=9, nrows=None, ncols=None, figsize=None, **kwargs):
    "Pictures with their transcripts and labels"
    n = min(len(samples), max_n)
    ctxs = ctxs or get_grid(n, nrows=nrows, ncols=ncols, figsize=figsize)
    for sample, ctx in zip(samples[:n], ctxs, strict=False):
        sample[0].show(ctx=ctx)
        _titles(ctx, *sample[1:])
    return ctxs


@dispatch
def show_results(x: tuple[TensorImage, TensorText], y, samples, outs, ctxs=None, max_n=9, nrows=None, ncols=None, figsize=None, **kwargs):
    "Pictures with their transcripts, labels and what was predicted"
    n = min(len(samples), max_n)
    ctxs = ctxs or get_grid(n, nrows=nrows, ncols=ncols, figsize=figsize)
    for sample, out, ctx in zip(samples[:n], outs, ctxs, strict=False):
        sample[0].show(ctx=ctx)
        _titles(ctx, *sample[1:], f'predicted: {out[0]}')
    return ctxs
