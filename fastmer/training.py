"""The two-stage recipe: freeze, lr_find, fit the head; unfreeze, lr_find, fit all with discriminative rates

Only the valid part chooses: the epoch that is kept, and when to stop. The test part is not in the learner's `dls` at all.
"""
import random
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from fastai.callback.schedule import ParamScheduler, SchedLin, combine_scheds
from fastai.callback.training import GradientClip
from fastai.metrics import AccumMetric, accuracy
from fastcore.foundation import L
from sklearn.metrics import accuracy_score, recall_score

from .callbacks import History, KeepBest, NoValidation, RichProgress
from .errors import FastmerError, did_you_mean
from .metrics import ccc
from .targets import SmoothCrossEntropyFlat, TargetLoss


@dataclass(frozen=True)
class Recipe:
    "How a system is trained; the fields that a command's options name can be laid over it"
    head_epochs: int = 0         # stage 1: the head alone, on a frozen body
    epochs: int = 20             # stage 2: everything
    head_lr: float | None = None  # peak rate of stage 1; from lr_find where None
    lr: float | None = None      # peak rate of stage 2 for the head; from lr_find where None
    head_lr_range: tuple = (1e-3, 1e-2)  # what lr_find suggests is held within, in stage 1
    lr_range: tuple = (3e-4, 3e-3)       # and in stage 2
    div: float = 1.              # the first layer group's rate is the head's divided by this, those between lie between
    bs: int = 16
    wd: float = 0.01
    clip: float | None = None    # norm of the gradients
    schedule: str = 'one_cycle'  # `one_cycle`, or `linear`: warm-up, then linear decay to 0
    warmup: float = 0.1          # share of the steps, for `linear`
    monitor: str = 'valid_loss'  # what the kept epoch is best at, on valid
    patience: int | None = None  # epochs without a better one after which a stage ends

    def but(self, **changes): return replace(self, **{name: value for name, value in changes.items() if value is not None})


def uar(predicted, target):
    "Mean recall over the classes that stand in `target`"
    return recall_score(target, predicted, average='macro', labels=np.unique(target), zero_division=0)


def metrics(target=None):
    "Accuracy and UA for a `Learner` of plain labels, or of `target`: against the label there too, and the CCC of each dimension"
    if target is None: return [accuracy, AccumMetric(uar, dim_argmax=-1, to_np=True, invert_arg=False, name='ua')]
    n, of_all = len(target.vocab), partial(AccumMetric, to_np=True, flatten=False)
    return [*(of_all(partial(_of_label, score, n), name=name) for name, score in (('accuracy', accuracy_score), ('ua', uar)) if n),
            *(of_all(partial(_of_dimension, n + i, of['mean'], of['std']), name=f'ccc_{name}')
              for i, (name, of) in enumerate(target.dimensions.items()))]


def _of_label(score, n, said, y): return score(said[:, :n].argmax(1), y[:, 0])
def _of_dimension(at, mean, std, said, y): return ccc(y[:, at + 1], said[:, at]*std + mean)


def set_seed(seed):
    "Seed Python, NumPy and torch: the same seed on the same machine trains the same learner"
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def find_device(name=None):
    "The torch device called `name` (`cpu`, `cuda`, `cuda:1`, `mps`); a GPU if there is one where `name` is `auto`"
    if name in (None, 'auto'): return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try: device = torch.device(name)
    except RuntimeError: raise FastmerError(f'there is no device {name!r}{did_you_mean(name, ["cpu", "cuda", "mps"])}') from None
    if device.type == 'cuda' and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise FastmerError(f'the GPU {name} was asked for, but torch {torch.__version__} finds {torch.cuda.device_count()}: '
                           'take --device cpu')
    if device.type == 'mps' and not torch.backends.mps.is_available(): raise FastmerError('mps was asked for, but this machine has none')
    if device.type not in ('cpu', 'cuda', 'mps'): raise FastmerError(f'fastmer trains on cpu, cuda and mps, not on {name}')
    return device


def find_lr(learn, low, high):
    "`(suggested, lrs, losses)` of fastai's `lr_find` (valley), held within `low` to `high`; their middle where nothing sane comes back"
    middle, num_it = (low*high)**0.5, int(np.clip(3*len(learn.dls.train), 30, 100))
    before = {name: x.clone() for name, x in learn.model.state_dict().items()}
    try: found = learn.lr_find(show_plot=False, num_it=num_it).valley
    except torch.OutOfMemoryError: raise
    except (IndexError, ValueError, RuntimeError, ZeroDivisionError):
        found = float('nan')
        learn.model.load_state_dict(before)  # an error in the middle leaves them where the search was
    lrs, losses = ([float(v) for v in getattr(learn.recorder, name, [])] for name in ('lrs', 'losses'))
    return float(np.clip(found, low, high)) if np.isfinite(found) else middle, lrs, losses


def _fit(learn, epochs, lr, recipe, cbs):
    rate = slice(lr/recipe.div, lr) if recipe.div != 1 else lr
    if recipe.schedule == 'one_cycle': return learn.fit_one_cycle(epochs, rate, wd=recipe.wd, cbs=cbs)
    if learn.opt is None: learn.create_opt()
    learn.opt.set_hyper('lr', rate)
    peak = np.array([h['lr'] for h in learn.opt.hypers])
    sched = combine_scheds([recipe.warmup, 1 - recipe.warmup], [SchedLin(peak/1e3, peak), SchedLin(peak, peak*0)])
    return learn.fit(epochs, wd=recipe.wd, cbs=L(cbs) + ParamScheduler({'lr': sched}))


def two_stage(learn, recipe, cbs=lambda stage: [], head=None, choose=True, say=print):
    """Train `learn` in place by `recipe` and put back the weights of its best epoch on valid; without `choose` valid is not looked at.

    `cbs(stage)` gives callbacks for stage `head` or `all`; `head`: a learner that trains the head of the same model in its place, in
    stage 1; `say` prints a line an epoch. Returns `(history, finds, best)`: a row an epoch;
    what `lr_find` gave before each stage (`stage, suggested, lrs, losses`); and the best epoch's number, monitor and value.
    """
    if not len(learn.dls.train): raise FastmerError('the training part does not fill one batch: give a smaller --bs')
    history, keep = History(say), KeepBest(recipe.monitor, recipe.patience, learn.model) if choose else NoValidation()
    finds = []
    own = [history, RichProgress(), keep, *([GradientClip(recipe.clip)] if recipe.clip else [])]
    for stage, epochs, lr, within in (('head', recipe.head_epochs, recipe.head_lr, recipe.head_lr_range),
                                      ('all', recipe.epochs, recipe.lr, recipe.lr_range)):
        if not epochs: continue
        learn.freeze() if stage == 'head' else learn.unfreeze()
        trained = head if head and stage == 'head' else learn
        history.stage = stage
        if isinstance(trained.loss_func, (TargetLoss, SmoothCrossEntropyFlat)):  # of all utterances: batches differ in size and weight
            vars(trained.recorder)['loss'] = AccumMetric(trained.loss_func.__call__, flatten=False)  # as an attribute, fastai warns of it
        with trained.no_bar(), trained.no_logging():
            if lr is None:
                lr, lrs, losses = find_lr(trained, *within)
                finds.append(dict(stage=stage, suggested=lr, lrs=lrs, losses=losses))
            _fit(trained, epochs, lr, recipe, [*own, *cbs(stage)])
    if not choose: return history.rows, finds, dict(epoch=None, monitor=None, value=None, learned='train and valid')
    keep.restore(learn.model)
    return history.rows, finds, dict(epoch=keep.best_epoch, monitor=recipe.monitor, value=keep.sign*keep.best)
