"""Finds the clinical row of a patient and checks that it is the right patient's."""

from engines.clinical.table import ClinicalRow, ClinicalTable
from engines.clinical.variables import Variable
from node.report.record import NotAssessable, ReasonCode
from node.study import Patient

_SEX_WORDS = {"M": "male", "F": "female"}
_MOST_FAULTS_SHOWN = 5
"""Of one patient's row; the check command lists all."""


def match_row(table: ClinicalTable, patient: Patient) -> ClinicalRow | NotAssessable | None:
    """Returns the row of ``patient``; None when the table has none; a reason when it has faults or is another person's.

    A row belongs to a patient when the patient identifiers are equal and, where both sides name one, the issuers too.
    Birth date and sex, where both sides know them, must then agree.

    Args:
        table: the clinical table; faults of other patients' rows do not count.
        patient: as in the DICOM study.
    """
    if not patient.patient_id:
        return None
    faults = [
        fault
        for fault in table.faults
        if patient.patient_id in fault.patient_ids and _issuers_agree(fault.issuer, patient)
    ]
    if faults:
        shown = "; ".join(str(fault) for fault in faults[:_MOST_FAULTS_SHOWN])
        return NotAssessable(
            code=ReasonCode.CLINICAL_ROW_INVALID,
            reason=f"the patient's row of the clinical table has {len(faults)} "
            f"{'fault' if len(faults) == 1 else 'faults'}: {shown}",
        )
    found = [
        row
        for row in table.rows
        if row.patient_id == patient.patient_id and _issuers_agree(row.issuer, patient)
    ]
    if not found:
        return None
    if len(found) > 1:
        lines = ", ".join(str(row.row) for row in found)
        return _contradicts(
            f"the clinical table has several rows for this patient identifier (lines {lines})"
        )
    row = found[0]
    born = patient.patient_birth_date
    if row.birth_date is not None and born is not None and row.birth_date != born:
        return _contradicts(
            f"line {row.row} of the clinical table has another birth date than the DICOM study"
        )
    sex = row.variables.get(Variable.SEX)
    known = _SEX_WORDS.get(patient.patient_sex)
    if sex is not None and known is not None and sex.category != known:
        return _contradicts(
            f"line {row.row} of the clinical table says {sex.category}, the DICOM study says {known}"
        )
    return row


def _issuers_agree(issuer: str, patient: Patient) -> bool:
    return not issuer or not patient.issuer_of_patient_id or issuer == patient.issuer_of_patient_id


def _contradicts(reason: str) -> NotAssessable:
    return NotAssessable(code=ReasonCode.CLINICAL_ROW_CONTRADICTS, reason=reason)
