"""A random survival forest as plain arrays: checked once, evaluated without the library that trained it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput, ModelRefused

LEAF = -1
"""Child index of a node without children, as in scikit-learn's trees."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forest:
    """Trees laid end to end; every index counts from the start of the whole array.

    Attributes:
        roots: int32 (trees,), index of each tree's first node, ascending from 0.
        left: int32 (nodes,), child taken when the value is <= the threshold; ``LEAF`` for leaves.
        right: int32 (nodes,), the other child; ``LEAF`` for leaves.
        feature: int32 (nodes,), column of the input; ignored for leaves.
        threshold: float64 (nodes,).
        mortality: float64 (nodes,), expected events: the node's cumulative hazard (Nelson-Aalen) summed over the event
            times of the training cohort; scores read leaves alone, ``path_contributions`` reads all nodes.
        features: number of input columns.
        event_times: number of distinct event times of the training cohort, >= 1; scales mortality between cohorts.

    Raises:
        ModelRefused: the arrays do not form such a forest; every fault is named.

    Source: Ishwaran H et al., Ann Appl Stat 2008;2:841 (ensemble mortality).
    """

    roots: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float64]
    mortality: npt.NDArray[np.float64]
    features: int
    event_times: int

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise ModelRefused("forest: " + "; ".join(faults))

    def mortalities(self, inputs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Returns the ensemble mortality of each row, shape (n,): the mean over trees of the leaf's mortality.

        Args:
            inputs: shape (n, features). Cast to float32 before it is compared with the float64 thresholds, as the
                training library does: a value a hair above a threshold may fall on it.

        Raises:
            InvalidInput: another number of columns, or a value that is not finite.
        """
        return np.asarray(self.mortality[self.leaves(inputs)].mean(axis=1), dtype=np.float64)

    def leaves(self, inputs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int32]:
        """Returns the leaf each row falls into in each tree, shape (n, trees).

        Args:
            inputs: shape (n, features).

        Raises:
            InvalidInput: another number of columns, or a value that is not finite.
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.features:
            raise InvalidInput(f"forest: inputs of shape {inputs.shape}, expected (rows, {self.features})")
        with np.errstate(over="ignore"):  # what overflows is refused on the next line
            rows = inputs.astype(np.float32)
        if not np.isfinite(rows).all():
            raise InvalidInput("forest: an input is not a finite number")
        node = np.repeat(self.roots[np.newaxis, :], len(rows), axis=0)
        index = np.arange(len(rows))[:, np.newaxis]
        while (inner := self.left[node] != LEAF).any():
            value = rows[index, np.where(inner, self.feature[node], 0)].astype(np.float64)
            child = np.where(value <= self.threshold[node], self.left[node], self.right[node])
            node = np.where(inner, child, node)
        return node

    @property
    def root_mortality(self) -> float:
        """Mean mortality of the trees' roots: what the forest says of nobody in particular."""
        return float(self.mortality[self.roots].mean())

    def path_contributions(self, inputs: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Returns how much each input moves the mortality on the way from the roots to the leaves, shape (n, features).

        The change of mortality at a split belongs to the column that the node reads; over the columns they sum to
        ``mortalities`` less ``root_mortality``.

        Args:
            inputs: shape (n, features).

        Raises:
            InvalidInput: another number of columns, or a value that is not finite.

        Source: Saabas A, treeinterpreter (2014), for the mean over trees.
        """
        leaves = self.leaves(inputs)
        parents = self._parents()
        moved = np.zeros((len(inputs), self.features))
        index = np.repeat(np.arange(len(inputs))[:, np.newaxis], len(self.roots), axis=1)
        node = leaves
        while (inside := parents[node] != LEAF).any():
            above = np.where(inside, parents[node], node)
            change = np.where(inside, self.mortality[node] - self.mortality[above], 0.0)
            np.add.at(moved, (index, np.where(inside, self.feature[above], 0)), change)
            node = above
        return moved / len(self.roots)

    def _parents(self) -> npt.NDArray[np.int32]:
        parents = np.full(len(self.left), LEAF, dtype=np.int32)
        inner = np.flatnonzero(self.left != LEAF).astype(np.int32)
        parents[self.left[inner]] = inner
        parents[self.right[inner]] = inner
        return parents

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the arrays by name, as they are stored in a model folder."""
        return {
            "roots": self.roots,
            "left": self.left,
            "right": self.right,
            "feature": self.feature,
            "threshold": self.threshold,
            "mortality": self.mortality,
            "features": np.array([self.features], dtype=np.int32),
            "event_times": np.array([self.event_times], dtype=np.int32),
        }


def forest_of_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Forest:
    """Returns the forest that ``Forest.arrays`` wrote.

    Raises:
        ModelRefused: an array is missing, unexpected or of another type, or the arrays do not form a forest.
    """
    types = {
        "roots": np.int32,
        "left": np.int32,
        "right": np.int32,
        "feature": np.int32,
        "threshold": np.float64,
        "mortality": np.float64,
        "features": np.int32,
        "event_times": np.int32,
    }
    if set(arrays) != set(types):
        raise ModelRefused(f"forest: arrays {sorted(arrays)}, expected {sorted(types)}")
    wrong = [name for name, dtype in types.items() if arrays[name].dtype != dtype or arrays[name].ndim != 1]
    if wrong or arrays["features"].shape != (1,) or arrays["event_times"].shape != (1,):
        raise ModelRefused(f"forest: wrong type or shape of {', '.join(wrong) or 'features, event_times'}")
    return Forest(
        roots=arrays["roots"],
        left=arrays["left"],
        right=arrays["right"],
        feature=arrays["feature"],
        threshold=arrays["threshold"],
        mortality=arrays["mortality"],
        features=int(arrays["features"][0]),
        event_times=int(arrays["event_times"][0]),
    )


def _faults(forest: Forest) -> list[str]:
    nodes, roots = len(forest.left), forest.roots
    sizes = {
        name: len(array)
        for name, array in forest.arrays().items()
        if name in ("right", "feature", "threshold", "mortality")
    }
    if any(size != nodes for size in sizes.values()):
        return [f"{name} has {size} nodes, left has {nodes}" for name, size in sizes.items() if size != nodes]
    if len(roots) == 0 or nodes == 0 or roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= nodes:
        return ["the roots do not start at 0 and ascend within the nodes"]
    if forest.features < 1 or forest.event_times < 1:
        return [
            f"{forest.features} features and {forest.event_times} event times, expected at least 1 of each"
        ]
    faults: list[str] = []
    leaf = forest.left == LEAF
    if (leaf != (forest.right == LEAF)).any():
        faults.append("a node has one child")
    index = np.arange(nodes)
    end = np.append(roots[1:], nodes)[np.searchsorted(roots, index, side="right") - 1]
    for name, child in (("left", forest.left), ("right", forest.right)):
        if ((child[~leaf] <= index[~leaf]) | (child[~leaf] >= end[~leaf])).any():
            faults.append(f"a {name} child is not further on in its own tree")
    inner_feature = forest.feature[~leaf]
    if ((inner_feature < 0) | (inner_feature >= forest.features)).any():
        faults.append(f"a node reads a column outside 0 to {forest.features - 1}")
    if not np.isfinite(forest.threshold[~leaf]).all():
        faults.append("a threshold is not finite")
    if not np.isfinite(forest.mortality[leaf]).all() or (forest.mortality[leaf] < 0).any():
        faults.append("a leaf's mortality is not a finite number >= 0")
    return faults
