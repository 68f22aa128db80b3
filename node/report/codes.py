"""The codes of the result objects: concepts of the Standard, and this product's private ones."""

from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from node.report.record import ReasonCode
from node.study import PRODUCT_NAME

SCHEME: Final = "99MMF"
"""Designator of the private coding scheme; local designators begin with 99. Source: PS3.3 section 8.2."""

SCHEME_NAME: Final = "MMF node research codes"
MANUFACTURER: Final = "MMF Node Project"
PRODUCT: Final = PRODUCT_NAME
RESEARCH_USE: Final = "Research use only"

# Anatomy, findings and segment properties: CID 7150, 7151, 4 (PS3.16)
LIVER: Final = Code("10200004", "SCT", "Liver")
NEOPLASM: Final = Code("108369006", "SCT", "Neoplasm")
LESION: Final = Code("52988006", "SCT", "Lesion")
ABDOMEN: Final = Code("818981001", "SCT", "Abdomen")
ANATOMICAL_STRUCTURE: Final = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL_STRUCTURE: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
COMPUTED_TOMOGRAPHY: Final = Code("77477000", "SCT", "Computed tomography")

# Measurements and units: CID 7469, TID 310 (PS3.16), UCUM
VOLUME: Final = Code("118565006", "SCT", "Volume")
AREA: Final = Code("42798000", "SCT", "Area")
LONG_AXIS: Final = Code("103339001", "SCT", "Long axis")
UPPER_UNCERTAINTY: Final = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
LOWER_UNCERTAINTY: Final = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
INJECTION_INTERVAL: Final = Code("122665", "DCM", "Time interval since injection of contrast media")
MILLILITRE: Final = Code("mL", "UCUM", "mL")
MILLIMETRE: Final = Code("mm", "UCUM", "mm")
PERCENT: Final = Code("%", "UCUM", "%")
NO_UNITS: Final = Code("1", "UCUM", "no units")
MONTH: Final = Code("mo", "UCUM", "month")
SQUARE_MILLIMETRE: Final = Code("mm2", "UCUM", "mm2")
SECOND: Final = Code("s", "UCUM", "s")

# Document and containers: TID 1500 (PS3.16)
IMAGING_MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
IMAGING_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
DERIVED_IMAGING_MEASUREMENTS: Final = Code("126011", "DCM", "Derived Imaging Measurements")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")
PROCEDURE_REPORTED: Final = Code("121058", "DCM", "Procedure reported")
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
MODALITY: Final = Code("121139", "DCM", "Modality")
CT_MODALITY: Final = Code("CT", "DCM", "Computed Tomography")
TARGET_REGION: Final = Code("123014", "DCM", "Target Region")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")
SOURCE: Final = Code("260753009", "SCT", "Source")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
"""Algorithm family, CID 7162."""

# How far the algorithms came: CID 6047; what the images lacked: CID 6315 (PS3.16)
PROCESSING_SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")
ALL_SUCCEEDED_WITH_FINDINGS: Final = Code("111242", "DCM", "All algorithms succeeded; with findings")
SOME_SUCCEEDED_WITHOUT_FINDINGS: Final = Code(
    "111243", "DCM", "Not all algorithms succeeded; without findings"
)
SOME_SUCCEEDED_WITH_FINDINGS: Final = Code("111244", "DCM", "Not all algorithms succeeded; with findings")
NONE_SUCCEEDED: Final = Code("111245", "DCM", "No algorithms succeeded; without findings")
QUALITY_ISSUE: Final = Code("QUALITY", SCHEME, "Quality issue of the images")
POOR_CONTRAST_TIMING: Final = Code("130579", "DCM", "Poor contrast timing")

# Levels of risk: CID 3118 (PS3.16)
LOW_RISK: Final = Code("75976002", "SCT", "Low risk")
HIGH_RISK: Final = Code("15508007", "SCT", "High risk")

# Private concepts
HORIZON: Final = Code("HORIZON", SCHEME, "Time since first dose of immunotherapy")
PERCENTILE: Final = Code("PERCENTILE", SCHEME, "Share of training cohort with lower score")
CUTOFF: Final = Code("CUTOFF", SCHEME, "Cut-off of the discovery cohort")
ASSESSMENT: Final = Code("ASSESSMENT", SCHEME, "Outcome of the assessment")
REASON: Final = Code("REASON", SCHEME, "Reason why no risk is given")
REMEDY: Final = Code("REMEDY", SCHEME, "What would help")
ALIGNMENT: Final = Code("ALIGNMENT", SCHEME, "Quality of alignment between phases")
MODEL_INPUT: Final = Code("INPUT", SCHEME, "Input of the model")
NETWORK_SCORE: Final = Code("NETSCORE", SCHEME, "Log-risk of a network")
CONTRAST_PHASE: Final = Code("PHASE", SCHEME, "Contrast phase of the acquisition")
ACQUISITION: Final = Code("ACQUISITION", SCHEME, "Acquisition, its phase and why")
MISSING: Final = Code("MISSING", SCHEME, "Missing input")
FLAG: Final = Code("FLAG", SCHEME, "Warning to the reader")
LIMITS: Final = Code("LIMITS", SCHEME, "Limits of use")
MODEL: Final = Code("MODEL", SCHEME, "Model used")
CLINICAL_INPUT: Final = Code("CLINICAL", SCHEME, "Clinical variable used")
CONTRIBUTION: Final = Code("CONTRIB", SCHEME, "Contribution to the log hazard")
REPORT_DOCUMENT: Final = Code("MMFREPORT", SCHEME, "MMF research report")

ENDPOINT_NAMES: Final = {"OS": "overall survival", "PFS": "progression-free survival"}


def probability_concept(endpoint: str) -> Code:
    """Returns the private concept of the survival probability at a time; ``endpoint`` is OS or PFS.

    Source: no code of DICOM or LOINC says it; precedent of a coded risk as a number: (122230, DCM, "10 Year CHD Risk").
    """
    return Code(f"{endpoint}PROB", SCHEME, f"Predicted {ENDPOINT_NAMES[endpoint]} probability")


def log_hazard_concept(endpoint: str) -> Code:
    """Returns the private concept of the log relative hazard; ``endpoint`` is OS or PFS."""
    return Code(f"{endpoint}LOGHAZ", SCHEME, f"Log relative hazard, {ENDPOINT_NAMES[endpoint]}")


def risk_group_concept(endpoint: str) -> Code:
    """Returns the private concept of the risk group; ``endpoint`` is OS or PFS."""
    return Code(f"{endpoint}GROUP", SCHEME, f"Risk group, {ENDPOINT_NAMES[endpoint]}")


def outcome_code(status: str) -> Code:
    """Returns the private code of the outcome: assessed, not_assessable or failed."""
    return Code(
        status.upper(),
        SCHEME,
        {"assessed": "Assessed", "not_assessable": "Not assessable"}.get(status, "Failed"),
    )


def reason_concept(reason: ReasonCode) -> Code:
    """Returns the private code of a reason; its value is the word of report.json in capitals (16 characters at most).

    Source: Code Value (0008,0100) is SH, 16 characters; longer words have their own short form here.
    """
    short = _SHORT_REASONS.get(reason, reason.value.upper())
    return Code(short, SCHEME, reason.value.replace("_", " ").capitalize())


def item(code: Code) -> Dataset:
    """Returns the item of a code sequence. Source: PS3.3 section 8.8, Basic Code Sequence Macro."""
    dataset = Dataset()
    dataset.CodeValue = code.value
    dataset.CodingSchemeDesignator = code.scheme_designator
    dataset.CodeMeaning = code.meaning
    return dataset


_SHORT_REASONS: Final = {
    ReasonCode.FRAME_OF_REFERENCE_DIFFERS: "FRAME_DIFFERS",
    ReasonCode.POOR_REGISTRATION: "POOR_ALIGNMENT",
    ReasonCode.IMPLAUSIBLE_LIVER: "IMPLAUS_LIVER",
    ReasonCode.SEVERAL_PATIENTS: "SEV_PATIENTS",
    ReasonCode.CONFLICTING_INSTANCES: "CONFLICTING",
    ReasonCode.OUTSIDE_POPULATION: "OUTSIDE_POP",
    ReasonCode.AFTER_TREATMENT_START: "AFTER_TREATMENT",
    ReasonCode.CLINICAL_ROW_CONTRADICTS: "CONTRADICTION",
    ReasonCode.CLINICAL_ROW_INVALID: "INVALID_ROW",
    ReasonCode.MODEL_NOT_ALLOWED: "MODEL_REFUSED",
    ReasonCode.PROCESSING_FAILED: "FAILED_STEP",
}
