"""Fits the survival forest of Ensemble-DL and lays it out as the plain arrays that the node evaluates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput
from engines.forest import LEAF, Forest

if TYPE_CHECKING:
    from sksurv.ensemble import RandomSurvivalForest

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestSettings:
    """Settings of the survival forest. Source: method, section 5 (public code of the authors)."""

    trees: int = 500
    depth: int = 2
    smallest_leaf: int = 2
    smallest_split: int = 5
    seed: int = 88


PAPER_FOREST = ForestSettings()


def fit_forest(
    inputs: FloatArray,
    months: FloatArray,
    events: npt.NDArray[np.bool_],
    settings: ForestSettings = PAPER_FOREST,
) -> Forest:
    """Returns a random survival forest fitted by scikit-survival, as plain arrays.

    Args:
        inputs: shape (n, features), for Ensemble-DL the z-scored network log-risks of one endpoint.
        months: shape (n,), time to event or censoring, > 0.
        events: shape (n,), whether the event was seen.
        settings: size and seed of the forest; each split looks at sqrt(features) columns.

    Raises:
        InvalidInput: no event, or a value that is not finite.
    """
    from sksurv.ensemble import RandomSurvivalForest
    from sksurv.util import Surv

    if not events.any():
        raise InvalidInput("forest: no event among the training rows")
    if not np.isfinite(inputs).all() or not (months > 0).all():
        raise InvalidInput("forest: inputs must be finite and times above 0")
    fitted = RandomSurvivalForest(
        n_estimators=settings.trees,
        max_depth=settings.depth,
        min_samples_leaf=settings.smallest_leaf,
        min_samples_split=settings.smallest_split,
        max_features="sqrt",
        random_state=settings.seed,
    ).fit(inputs, Surv.from_arrays(event=events, time=months))
    return lay_out_forest(fitted)


def lay_out_forest(fitted: "RandomSurvivalForest") -> Forest:
    """Returns the plain arrays of a fitted forest of scikit-survival.

    Args:
        fitted: a forest that kept its cumulative hazards (``low_memory=False``, the default).
    """
    sizes = [tree.tree_.node_count for tree in fitted.estimators_]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    is_event_time = fitted.estimators_[0].is_event_time_
    trees = [tree.tree_ for tree in fitted.estimators_]
    return Forest(
        roots=roots.astype(np.int32),
        left=_children([tree.children_left for tree in trees], roots),
        right=_children([tree.children_right for tree in trees], roots),
        feature=np.concatenate([tree.feature for tree in trees]).astype(np.int32),
        threshold=np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        mortality=np.concatenate([tree.value[:, is_event_time, 0].sum(axis=1) for tree in trees]),
        features=int(fitted.n_features_in_),
        event_times=int(is_event_time.sum()),
    )


def _children(of_trees: list[npt.NDArray[np.int64]], roots: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    shifted = [np.where(child >= 0, child + root, LEAF) for child, root in zip(of_trees, roots, strict=True)]
    return np.concatenate(shifted).astype(np.int32)
