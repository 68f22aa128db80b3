"""What a patient was given and how the tumour first answered: treatment.json of the case folder. Never an input of a model."""

from dataclasses import dataclass
from pathlib import Path

from engines.case import write_json
from engines.clinical.regimen import Regimen, parse_regimen
from engines.clinical.response import Response
from engines.errors import CaseRefused, InvalidInput

FILE_NAME = "treatment.json"
SCHEMA = "mmf-treatment"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """Treatment of one patient.

    Attributes:
        regimen: agents given; None = not known.
        response: mRECIST category at the first follow-up CT; None = not known.
        aetiology: of the liver disease, in a word; "" = not known.
    """

    regimen: Regimen | None = None
    response: Response | None = None
    aetiology: str = ""


def write_treatment(treatment: Treatment, folder: Path) -> None:
    """Writes treatment.json into a case folder, before the case is sealed."""
    content = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "regimen": None if treatment.regimen is None else treatment.regimen.text(),
        "response": None if treatment.response is None else treatment.response.value,
        "aetiology": treatment.aetiology,
    }
    write_json(content, folder / FILE_NAME)


def read_treatment(content: object, case_id: str) -> Treatment:
    """Returns the treatment of a parsed treatment.json.

    Args:
        content: of the file.
        case_id: for the message.

    Raises:
        CaseRefused: another schema, an unknown agent or response.
    """
    if not isinstance(content, dict) or (content.get("schema"), content.get("schema_version")) != (
        SCHEMA,
        SCHEMA_VERSION,
    ):
        raise CaseRefused(f"case {case_id}: {FILE_NAME} is not {SCHEMA} version {SCHEMA_VERSION}")
    regimen, response = content.get("regimen"), content.get("response")
    try:
        return Treatment(
            regimen=None if regimen is None else parse_regimen(str(regimen)),
            response=None if response is None else Response(str(response)),
            aetiology=str(content.get("aetiology") or ""),
        )
    except (InvalidInput, ValueError) as error:
        raise CaseRefused(f"case {case_id}: {FILE_NAME}: {error}") from error
