"""The 16 clinical variables: names, units, ranges, categories, and one patient's values of them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from engines.errors import InvalidInput


class Variable(StrEnum):
    """The variables of supplementary Tables 6 and 7, in their order. The words are the keys of clinical.json."""

    AGE = "age"
    SEX = "sex"
    HBV = "hbv"
    BCLC = "bclc"
    CHILD_PUGH = "child_pugh"
    CIRRHOSIS = "cirrhosis"
    AFP = "afp"
    LINE_OF_ICI = "line_of_ici"
    PREVIOUS_LOCAL_THERAPY = "previous_local_therapy"
    PVTT = "pvtt"
    LUNG_METASTASIS = "lung_metastasis"
    BONE_METASTASIS = "bone_metastasis"
    LYMPH_NODE_METASTASIS = "lymph_node_metastasis"
    UP_TO_SEVEN = "up_to_seven"
    MAX_TUMOUR_DIAMETER = "max_tumour_diameter"
    ECOG = "ecog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a measured variable becomes a category.

    Attributes:
        threshold: values up to and including it belong to the lower category.
        lowest: smallest plausible value, in the variable's unit.
        highest: largest plausible value, in the variable's unit.
        slip: what a value outside the range most likely is, for the error message.
        whole: only whole numbers are meaningful.
    """

    threshold: float
    lowest: float
    highest: float
    slip: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What one variable is.

    Attributes:
        title: name for a reader.
        unit: unit of the measured value, "" for categories.
        reference: category whose indicator is 0.
        other: category whose indicator is 1: the one whose hazard ratio is reported.
        outside: categories that exist but lie outside the population of the method; known, never encoded.
        scale: None for variables that are categories by nature.
    """

    variable: Variable
    title: str
    reference: str
    other: str
    unit: str = ""
    outside: tuple[str, ...] = ()
    scale: Scale | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """All words this variable knows, reference first."""
        return (self.reference, self.other, *self.outside)


def _finding(variable: Variable, title: str) -> Definition:
    return Definition(variable=variable, title=title, reference="absent", other="present")


DEFINITIONS: Mapping[Variable, Definition] = {
    definition.variable: definition
    for definition in (
        Definition(
            variable=Variable.AGE,
            title="Age",
            unit="years",
            reference="<=50",
            other=">50",
            scale=Scale(
                threshold=50.0, lowest=18.0, highest=110.0, slip="a year of birth or an age in months"
            ),
        ),
        Definition(variable=Variable.SEX, title="Sex", reference="male", other="female"),
        _finding(Variable.HBV, "Hepatitis B infection"),
        Definition(
            variable=Variable.BCLC, title="BCLC stage", reference="C", other="B", outside=("0", "A", "D")
        ),
        Definition(
            variable=Variable.CHILD_PUGH, title="Child-Pugh class", reference="A", other="B", outside=("C",)
        ),
        _finding(Variable.CIRRHOSIS, "Cirrhosis"),
        Definition(
            variable=Variable.AFP,
            title="Alpha-fetoprotein",
            unit="ng/mL",
            reference="<=400",
            other=">400",
            scale=Scale(threshold=400.0, lowest=0.1, highest=5e6, slip="a value in g/mL or pg/mL"),
        ),
        Definition(
            variable=Variable.LINE_OF_ICI,
            title="Line of immune checkpoint inhibitor",
            reference="1",
            other=">=2",
            scale=Scale(threshold=1.0, lowest=1.0, highest=10.0, slip="a number of cycles", whole=True),
        ),
        _finding(Variable.PREVIOUS_LOCAL_THERAPY, "Previous local therapy"),
        _finding(Variable.PVTT, "Portal vein tumour thrombus"),
        _finding(Variable.LUNG_METASTASIS, "Lung metastasis"),
        _finding(Variable.BONE_METASTASIS, "Bone metastasis"),
        _finding(Variable.LYMPH_NODE_METASTASIS, "Lymph node metastasis"),
        Definition(
            variable=Variable.UP_TO_SEVEN,
            title="Up-to-seven score",
            unit="cm + number of tumours",
            reference="<=7",
            other=">7",
            scale=Scale(threshold=7.0, lowest=1.1, highest=130.0, slip="a diameter in mm in the sum"),
        ),
        Definition(
            variable=Variable.MAX_TUMOUR_DIAMETER,
            title="Maximum tumour diameter",
            unit="cm",
            reference="<=5",
            other=">5",
            scale=Scale(threshold=5.0, lowest=0.1, highest=30.0, slip="a diameter in mm"),
        ),
        Definition(
            variable=Variable.ECOG,
            title="ECOG performance status",
            reference="0",
            other="1",
            outside=("2", "3", "4"),
        ),
    )
}
"""Source: supplementary Tables 6 and 7. BCLC is printed "B vs C" with a hazard ratio of 0.28, which is that of B against
C: C is the reference. Populations: Child-Pugh A/B, ECOG 0/1, BCLC B/C. The plausible ranges are OURS; the largest AFP of
the public HCC-TACE-Seg table is 566,530 ng/mL."""

STANDARD_VARIABLES = tuple(
    variable
    for variable in Variable
    if variable not in {Variable.SEX, Variable.HBV, Variable.PREVIOUS_LOCAL_THERAPY}
)
"""The 13 pre-specified clinical inputs of MMF and Benchmark (method, section 7)."""

ALL_VARIABLES = tuple(Variable)
"""The preset ``all16``."""

_PRESENT = {
    "present": "present",
    "absent": "absent",
    "yes": "present",
    "no": "absent",
    "1": "present",
    "0": "absent",
}
_SEX = {"male": "male", "female": "female", "m": "male", "f": "female"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A known value: its category, and the measured number (in the variable's unit) where one was given."""

    category: str
    number: float | None = None

    def text(self) -> str:
        """The value for a reader: the number where there is one, else the category."""
        return self.category if self.number is None else f"{self.number:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalVariables:
    """One patient's clinical variables. What is not in ``values`` is missing: it is never imputed here.

    Raises:
        InvalidInput: a category that the variable does not know, or a number that contradicts its category.
    """

    values: Mapping[Variable, Value]

    def __post_init__(self) -> None:
        for variable, value in self.values.items():
            definition = DEFINITIONS[variable]
            if value.category not in definition.categories:
                raise InvalidInput(_unknown_category(definition, value.category))
            if value.number is not None and categorise(variable, value.number) != value.category:
                raise InvalidInput(
                    f"{variable.value}: {value.number:g} is not in the category {value.category}"
                )

    def get(self, variable: Variable) -> Value | None:
        """Returns the value, or None when it is missing."""
        return self.values.get(variable)

    def indicator(self, variable: Variable) -> float | None:
        """Returns 0.0 for the reference category, 1.0 for the other; None when missing or outside the population."""
        value = self.values.get(variable)
        if value is None or value.category in DEFINITIONS[variable].outside:
            return None
        return 1.0 if value.category == DEFINITIONS[variable].other else 0.0

    def missing(self, variables: Iterable[Variable] = ALL_VARIABLES) -> tuple[Variable, ...]:
        """Returns those of ``variables`` that have no value."""
        return tuple(variable for variable in variables if variable not in self.values)

    def outside_population(self) -> tuple[Variable, ...]:
        """Returns the variables whose category lies outside the method's population (Child-Pugh C, BCLC 0/A/D, ECOG 2-4)."""
        return tuple(
            variable
            for variable in Variable
            if (value := self.values.get(variable)) is not None
            and value.category in DEFINITIONS[variable].outside
        )


def categorise(variable: Variable, number: float) -> str:
    """Returns the category of a measured value.

    Args:
        variable: one that has a scale.
        number: in the variable's unit.

    Raises:
        InvalidInput: the variable is not measured, or the number is outside its plausible range.
    """
    definition = DEFINITIONS[variable]
    scale = definition.scale
    if scale is None:
        raise InvalidInput(f"{variable.value} is a category, not a number: got {number:g}")
    if not math.isfinite(number) or not scale.lowest <= number <= scale.highest:
        raise InvalidInput(
            f"{variable.value}: {number:g} is not plausible in {definition.unit or 'counts'}"
            f" (expected {scale.lowest:g} to {scale.highest:g}; is it {scale.slip}?)"
        )
    if scale.whole and number != int(number):
        raise InvalidInput(f"{variable.value}: {number:g} is not a whole number")
    return definition.reference if number <= scale.threshold else definition.other


def parse_value(variable: Variable, text: str) -> Value:
    """Returns the value that a person or a file wrote.

    Args:
        variable: which variable.
        text: a number in the variable's unit, or a category as ``DEFINITIONS`` spells it; findings also as yes/no or
            1/0, sex also as M/F; upper and lower case are the same.

    Raises:
        InvalidInput: neither a category of the variable nor a plausible number; the message says what was expected.
    """
    definition = DEFINITIONS[variable]
    word = text.strip()
    if definition.scale is not None and word not in (definition.reference, definition.other):
        return _parse_number(definition, word)
    if variable == Variable.LINE_OF_ICI and word == definition.reference:
        return Value(category=word, number=1.0)
    if definition.reference == "absent":
        word = _PRESENT.get(word.lower(), word)
    elif variable == Variable.SEX:
        word = _SEX.get(word.lower(), word)
    else:
        word = word.upper()
    if word not in definition.categories:
        raise InvalidInput(_unknown_category(definition, text))
    return Value(category=word)


def encode_variables(clinical: ClinicalVariables) -> dict[str, dict[str, str | float | None]]:
    """Returns the JSON form: variable -> {category, number}; missing variables are absent."""
    return {
        variable.value: {"category": value.category, "number": value.number}
        for variable in Variable
        if (value := clinical.get(variable)) is not None
    }


def decode_variables(content: object) -> ClinicalVariables:
    """Returns the variables of the JSON form that ``encode_variables`` makes.

    Raises:
        InvalidInput: another form, an unknown variable or category, a number that contradicts its category.
    """
    if not isinstance(content, dict):
        raise InvalidInput(f"clinical variables: expected an object, got {type(content).__name__}")
    values: dict[Variable, Value] = {}
    for name, entry in content.items():
        if name not in set(Variable) or not isinstance(entry, dict):
            raise InvalidInput(f"clinical variables: '{name}' is not one of {', '.join(Variable)}")
        category, number = entry.get("category"), entry.get("number")
        if not isinstance(category, str) or not (number is None or isinstance(number, int | float)):
            raise InvalidInput(f"clinical variables: '{name}' needs a category (text) and a number or null")
        values[Variable(name)] = Value(category=category, number=None if number is None else float(number))
    return ClinicalVariables(values=values)


def _parse_number(definition: Definition, word: str) -> Value:
    try:
        number = float(word)
    except ValueError:
        raise InvalidInput(_unknown_category(definition, word)) from None
    return Value(category=categorise(definition.variable, number), number=number)


def _unknown_category(definition: Definition, got: str) -> str:
    measured = f", or a number in {definition.unit or 'counts'}" if definition.scale is not None else ""
    return f"{definition.variable.value}: '{got}' is not one of {', '.join(definition.categories)}{measured}"
