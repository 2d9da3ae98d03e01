"""What frozen encoders say of each utterance, worked out once, kept on disk, and a head trained on it in seconds

A model that can do this has `embed(*inputs)`, a tuple of tensors `(n, ...)`, and `head_of(*embedded)`; its `forward` is one after the
other. Frames behind the end of a shorter clip are NaN. The cache lies in the prepared folder, each file named by the SHA-256 of the
encoders' weights and settings, of what they are given, of the utterances and of fastmer's version: whatever changes, it is another file.
"""
import hashlib
import json
import os
from zipfile import BadZipFile

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from fastai.text.data import SortedDL
from fastai.torch_core import no_random
from fastcore.foundation import L
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ._version import __version__
from .audio_io import split_fragment
from .manifest import atomic
from .targets import targets_of

FOLDER = '.embeddings'


class Ragged:
    "Tensors `(length, ...)` of several lengths; `self[idxs]` are some of them, padded with NaN to their longest: `(n, longest, ...)`"
    def __init__(self, flat, n):
        self.flat, self.n, self.start = flat, n, torch.cumsum(n, 0) - n
        self.even = len(n) > 0 and bool((n == n[0]).all())

    @classmethod
    def of(cls, tensors): return cls(torch.cat(tensors), torch.tensor([len(t) for t in tensors]))

    def __len__(self): return len(self.n)

    def __getitem__(self, idxs):
        if self.even: return self.flat.unflatten(0, (len(self.n), int(self.n[0])))[idxs]
        return padded([self.part(i) for i in idxs])

    def part(self, i): return self.flat[self.start[i]:self.start[i] + self.n[i]]


def padded(parts): return pad_sequence(parts, batch_first=True, padding_value=float('nan'))


class Embedded:
    """What the encoders say of utterances: `self[idxs]` is the tuple that `head_of` takes, for positions of `rows`, whose ids are `ids`

    `views`: what they say of the same utterances, changed at random.
    """
    views = ()

    def __init__(self, rows, outputs): self.at, self.outputs = {name: i for i, name in enumerate(rows.id)}, outputs
    def positions(self, ids): return torch.tensor([self.at[name] for name in ids])
    def __getitem__(self, idxs): return tuple(out[idxs] for out in self.outputs)

    def drawn(self, idxs):
        "As `self[idxs]`, but for each utterance one of its views or the utterance as it is, at random"
        if not self.views: return self[idxs]
        which = torch.randint(len(self.views) + 1, (len(idxs),)).tolist()
        outputs = zip(self.outputs, *(view.outputs for view in self.views), strict=True)
        return tuple(padded([each[k].part(i) for k, i in zip(which, idxs, strict=True)]) for each in outputs)


def hash_model(model, about):
    "SHA-256 of a model's weights and plain settings, of fastmer's version and of `about`"
    plain = lambda key, value: isinstance(value, (bool, int, float, str)) and key[0] != '_' and key != 'training'
    settings = [[name, {key: value for key, value in vars(m).items() if plain(key, value)}] for name, m in model.named_modules()]
    digest = hashlib.sha256(json.dumps([__version__, settings, about], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_rows(rows):
    "SHA-256 of utterances: ids, words and their context, and size and time of each file that is read"
    digest = hashlib.sha256()
    for row in rows.itertuples():
        digest.update(json.dumps([row.id, row.text, *([row.context] if 'context' in rows else [])]).encode())
        for name in ('png', 'wave'):
            if not (path := getattr(row, name, '')): continue
            stat = os.stat(split_fragment(path)[0])
            digest.update(f'{path} {stat.st_size} {stat.st_mtime_ns}'.encode())
    return digest.hexdigest()


def embed_rows(learn, rows, encoders, prepared, about, bs=16, cache=True, view=None):
    """The `Embedded` of `rows` by the model of `learn`, from the prepared folder's cache where it is there.

    `encoders`: the modules that `embed` runs, `about`: what else decides what they say. `view`: a seed; the utterances are then changed as
    in training. A folder that cannot be written to does without.
    """
    key = hashlib.sha256(f'{hash_model(encoders, about)} {hash_rows(rows)}'.encode()).hexdigest()[:32]
    path = prepared.path/FOLDER/f'{key}.npz'
    if cache and (outputs := _read(path, len(rows))): return Embedded(rows, outputs)
    with no_random(view or 0): outputs = _embed(learn, rows, bs, view is not None)  # what follows is the same as with a cache
    if cache: _write(path, outputs)
    return Embedded(rows, outputs)


@torch.no_grad()
def _embed(learn, rows, bs, change):
    more = dict(val_res=rows.duration.fillna(0).tolist()) if isinstance(learn.dls.valid, SortedDL) and 'wave' in rows else {}
    dl = learn.dls.test_dl(rows, bs=bs, **more)
    order = list(dl.get_idxs())
    dl = dl.new(get_idxs=lambda: order)
    mode, done = learn.model.training, []
    learn.model.eval()
    try:
        with dl.dataset.set_split_idx(0 if change else 1):
            for batch in dl:
                of_batch = [out.float().cpu() for out in learn.model.embed(*batch)]
                done += [tuple(_without_padding(out[i]) for out in of_batch) for i in range(len(of_batch[0]))]
    finally: learn.model.train(mode)
    back = np.argsort(order)
    return [Ragged.of([done[i][j] for i in back]) for j in range(len(done[0]))]


def _without_padding(x): return x if x.ndim == 1 else x[~x.flatten(1).isnan().all(1)]


def _read(path, n):
    try:
        with np.load(path) as held: arrays = [held[name] for name in sorted(held.files)]
    except (OSError, ValueError, EOFError, BadZipFile): return None
    outputs = [Ragged(torch.from_numpy(flat), torch.from_numpy(lengths)) for flat, lengths in zip(arrays[::2], arrays[1::2], strict=True)]
    return outputs if all(len(out) == n for out in outputs) else None


def _write(path, outputs):
    arrays = {f'{i:02}{what}': getattr(out, what).numpy() for i, out in enumerate(outputs) for what in ('flat', 'n')}
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic(path) as tmp, open(tmp, 'wb') as f: np.savez(f, **arrays)
    except OSError: pass


class HeadOnly(nn.Module):
    "The head of `model`, on what its encoders said"
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *embedded): return self.model.head_of(*embedded)


def head_learner(learn, embedded, rows, split, bs):
    "A `Learner` that trains the head of `learn`'s model, in place, on what its encoders said of the training part and of its views"
    y, device = targets_of(learn.dls, rows), learn.dls.device
    dl = lambda ids, said, **kw: DataLoader(embedded.positions(ids).tolist(), create_batch=lambda b: (*said(b), y[b]), device=device, **kw)
    dls = DataLoaders(dl(split.train, embedded.drawn, bs=bs, shuffle=True, drop_last=True),
                      dl(split.valid, embedded.__getitem__, bs=64), device=device)
    new = lambda model: L(list(learn.splitter(model.model))[-1:])
    return Learner(dls, HeadOnly(learn.model), loss_func=learn.loss_func, metrics=learn.metrics, opt_func=learn.opt_func, splitter=new,
                   path=learn.path, model_dir=learn.model_dir)


@torch.no_grad()
def probabilities(learn, embedded, ids, bs=256):
    "Probabilities and dimensions `(n, outputs)` of utterances by the head of the model of `learn` alone"
    model, said = learn.model.eval(), learn.loss_func.activation
    at = embedded.positions(ids)
    return torch.cat([said(model.head_of(*(x.to(learn.dls.device) for x in embedded[b])).float()).cpu() for b in at.split(bs)])


def by_speaker(embedded, rows, mean, std):
    """Clips `(n, layers, width)` of `rows`, standardised by their speaker's own recordings, which need no labels

    They are then given `mean` and `std` `(layers, width)`, those of the training part: a model that standardises by these undoes it.
    Views go by the recordings as they are; a speaker's only recording goes by the training part.
    """
    xs = [x[list(range(len(rows)))][0] for x in (embedded, *embedded.views)]
    outs = [torch.empty_like(x) for x in xs]
    for at in rows.groupby('speaker').indices.values():
        own_mean, own_std = statistics(xs[0][at])
        if len(at) == 1: own_mean, own_std = mean, std  # a single clip tells nothing of its speaker: it stays as it is
        for x, out in zip(xs, outs, strict=True): out[at] = in_place_of(x[at], own_mean, own_std, mean, std)
    first, *views = (Embedded(rows, [Ragged.of(list(out))]) for out in outs)
    first.views = views
    return first


def statistics(x): return x.mean(0), x.std(0, unbiased=False).clamp_min(1e-5)
def in_place_of(x, own_mean, own_std, mean, std): return (x - own_mean)/own_std*std + mean
