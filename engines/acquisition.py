"""How a case's CT was acquired, acquisition.json of the case folder, and where it leaves the published protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.case import write_json
from engines.errors import CaseRefused
from engines.phase import Phase

FILE_NAME = "acquisition.json"
SCHEMA = "mmf-acquisition"
SCHEMA_VERSION = 1

KVP_KV = (100.0, 120.0)
TUBE_CURRENT_MA = (260.0, 380.0)
SLICE_THICKNESS_MM = (0.625, 5.0)
MATRIX = (512, 512)
FIELD_OF_VIEW_MM = (350.0, 500.0)
SECONDS_AFTER_INJECTION: Mapping[Phase, tuple[float, float]] = {
    Phase.PORTAL_VENOUS: (60.0, 75.0),
    Phase.DELAYED: (150.0, 180.0),
}
"""The published protocol. The arterial phase starts by bolus tracking at 100 HU in the aorta, not at a fixed second.
Source: supplementary information 1, CT imaging protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseProtocol:
    """One phase of one case; None or "" = not known.

    Attributes:
        manufacturer: as the header says it.
        model: name of the scanner.
        kvp: peak tube voltage, kV.
        tube_current_ma: X-ray tube current, mA.
        slice_thickness_mm: as reconstructed.
        matrix: rows and columns.
        field_of_view_mm: rows times row spacing, columns times column spacing.
        seconds_after_injection: of the contrast medium.
    """

    manufacturer: str = ""
    model: str = ""
    kvp: float | None = None
    tube_current_ma: float | None = None
    slice_thickness_mm: float | None = None
    matrix: tuple[int, int] | None = None
    field_of_view_mm: tuple[float, float] | None = None
    seconds_after_injection: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CtProtocol:
    """How a case was acquired.

    Attributes:
        centre: pseudonym of the hospital; "" = not known.
        phases: by phase.
    """

    centre: str = ""
    phases: Mapping[Phase, PhaseProtocol] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One item of a phase outside the published protocol.

    Attributes:
        item: what, in words.
        value: what it is.
        expected: what the protocol says.
    """

    item: str
    value: str
    expected: str


def write_protocol(protocol: CtProtocol, folder: Path) -> None:
    """Writes acquisition.json into a case folder, before the case is sealed."""
    content = _FORM.dump_python(protocol, mode="json")
    write_json({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **content}, folder / FILE_NAME)


def read_protocol(content: object, case_id: str) -> CtProtocol:
    """Returns the protocol of a parsed acquisition.json.

    Args:
        content: of the file.
        case_id: for the message.

    Raises:
        CaseRefused: another schema, or a value of the wrong kind.
    """
    if not isinstance(content, dict) or (content.get("schema"), content.get("schema_version")) != (
        SCHEMA,
        SCHEMA_VERSION,
    ):
        raise CaseRefused(f"case {case_id}: {FILE_NAME} is not {SCHEMA} version {SCHEMA_VERSION}")
    parts = {key: value for key, value in content.items() if key not in ("schema", "schema_version")}
    try:
        return _FORM.validate_python(parts)
    except ValidationError as error:
        raise CaseRefused(f"case {case_id}: {FILE_NAME}: {error}") from error


def find_deviations(phase: Phase, protocol: PhaseProtocol) -> tuple[Deviation, ...]:
    """Returns what lies outside the published protocol; what is not known is no deviation.

    Source: supplementary information 1.
    """
    found = [
        _outside("kVp", protocol.kvp, KVP_KV, "kV"),
        _outside("tube current", protocol.tube_current_ma, TUBE_CURRENT_MA, "mA"),
        _outside("slice thickness", protocol.slice_thickness_mm, SLICE_THICKNESS_MM, "mm"),
    ]
    if protocol.matrix is not None and protocol.matrix != MATRIX:
        size, expected = ("x".join(map(str, matrix)) for matrix in (protocol.matrix, MATRIX))
        found.append(Deviation(item="matrix", value=size, expected=expected))
    if protocol.field_of_view_mm is not None:
        worst = max(protocol.field_of_view_mm, key=lambda mm: _distance(mm, FIELD_OF_VIEW_MM))
        found.append(_outside("field of view", worst, FIELD_OF_VIEW_MM, "mm"))
    if phase in SECONDS_AFTER_INJECTION:
        seconds = protocol.seconds_after_injection
        found.append(_outside("time after injection", seconds, SECONDS_AFTER_INJECTION[phase], "s"))
    return tuple(deviation for deviation in found if deviation is not None)


_FORM = TypeAdapter(CtProtocol)

_TOLERANCE = 1e-6


def _outside(item: str, value: float | None, limits: tuple[float, float], unit: str) -> Deviation | None:
    if value is None or _distance(value, limits) <= _TOLERANCE:
        return None
    return Deviation(item=item, value=f"{value:g} {unit}", expected=f"{limits[0]:g}-{limits[1]:g} {unit}")


def _distance(value: float, limits: tuple[float, float]) -> float:
    return max(limits[0] - value, value - limits[1], 0.0)
