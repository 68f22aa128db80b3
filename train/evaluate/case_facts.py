"""What the case folders tell beside scores: how they were acquired and treated, their features, and who is not there."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from engines.acquisition import FILE_NAME as ACQUISITION
from engines.acquisition import CtProtocol, PhaseProtocol, read_protocol
from engines.case import Case, CaseIdentity, check_case, list_cases
from engines.clinical.examinations import FILE_NAME as RESPONSE
from engines.clinical.examinations import FirstResponse, first_response, read_examinations
from engines.clinical.treatment import FILE_NAME as TREATMENT
from engines.clinical.treatment import Treatment, read_treatment
from engines.models.comparator import feature_column
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE, Phase
from engines.radiomics.feature_file import read_features
from engines.volume import Volume
from train.errors import CohortRefused

EXCLUSIONS = "exclusions.csv"
"""Of the cohort folder: columns study, reason; studies that did not become cases."""

FEATURES = "features.csv"
LIVER = "masks/liver.nrrd"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """What one case tells.

    Attributes:
        case_id: of the case.
        patient: its pseudonym.
        cohort: name of its folder.
        labelled: whether an outcome is part of it.
        protocol: how it was acquired; what acquisition.json lacks comes from the volumes.
        treatment: what was given.
        liver_box_ml: volume of the liver mask's bounding box; None without a mask.
        mask_provider: who drew the masks.
        features: radiomic features by the name of ``feature_column``.
        first_response: of the lesion lists, with the time of the CT; None without them.
    """

    case_id: str
    patient: str
    cohort: str
    labelled: bool
    protocol: CtProtocol
    treatment: Treatment
    liver_box_ml: float | None
    mask_provider: str
    features: Mapping[str, float] = field(default_factory=dict)
    first_response: FirstResponse | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortFacts:
    """What the folders of a cohort and of external cohorts tell.

    Attributes:
        cases: of all cohorts.
        excluded: cohort -> reason -> studies that did not become cases; a cohort without exclusions.csv is absent.
    """

    cases: tuple[CaseFacts, ...]
    excluded: Mapping[str, Mapping[str, int]]

    def groups(self) -> dict[str, dict[str, str]]:
        """Returns centre, scanner, vendor, regimen, aetiology and response by patient, where known."""
        found: dict[str, dict[str, str]] = {}
        for case in self.cases:
            phase = next((p for p in _BY_PREFERENCE if p in case.protocol.phases), None)
            scan = case.protocol.phases[phase] if phase is not None else PhaseProtocol()
            treatment = case.treatment
            words = {
                "centre": case.protocol.centre,
                "scanner": scan.model,
                "vendor": scan.manufacturer,
                "regimen": "" if treatment.regimen is None else treatment.regimen.text(),
                "aetiology": treatment.aetiology,
                "response": "" if treatment.response is None else treatment.response.value,
            }
            for name, word in words.items():
                if word:
                    found.setdefault(name, {})[case.patient] = word
        return found

    def background(self) -> dict[str, dict[str, float]]:
        """Returns kVp, slice thickness and the liver box by patient, where known."""
        found: dict[str, dict[str, float]] = {}
        for case in self.cases:
            scan = case.protocol.phases.get(REFERENCE_PHASE, PhaseProtocol())
            numbers = {
                "kvp": scan.kvp,
                "slice_thickness_mm": scan.slice_thickness_mm,
                "liver_box_ml": case.liver_box_ml,
            }
            for name, number in numbers.items():
                if number is not None:
                    found.setdefault(name, {})[case.patient] = number
        return found


def read_case_facts(folders: Sequence[Path]) -> CohortFacts:
    """Returns what the cases of some cohorts tell; the hash of every file that is read is checked.

    Raises:
        CaseRefused: a case folder is damaged.
        CohortRefused: exclusions.csv has other columns.
    """
    cases: list[CaseFacts] = []
    excluded: dict[str, Mapping[str, int]] = {}
    for folder in folders:
        name = folder.resolve().name
        cases += [_read_case(path, name) for path in list_cases(folder)]
        if (folder / EXCLUSIONS).is_file():
            excluded[name] = _read_exclusions(folder / EXCLUSIONS)
    return CohortFacts(cases=tuple(cases), excluded=excluded)


def box_volume_ml(mask: Volume) -> float | None:
    """Returns the volume of the box around a mask, in ml; None for an empty mask."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero((mask.array != 0).any(axis=others))
        if inside.size == 0:
            return None
        sides.append((inside[-1] - inside[0] + 1) * mask.grid.spacing_mm[axis])
    return float(np.prod(sides)) / 1000.0


_READ = (FEATURES, ACQUISITION, TREATMENT, RESPONSE, LIVER)
_BY_PREFERENCE = (REFERENCE_PHASE, *(phase for phase in ASSESSED_PHASES if phase is not REFERENCE_PHASE))


def _read_case(folder: Path, cohort: str) -> CaseFacts:
    case, identity = check_case(folder, _READ)
    lines = read_features(case.features_path) if case.features_path.is_file() else ()
    response = _response(case, identity.case_id)
    return CaseFacts(
        case_id=identity.case_id,
        patient=identity.patient_key,
        cohort=cohort,
        labelled=case.has("outcomes"),
        protocol=_protocol(case, identity),
        treatment=_treatment(case, identity.case_id, response),
        liver_box_ml=box_volume_ml(case.read_mask("liver")) if (folder / LIVER).is_file() else None,
        mask_provider=identity.mask_provider,
        features={feature_column(line.region, line.phase, line.feature): line.value for line in lines},
        first_response=response,
    )


def _response(case: Case, case_id: str) -> FirstResponse | None:
    """Of the lesion lists of response.json."""
    if not case.has("response"):
        return None
    return first_response(read_examinations(case.read_json("response"), case_id), case_id)


def _treatment(case: Case, case_id: str, found: FirstResponse | None) -> Treatment:
    """treatment.json, its response completed from the lesion lists."""
    stated = read_treatment(case.read_json("treatment"), case_id) if case.has("treatment") else Treatment()
    if stated.response is not None or found is None:
        return stated
    return replace(stated, response=found.category)


def _protocol(case: Case, identity: CaseIdentity) -> CtProtocol:
    """acquisition.json, completed from the volumes' own geometry and the injection times of case.json."""
    stated = (
        read_protocol(case.read_json("acquisition"), identity.case_id)
        if case.has("acquisition")
        else CtProtocol()
    )
    phases: dict[Phase, PhaseProtocol] = dict(stated.phases)
    for phase, source in identity.phases.items():
        known = phases.get(phase, PhaseProtocol())
        path = case.volume_path(phase)
        geometry = _geometry(path) if path.is_file() else PhaseProtocol()
        phases[phase] = PhaseProtocol(
            manufacturer=known.manufacturer,
            model=known.model,
            kvp=known.kvp,
            tube_current_ma=known.tube_current_ma,
            slice_thickness_mm=_first(known.slice_thickness_mm, geometry.slice_thickness_mm),
            matrix=known.matrix or geometry.matrix,
            field_of_view_mm=known.field_of_view_mm or geometry.field_of_view_mm,
            seconds_after_injection=_first(known.seconds_after_injection, source.seconds_after_injection),
        )
    return CtProtocol(centre=stated.centre, phases=phases)


def _geometry(path: Path) -> PhaseProtocol:
    """Spacing of slices, matrix and field of view from the header alone."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    (columns, rows, _), (x_mm, y_mm, z_mm) = reader.GetSize(), reader.GetSpacing()
    return PhaseProtocol(
        slice_thickness_mm=float(z_mm),
        matrix=(int(rows), int(columns)),
        field_of_view_mm=(rows * y_mm, columns * x_mm),
    )


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _read_exclusions(path: Path) -> dict[str, int]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"study", "reason"} <= set(reader.fieldnames or ()):
            raise CohortRefused(f"{path} has columns {reader.fieldnames}; expected study, reason")
        return dict(Counter(row["reason"].strip() for row in reader).most_common())
