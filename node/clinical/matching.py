"""Finds the clinical row of a patient and checks that it is the right patient's."""

from collections.abc import Sequence

from engines.clinical.table import ClinicalRow
from engines.clinical.variables import Variable
from node.report.record import NotAssessable, ReasonCode
from node.study import Patient

_SEX_WORDS = {"M": "male", "F": "female"}


def match_row(rows: Sequence[ClinicalRow], patient: Patient) -> ClinicalRow | NotAssessable | None:
    """Returns the row of ``patient``; None when the table has none; a reason when the row is another person's.

    A row belongs to a patient when the patient identifiers are equal and, where both sides name one, the issuers too.
    Birth date and sex, where both sides know them, must then agree.

    Args:
        rows: the clinical table.
        patient: as in the DICOM study.
    """
    if not patient.patient_id:
        return None
    found = [
        row
        for row in rows
        if row.patient_id == patient.patient_id
        and (not row.issuer or not patient.issuer_of_patient_id or row.issuer == patient.issuer_of_patient_id)
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


def _contradicts(reason: str) -> NotAssessable:
    return NotAssessable(code=ReasonCode.CLINICAL_ROW_CONTRADICTS, reason=reason)
