"Batches by length: every utterance has its turn"
import numpy as np
import pytest
import torch
from fastai.data.core import Datasets

from fastmer.loaders import ByLengthDL


def loader(n, bs, **kwargs):
    items = [torch.zeros(1) + i for i in range(n)]
    return ByLengthDL(Datasets(items, [[lambda x: x]]), res=list(range(n)), bs=bs, shuffle=True, **kwargs)


@pytest.mark.parametrize(('n', 'bs'), [(46, 16), (46, 32), (207, 16), (900, 16), (5, 5), (3, 1)])
def test_chance_decides_what_fills_no_batch(n, bs):
    dl, seen, first = loader(n, bs, drop_last=True), set(), set()
    for _ in range(60):
        order = list(dl.get_idxs())
        assert sorted(order) == list(range(n))
        batches = [order[at:at + bs] for at in range(0, n - bs + 1, bs)]  # what is left is dropped
        ids = {i for b in batches for i in b}
        assert all(b == sorted(b, reverse=True) for b in batches)
        seen |= ids
        first.add(tuple(sorted(batches[-1])))
        if n - 1 in ids: assert n - 1 in batches[0]
    assert seen == set(range(n))
    if n > bs > 1: assert len(first) > 30


def test_batches_are_of_about_one_length():
    wide = [max(b) - min(b) for b in ([int(x) for x in b[0]] for b in loader(1600, 16, drop_last=True))]
    assert np.mean(wide) < 1600/16  # of 1,500 where batches are drawn


def test_without_drop_last_all_are_there():
    assert sorted(int(x) for b in loader(46, 16, drop_last=False) for x in b[0]) == list(range(46))
