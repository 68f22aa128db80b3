"""The tables of absolute risk: calibration, Brier score, net benefit."""

from collections.abc import Sequence

from train.evaluate.absolute_risk import RiskRecord
from train.evaluate.document import Row, Table
from train.evaluate.figures import BenefitLine
from train.evaluate.tables import heading
from train.evaluate.words import NOT_ESTIMABLE, estimate_text


def absolute_risk_table(records: Sequence[RiskRecord], endpoint: str) -> Table:
    """Returns calibration and Brier scores of each model's absolute risk."""
    rows = []
    chosen = [record for record in records if record.endpoint == endpoint]
    reasons: list[str] = []
    for cohort in dict.fromkeys(record.cohort for record in chosen):
        members = [record for record in chosen if record.cohort == cohort]
        rows.append(
            heading(cohort + (" (apparent: the baseline was fitted here)" if members[0].apparent else ""))
        )
        for record in members:
            title = record.model + (", released" if record.released else "")
            for horizon in record.horizons:
                if horizon.calibration is None:
                    reasons.append(f"{cohort}, {horizon.month:g} months: {horizon.reason}.")
                    rows.append(Row(cells=(title, f"{horizon.month:g}", *(NOT_ESTIMABLE,) * 5)))
                    continue
                calibration = horizon.calibration
                slope = calibration.slope
                rows.append(
                    Row(
                        cells=(
                            title,
                            f"{horizon.month:g}",
                            f"{calibration.observed:.3f} / {calibration.expected:.3f}",
                            estimate_text(calibration.ratio, calibration.ratio_low, calibration.ratio_high),
                            NOT_ESTIMABLE
                            if slope is None
                            else estimate_text(slope.value, slope.low, slope.high),
                            NOT_ESTIMABLE if calibration.ici is None else f"{calibration.ici:.3f}",
                            f"{horizon.brier:.3f} / {horizon.brier_reference:.3f}",
                        )
                    )
                )
            if record.integrated is not None:
                integrated = record.integrated
                rows.append(
                    Row(
                        cells=(
                            title,
                            f"{integrated.start:g}-{integrated.end:g}",
                            "",
                            "",
                            "",
                            "",
                            f"{integrated.score:.3f} / {integrated.reference:.3f}"
                            f" ({integrated.explained:.1%} explained)",
                        )
                    )
                )
    return Table(
        name=f"calibration_{endpoint.lower()}",
        title=f"Calibration and Brier score of the absolute risk, {endpoint}",
        header=(
            "Model",
            "Month",
            "Risk observed / expected",
            "O/E (95% CI)",
            "Slope (95% CI)",
            "ICI",
            "Brier: model / Kaplan-Meier",
        ),
        rows=tuple(rows),
        notes=(
            *(
                (
                    "Rows named released: the baseline hazard of the released model times exp(log hazard), as a report"
                    " states it; among discovery patients with their out-of-fold log hazards.",
                )
                if any(record.released for record in chosen)
                else ()
            ),
            "Any other score has no probability of its own: the risk is that of a Cox model of the score alone, fitted on"
            " the cohort of the cut-offs. ICI: mean absolute difference from a smoothed calibration curve. Rows over a"
            " span of months give the integrated Brier score.",
            *dict.fromkeys(reasons),
        ),
    )


def list_benefit(records: Sequence[RiskRecord]) -> list[tuple[float, list[BenefitLine]]]:
    """Returns the net benefit lines by month."""
    curves: dict[float, list[BenefitLine]] = {}
    for record in records:
        for horizon in record.horizons:
            if horizon.net_benefit:
                line = BenefitLine(model=record.model, points=horizon.net_benefit)
                curves.setdefault(horizon.month, []).append(line)
    return sorted(curves.items())


def benefit_table(curves: Sequence[tuple[float, Sequence[BenefitLine]]], endpoint: str, cohort: str) -> Table:
    """Returns the net benefit of each model at every second threshold."""
    models = list(dict.fromkeys(line.model for _, lines in curves for line in lines))
    rows = []
    for month, lines in curves:
        by_model = {line.model: line.points for line in lines}
        for place, point in enumerate(lines[0].points):
            if place % 2 == 0:  # every second threshold, .1 to .9; the curve shows all of them
                continue
            values = [by_model[model][place].model if model in by_model else None for model in models]
            cells = [NOT_ESTIMABLE if value is None else f"{value:.3f}" for value in values]
            rows.append(Row(cells=(f"{month:g}", f"{point.threshold:g}", *cells, f"{point.everyone:.3f}")))
    return Table(
        name=f"net_benefit_{endpoint.lower()}",
        title=f"Net benefit, {endpoint}, {cohort}",
        header=("Month", "Threshold", *models, "Everyone"),
        rows=tuple(rows),
        notes=("Acting on nobody has a net benefit of 0.",),
    )
