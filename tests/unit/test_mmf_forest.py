"""The forest option of MMF: contributions by hand and in sum, and parts that do not fit together."""

import numpy as np
import pytest

from engines.errors import ModelRefused
from engines.forest import LEAF, Forest
from engines.mmf import ForestFront, log_shares

TREE = Forest(
    roots=np.array([0, 5], dtype=np.int32),
    left=np.array([1, LEAF, 3, LEAF, LEAF, LEAF], dtype=np.int32),
    right=np.array([2, LEAF, 4, LEAF, LEAF, LEAF], dtype=np.int32),
    feature=np.array([0, 0, 1, 0, 0, 0], dtype=np.int32),
    threshold=np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
    mortality=np.array([10.0, 4.0, 16.0, 12.0, 24.0, 10.0]),
    features=2,
    event_times=5,
)
"""Two trees: one splits on input 0 at 0, then on input 1 at 1; the other is a single leaf."""

ROWS = np.array([[-1.0, 0.0], [1.0, 0.0], [1.0, 2.0]])


def test_the_way_to_a_leaf_is_split_among_the_inputs_that_were_read():
    np.testing.assert_allclose(TREE.path_contributions(ROWS), [[-3.0, 0.0], [3.0, -2.0], [3.0, 4.0]])
    assert TREE.root_mortality == 10.0
    total = TREE.path_contributions(ROWS).sum(axis=1) + TREE.root_mortality
    np.testing.assert_allclose(total, TREE.mortalities(ROWS))


def test_the_shares_sum_to_the_logarithm_of_the_mortality():
    shares = log_shares(TREE, ROWS)
    np.testing.assert_allclose(shares.sum(axis=1), np.log(TREE.mortalities(ROWS) / 10.0), atol=1e-12)
    flat = Forest(
        **{
            **{name: getattr(TREE, name) for name in TREE.__slots__},
            "mortality": np.full(6, 10.0),
        }
    )
    assert (log_shares(flat, ROWS) == 0).all()


def test_parts_that_do_not_fit_together_are_refused():
    with pytest.raises(ModelRefused, match="a forest of 2 inputs"):
        ForestFront(names=("a",), forest=TREE, mean_contributions=np.zeros(1))
    with pytest.raises(ModelRefused, match="named twice"):
        ForestFront(names=("a", "a"), forest=TREE, mean_contributions=np.zeros(2))
