"""The heads of fusion: what an audio and a text encoder say, NaN where there was nothing to hear or to read -> logits `(n, n_out)`

A head takes a pair of tensors: features `(n, width)`, tokens `(n, length, width)`, or logits, as `FUSIONS` has it. One that is trained has
`last`, the weights of its last layer, so that `Residual` can begin at the two learners' own answers.
"""
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import nn

from .calibration import fit_temperature
from .errors import FastmerError, did_you_mean

NAN = float('nan')


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

    @property
    def last(self): return [*self[-1].parameters()]


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

    @property
    def last(self): return [*self.out.parameters()]


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

    @property
    def last(self): return [self.weight, self.bias]


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

    @property
    def last(self): return [*self.head[-1].parameters()]


class Late(nn.Module):
    """The weighted mean of calibrated probabilities of both learners; `fit` finds temperatures and weight on valid

    It is given their own logits, of which the first `n_out` are those of the labels.
    """
    def __init__(self, widths, n_out, p=0., norm=False):
        super().__init__()
        self.n_out, self.log_t, self.weight = n_out, nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def of_labels(self, x): return x[:, :self.n_out]

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
    """The product of both learners' calibrated probabilities, each to a power that `fit` finds on valid, not far from 1

    At 1 they are two witnesses that are independent given the label. Offsets by label would learn how often valid's few speakers show
    each: docs/results.md.
    """
    PRIOR = 3.  # the weight of the powers being 1, in utterances: a deviation of 0.4

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        nn.init.ones_(self.weight)

    def both(self, a, b): return (self.weight[0]*a + self.weight[1]*b).log_softmax(1)

    def fit_weights(self, a, b, y):
        def loss(w):
            w = torch.as_tensor(w, dtype=torch.float32)
            self.weight.copy_(w)
            return float(F.nll_loss(self.both(a, b), y)) + self.PRIOR/len(y)*float((w - 1).square().sum())
        loss(minimize(loss, [1., 1.], method='Nelder-Mead').x)


class Residual(nn.Module):
    """What a trained head adds to the calibrated product of both learners' own answers; nothing yet, when it begins

    It is given what `head` takes and behind it, along the last dimension, the learner's logits of the `n_labels` labels; `fit` calibrates
    these as `Stacking` does, and training leaves that alone.
    """
    def __init__(self, head, n_labels):
        super().__init__()
        self.head, self.answers = head, Stacking((), n_labels).requires_grad_(False)
        for p in head.last: nn.init.zeros_(p)

    def answers_in(self, embedded):
        return tuple((x if x.ndim == 2 else x.nanmean(1))[:, -self.answers.n_out:] for x in embedded)

    def forward(self, embedded):
        out, own = self.head([x[..., :-self.answers.n_out] for x in embedded]), self.answers(self.answers_in(embedded))
        return out + F.pad(own, (0, out.shape[1] - own.shape[1]))

    def fit(self, embedded, y): self.answers.fit(self.answers_in(embedded), y)


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
