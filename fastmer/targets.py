"""What a learner is to say of an utterance where that is more than one label: how its raters voted, and dimensions such as valence

A target is one float vector: the number of the label, which scores go by; a distribution over the labels; and each dimension on the
corpus's own scale, NaN where it is not known. The outputs of a model are those of the labels, then one a dimension, in deviations of the
training part from its mean.
"""
import torch
from fastai.data.block import CategoryBlock, TransformBlock
from fastai.data.transforms import ColReader
from fastai.losses import BaseLoss, CrossEntropyLossFlat
from fastai.torch_core import TensorBase, TitledStr
from fastcore.basics import noop
from fasttransform import Transform
from torch import nn

from .errors import FastmerError, did_you_mean
from .labels import parse_votes
from .manifest import NUMBER_COLUMNS
from .metrics import as_predictions


class TensorTarget(TensorBase):
    "A target `(1 + labels + dimensions,)`, or a batch of them"


class Target(Transform):
    """A row of the manifest -> `TensorTarget`

    `soft`: of how many training utterances (`n`) votes are known (`voted`), `None` where labels are learned; `dimensions`: `mean` and `std`
    of each over the `n` training utterances that have it; `weight`: how often their loss counts, beside that of the labels. There may be no
    labels: dimensions are then learned alone.
    """
    def __init__(self, labels, soft=None, dimensions=None, weight=1.):
        super().__init__()
        self.vocab, self.soft, self.dimensions, self.weight = list(labels), soft, dict(dimensions or {}), weight if labels else None
        self.c = len(self.vocab) + len(self.dimensions)

    @property
    def loss_func(self): return TargetLoss(self)

    def of(self, row):
        shares = (votes_for(row.votes, self.vocab) if self.soft else {}) or {row.label: 1.}
        return TensorTarget([self.vocab.index(row.label) if self.vocab else 0, *(shares.get(label, 0.) for label in self.vocab),
                             *(float(getattr(row, name)) for name in self.dimensions)])

    def encodes(self, row): return self.of(row)

    def decodes(self, y):
        at, *numbers = y.tolist()
        shares, values = numbers[:len(self.vocab)], numbers[len(self.vocab):]
        voted = [f'{label} {share:.2f}' for label, share in zip(self.vocab, shares, strict=True) if share >= 0.005]
        known = [f'{name} {value:.2f}' for name, value in zip(self.dimensions, values, strict=True) if value == value]
        label = [self.vocab[round(at)] + (f' ({", ".join(voted)})' if len(voted) > 1 else '')] if self.vocab else []
        return TitledStr(', '.join([*label, *known]))

    def about(self):
        "What a sidecar tells of it"
        of_dimensions = dict(dimensions=self.dimensions, dimension_weight=self.weight)
        return (dict(soft_labels=self.soft) if self.soft else {}) | (of_dimensions if self.dimensions else {})


def votes_for(votes, labels):
    "Which share of `votes`, as in the manifest, each of `labels` has, by label; none where nobody voted for one of them"
    votes = {label: n for label, n in parse_votes(votes).items() if n and label in labels}
    total = sum(votes.values())
    return {label: n/total for label, n in votes.items()}


def find_target(prepared, split, soft_labels=False, dimensions=(), dimension_weight=1., classes=True):
    """The `Target` of a training, `None` where it learns plain labels alone

    `dimensions`: names, or `'valence,arousal'`; without `classes` they are learned alone. Raises `FastmerError` where the training part
    does not have what is wanted.
    """
    dimensions = [name.strip() for name in (dimensions.split(',') if isinstance(dimensions, str) else dimensions or ())]
    if not classes and (soft_labels or not dimensions):
        raise FastmerError('--no-classes leaves --dimensions alone to be learned: ' + (
            'leave out --soft-labels' if soft_labels else 'say which, such as --dimensions valence,arousal'))
    if not soft_labels and not dimensions: return None
    rows, labels = prepared.manifest[prepared.manifest.id.isin(list(split.train))], prepared.labels
    voted = sum(bool(votes_for(votes, labels)) for votes in rows.votes)
    if soft_labels and not voted:
        raise FastmerError(f'no training utterance of {prepared.path} has votes for its labels: prepare a corpus that has them (iemocap, '
                           'or a table with a column votes), or leave out --soft-labels')
    if not dimension_weight > 0: raise FastmerError(f'--dimension-weight must be above 0, not {dimension_weight}')
    found = {name: _statistics(prepared.path, rows, name) for name in dimensions}
    return Target(labels if classes else (), dict(voted=voted, n=len(rows)) if soft_labels else None, found, dimension_weight)


def _statistics(where, rows, name):
    if name not in NUMBER_COLUMNS:
        raise FastmerError(f'there is no dimension {name!r}{did_you_mean(name, NUMBER_COLUMNS)}; a manifest has '
                           f'{", ".join(NUMBER_COLUMNS)}')
    known = rows[name].dropna()
    if known.nunique() < 2:
        raise FastmerError(f'the training part of {where} has no two values of {name} that differ: leave it out of --dimensions')
    return dict(mean=float(known.mean()), std=float(known.std(ddof=0)), n=len(known))


def target_block(labels, target=None):
    "A `TransformBlock` of `target`, where it is `None` fastai's `CategoryBlock`, and what reads either from a row of the manifest"
    if target is None: return CategoryBlock(vocab=labels), ColReader('label')
    return TransformBlock(type_tfms=target), noop


def target_of(dls):
    "The `Target` of `dls`; `None` where these have plain labels"
    return next((tfm for tl in dls.tls for tfm in tl.tfms.fs if isinstance(tfm, Target)), None)


def targets_of(dls, rows):
    "What a learner of `dls` is to say of `rows` of the manifest: numbers of labels `(n,)`, or a batch of its `Target`"
    if target := target_of(dls): return torch.stack([target.of(row) for row in rows.itertuples()]).as_subclass(torch.Tensor)
    numbers = {label: i for i, label in enumerate(dls.vocab)}
    return torch.tensor([numbers[label] for label in rows.label])


def table_of(dls, rows, said):
    "The table of predictions for `rows` of the manifest, of whom a learner of `dls` has `said` probabilities and dimensions `(n, outputs)`"
    labels, target = list(dls.vocab), target_of(dls)
    values = zip(target.dimensions if target else (), said[:, len(labels):].T, strict=True)
    return as_predictions(rows.id, rows.label, said[:, :len(labels)], labels, {name: (rows[name], value) for name, value in values})


def soft_cross_entropy(logits, shares, weight=None, smoothing=0., reduction='mean'):
    """Cross entropy of `logits (n, labels)` against distributions `shares (n, labels)`, weighted by label and averaged over these weights

    That of one-hot distributions is PyTorch's of labels, but that what `smoothing` spreads is not weighted by label: in PyTorch it is, and
    the answer with the least loss is then a label that is rare enough, whatever is heard.
    """
    shares, logs = shares if weight is None else shares*weight.to(shares.device), logits.float().log_softmax(-1)
    loss = -(shares*((1 - smoothing)*logs + smoothing*logs.mean(-1, keepdim=True))).sum(-1)
    return loss if reduction == 'none' else loss.sum() if reduction == 'sum' else loss.sum()/shares.sum()


class SmoothCrossEntropy(nn.Module):
    "`soft_cross_entropy` against labels `(n,)`"
    def __init__(self, weight=None, label_smoothing=0., reduction='mean'):
        super().__init__()
        self.label_smoothing, self.reduction = label_smoothing, reduction
        self.register_buffer('weight', weight)

    def forward(self, logits, y):
        shares = nn.functional.one_hot(y, logits.shape[-1]).to(logits.dtype)
        return soft_cross_entropy(logits, shares, self.weight, self.label_smoothing, self.reduction)


class SmoothCrossEntropyFlat(CrossEntropyLossFlat):
    "fastai's `CrossEntropyLossFlat`, of `SmoothCrossEntropy`"
    def __init__(self, *args, axis=-1, **kwargs): BaseLoss.__init__(self, SmoothCrossEntropy, *args, axis=axis, **kwargs)


def ccc_loss(x, y, eps=1e-8):
    """One minus the concordance correlation of `x (n, dimensions)` with `y`, the mean of those of which two values are known in the batch

    NaN in `y` are not known; 0 where there is no such dimension. The correlation is that of the batch: the larger this is, the nearer to
    that of all utterances (Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 1989).
    """
    here = ~y.isnan()
    n = here.sum(0)
    share, y = here/n.clamp_min(1), y.nan_to_num(0.)
    mean_x, mean_y = (share*x).sum(0), (share*y).sum(0)
    dx, dy = x - mean_x, y - mean_y
    spread = (share*(dx.square() + dy.square())).sum(0) + (mean_x - mean_y).square()
    ccc = 2*(share*dx*dy).sum(0)/(spread + eps)
    return ((1 - ccc)*(n > 1)).sum()/(n > 1).sum().clamp_min(1)


class TargetLoss:
    """The loss of outputs `(n, labels + dimensions)` against a batch of `target`: `soft_cross_entropy`, and `weight` times `ccc_loss`

    It has no value of one utterance alone, so mixup mixes targets, not losses; of distributions that is the same.
    """
    def __init__(self, target, weight=None, label_smoothing=0.):
        self.n, self.weight, self.label_smoothing, self.dimension_weight = len(target.vocab), weight, label_smoothing, target.weight
        self.mean, self.std = (torch.tensor([float(of[name]) for of in target.dimensions.values()]) for name in ('mean', 'std'))

    def __call__(self, pred, y):
        pred, y = (torch.as_tensor(x).as_subclass(torch.Tensor).float() for x in (pred, y))
        shares, values = y[:, 1:].split([self.n, len(self.mean)], 1)
        of_labels = soft_cross_entropy(pred[:, :self.n], shares, self.weight, self.label_smoothing) if self.n else 0.
        if not len(self.mean): return of_labels
        return of_labels + (self.dimension_weight or 1.)*ccc_loss(pred[:, self.n:], (values - self.mean.to(y.device))/self.std.to(y.device))

    def activation(self, pred):
        "Probabilities of the labels, and dimensions on the corpus's own scale"
        values = pred[:, self.n:]*self.std.to(pred.device) + self.mean.to(pred.device)
        return torch.cat([pred[:, :self.n].softmax(-1), values], -1)

    def decodes(self, said):
        at = said[:, :self.n].argmax(-1, keepdim=True) if self.n else torch.zeros_like(said[:, :1])
        return torch.cat([at, said], -1)
