"Windows, masks and shifts: shapes, what is random, and what must not be"
import pytest
import torch
from fastai.vision.core import TensorImage

from fastmer.augment import FitTime, SpecAugment, TimeShift


def picture(columns, rows=8): return TensorImage(torch.arange(1, columns + 1, dtype=torch.uint8).repeat(3, rows, 1))


@pytest.mark.parametrize('columns', [5, 20, 21, 200])
def test_windows_in_training_and_in_evaluation(columns):
    fit, x = FitTime(20, crops=3), picture(columns)
    seen = set()
    for _ in range(40):
        train = fit(x, split_idx=0)
        assert train.shape == (3, 8, 20)
        seen.add(tuple(train[0, 0].tolist()))
    assert len(seen) == 1 if columns == 20 else len(seen) > 1
    still = fit(x, split_idx=1)
    assert still.shape == (3, 3, 8, 20)
    assert torch.equal(still, fit(x, split_idx=1))
    assert torch.equal(still, fit.still(x))
    for window in (train, *still):  # whatever the window holds is a stretch of the clip, in order, and else padding
        held = window[0, 0][window[0, 0] > 0].tolist()
        assert held == list(range(held[0], held[0] + min(columns, 20)))


def test_padding_by_channel():
    window = FitTime(10, pad=(0, 128, 128)).still(picture(4))[0]
    assert window[:, 0, 9].tolist() == [0, 128, 128]


def test_squish_keeps_the_whole_clip():
    x = FitTime(10, method='squish')(picture(100), split_idx=0)
    assert x.shape == (3, 8, 10)
    assert x.dtype == torch.uint8
    assert torch.allclose(x[0, 0].float(), torch.arange(5.5, 100, 10), atol=1)


def test_specaugment_masks_in_training_alone():
    torch.manual_seed(0)
    x = TensorImage(torch.rand(4, 3, 64, 90))
    spec = SpecAugment()
    out = spec(x, split_idx=0)
    assert torch.equal(spec(x, split_idx=1), x)
    changed = (out != x).any(1)
    share = changed.float().mean((1, 2))
    assert ((share > 0) & (share < 0.6)).all()
    for one in changed:  # whole rows and whole columns, nothing else
        rows, columns = one.all(1), one.all(0)
        assert torch.equal(one, rows[:, None] | columns[None])


def test_timeshift_moves_and_keeps():
    x = TensorImage(torch.rand(2, 3, 8, 50))
    out = TimeShift(0.2)(x, split_idx=0)
    assert torch.equal(TimeShift(0.2)(x, split_idx=1), x)
    assert torch.allclose(out.sort(-1).values, x.sort(-1).values)
