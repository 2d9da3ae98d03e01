"Batches of utterances of about one length"
import numpy as np
from fastai.text.data import SortedDL


class ByLengthDL(SortedDL):
    """fastai's `SortedDL`, but that chance, not length, decides what does not fill a batch, and which utterances meet in one

    `SortedDL` sorts a training part of less than 50 batches as a whole, and what is left over at its end, and dropped, are the shortest
    utterances, in every epoch. Here the order is drawn first, then groups of batches are sorted, of which there are at least four.
    """
    def shuffle_fn(self, idxs):
        order, bs = np.random.permutation(len(self.dataset)), self.bs
        whole = len(order)//bs*bs
        group = bs*max(1, min(whole//(4*bs), 50))
        groups = [sorted(order[i:min(i + group, whole)], key=lambda i: self.res[i], reverse=True) for i in range(0, whole, group)]
        batches = [part[i:i + bs] for part in groups for i in range(0, len(part), bs)]
        batches = [batches[i] for i in np.random.permutation(len(batches))]
        batches.sort(key=lambda batch: self.idx_max not in batch)  # the longest first: where memory lacks, it is at once
        return iter([*(i for batch in batches for i in batch), *order[whole:]])
