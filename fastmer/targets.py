"""What a learner is to say of an utterance where that is more than one label: how its raters voted

A target is one float vector: the number of the label, which scores go by, then a distribution over the labels. The outputs of a model are
those of the labels.
"""
import torch
from fastai.data.block import CategoryBlock, TransformBlock
from fastai.data.transforms import ColReader
from fastai.torch_core import TensorBase, TitledStr
from fastcore.basics import noop
from fasttransform import Transform

from .errors import FastmerError
from .labels import parse_votes


class TensorTarget(TensorBase):
    "A target `(1 + labels,)`, or a batch of them `(n, 1 + labels)`"


class Target(Transform):
    "A row of the manifest -> `TensorTarget`; `soft`: of how many training utterances (`n`) the votes are known (`voted`)"
    def __init__(self, labels, soft=None):
        super().__init__()
        self.vocab, self.soft = list(labels), soft
        self.c = len(self.vocab)

    @property
    def loss_func(self): return TargetLoss(self)

    def encodes(self, row):
        at = self.vocab.index(row.label)
        shares = votes_for(row.votes, self.vocab) or {row.label: 1.}
        return TensorTarget([at, *(shares.get(label, 0.) for label in self.vocab)])

    def decodes(self, y):
        at, *shares = y.tolist()
        voted = ', '.join(f'{label} {share:.2f}' for label, share in zip(self.vocab, shares, strict=True) if share >= 0.005)
        return TitledStr(f'{self.vocab[round(at)]} ({voted})')


def votes_for(votes, labels):
    "Which share of `votes`, as in the manifest, each of `labels` has, by label; none where nobody voted for one of them"
    votes = {label: n for label, n in parse_votes(votes).items() if n and label in labels}
    total = sum(votes.values())
    return {label: n/total for label, n in votes.items()}


def find_target(prepared, split, soft_labels=False):
    "The `Target` of a training, `None` where it learns plain labels; raises `FastmerError` where no training utterance has what is wanted"
    if not soft_labels: return None
    rows, labels = prepared.manifest[prepared.manifest.id.isin(list(split.train))], prepared.labels
    voted = sum(bool(votes_for(votes, labels)) for votes in rows.votes)
    if not voted:
        raise FastmerError(f'no training utterance of {prepared.path} has votes for its labels: prepare a corpus that has them (iemocap, '
                           'or a table with a column votes), or leave out --soft-labels')
    return Target(labels, dict(voted=voted, n=len(rows)))


def target_block(labels, target=None):
    "A `TransformBlock` of `target`, where it is `None` fastai's `CategoryBlock`, and what reads either from a row of the manifest"
    if target is None: return CategoryBlock(vocab=labels), ColReader('label')
    return TransformBlock(type_tfms=target), noop


def target_of(dls):
    "The `Target` of `dls`; `None` where these have plain labels"
    return next((tfm for tl in dls.tls for tfm in tl.tfms.fs if isinstance(tfm, Target)), None)


def soft_cross_entropy(logits, shares, weight=None, smoothing=0.):
    """Cross entropy of `logits (n, labels)` against distributions `shares (n, labels)`, weighted by label and averaged over these weights

    That of one-hot distributions is PyTorch's of labels, `label_smoothing` included.
    """
    weight = torch.ones_like(shares[0]) if weight is None else weight.to(shares.device)
    smooth = shares*(1 - smoothing) + smoothing/shares.shape[1]
    return -(weight*smooth*logits.float().log_softmax(-1)).sum()/(weight*shares).sum()


class TargetLoss:
    "The loss of outputs `(n, labels)` against a batch of `target`: `soft_cross_entropy`; it mixes targets, so mixup need not mix losses"
    def __init__(self, target, weight=None, label_smoothing=0.):
        self.n, self.weight, self.label_smoothing = len(target.vocab), weight, label_smoothing

    def __call__(self, pred, y):
        pred, y = (torch.as_tensor(x).as_subclass(torch.Tensor) for x in (pred, y))
        return soft_cross_entropy(pred, y[:, 1:], self.weight, self.label_smoothing)

    def activation(self, pred): return pred.softmax(-1)
    def decodes(self, said): return torch.cat([said.argmax(-1, keepdim=True), said], -1)
