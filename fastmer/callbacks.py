"Small fastai callbacks"
import sys
import time

from fastai.callback.core import Callback, CancelFitException, CancelValidException


class FrozenEncoders(Callback):
    """Hold encoders still while the rest learns: no weight, no running statistic, no dropout noise

    `names`: attributes of the model. Modules whose parameters are all frozen are put into evaluation mode before every batch; one that a
    later stage has unfrozen is left to train.
    """
    order = 5

    def __init__(self, *names): self.names = names

    def before_batch(self):
        if not self.training: return
        for name in self.names:
            encoder = getattr(self.model, name)
            if not any(p.requires_grad for p in encoder.parameters()): encoder.eval()


class KeepBest(Callback):
    """Remember the weights of the best epoch on the valid part, over all stages of a recipe

    `monitor`: a column of the recorder, such as `valid_loss` or `ua`. Stop after `patience` epochs without a better one. `whole`: the
    model whose weights are meant, where a stage trains a part of it. `restore(model)` puts the best weights back.
    """
    order = 61

    def __init__(self, monitor='valid_loss', patience=None, whole=None):
        self.monitor, self.patience, self.sign = monitor, patience, 1 if 'loss' in monitor else -1
        self.whole, self.best, self.best_epoch, self.state, self.seen, self.waited = whole, float('inf'), None, {}, 0, 0

    def before_fit(self):
        self.run = not hasattr(self, 'lr_finder') and not hasattr(self, 'gather_preds')
        self.waited = 0

    def after_epoch(self):
        value = self.sign*self.recorder.values[-1][self.recorder.metric_names[1:-1].index(self.monitor)]
        self.seen, self.waited = self.seen + 1, self.waited + 1
        if value < self.best:
            self.best, self.best_epoch, self.waited = value, self.seen, 0
            self.state = self.copy(self.whole or self.model)
        if self.patience and self.waited >= self.patience: raise CancelFitException

    def after_fit(self): self.run = True

    def copy(self, model):
        "The model's weights; what is frozen was copied before, if anything was"
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad} & set(self.state)
        return {name: self.state[name] if name in frozen else x.detach().clone() for name, x in model.state_dict().items()}

    def restore(self, model):
        if self.state: model.load_state_dict(self.state)


class NoValidation(Callback):
    "For a training that learns from valid too, which then has nothing to say"
    def before_validate(self): raise CancelValidException


class History(Callback):
    "Each epoch's numbers as a dict in `rows`, and printed by `say` on one plain line, which stays readable in a log file"
    order = 55  # after the recorder, before what chooses the epoch

    def __init__(self, say=print): self.rows, self.stage, self.say, self.started = [], '', say, None

    def before_fit(self): self.run = not hasattr(self, 'lr_finder') and not hasattr(self, 'gather_preds')
    def before_epoch(self): self.started = time.perf_counter()

    def after_epoch(self):
        names = list(self.recorder.metric_names[1:-1])
        row = dict(stage=self.stage, epoch=len(self.rows) + 1, **dict(zip(names, map(float, self.recorder.values[-1]), strict=False)))
        row |= dict(lr=self.opt.hypers[-1]['lr'], seconds=round(time.perf_counter() - self.started, 2))
        self.rows.append(row)
        if self.say:
            values = '  '.join(f'{n} {row[n]:.3f}' for n in names if n in row)
            self.say(f'{row["stage"]:>9} epoch {row["epoch"]:>3}  {values}  {row["seconds"]:.1f} s')

    def after_fit(self): self.run = True


class RichProgress(Callback):
    "A rich bar over the batches of a fit; on a terminal only, so that a log file stays clean"
    order = 56

    def before_fit(self):
        from rich.progress import Progress
        self.bar = Progress(transient=True) if sys.stderr.isatty() else None
        if self.bar:
            what = 'finding the learning rate' if hasattr(self, 'lr_finder') else 'training'
            self.bar.start()
            self.task = self.bar.add_task(what, total=self.n_epoch*max(1, len(self.dls.train)))

    def after_batch(self):
        if self.bar and self.training: self.bar.advance(self.task)

    def after_fit(self):
        if self.bar: self.bar.stop()

    after_cancel_fit = after_fit
