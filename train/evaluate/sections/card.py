"""The model card: the same facts as the report, on one page for whoever is asked to use the model."""

from engines.mmf import ModelName
from train.evaluate.context import Context, Parts
from train.evaluate.document import Row, Section, Table, Text
from train.evaluate.published import BENCHMARK_MODEL, ENSEMBLE_MODEL, REFERENCE_MODEL, canonical_model
from train.evaluate.score_table import DISCOVERY, FIT_COPIES
from train.evaluate.sections.patients import LIMITS
from train.evaluate.words import NOT_ESTIMABLE, estimate_text

CARD_TITLE = "Model card"

USERS = (
    "Intended users: researchers who evaluate prognostic models of unresectable hepatocellular carcinoma. Not intended:"
    " decisions on the treatment of a patient, patients outside Child-Pugh A/B, ECOG 0/1, BCLC B/C, or without a three-phase"
    " CT of the liver at most 8 weeks before the first dose."
)


def model_card(context: Context) -> Section:
    """Returns the model card: identity, use, data, method, performance, limits."""
    parts: Parts = [_identity(context), _performance(context)]
    model = context.evidence.model
    limits = LIMITS if model is None else (*model.card.limits, *LIMITS)
    parts.append(Text(lines=("Limits:",)))
    parts.append(Text(lines=tuple(dict.fromkeys(limits)), bullets=True))
    return Section(title=CARD_TITLE, parts=tuple(parts))


def _identity(context: Context) -> Table:
    evidence, table = context.evidence, context.table
    facts: list[tuple[str, str]] = []
    if evidence.model is not None:
        card = evidence.model.card
        marks = " (DEMONSTRATION, trained on phantoms: no clinical meaning)" if card.demonstration else ""
        facts += [
            ("Model", f"{card.name} {card.version}{marks}, {card.created:%Y-%m-%d}"),
            ("SHA-256", evidence.model.sha256),
            ("Intended use", card.intended_use),
            ("Trained on", card.training.trained_on),
            (
                "Training patients",
                f"{card.training.patients}; {card.training.events_os} deaths, {card.training.events_pfs} progressions or"
                " deaths",
            ),
            ("How", card.training.description),
            ("Software", card.training.software_version),
            (
                "Input",
                f"CT phases {', '.join(phase.value for phase in card.preprocessing.phases)}, box of the liver,"
                f" {card.preprocessing.side} voxels a side; clinical variables of the Cox models",
            ),
            (
                "Output",
                "log hazard, risk group, survival with interval and contributions for OS and PFS; "
                + ", ".join(name.value for name in ModelName),
            ),
        ]
    else:
        facts += [
            ("Model", f"a table of ready scores, {table.name}: {', '.join(table.scores) or 'no score'}"),
            ("SHA-256 of the table", table.sha256),
        ]
    facts.append(("Users", USERS))
    if evidence.fit is not None:
        fit = evidence.fit
        epochs = ", ".join(f"{name} {count}" for name, count in fit.epochs.items())
        facts += [
            (
                "Fit",
                f"recipe {fit.recipe}, {fit.folds} folds, seeds {', '.join(map(str, fit.seeds))}, preset {fit.preset},"
                f" MMF by {fit.estimator}, Radiomic {fit.radiomic}; epochs {epochs}",
            ),
            ("Time and hardware", f"{fit.seconds / 3600:.2f} h on {fit.device}; {_versions(fit.versions)}"),
            (
                "Cohort",
                f"{fit.cohort.name}, {fit.cohort.cases} cases, {fit.cohort.patients} with an outcome"
                + (" (SYNTHETIC)" if fit.cohort.synthetic else ""),
            ),
        ]
    return Table(
        name="model_card",
        title="What the model is",
        header=("", "Fact"),
        rows=tuple(Row(cells=fact) for fact in facts),
    )


def _performance(context: Context) -> Table:
    rows = []
    main = (context.find(name) for name in (BENCHMARK_MODEL, ENSEMBLE_MODEL, REFERENCE_MODEL))
    shown = {name for name in (*main, context.reference) if name is not None}
    for cohort in context.table.cohorts:
        if cohort == DISCOVERY:
            continue
        for record in context.records:
            if record.cohort != cohort or record.model not in shown:
                continue
            rows.append(
                Row(
                    cells=(
                        context.table.title(cohort),
                        record.endpoint,
                        canonical_model(record.model),
                        f"{record.n} / {record.events}",
                        estimate_text(record.c_index, record.ci_low, record.ci_high),
                        NOT_ESTIMABLE if record.uno_c is None else f"{record.uno_c:.2f}",
                        _calibration(context, cohort, record.endpoint, record.model),
                    )
                )
            )
    return Table(
        name="model_card_performance",
        title="How it performs",
        header=(
            "Cohort",
            "Endpoint",
            "Model",
            "n / events",
            "Harrell's C (95% CI)",
            "Uno's C",
            "O/E by month",
        ),
        rows=tuple(rows),
        notes=(
            f"Columns named {' or '.join(FIT_COPIES.values())} support no claim. O/E: observed over expected risk; details in the"
            " section on absolute risk.",
        ),
    )


def _calibration(context: Context, cohort: str, endpoint: str, model: str) -> str:
    record = next(
        (r for r in context.risks if (r.cohort, r.endpoint, r.model) == (cohort, endpoint, model)), None
    )
    if record is None:
        return NOT_ESTIMABLE
    known = [f"{h.month:g}: {h.calibration.ratio:.2f}" for h in record.horizons if h.calibration is not None]
    return "; ".join(known) or NOT_ESTIMABLE


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
