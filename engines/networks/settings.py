"""Which network, how large: the words and numbers that a model card keeps and from which the same network is built again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from engines.errors import InvalidInput
from engines.phase import ASSESSED_PHASES, Phase

SIDE_FACTOR = 16
"""Sides are multiples of this: every network halves its input four times (method, section 3)."""


class NetworkName(StrEnum):
    """The networks of the supplement, section 4 and Table 2."""

    NETWORK1 = "network1"
    NETWORK2 = "network2"
    NETWORK3 = "network3"
    RESNET50 = "resnet50"
    DENSENET121 = "densenet121"
    CONVNEXT = "convnext"
    VIT = "vit"
    SWIN_UNETR = "swin_unetr"
    MAXVIT = "maxvit"
    UNSUPERVISED = "unsupervised"


ENSEMBLE = (NetworkName.NETWORK1, NetworkName.NETWORK2, NetworkName.NETWORK3)
"""The three networks of Ensemble-DL, in the order of the forest's inputs."""


class SliceEncoder(StrEnum):
    """How Network 3 turns one slice of its 3D features into a vector.

    ``gap`` is global average pooling; ``resnet50`` is the 2D ResNet50 of M3T (Jang & Hwang, CVPR 2022).
    """

    GAP = "gap"
    RESNET50 = "resnet50"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Size of a network. The defaults are the full size of the paper; miniatures are the same code with smaller numbers.

    Attributes:
        phases: input channels in this order; a subset of the assessed phases, never empty.
        side: voxels along each axis of the cubic input, a multiple of 16.
        width: factor on the number of channels, > 0 (1 = paper).
        depth: factor on the number of layers, > 0 (1 = paper).
        dropout: probability in [0, 1), or None for the network's own default.
        feed_forward: size of Network 3's feed-forward layers at width 1; 768 (supplement) or 3072 (the authors' code).
        slice_encoder: how Network 3 encodes a slice.
        norm_momentum: momentum of Network 1's running batch statistics, in (0, 1]; 0.01 is EfficientNet's, which needs
            some hundred steps to settle; miniatures take 0.1.
        coarsest_side: voxels along each axis that Network 1's stages keep at least, 1 to half of ``side``: a stage that
            would go below it does not halve. 1 = the paper's strides at every side; at side 128 they end at 4, and
            miniatures take 4 too, because at side 32 they would end at 1 and leave no place to look at.
    """

    phases: tuple[Phase, ...] = ASSESSED_PHASES
    side: int = 128
    width: float = 1.0
    depth: float = 1.0
    dropout: float | None = None
    feed_forward: int = 768
    slice_encoder: SliceEncoder = SliceEncoder.GAP
    norm_momentum: float = 0.01
    coarsest_side: int = 1

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            InvalidInput: a field is out of its range; the message names it.
        """
        if not self.phases or len(set(self.phases)) != len(self.phases):
            raise InvalidInput(
                f"phases must name each input channel once, got {[p.value for p in self.phases]}"
            )
        unknown = [phase.value for phase in self.phases if phase not in ASSESSED_PHASES]
        if unknown:
            expected = ", ".join(phase.value for phase in ASSESSED_PHASES)
            raise InvalidInput(
                f"phases {unknown} are not inputs of the networks; expected a subset of {expected}"
            )
        if self.side < SIDE_FACTOR or self.side % SIDE_FACTOR:
            raise InvalidInput(
                f"side is {self.side} voxels; it must be a multiple of {SIDE_FACTOR}, because the networks halve their "
                "input four times and the decoder must come back to the same size"
            )
        if not (self.width > 0 and self.depth > 0):
            raise InvalidInput(f"width and depth must be positive, got {self.width} and {self.depth}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise InvalidInput(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.feed_forward < 1:
            raise InvalidInput(f"feed_forward must be at least 1, got {self.feed_forward}")
        if not 0 < self.norm_momentum <= 1:
            raise InvalidInput(f"norm_momentum must lie in (0, 1], got {self.norm_momentum}")
        if not 1 <= self.coarsest_side <= self.side // 2:
            raise InvalidInput(
                f"coarsest_side must lie in 1..{self.side // 2}, what the first convolution leaves of side {self.side}, "
                f"got {self.coarsest_side}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape (channel, z, y, x) of one input."""
        return (len(self.phases), self.side, self.side, self.side)

    def table(self) -> dict[str, str | int | float | list[str]]:
        """Returns the settings as a TOML table (no None: an absent key is the default)."""
        table: dict[str, str | int | float | list[str]] = {}
        for key, value in asdict(self).items():
            if key == "phases":
                table[key] = [phase.value for phase in self.phases]
            elif isinstance(value, StrEnum):
                table[key] = value.value
            elif value is not None:
                table[key] = value
        return table


def read_settings(table: Mapping[str, object], base: NetworkSettings | None = None) -> NetworkSettings:
    """Returns the settings that a TOML table states.

    Args:
        table: keys are the fields of :class:`NetworkSettings`.
        base: settings that hold where the table is silent; the full size when None.

    Raises:
        InvalidInput: an unknown key, or a value of the wrong kind or range.
    """
    known = {field.name for field in fields(NetworkSettings)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise InvalidInput(f"unknown network settings {unknown}; expected some of {sorted(known)}")
    start = base or NetworkSettings()
    merged = {**start.table(), **table}
    dropout = merged.get("dropout")
    return NetworkSettings(
        phases=_read_phases(merged["phases"]),
        side=_read_whole("side", merged["side"]),
        width=_read_number("width", merged["width"]),
        depth=_read_number("depth", merged["depth"]),
        dropout=None if dropout is None else _read_number("dropout", dropout),
        feed_forward=_read_whole("feed_forward", merged["feed_forward"]),
        slice_encoder=_read_slice_encoder(merged["slice_encoder"]),
        norm_momentum=_read_number("norm_momentum", merged["norm_momentum"]),
        coarsest_side=_read_whole("coarsest_side", merged["coarsest_side"]),
    )


def require_side(settings: NetworkSettings, network: str, factor: int) -> None:
    """Refuses a side that a network with more halvings cannot take.

    Raises:
        InvalidInput: the side is no multiple of ``factor``.
    """
    if settings.side % factor:
        raise InvalidInput(
            f"side is {settings.side} voxels; {network} needs a multiple of {factor}, because it halves its input "
            f"{factor.bit_length() - 1} times"
        )


def _read_phases(value: object) -> tuple[Phase, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"phases must be a list of words, got {value!r}")
    try:
        return tuple(Phase(str(word)) for word in value)
    except ValueError as error:
        raise InvalidInput(f"phases: {error}") from error


def _read_slice_encoder(value: object) -> SliceEncoder:
    try:
        return SliceEncoder(str(value))
    except ValueError as error:
        raise InvalidInput(f"slice_encoder: {error}; expected gap or resnet50") from error


def _read_number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{key} must be a number, got {value!r}")
    return float(value)


def _read_whole(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"{key} must be a whole number, got {value!r}")
    return value
