"""Which cases go into which batch: every batch gets its share of events, so that every batch has something to learn from."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def deal_batches(strata: npt.ArrayLike, batch_size: int, seed: int, epoch: int) -> list[IntArray]:
    """Returns the batches of one epoch: every case once, each stratum spread evenly, sizes differing by at most one.

    The order depends on seed and epoch alone, so an interrupted run continues with the same batches.

    Args:
        strata: (n,) any labels, e.g. event, censored, unlabelled.
        batch_size: the largest batch, > 0. There are ceil(n / batch_size) batches.
        seed: of the run.
        epoch: number of the epoch, from 0.
    """
    labels = np.asarray(strata)
    random = np.random.default_rng((seed, epoch))
    count = max(1, -(-labels.size // batch_size))
    # each stratum is shuffled and its members get evenly spaced places in (0, 1), with a random start
    place = np.empty(labels.size)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(members.size) + random.random()) / members.size
    dealt = np.array_split(np.argsort(place, kind="stable"), count)
    return [dealt[index] for index in random.permutation(count)]
