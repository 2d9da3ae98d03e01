"Spectrogram pictures -> emotion: data loaders and learners on fastai's `vision_learner`"
import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
import torchvision
from fastai.callback.data import WeightedDL
from fastai.data.block import DataBlock, TransformBlock
from fastai.data.transforms import ColReader, IndexSplitter, IntToFloatTensor, Normalize, ToTensor
from fastai.vision.core import PILImage, imagenet_stats
from fastai.vision.learner import _default_meta, create_body, model_meta, vision_learner
from fastcore.meta import delegates
from fasttransform import Transform
from PIL import Image
from torch import nn

from .augment import FitTime, SpecAugment, TimeShift
from .errors import FastmerError, did_you_mean
from .targets import target_block


class AudioModel(nn.Sequential):
    """Body and head, as `vision_learner` makes them, for windows `(n, 3, rows, frames)` or several a clip `(n, crops, 3, rows, frames)`

    Several windows a clip are averaged as probabilities; the logarithm of the mean comes back, so softmax gives the mean again. Outputs
    behind the first `n_labels` are no labels, and are averaged as they are.
    """
    n_labels = None

    def forward(self, x): return self.logits_of(*self.encode(x))
    def features(self, x, pool='mean'): return self.features_of(*self.encode(x), pool)

    def encode(self, x):
        "What the body sees of each window, and `(n, crops)`, or `None` where a clip is one window: what the functions below take"
        return (self[0](x), None) if x.ndim == 4 else (self[0](x.flatten(0, 1)), x.shape[:2])

    def logits_of(self, seen, windows):
        out = self[1](seen)
        if windows is None: return out
        out = out.unflatten(0, windows)
        n = out.shape[-1] if self.n_labels is None else self.n_labels
        return torch.cat([out[..., :n].softmax(-1).mean(1).clamp_min(1e-12).log(), out[..., n:].mean(1)], -1)

    def features_of(self, seen, windows, pool='mean'):
        "What the body sees, pooled over positions by `mean` or `sum` and averaged over windows: `(n, channels)`"
        if seen.ndim == 3: seen = seen.transpose(1, 2)  # a transformer's tokens
        out = seen if seen.ndim == 2 else getattr(seen.flatten(2), pool)(-1)
        return out if windows is None else out.unflatten(0, windows).mean(1)

    def tokens_of(self, seen, windows):
        "What the body sees by time, averaged over rows, windows one after the other: `(n, length, channels)`; and a mask, all of it true"
        out = seen.mean(2).transpose(1, 2) if seen.ndim == 4 else seen if seen.ndim == 3 else seen[:, None]
        if windows is not None: out = out.unflatten(0, windows).flatten(1, 2)
        return out, out.new_ones(out.shape[:2], dtype=torch.bool)


class SumPool(nn.Module):
    "Sum over positions: `(n, channels, rows, columns)` -> `(n, channels)`"
    def forward(self, x): return x.flatten(2).sum(-1)


def report_head(n_out, nf=256): return nn.Sequential(SumPool(), nn.Dropout(0.5), nn.Linear(nf, n_out))


ARCHS = {'alexnet-report': ('alexnet', report_head)}  # fastmer's own names: the torchvision body, and the head on it


def find_arch(name):
    "What `vision_learner` wants for the architecture called `name` (a torchvision function or a timm name), and a function for its head"
    base, head = ARCHS.get(name, (name, None))
    if base in torchvision.models.list_models():
        fn = getattr(torchvision.models, base, None)
        if fn is not None:
            model_meta.setdefault(fn, {**_default_meta, 'stats': imagenet_stats, 'weights': 'DEFAULT'})
            return fn, head
    try:
        import timm
    except ImportError: timm = None
    if timm and base in timm.list_models(): return base, head
    known = [*ARCHS, *torchvision.models.list_models(), *(timm.list_models() if timm else [])]
    hint = '' if timm else '; timm\'s come with pip install "fastmer[timm]"'
    raise FastmerError(f'there is no architecture {name!r}{did_you_mean(name, known)} in torchvision{" or timm" if timm else ""}{hint}')


def arch_stats(name):
    "Mean and standard deviation, by channel, of the pictures that `name`'s published weights were trained on"
    arch, _ = find_arch(name)
    if not isinstance(arch, str): return imagenet_stats
    import timm
    cfg = timm.get_pretrained_cfg(arch)
    return (list(cfg.mean), list(cfg.std)) if cfg else imagenet_stats


NORMALISE = ('utterance', 'corpus', 'speaker')  # by what pictures are standardised; `utterance`: as they are, dB below their reference


@dataclass(frozen=True, eq=False)
class Normaliser:
    """A picture `uint8 (rows, columns)` or `(rows, columns, 3)` -> the same, each band standardised over a corpus or a speaker

    Every band then has the mean and deviation that the bands of the training part have on average, cut off at 0 and 255, so what padding,
    augmentation and the network meet looks as before. Statistics are float `(2, rows, channels)`, means and deviations; those of the
    corpus, which are of the training part alone, serve for a clip whose speaker is not known.
    """
    corpus: np.ndarray
    speakers: dict = field(default_factory=dict)    # statistics by speaker
    speaker_of: dict = field(default_factory=dict)  # speakers by id of the utterance

    @classmethod
    def of(cls, rows, train, by='corpus'):
        "From pictures, `rows.png`: those of the ids `train` for the corpus and, `by='speaker'`, all that each of `rows.speaker` has"
        train, corpus, speakers, n = set(train), 0, defaultdict(int), rows.speaker.value_counts()
        for row in (rows if by == 'speaker' else rows[rows.id.isin(train)]).itertuples():
            sums = _sums(read_picture(row.png))
            if row.id in train: corpus = corpus + sums
            if by == 'speaker': speakers[row.speaker] += sums
        corpus = _mean_std(corpus)
        own = {name: _mean_std(sums) for name, sums in speakers.items() if n[name] > 1}  # one clip tells nothing of its speaker
        return cls(corpus, own, dict(zip(rows.id, rows.speaker, strict=True)) if own else {})

    @staticmethod
    def statistics(images): return _mean_std(sum(map(_sums, images)))

    def __call__(self, image, id=None, own=None):
        "The picture `image` of the utterance `id`, or of an unknown one, or of a speaker whose statistics are `own`"
        x = image.reshape(*image.shape[:2], -1)
        mean, std = (self.speakers.get(self.speaker_of.get(id), self.corpus) if own is None else own)[:, :, None]
        x = (x - mean)/std*self.corpus[1].mean(0) + self.corpus[0].mean(0)
        return np.round(x).clip(0, 255).astype(np.uint8).reshape(image.shape)

    @property
    def hash(self):
        "SHA-256 of the statistics and of whose utterance is whose, first 16 hex digits"
        digest = hashlib.sha256(repr((sorted(self.speakers), sorted(self.speaker_of.items()))).encode())
        for stats in (self.corpus, *(self.speakers[name] for name in sorted(self.speakers))): digest.update(stats.tobytes())
        return digest.hexdigest()[:16]


def read_picture(path):
    "A PNG as it was written: `uint8 (rows, columns)` or `(rows, columns, 3)`"
    with Image.open(path) as image: return np.asarray(image)


def _sums(image):
    "How many columns, their sum and sum of squares: `float64 (3, rows, channels)`"
    x = image.reshape(*image.shape[:2], -1).astype(np.float64)
    return np.stack([np.full_like(x[:, 0], x.shape[1]), x.sum(1), (x*x).sum(1)])


def _mean_std(sums):
    "Means and deviations, `float32 (2, rows, channels)`, from `_sums`; a deviation is at least one of the 256 levels"
    mean = sums[1]/sums[0]
    return np.stack([mean, np.sqrt(np.maximum(sums[2]/sums[0] - mean**2, 1))]).astype(np.float32)


class OpenPicture(Transform):
    "The path of a PNG, named by its utterance's id -> the picture as `normaliser` leaves it"
    def __init__(self, normaliser): self.normaliser = normaliser
    def encodes(self, path): return PILImage(Image.fromarray(self.normaliser(read_picture(path), Path(path).stem)).convert('RGB'))


def normaliser_of(learn):
    "The `Normaliser` that a learner's pictures pass through, for `SpectrogramBlock(normalise=...)`; `utterance` where there is none"
    return next((tfm.normaliser for tl in learn.dls.tls for tfm in tl.tfms.fs if isinstance(tfm, OpenPicture)), 'utterance')


def SpectrogramBlock(config, seconds=3., crops=3, resize='crop', augment=True, stats=imagenet_stats, normalise='utterance',
                     specaugment=(2, 0.12, 0.12)):
    """A `TransformBlock` for PNG spectrograms made with `config`: windows of `seconds`, SpecAugment and time shift in training

    `normalise`: `utterance`, or a `Normaliser`; `specaugment`: what `SpecAugment` takes.
    """
    if resize not in ('crop', 'squish'): raise FastmerError(f'resize {resize!r} is not known; there are crop and squish')
    if normalise != 'utterance' and not isinstance(normalise, Normaliser):
        raise FastmerError(f'pictures are not normalised by {normalise!r} without statistics: give a learner\'s, normaliser_of(learn)')
    opened = PILImage.create if normalise == 'utterance' else OpenPicture(normalise)
    pad = (128 if config.kind == 'mfcc' else 0, *((128, 128) if config.channels == 'deltas' else [128 if config.kind == 'mfcc' else 0]*2))
    fit = FitTime(config.frames(seconds), crops, resize, pad)
    batch_tfms = [IntToFloatTensor(), *([TimeShift(), SpecAugment(*specaugment)] if augment else []), Normalize.from_stats(*stats)]
    return TransformBlock(type_tfms=opened, item_tfms=[ToTensor(), fit], batch_tfms=batch_tfms)


def with_png(prepared, df):
    "The rows of `df` with a column `png`, the path of the picture; raises `FastmerError` where one is not there"
    if (df.audio == '').all(): raise FastmerError(f'{prepared.path} holds no recording: only train-text can use it')
    if (bare := df.audio == '').any(): raise FastmerError(f'utterance {df.id[bare].iloc[0]!r} in {prepared.path} has no recording')
    df = df.assign(png=[str(prepared.png(row)) for row in df.itertuples()])
    for png in df.png:
        if not Path(png).is_file(): raise FastmerError(f'{png} is not there: run fastmer prepare again')
    return df


def with_speaker(prepared, df):
    "The rows of `df`; raises `FastmerError` where one does not say who speaks"
    if (df.speaker == '').any():
        raise FastmerError(f'{prepared.path} does not say who speaks in each recording: --normalise speaker cannot be had')
    return df


def split_rows(df, split):
    "The rows of train and valid, and a splitter for them"
    train, valid = (np.flatnonzero(df.id.isin(list(ids))) for ids in (split.train, split.valid))
    both = np.concatenate([train, valid])  # a row that stands in both comes twice
    order = np.argsort(both, kind='stable')
    return df.iloc[both[order]].reset_index(drop=True), IndexSplitter(np.flatnonzero(order >= len(train)).tolist())


def fit_bs(bs, n, default=16):
    "A batch size that leaves at least one whole batch of `n` training utterances; `bs` asked for by the user is not changed but refused"
    if bs is None: return max(1, min(default, n))
    if bs < 1: raise FastmerError(f'the batch size must be at least 1, not {bs}')
    if bs > n: raise FastmerError(f'the batch size {bs} is larger than the training part of {n} utterances: give --bs {n} or less')
    return bs


@delegates(SpectrogramBlock, but='config')
def audio_dls(prepared, split, bs=None, num_workers=0, device=None, normalise='utterance', balance=False, target=None, **kwargs):
    """`DataLoaders` of pictures and labels: train and valid of `split` in a `Prepared` folder; `dls.test_dl(rows)` for others

    `normalise`: one of `NORMALISE`, or a `Normaliser`; `balance`: draw clips of every label equally often, with replacement; `target`: a
    `Target` to learn in place of the label.
    """
    df = with_png(prepared, prepared.manifest)
    if not isinstance(normalise, Normaliser):
        if normalise not in NORMALISE: raise FastmerError(f'pictures are normalised by {", ".join(NORMALISE)}, not by {normalise!r}')
        if normalise == 'speaker': with_speaker(prepared, df)
        if normalise != 'utterance': normalise = Normaliser.of(df, split.train, normalise)
    rows, splitter = split_rows(df, split)
    learned, get_y = target_block(prepared.labels, target)
    block = DataBlock(blocks=(SpectrogramBlock(prepared.config, normalise=normalise, **kwargs), learned),
                      get_x=ColReader('png'), get_y=get_y, splitter=splitter)
    settings = dict(bs=fit_bs(bs, len(split.train)), num_workers=num_workers, device=device)
    if not balance: return block.dataloaders(rows, **settings)
    train = df.label[df.id.isin(list(split.train))]  # in the order of `split_rows`
    weights = 1/train.map(train.value_counts()).to_numpy()
    return block.dataloaders(rows, dl_type=WeightedDL, dl_kwargs=[dict(wgts=weights), {}], **settings)


def read_weights(path):
    "The state dict in a `.pth` or `.safetensors` file"
    path = Path(path)
    if not path.is_file(): raise FastmerError(f'the weights {path} are not there: give a file, imagenet or none to --weights')
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file
            return load_file(path)
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as e:
        raise FastmerError(f'{path} holds no weights that can be read ({type(e).__name__}): give a state dict saved by torch.save or '
                           'safetensors') from None
    state = state.get('state_dict', state.get('model', state)) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state: raise FastmerError(f'{path} holds no state dict')
    return {name.removeprefix('module.'): value for name, value in state.items()}


def load_body(model, name, path):
    "Put the weights of a whole network `name` in the file `path` into the body of an `AudioModel`; its old classifier is left out"
    arch, _ = find_arch(name)
    state = read_weights(path)
    if isinstance(arch, str): body = full = model[0].model
    else:
        full = arch(weights=None)
        body = create_body(full, 3, False, model_meta[arch]['cut'])
    want = full.state_dict()
    held = {key: value for key, value in state.items() if key in want and want[key].shape == value.shape}
    lacking = [key for key in body_keys(full, body) if key not in held]
    if lacking:
        raise FastmerError(f'{path} does not hold the weights of {name}: {len(lacking)} of its tensors are missing or of another shape, '
                           f'the first {lacking[0]}')
    full.load_state_dict(held, strict=False)
    if not isinstance(arch, str): model[0].load_state_dict(body.state_dict())


def check_whole(arch, config, missing):
    "Raise `FastmerError` where the Hugging Face encoder `arch` came without the tensors `missing`: they would be random"
    if missing:
        raise FastmerError(f'{arch} does not hold all weights of its {config.model_type} encoder: {len(missing)} tensors are missing, '
                           f'the first {min(missing)}; give a pretrained one')


def body_keys(full, body):
    "Names, in the whole network, of the tensors that its body shares"
    mine = {id(t) for t in [*body.parameters(), *body.buffers()]}
    return [key for key, t in [*full.named_parameters(), *full.named_buffers()] if id(t) in mine and 'num_batches_tracked' not in key]


@delegates(vision_learner, but='arch,pretrained,weights,normalize')
def audio_learner(dls, arch='resnet34', weights='none', **kwargs):
    """A fastai `Learner` with an `AudioModel` of architecture `arch` (`alexnet`, `resnet34`, any torchvision or timm name).

    `weights`: `none`, `imagenet` (fetched by name), or the path of a state dict of the whole network. With weights the body is frozen.
    """
    fn, head = find_arch(arch)
    if head: kwargs['custom_head'] = head(dls.c)
    named = weights == 'imagenet'
    try: learn = vision_learner(dls, fn, pretrained=named, normalize=False, **kwargs)
    except (URLError, OSError, RuntimeError, StopIteration, AssertionError) as e:
        if not (named and isinstance(e, (URLError, OSError, RuntimeError))):
            raise FastmerError(f'{arch} cannot be made a network for pictures of any size ({type(e).__name__} {e}): take another '
                               'architecture, such as resnet34') from None
        raise FastmerError(f'the ImageNet weights of {arch} could not be fetched ({type(e).__name__}): give a local file with '
                           '--weights PATH, or train without them with --weights none') from None
    learn.model = AudioModel(*learn.model).to(memory_format=torch.channels_last)  # EfficientNet trains in 0.8 of the time on a CPU
    learn.model.n_labels = len(dls.vocab)
    if weights not in ('none', 'imagenet'):
        load_body(learn.model, arch, weights)
        learn.freeze()
    return learn
