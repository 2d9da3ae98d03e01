"What is done to a spectrogram while training, as fastai transforms; nothing that flips, turns or warps: time has a direction"
import random

import torch
from fastai.callback.mixup import CutMix
from fastai.vision.augment import RandTransform
from fastai.vision.core import TensorImage
from fasttransform import DisplayedTransform

from .errors import FastmerError


class FitTime(RandTransform):
    """A picture of any width `(3, rows, columns)` -> windows of `frames` columns

    In training one window at a random place `(3, rows, frames)`; else `crops` windows at even distances `(crops, 3, rows, frames)`, which
    the model averages. A shorter clip is padded with `pad` (0 to 255, by channel), at a random place in training. `method='squish'`
    stretches the whole clip to the window instead.
    """
    order, split_idx = 6, None  # after ToTensor

    def __init__(self, frames, crops=3, method='crop', pad=(0, 0, 0)):
        super().__init__(p=1.)
        self.frames, self.crops, self.method, self.pad, self.training = frames, crops, method, pad, False

    def before_call(self, b, split_idx): self.training = split_idx == 0

    def encodes(self, x: TensorImage):
        if not self.training or self.method == 'squish': return self.still(x)
        spare = x.shape[-1] - self.frames
        return self.window(x, random.randint(min(spare, 0), max(spare, 0)))

    def still(self, x):
        "The windows of evaluation and prediction: nothing in them is random"
        if self.method == 'squish': return squish(x, self.frames)
        spare = x.shape[-1] - self.frames
        return torch.stack([self.window(x, round(spare*(i + 0.5)/self.crops)) for i in range(self.crops)])

    def window(self, x, at):
        "`frames` columns of `x` from column `at` on; a negative `at` leaves that many columns of padding before the clip"
        out = x.new_empty((*x.shape[:-1], self.frames))
        out[:] = x.new_tensor(self.pad)[:, None, None]
        part = x[..., max(at, 0):max(at, 0) + self.frames]
        out[..., max(-at, 0):max(-at, 0) + part.shape[-1]] = part
        return out

    def decodes(self, x: TensorImage): return x[len(x)//2] if x.ndim == 4 else x


def squish(x, frames):
    "The whole picture stretched or squeezed to `frames` columns"
    wide = torch.nn.functional.interpolate(x[None].float(), size=(x.shape[-2], frames), mode='bilinear', antialias=True)[0]
    return TensorImage(wide.round().clamp(0, 255).to(x.dtype))


class SpecAugment(DisplayedTransform):
    "Blank out `n` bands and `n` stretches of time of random width in each training picture (Park et al., Interspeech 2019)"
    order, split_idx = 20, 0  # after IntToFloatTensor, before Normalize; in training only

    def __init__(self, n=2, rows=0.12, columns=0.12):
        if n != int(n) or n < 0 or not 0 <= rows < 1 or not 0 <= columns < 1:
            raise FastmerError(f'SpecAugment takes a count and two shares below 1, such as 2,0.12,0.12, not {n},{rows},{columns}')
        self.n, self.rows, self.columns = int(n), rows, columns

    def encodes(self, x: TensorImage):
        x, fill = x.clone(), x.mean(dim=(-2, -1), keepdim=True)
        for dim, most in ((-2, self.rows), (-1, self.columns)):
            size, at = x.shape[dim], torch.arange(x.shape[dim], device=x.device)
            for _ in range(self.n):
                width = torch.rand(len(x), 1, device=x.device)*most*size
                start = torch.rand(len(x), 1, device=x.device)*(size - width)
                mask = (at >= start) & (at < start + width)
                mask = mask[:, None, :, None] if dim == -2 else mask[:, None, None, :]
                x = torch.where(mask, fill, x)
        return x


class TimeShift(DisplayedTransform):
    "Move each training picture by up to `most` of its width, earlier or later; what leaves at one end comes in at the other"
    order, split_idx = 15, 0

    def __init__(self, most=0.1): self.most = most

    def encodes(self, x: TensorImage):
        far = int(self.most*x.shape[-1])
        return torch.stack([img.roll(random.randint(-far, far), dims=-1) for img in x]) if far else x


class CutMixTime(CutMix):
    "fastai's `CutMix` along time alone: a stretch of each training picture, all bands of it, comes from another one, and so does its label"
    def rand_bbox(self, W, H, lam):
        "`x1, y1, x2, y2` of a stretch of `1 - lam` of the `W` columns, anywhere"
        width = torch.round(W*(1 - lam)).long()
        x1 = (torch.rand(1, device=lam.device)*(W - width + 1)).long()
        return x1, torch.zeros_like(x1), x1 + width, torch.full_like(x1, H)
