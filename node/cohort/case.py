"""Writes one pseudonymised case into a cohort: copied volumes and masks, one network input, no name, date or UID."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from engines.acquisition import FILE_NAME as ACQUISITION_FILE
from engines.acquisition import CtProtocol, PhaseProtocol, read_protocol, write_protocol
from engines.case import (
    Case,
    CaseIdentity,
    PhaseSource,
    check_case,
    missing_phases,
    seal_case,
    write_array,
    write_json,
)
from engines.clinical.regimen import Regimen
from engines.clinical.treatment import FILE_NAME as TREATMENT_FILE
from engines.clinical.treatment import Treatment, read_treatment, write_treatment
from engines.clinical.variables import ClinicalVariables, Value, Variable, encode_variables
from engines.errors import CaseRefused
from engines.network_input import Preprocessing, network_input
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE, Phase
from engines.volume import Volume
from node.cohort.pseudonymise import Pseudonyms
from node.cohort.swap import drafted_case, put_case
from node.study import Instance

PROVENANCE = "provenance"
TREATMENT = TREATMENT_FILE.removesuffix(".json")
ACQUISITION = ACQUISITION_FILE.removesuffix(".json")
PROVENANCE_SCHEMA = "mmf-provenance"
PROVENANCE_VERSION = 1

KEPT_ON_REPLACEMENT = ("outcomes.json", "follow_up.json")
"""What a replaced case hands on: both are measured from the first dose, not from the scan."""

OLDEST_STATED_YEARS = 90.0
"""Greater ages are written as this one. Source: 45 CFR 164.514(b)(2)(i)(C)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultUse:
    """What became of the node's result on the study: performative loops are judged by it.

    Attributes:
        shown: a result on the study could be seen at the destination before the export.
        model: name and version that scored; "" = none.
    """

    shown: bool = False
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """What a site knows of a case beside images and clinical variables, as the case states it.

    Attributes:
        regimen: agents in words; "" = not known.
        scan_age_days: from the scan to the first dose; None = not known.
        centre: pseudonym of the hospital; "" = not stated.
    """

    regimen: str
    scan_age_days: int | None
    centre: str

    def agree(self, later: "CaseFacts") -> bool:
        """Returns whether nothing stated has changed; a first dose that an import told later stands in follow_up.json."""
        ages = (self.scan_age_days, later.scan_age_days)
        same_age = None in ages or ages[0] == ages[1]
        return same_age and (self.regimen, self.centre) == (later.regimen, later.centre)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseSource:
    """Everything that becomes one case, still under its true names.

    Attributes:
        case: folder of the assessed study.
        identity: of that folder; its UIDs are true.
        patient_key: pseudonym of the patient.
        instances: headers of the study's CT images.
        clinical: variables; None = not known.
        regimen: None = not known.
        scan_age_days: from the scan to the first dose; None = not known.
        digest: keyed hash of the images and of the clinical row.
        centre: pseudonym of the hospital.
    """

    case: Case
    identity: CaseIdentity
    patient_key: str
    instances: Sequence[Instance] = ()
    clinical: ClinicalVariables | None = None
    regimen: Regimen | None = None
    scan_age_days: int | None = None
    digest: str = ""
    centre: str = ""
    result: ResultUse = field(default_factory=ResultUse)


def state_facts(regimen: Regimen | None, scan_age_days: int | None, centre: str) -> CaseFacts:
    """Returns facts as a case states them."""
    return CaseFacts(
        regimen="" if regimen is None else regimen.text(), scan_age_days=scan_age_days, centre=centre
    )


def write_case(
    source: CaseSource,
    cohort: Path,
    pseudonyms: Pseudonyms,
    preprocessing: Preprocessing,
    *,
    supersedes: Sequence[str] = (),
) -> str:
    """Writes the pseudonymised case of a study and returns its case id; a folder of that name is replaced as a whole.

    Args:
        source: what it is made of.
        cohort: folder of the cohort.
        pseudonyms: of the site.
        preprocessing: of the network input, which is made anew from the volumes.
        supersedes: case ids of the same patient that go when the new case is in place.

    Raises:
        CaseRefused: a phase or the liver is missing in the source.
        RegistrationRefused: a phase shows too little of the liver for the network input.
        SegmentationRefused: the liver mask is empty.
    """
    case_id = pseudonyms.case_id(source.identity.study)
    with drafted_case(cohort, case_id) as folder:
        draft = Case(folder=folder)
        _copy_images(source, draft, preprocessing)
        _write_tables(source, draft, preprocessing)
        for case in (case_id, *supersedes):
            for name in KEPT_ON_REPLACEMENT:
                if (cohort / case / name).is_file():
                    shutil.copyfile(cohort / case / name, folder / name)
        seal_case(draft, _rename(source, case_id, pseudonyms))
        put_case(folder, cohort, case_id, supersedes)
    return case_id


def read_source_digest(folder: Path) -> str:
    """Returns the keyed hash of what an exported case was made of.

    Raises:
        CaseRefused: the case is damaged or has no provenance.
    """
    return str(_read_provenance(*check_case(folder)).get("source", ""))


def read_facts(folder: Path) -> CaseFacts:
    """Returns what an exported case states of treatment, age of the scan and centre.

    Raises:
        CaseRefused: the case is damaged or has no provenance.
    """
    case, identity = check_case(folder)
    age = _read_provenance(case, identity).get("scan_age_days")
    treatment, protocol = Treatment(), CtProtocol()
    if case.has(TREATMENT):
        treatment = read_treatment(case.read_json(TREATMENT), identity.case_id)
    if case.has(ACQUISITION):
        protocol = read_protocol(case.read_json(ACQUISITION), identity.case_id)
    return state_facts(treatment.regimen, age if isinstance(age, int) else None, protocol.centre)


def _read_provenance(case: Case, identity: CaseIdentity) -> Mapping[str, object]:
    if not case.has(PROVENANCE):
        raise CaseRefused(f"case {identity.case_id} has no {PROVENANCE}.json: it was not made by an export")
    content = case.read_json(PROVENANCE)
    if not isinstance(content, dict) or content.get("schema") != PROVENANCE_SCHEMA:
        raise CaseRefused(f"case {identity.case_id}: {PROVENANCE}.json is not of schema {PROVENANCE_SCHEMA}")
    return content


def read_image_hashes(cohort: Path) -> dict[str, str]:
    """Returns case id by SHA-256 of the portal venous volume, of every case of a cohort."""
    found: dict[str, str] = {}
    for path in sorted(cohort.glob("*/case.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.get("files", {}).get(_volume_name(REFERENCE_PHASE))
        if digest:
            found[digest] = content["case_id"]
    return found


def hash_reference_volume(case: Case) -> str:
    """Returns the SHA-256 of the portal venous volume as the sealed case states it, "" when it has none."""
    content = json.loads((case.folder / "case.json").read_text(encoding="utf-8"))
    return str(content["files"].get(_volume_name(REFERENCE_PHASE), ""))


def _volume_name(phase: Phase) -> str:
    return f"volumes/{phase.value}.nrrd"


def _copy_images(source: CaseSource, draft: Case, preprocessing: Preprocessing) -> None:
    """Volumes, transforms, masks and features as they are; the network input is made from them."""
    case = source.case
    absent = missing_phases(case)
    if absent or not case.mask_path("liver").is_file():
        what = ", ".join(phase.value for phase in absent) or "the liver mask"
        raise CaseRefused(f"study {source.identity.study}: {what} is missing in {case.folder}")
    paths = [case.volume_path(phase) for phase in ASSESSED_PHASES]
    paths += [case.transform_path(phase) for phase in ASSESSED_PHASES if phase != REFERENCE_PHASE]
    paths += [case.mask_path("liver"), case.mask_path("lesions"), case.features_path]
    for path in paths:
        if path.is_file():
            copy = draft.folder / path.relative_to(case.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    liver = draft.read_mask("liver")
    array = network_input(
        {phase: draft.read_volume(phase) for phase in ASSESSED_PHASES},
        {phase: draft.read_transform(phase) for phase in ASSESSED_PHASES},
        Volume(array=liver.array.astype(bool), grid=liver.grid),
        preprocessing,
    )
    write_array(array, draft.network_input_path)


def _write_tables(source: CaseSource, draft: Case, preprocessing: Preprocessing) -> None:
    if source.clinical is not None:
        write_json(encode_variables(_cap_age(source.clinical)), draft.folder / "clinical.json")
    write_treatment(Treatment(regimen=source.regimen), draft.folder)
    write_protocol(_describe_protocol(source), draft.folder)
    write_json(
        {
            "schema": PROVENANCE_SCHEMA,
            "schema_version": PROVENANCE_VERSION,
            "software_version": version("mmf-node"),
            "source": source.digest,
            "scan_age_days": source.scan_age_days,
            "result_shown": source.result.shown,
            "result_model": source.result.model,
            "preprocessing": asdict(preprocessing),
        },
        draft.folder / f"{PROVENANCE}.json",
    )


def _cap_age(clinical: ClinicalVariables) -> ClinicalVariables:
    age = clinical.get(Variable.AGE)
    if age is None or age.number is None or age.number < OLDEST_STATED_YEARS:
        return clinical
    capped = Value(category=age.category, number=OLDEST_STATED_YEARS)
    return ClinicalVariables(values={**clinical.values, Variable.AGE: capped})


def _describe_protocol(source: CaseSource) -> CtProtocol:
    first: Mapping[str, Instance] = {
        instance.series_instance_uid: instance for instance in reversed(source.instances)
    }
    return CtProtocol(
        centre=source.centre,
        phases={
            phase: _describe_phase(first[origin.series], origin.seconds_after_injection)
            for phase, origin in source.identity.phases.items()
            if origin.series in first
        },
    )


def _describe_phase(image: Instance, seconds_after_injection: float | None) -> PhaseProtocol:
    spacing = image.pixel_spacing_mm
    return PhaseProtocol(
        manufacturer=image.manufacturer,
        model=image.manufacturer_model_name,
        kvp=image.kvp,
        slice_thickness_mm=image.slice_thickness_mm,
        matrix=(image.rows, image.columns) if image.rows and image.columns else None,
        field_of_view_mm=None if spacing is None else (image.rows * spacing[0], image.columns * spacing[1]),
        seconds_after_injection=seconds_after_injection,
    )


def _rename(source: CaseSource, case_id: str, pseudonyms: Pseudonyms) -> CaseIdentity:
    identity = source.identity
    return CaseIdentity(
        case_id=case_id,
        patient_key=source.patient_key,
        study=pseudonyms.uid(identity.study),
        synthetic=identity.synthetic,
        mask_provider=identity.mask_provider,
        phases={
            phase: PhaseSource(
                series=pseudonyms.uid(origin.series),
                part=origin.part,
                seconds_after_injection=origin.seconds_after_injection,
            )
            for phase, origin in identity.phases.items()
        },
    )
