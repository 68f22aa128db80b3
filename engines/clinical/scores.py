"""Clinical scores computed from their parts: Child-Pugh, up-to-seven, and whether a BCLC stage fits the findings."""

from dataclasses import dataclass
from enum import StrEnum

from engines.clinical.variables import ClinicalVariables, Variable
from engines.errors import InvalidInput

MG_DL_BILIRUBIN_IN_UMOL_L = 17.104
"""1 mg/dL of bilirubin, molar mass 584.66 g/mol."""

_DIAMETER_TOLERANCE_CM = 0.05
"""Half a millimetre: diameters are written with one decimal."""


class Ascites(StrEnum):
    """Amount of ascites, the words of the Child-Pugh score."""

    NONE = "none"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiverFunction:
    """The five parts of the Child-Pugh score.

    Attributes:
        bilirubin_umol_l: total bilirubin, 1 to 1000.
        albumin_g_l: 10 to 65.
        inr: international normalised ratio, 0.5 to 15.
        encephalopathy_grade: 0 to 4 (West Haven).

    Raises:
        InvalidInput: a value is not plausible in its unit; all faults are named.
    """

    bilirubin_umol_l: float
    albumin_g_l: float
    inr: float
    ascites: Ascites
    encephalopathy_grade: int

    def __post_init__(self) -> None:
        faults = [
            f"{name}: {value:g} is not plausible (expected {lowest:g} to {highest:g}; {slip})"
            for name, value, lowest, highest, slip in (
                ("bilirubin_umol_l", self.bilirubin_umol_l, 1.0, 1000.0, "is it in mg/dL?"),
                ("albumin_g_l", self.albumin_g_l, 10.0, 65.0, "is it in g/dL?"),
                ("inr", self.inr, 0.5, 15.0, "is it a prothrombin time?"),
                ("encephalopathy_grade", self.encephalopathy_grade, 0, 4, "grades are 0 to 4"),
            )
            if not lowest <= value <= highest
        ]
        if faults:
            raise InvalidInput("; ".join(faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPugh:
    """Points (5 to 15) and class (A, B, C)."""

    points: int
    grade: str


def score_child_pugh(liver: LiverFunction) -> ChildPugh:
    """Returns the Child-Pugh points and class.

    Source: Pugh RN et al., Br J Surg 1973;60:646, with INR as in method, section 6: points 1/2/3 for bilirubin <34 /
    34-51 / >51 umol/L, albumin >35 / 28-35 / <28 g/L, INR <1.7 / 1.7-2.3 / >2.3, ascites none / mild / moderate or more,
    encephalopathy none / grade 1-2 / grade 3-4; class A 5-6, B 7-9, C 10-15.
    """
    points = (
        _points_rising(liver.bilirubin_umol_l, 34.0, 51.0)
        + (1 if liver.albumin_g_l > 35.0 else 2 if liver.albumin_g_l >= 28.0 else 3)
        + _points_rising(liver.inr, 1.7, 2.3)
        + {Ascites.NONE: 1, Ascites.MILD: 2}.get(liver.ascites, 3)
        + (1 if liver.encephalopathy_grade == 0 else 2 if liver.encephalopathy_grade <= 2 else 3)
    )
    return ChildPugh(points=points, grade="A" if points <= 6 else "B" if points <= 9 else "C")


def score_up_to_seven(largest_diameter_cm: float, number_of_tumours: int) -> float:
    """Returns the up-to-seven score: diameter of the largest tumour in cm plus the number of tumours.

    Args:
        largest_diameter_cm: 0.1 to 30.
        number_of_tumours: 1 to 100.

    Raises:
        InvalidInput: a value is not plausible, for instance a diameter in mm.

    Source: Mazzaferro V et al., Lancet Oncol 2009;10:35.
    """
    if not 0.1 <= largest_diameter_cm <= 30.0:
        raise InvalidInput(
            f"largest tumour: {largest_diameter_cm:g} cm is not plausible (expected 0.1 to 30; is it in mm?)"
        )
    if not 1 <= number_of_tumours <= 100:
        raise InvalidInput(f"number of tumours: got {number_of_tumours}, expected 1 to 100")
    return largest_diameter_cm + number_of_tumours


def find_contradictions(clinical: ClinicalVariables) -> tuple[str, ...]:
    """Returns in sentences which values of one patient cannot be true together; empty when none.

    BCLC C is defined by vascular invasion, extrahepatic spread or performance status 1-2; D by status 3-4 or Child-Pugh C;
    the up-to-seven score exceeds the largest diameter by at least the one tumour.

    Source: Reig M et al., J Hepatol 2022;76:681 (BCLC 2022); Mazzaferro 2009.
    """
    sentences: list[str] = []
    bclc = clinical.get(Variable.BCLC)
    advanced = [
        name
        for name, variable in (
            ("portal vein tumour thrombus", Variable.PVTT),
            ("lung metastasis", Variable.LUNG_METASTASIS),
            ("bone metastasis", Variable.BONE_METASTASIS),
            ("lymph node metastasis", Variable.LYMPH_NODE_METASTASIS),
        )
        if clinical.indicator(variable) == 1.0
    ]
    ecog = clinical.get(Variable.ECOG)
    if ecog is not None and ecog.category != "0":
        advanced.append(f"ECOG {ecog.category}")
    if bclc is not None and bclc.category in ("0", "A", "B") and advanced:
        sentences.append(
            f"BCLC {bclc.category} with {', '.join(advanced)}: these define stage C or a later one"
        )
    sentences += _contradictions_of_size(clinical)
    return tuple(sentences)


def _contradictions_of_size(clinical: ClinicalVariables) -> list[str]:
    score, diameter = clinical.get(Variable.UP_TO_SEVEN), clinical.get(Variable.MAX_TUMOUR_DIAMETER)
    if score is None or diameter is None or diameter.number is None:
        return []
    least = diameter.number + 1.0 - _DIAMETER_TOLERANCE_CM
    if score.number is not None and score.number < least:
        return [
            f"up-to-seven score {score.number:g} is below the largest diameter {diameter.number:g} cm + 1 tumour"
        ]
    if score.number is None and score.category == "<=7" and least > 7.0:
        return [f"up-to-seven <=7 with a largest diameter of {diameter.number:g} cm"]
    return []


def _points_rising(value: float, second: float, third: float) -> int:
    return 1 if value < second else 2 if value <= third else 3
