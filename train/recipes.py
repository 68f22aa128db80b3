"""Recipes: how a network is trained, read from conf/recipes/NAME.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from engines.configuration import find_conf
from engines.errors import InvalidInput
from engines.networks.registry import parse_network
from engines.networks.settings import NetworkName, NetworkSettings, read_settings
from engines.survival.risk_sets import Ties
from train.errors import RecipeRefused
from train.losses import LOG_VARIANCE_LIMIT

SMOOTHING_EPOCHS = 5
"""A checkpoint is judged by the mean C of its last five epochs (validity, "Noise")."""


class Precision(StrEnum):
    """Arithmetic of the forward and backward pass."""

    FLOAT32 = "float32"
    BF16 = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How one network is trained.

    Attributes:
        epochs: passes over the training cases.
        warm_up_epochs: no checkpoint is chosen before them.
        reconstruction_epochs: of these epochs at the start, Network 2 learns to reconstruct alone (of all of them for
            the unsupervised rival).
        batch_size: cases that go through the network at once.
        pooled_batches: batches whose cases share one risk set and one step.
        learning_rate: of Adam.
        decay_factor: learning rate factor when the validation loss no longer falls (ReduceLROnPlateau).
        decay_patience: epochs without improvement before that.
        lowest_learning_rate: floor of the decay.
        l1: weight of the sum of absolute weights.
        augmentation: probability of each random change.
        contrast: whether the contrast is among the changes.
        auxiliary_log_variance: where the learned log-variances of the age and label tasks start; above 0 these weigh less
            than survival in a short training, in which the weights have no time to move far.
        ties: of the Cox loss.
        precision: bf16 only on a GPU.
        compiled: torch.compile; pays on a GPU only.
        repeatable: on a GPU, kernels that add in one order; slower. A CPU always does.
    """

    epochs: int = 250
    warm_up_epochs: int = 20
    reconstruction_epochs: int = 0
    batch_size: int = 16
    pooled_batches: int = 1
    learning_rate: float = 1e-4
    decay_factor: float = 0.5
    decay_patience: int = 10
    lowest_learning_rate: float = 1e-6
    l1: float = 1e-6
    augmentation: float = 0.55
    contrast: bool = True
    auxiliary_log_variance: float = 0.0
    ties: Ties = Ties.EFRON
    precision: Precision = Precision.FLOAT32
    compiled: bool = False
    repeatable: bool = True

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            RecipeRefused: a field is out of its range; the message names it.
        """
        faults = []
        if self.epochs < 1:
            faults.append(f"epochs must be at least 1, got {self.epochs}")
        if not 0 <= self.warm_up_epochs <= self.epochs - SMOOTHING_EPOCHS:
            faults.append(
                f"warm_up_epochs must leave {SMOOTHING_EPOCHS} of {self.epochs} epochs to choose from, "
                f"got {self.warm_up_epochs}"
            )
        if not 0 <= self.reconstruction_epochs <= self.epochs:
            faults.append(
                f"reconstruction_epochs must lie in 0..{self.epochs}, got {self.reconstruction_epochs}"
            )
        if self.batch_size < 2:
            faults.append(f"batch_size must be at least 2: one case has no risk set, got {self.batch_size}")
        if self.pooled_batches < 1:
            faults.append(f"pooled_batches must be at least 1, got {self.pooled_batches}")
        if self.compiled and self.pooled_batches > 1:
            faults.append(
                "compiled and pooled_batches above 1 exclude each other: compiled, the two passes of a pooled step need "
                "not draw the same dropout"
            )
        if not self.learning_rate > 0:
            faults.append(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 < self.decay_factor < 1:
            faults.append(f"decay_factor must lie in (0, 1), got {self.decay_factor}")
        if self.decay_patience < 0 or self.lowest_learning_rate < 0 or self.l1 < 0:
            faults.append("decay_patience, lowest_learning_rate and l1 must not be negative")
        if not 0 <= self.augmentation <= 1:
            faults.append(f"augmentation must lie in [0, 1], got {self.augmentation}")
        if not abs(self.auxiliary_log_variance) <= LOG_VARIANCE_LIMIT:
            faults.append(
                f"auxiliary_log_variance must lie within +-{LOG_VARIANCE_LIMIT:g}, got {self.auxiliary_log_variance}"
            )
        if faults:
            raise RecipeRefused("; ".join(faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named way to train: one schedule and one size for each network.

    Attributes:
        name: of the file.
        schedules: how each network is trained.
        settings: how large each network is (all three phases; ``--phases`` narrows them).
    """

    name: str
    schedules: Mapping[NetworkName, Schedule] = field(default_factory=dict)
    settings: Mapping[NetworkName, NetworkSettings] = field(default_factory=dict)


def read_recipe(name: str, explicit: Path | None = None) -> Recipe:
    """Returns the recipe ``conf/recipes/NAME.toml``.

    Args:
        name: ``paper``, ``mini`` or a file of your own in conf/recipes.
        explicit: a file to read instead.

    Raises:
        RecipeRefused: no such recipe, an unknown key, a value out of range.
    """
    try:
        path = find_conf(f"recipes/{name}.toml", explicit)
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except InvalidInput as error:
        raise RecipeRefused(str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeRefused(f"recipe {name} is not TOML: {error}") from error
    unknown = sorted(set(table) - {"training", "size", "network"})
    if unknown:
        raise RecipeRefused(f"recipe {name}: unknown tables {unknown}; expected training, size, network")
    own = {
        _network(name, word): _table(name, word, part)
        for word, part in _table(name, "network", table.get("network", {})).items()
    }
    schedules, sizes = {}, {}
    for network in NetworkName:
        part = own.get(network, {})
        training = {
            **_table(name, "training", table.get("training", {})),
            **_table(name, "training", part.get("training", {})),
        }
        size = {**_table(name, "size", table.get("size", {})), **_table(name, "size", part.get("size", {}))}
        extra = sorted(set(part) - {"training", "size"})
        if extra:
            raise RecipeRefused(f"recipe {name}: unknown tables {extra} under network.{network.value}")
        schedules[network] = read_schedule(training, f"recipe {name}, {network.value}")
        try:
            sizes[network] = read_settings(size)
        except InvalidInput as error:
            raise RecipeRefused(f"recipe {name}, {network.value}: {error}") from error
    return Recipe(name=name, schedules=schedules, settings=sizes)


def read_schedule(table: Mapping[str, object], where: str, base: Schedule | None = None) -> Schedule:
    """Returns the schedule that a table states on top of ``base``.

    Raises:
        RecipeRefused: an unknown key or a value of the wrong kind or range.
    """
    start = base or Schedule()
    known = {item.name: getattr(start, item.name) for item in fields(Schedule)}
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise RecipeRefused(f"{where}: unknown key {key}; expected one of {sorted(known)}")
        default = known[key]
        try:
            changes[key] = _convert(value, default)
        except (TypeError, ValueError) as error:
            raise RecipeRefused(f"{where}: {key} is {value!r}; {error}") from error
    try:
        return replace(start, **changes)
    except RecipeRefused as error:
        raise RecipeRefused(f"{where}: {error}") from error


def _convert(value: object, default: object) -> object:
    """The value in the kind of its default."""
    if isinstance(default, StrEnum):
        return type(default)(str(value))
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError("expected true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("expected a number")
    if isinstance(default, int):
        if not isinstance(value, int):
            raise TypeError("expected a whole number")
        return value
    return float(value)


def _network(recipe: str, word: str) -> NetworkName:
    try:
        return parse_network(word)
    except InvalidInput as error:
        raise RecipeRefused(f"recipe {recipe}: {error}") from error


def _table(recipe: str, word: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RecipeRefused(f"recipe {recipe}: {word} must be a table, got {value!r}")
    return value
