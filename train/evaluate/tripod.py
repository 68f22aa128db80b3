"""The TRIPOD+AI items as this report answers them, and those that only the authors of a study can."""

from train.evaluate.document import Row, Table

BY_AUTHORS = "for the authors of the study: a table of scores cannot tell"

_ITEMS: tuple[tuple[str, str, str], ...] = (
    ("1", "Title", "title page"),
    ("2", "Abstract", BY_AUTHORS),
    ("3a", "Healthcare context and rationale", "Intended use and limits"),
    ("3b", "Target population and intended users", "Intended use and limits"),
    ("3c", "Known health inequalities", BY_AUTHORS),
    ("4", "Objectives", "Intended use and limits"),
    ("5a", "Sources of data", BY_AUTHORS),
    ("5b", "Dates of accrual and end of follow-up", "Cohorts and follow-up (length); dates: " + BY_AUTHORS),
    ("6a", "Setting, number and location of centres", "Subgroups, if the table has a column centre"),
    ("6b", "Eligibility criteria", BY_AUTHORS),
    ("6c", "Treatments received", "Variables, if the table has a column regimen"),
    ("7", "Data preparation and quality checks", "Notes on the data"),
    ("8a", "Outcome and its time horizon", "Cohorts and follow-up"),
    ("8b", "Outcome assessors' qualification", BY_AUTHORS),
    ("8c", "Blinding of outcome assessment", BY_AUTHORS),
    ("9a", "Choice of predictors", BY_AUTHORS),
    ("9b", "Definition of predictors", "Variables"),
    ("9c", "Predictor assessors' qualification", BY_AUTHORS),
    ("10", "Sample size", "Cohorts and follow-up; Cox tables (events per variable)"),
    ("11", "Missing data", "Variables and missing values"),
    ("12a", "Use of data, partitioning", "Cohorts and follow-up"),
    ("12b", "Type of model and handling of predictors", BY_AUTHORS),
    ("12c", "Model building and internal validation", BY_AUTHORS),
    ("12d", "Heterogeneity between clusters", "Subgroups, if the table has a column centre"),
    ("12e", "Measures of performance and their comparison", "Methods; Discrimination; Absolute risk"),
    ("12f", "Model updating", "none: cut-offs and risks come from one cohort and are applied unchanged"),
    ("12g", "How predictions were calculated", "Absolute risk"),
    ("13", "Class imbalance", "not applicable: censored times, no resampling of outcomes"),
    ("14", "Fairness", "Subgroups by age and sex, if the table has them"),
    ("15", "Model output and risk groups", "Risk groups"),
    ("16", "Differences between development and evaluation data", "Cohorts and follow-up; Variables"),
    ("17", "Ethical approval", BY_AUTHORS),
    ("18a-f", "Funding, conflicts, protocol, registration, data and code", BY_AUTHORS),
    ("19", "Patient and public involvement", BY_AUTHORS),
    ("20a", "Flow of participants", "Cohorts and follow-up; exclusions before the table: " + BY_AUTHORS),
    ("20b", "Characteristics of participants", "Variables and missing values"),
    ("20c", "Comparison of development and evaluation characteristics", "Variables and missing values"),
    ("21", "Participants and events in each analysis", "every table: n and events"),
    ("22", "Full model specification", BY_AUTHORS),
    ("23a", "Performance with confidence intervals", "Discrimination; Absolute risk"),
    ("23b", "Heterogeneity of performance", "Subgroups"),
    ("24", "Results of model updating", "none was made"),
    ("25", "Interpretation", BY_AUTHORS),
    ("26", "Limitations", "Intended use and limits"),
    ("27a-c", "Usability: poor input, user interaction, future research", BY_AUTHORS),
)
"""Source: Collins et al., TRIPOD+AI, BMJ 2024;385:e078378, checklist; topics abridged."""


def tripod_table() -> Table:
    """Returns the item table, each item with the section that answers it."""
    return Table(
        name="tripod_ai",
        title="TRIPOD+AI items and where they are answered",
        header=("Item", "Topic", "Answered in"),
        rows=tuple(Row(cells=item) for item in _ITEMS),
        notes=("Items abridged from Collins et al., BMJ 2024;385:e078378.",),
    )
