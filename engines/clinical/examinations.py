"""The tumour's readings over time, response.json of the case folder: lesion lists, and the response they show first."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.case import write_json
from engines.clinical.response import Lesion, Response, judge_response, select_targets, sum_of_diameters
from engines.errors import CaseRefused, InvalidInput

FILE_NAME = "response.json"
SCHEMA = "mmf-response"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The lesions of one examination.

    Attributes:
        months: from the first dose; 0 or below for the baseline.
        lesions: every lesion that was read; a target that vanished is read as 0 mm.
        new_lesion: a lesion appeared that the baseline did not show.
    """

    months: float
    lesions: tuple[Lesion, ...]
    new_lesion: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstResponse:
    """How the tumour answered first.

    Attributes:
        category: mRECIST.
        months: of the examination, from the first dose; None = not known.
    """

    category: Response
    months: float | None


def write_examinations(examinations: tuple[Examination, ...], folder: Path) -> None:
    """Writes response.json into a case folder, before the case is sealed."""
    content = _FORM.dump_python(examinations, mode="json")
    write_json(
        {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "examinations": content}, folder / FILE_NAME
    )


def read_examinations(content: object, case_id: str) -> tuple[Examination, ...]:
    """Returns the examinations of a parsed response.json, in the order of their times.

    Args:
        content: of the file.
        case_id: for the message.

    Raises:
        CaseRefused: another schema, a diameter that is not plausible, or not exactly one examination before treatment.
    """
    if not isinstance(content, dict) or (content.get("schema"), content.get("schema_version")) != (
        SCHEMA,
        SCHEMA_VERSION,
    ):
        raise CaseRefused(f"case {case_id}: {FILE_NAME} is not {SCHEMA} version {SCHEMA_VERSION}")
    try:
        found = _FORM.validate_python(content.get("examinations"))
    except (ValidationError, InvalidInput) as error:
        raise CaseRefused(f"case {case_id}: {FILE_NAME}: {error}") from error
    ordered = tuple(sorted(found, key=lambda examination: examination.months))
    before = sum(examination.months <= 0 for examination in ordered)
    if before != 1:
        raise CaseRefused(
            f"case {case_id}: {FILE_NAME} has {before} examinations before treatment, expected 1"
        )
    return ordered


def first_response(examinations: tuple[Examination, ...], case_id: str) -> FirstResponse | None:
    """Returns the category at the first follow-up examination, or None where there is none.

    Args:
        examinations: as ``read_examinations`` gives them.
        case_id: for the message.

    Raises:
        CaseRefused: a target lesion of the baseline was not read exactly once at the follow-up.
    """
    if len(examinations) < 2:
        return None
    baseline, follow_up = examinations[:2]
    targets = select_targets(baseline.lesions)
    try:
        category = judge_response(
            sum_of_diameters(targets, baseline.lesions),
            sum_of_diameters(targets, follow_up.lesions),
            new_lesion=follow_up.new_lesion,
        )
    except InvalidInput as error:
        raise CaseRefused(f"case {case_id}: {FILE_NAME}: {error}") from error
    return FirstResponse(category=category, months=follow_up.months)


_FORM = TypeAdapter(tuple[Examination, ...])
