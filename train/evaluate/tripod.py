"""The TRIPOD+AI items: each with its answer and a link to the place in this report, or who alone can answer it."""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from train.evaluate.document import Row, Table

TRIPOD_TITLE = "TRIPOD+AI"

BY_AUTHORS = "for the authors of the study: neither scores nor cases can tell"

NOT_HERE = "not answered here: "

_NOT_BUILT_HERE = NOT_HERE + "a table of scores does not tell how the models were built"
_NO_VARIABLE = NOT_HERE + "no clinical variable or group is known"
_NO_SUBGROUP = NOT_HERE + "subgroups need a score with a cut-off, and a clinical variable or group"

_CARD, _FLOW, _COHORTS = "model_card", "flow", "cohorts"
_LIMITS, _METHODS, _NOTES = "Intended use and limits", "Methods", "Flow, cohorts and follow-up"
_DISCRIMINATION, _RISK = "Discrimination", "Absolute risk: calibration, Brier score, net benefit"
_SUBGROUPS = "Subgroups"
_TREATMENT, _VARIABLES = "Treatment, response and CT protocol", "Variables and missing values"
_NETWORKS = "Networks: architectures, phases, ensembles, seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One item: number, topic, answer, where (the first place that this report has, * for any letters), and what to say without any place."""

    number: str
    topic: str
    answer: str
    places: tuple[str, ...] = ()
    otherwise: str = BY_AUTHORS


_ITEMS: tuple[_Item, ...] = (
    _Item(number="1", topic="Title", answer=BY_AUTHORS),
    _Item(number="2", topic="Abstract", answer=BY_AUTHORS),
    _Item(
        number="3a",
        topic="Healthcare context and rationale",
        answer="unresectable HCC before checkpoint inhibitor and targeted therapy; why: " + BY_AUTHORS,
        places=(_LIMITS,),
    ),
    _Item(
        number="3b", topic="Target population and intended users", answer="stated", places=(_CARD, _LIMITS)
    ),
    _Item(number="3c", topic="Known health inequalities", answer=BY_AUTHORS),
    _Item(
        number="4",
        topic="Objectives",
        answer="evaluation of prognostic models, and with a fit their development, for OS and PFS",
        places=(_LIMITS,),
    ),
    _Item(
        number="5a",
        topic="Sources of data",
        answer="the cohorts named; how they were gathered: " + BY_AUTHORS,
        places=(_COHORTS,),
    ),
    _Item(
        number="5b",
        topic="Dates of accrual and end of follow-up",
        answer="length of follow-up; calendar dates: " + BY_AUTHORS,
        places=(_COHORTS,),
    ),
    _Item(
        number="6a",
        topic="Setting, number and location of centres",
        answer="centres as pseudonyms; locations: " + BY_AUTHORS,
        places=("internal_external_validation", "column:centre"),
        otherwise=NOT_HERE + "centres are not known",
    ),
    _Item(
        number="6b",
        topic="Eligibility criteria",
        answer="exclusions with reasons; criteria: " + BY_AUTHORS,
        places=(_FLOW,),
    ),
    _Item(
        number="6c",
        topic="Treatments received",
        answer="agents and regimens",
        places=("supplementary_table_8_agents",),
        otherwise=NOT_HERE + "regimens are not known",
    ),
    _Item(
        number="7",
        topic="Data preparation and quality checks",
        answer="every cell checked for unit, range and category; notes on the data; CT protocol with a fit",
        places=("ct_protocol", _NOTES),
    ),
    _Item(
        number="8a",
        topic="Outcome and its time horizon",
        answer="OS and PFS from the first dose, months; horizons in each table",
        places=(_COHORTS,),
    ),
    _Item(number="8b", topic="Outcome assessors' qualification", answer=BY_AUTHORS),
    _Item(number="8c", topic="Blinding of outcome assessment", answer=BY_AUTHORS),
    _Item(
        number="9a",
        topic="Choice of predictors",
        answer="coefficients listed; by `mmf-train` pre-specified, never by P values of a test cohort",
        places=("coefficients",),
    ),
    _Item(
        number="9b",
        topic="Definition of predictors",
        answer="categories, reference first",
        places=("variables",),
    ),
    _Item(number="9c", topic="Predictor assessors' qualification", answer=BY_AUTHORS),
    _Item(number="10", topic="Sample size", answer="events per screened parameter", places=("sample_size",)),
    _Item(
        number="11",
        topic="Missing data",
        answer="complete cases, numbers by variable and cohort",
        places=(_FLOW, _VARIABLES),
    ),
    _Item(
        number="12a",
        topic="Use of data, partitioning",
        answer="cohorts as named; of a fit, out-of-fold and apparent apart",
        places=(_COHORTS,),
    ),
    _Item(
        number="12b",
        topic="Type of model and handling of predictors",
        answer="networks, forest, Cox models",
        places=("time_and_hardware",),
        otherwise=_NOT_BUILT_HERE,
    ),
    _Item(
        number="12c",
        topic="Model building and internal validation",
        answer="recipe, folds, seeds, checkpoints",
        places=("time_and_hardware",),
        otherwise=_NOT_BUILT_HERE,
    ),
    _Item(
        number="12d",
        topic="Heterogeneity between clusters",
        answer="leave one centre out",
        places=("internal_external_validation",),
        otherwise=NOT_HERE + "it needs complete cases of two centres or more",
    ),
    _Item(
        number="12e",
        topic="Measures of performance and their comparison",
        answer="discrimination, calibration, net benefit, each with its method",
        places=(_METHODS,),
    ),
    _Item(
        number="12f",
        topic="Model updating",
        answer="recalibration as a step of its own, cross-validated, marked; the model itself is not updated",
        places=("recalibration_os", "recalibration_pfs", "recalibration_ttp"),
        otherwise="none was made: it needs a score that can be fitted on one cohort, and another cohort",
    ),
    _Item(
        number="12g",
        topic="How predictions were calculated",
        answer="formula, coefficients and baseline hazard",
        places=("baseline_hazard",),
    ),
    _Item(
        number="13",
        topic="Class imbalance",
        answer="not applicable: censored times, no resampling of outcomes",
        otherwise="not applicable: censored times, no resampling of outcomes",
    ),
    _Item(
        number="14",
        topic="Fairness",
        answer="subgroups with interaction P, by age and sex where known",
        places=("subgroups_*",),
        otherwise=_NO_SUBGROUP,
    ),
    _Item(
        number="15",
        topic="Model output and risk groups",
        answer="cut-offs and groups",
        places=("risk_groups_os",),
    ),
    _Item(
        number="16",
        topic="Differences between development and evaluation data",
        answer="variables, treatment and CT protocol by cohort",
        places=("variables",),
        otherwise=_NO_VARIABLE,
    ),
    _Item(number="17", topic="Ethical approval", answer=BY_AUTHORS),
    _Item(
        number="18a-f",
        topic="Funding, conflicts, protocol, registration, data and code",
        answer="software and versions; all else: " + BY_AUTHORS,
        places=("time_and_hardware",),
    ),
    _Item(number="19", topic="Patient and public involvement", answer=BY_AUTHORS),
    _Item(number="20a", topic="Flow of participants", answer="with reasons and follow-up", places=(_FLOW,)),
    _Item(
        number="20b",
        topic="Characteristics of participants",
        answer="by cohort, missing counted",
        places=("variables",),
        otherwise=_NO_VARIABLE,
    ),
    _Item(
        number="20c",
        topic="Comparison of development and evaluation characteristics",
        answer="cohorts side by side",
        places=("variables",),
        otherwise=_NO_VARIABLE,
    ),
    _Item(
        number="21",
        topic="Participants and events in each analysis",
        answer="n and events",
        places=(_COHORTS,),
    ),
    _Item(
        number="22",
        topic="Full model specification",
        answer="all coefficients and the baseline hazard; weights and forests of a fit are files of its model folder",
        places=("coefficients",),
    ),
    _Item(
        number="23a",
        topic="Performance with confidence intervals",
        answer="discrimination; calibration",
        places=("c_index", _DISCRIMINATION, _RISK),
    ),
    _Item(
        number="23b",
        topic="Heterogeneity of performance",
        answer="subgroups; centres",
        places=("subgroups_*",),
        otherwise=_NO_SUBGROUP,
    ),
    _Item(
        number="24",
        topic="Results of model updating",
        answer="calibration before and after",
        places=("recalibration_os", "recalibration_pfs", "recalibration_ttp"),
        otherwise="none was made",
    ),
    _Item(number="25", topic="Interpretation", answer=BY_AUTHORS),
    _Item(number="26", topic="Limitations", answer="stated", places=(_LIMITS,)),
    _Item(
        number="27a-c",
        topic="Usability: poor input, user interaction, future research",
        answer="poor input is refused with a reason (README); future research: " + BY_AUTHORS,
        places=(_LIMITS,),
    ),
)
"""Source: Collins et al., TRIPOD+AI, BMJ 2024;385:e078378, checklist; topics abridged."""


def tripod_table(anchors: Collection[str], groups: Collection[str] = ()) -> Table:
    """Returns the item table; every answer links to its place in this report.

    Args:
        anchors: names of tables and titles of sections that this report has, in its order.
        groups: group columns of the table of scores.
    """
    rows = []
    for item in _ITEMS:
        place = next((found for name in item.places for found in anchors if fnmatchcase(found, name)), "")
        known = [name for name in item.places if name.startswith("column:")]
        if not place and any(name.removeprefix("column:") in groups for name in known):
            place = _SUBGROUPS if _SUBGROUPS in anchors else ""
        answer = item.answer if place or not item.places else item.otherwise
        rows.append(Row(cells=(item.number, item.topic, answer), target=place))
    return Table(
        name="tripod_ai",
        title="TRIPOD+AI items, answered or named as the authors'",
        header=("Item", "Topic", "Answer, linked to its place"),
        rows=tuple(rows),
        notes=("Items abridged from Collins et al., BMJ 2024;385:e078378.",),
    )
