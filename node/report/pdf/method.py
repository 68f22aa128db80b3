"""The last page: what each input contributed, how the figures were made, by which models, and their limits."""

import re
from typing import Final

from engines.plots import MUTED, plot_contributions
from node.report.pdf.paper import CONTENT_MM, MARGIN_MM, Paper
from node.report.pdf.sections import draw_notes
from node.report.record import FeatureEntry, Report, Risk
from node.report.sources import ReportSources
from node.report.wording import ENDPOINT_TITLES, LIMITS, POPULATION_SENTENCE

_GAP_MM: Final = 6.0
_COLUMN_MM: Final = (CONTENT_MM - _GAP_MM) / 2
_BAR_MM: Final = 4.3
_ROW_MM: Final = 4.4
"""Height of a bar of the contributions, and of a row of the clinical variables (OURS)."""

_RADIOMIC: Final = (
    "MMF also takes the Radiomic score: a Cox model's log hazard of radiomic features of liver and largest tumour, measured "
    "as those it was fitted on."
)
"""Method, section 7 (option)."""

_METHOD: Final = (
    "The arterial and delayed phases are aligned to the portal venous phase; liver and tumours are outlined there. The box "
    "of the liver in the three phases goes into three neural networks, whose log-risks a random survival forest joins to "
    "Ensemble-DL. A Cox model joins Ensemble-DL and the clinical variables to MMF. High and low risk are the two sides of a "
    "cut-off found in the discovery cohort. Where a clinical variable is missing MMF is not computed and Ensemble-DL stands "
    "alone; nothing is filled in."
)
"""After Xu et al., npj Precis Oncol 2025;9:185, in this project's words (method, sections 2, 5, 7)."""


def draw_method(paper: Paper, report: Report, sources: ReportSources) -> None:
    """Draws contributions, clinical variables, method, models, technique and limits.

    Args:
        paper: at the top of a fresh page.
        report: an assessed report.
        sources: the acquisitions, for their technique.
    """
    _draw_contributions(paper, report)
    paper.ensure(
        _ROW_MM * (len(report.clinical) + 1) + 8.0
    )  # two columns side by side never break over a page
    top = paper.pdf.get_y()
    _draw_clinical(paper, report, x=MARGIN_MM)
    left = paper.pdf.get_y()
    paper.pdf.set_xy(MARGIN_MM + _COLUMN_MM + _GAP_MM, top)
    _draw_networks(paper, report)
    paper.pdf.set_xy(MARGIN_MM + _COLUMN_MM + _GAP_MM, paper.pdf.get_y() + 2.5)
    _draw_models(paper, report)
    paper.pdf.set_xy(MARGIN_MM, max(left, paper.pdf.get_y()) + 3.0)
    paper.ensure(paper.block_height(_METHOD, points=7.2) + 8.0)
    paper.write_heading("How the figures were made")
    paper.write_block(_METHOD, points=7.2)
    _draw_features(paper, report)
    paper.pdf.set_xy(MARGIN_MM, paper.pdf.get_y() + 2.5)
    draw_technique(paper, report, sources)
    draw_limits(paper)


def _draw_features(paper: Paper, report: Report) -> None:
    """Draws which radiomic features stand behind the Radiomic score of MMF; nothing where it takes none."""
    taken = [risk for risk in report.risks if risk.radiomic_features]
    if not taken:
        return
    words = [
        f"{risk.endpoint}: "
        + "; ".join(f"{_plain_feature(one)} {one.value:.4g}" for one in risk.radiomic_features)
        for risk in taken
    ]
    for block in (_RADIOMIC, *words):
        paper.ensure(paper.block_height(block, points=6.6) + 1.0)
        paper.write_block(block, points=6.6)


def _plain_feature(entry: FeatureEntry) -> str:
    phase = "" if entry.phase is None else entry.phase.value.replace("_", " ").lower()
    return " ".join(word for word in (entry.region, phase, entry.feature.removeprefix("original_")) if word)


def draw_technique(paper: Paper, report: Report, sources: ReportSources) -> None:
    """Draws how each acquisition was taken, and how well the phases were aligned."""
    if not sources.used:
        return
    paper.write_heading("Technique")
    rows = []
    for used in sources.used:
        first, grid = used.acquisition.first, used.volume.grid
        spacing = " × ".join(f"{length:.2f}" for length in grid.spacing_mm[::-1])
        rows.append(
            (
                used.phase.value.replace("_", " ").lower(),
                " ".join(part for part in (first.manufacturer, first.manufacturer_model_name) if part)
                or "not given",
                ", ".join(first.convolution_kernel) or "not given",
                "not given" if first.kvp is None else f"{first.kvp:g} kV",
                f"{spacing} mm",
                " × ".join(str(count) for count in grid.shape[::-1]),
            )
        )
    paper.write_table(
        rows,
        (26.0, 50.0, 24.0, 18.0, 34.0, CONTENT_MM - 152.0),
        head=("Phase", "Scanner", "Kernel", "Voltage", "Voxel", "Voxels"),
        points=6.6,
        bold_first=True,
    )
    if report.registration:
        quality = "; ".join(f"{name} {value:.3f}" for name, value in report.registration)
        paper.write_block(f"Quality of alignment: {quality}.", points=6.6, colour=MUTED)
    paper.pdf.set_xy(MARGIN_MM, paper.pdf.get_y() + 2.5)


def draw_limits(paper: Paper) -> None:
    """Draws for whom the models were made and what the figures do not say."""
    draw_notes(paper, "Limits", (POPULATION_SENTENCE, *LIMITS), width_mm=CONTENT_MM, empty="")


def _draw_contributions(paper: Paper, report: Report) -> None:
    paper.write_heading("What each input adds to the log hazard (to the right: higher risk)")
    top = paper.pdf.get_y()
    bottom = top
    for column, endpoint in enumerate(ENDPOINT_TITLES):
        risk = next((risk for risk in report.risks if risk.endpoint == endpoint), None)
        x = MARGIN_MM + column * (_COLUMN_MM + _GAP_MM)
        paper.pdf.set_xy(x, top)
        title = f"{ENDPOINT_TITLES[endpoint]}" + (f" ({risk.model})" if risk else "")
        paper.write_line(title, points=7.0, bold=True, width_mm=_COLUMN_MM, height_mm=4.4)
        paper.pdf.set_xy(x, top + 4.8)
        bottom = max(bottom, _draw_bars(paper, risk, x=x))
    paper.pdf.set_xy(MARGIN_MM, bottom + 2.5)


def _draw_bars(paper: Paper, risk: Risk | None, *, x: float) -> float:
    y = float(paper.pdf.get_y())
    if risk is None or not risk.contributions:
        paper.write_block("Not available.", colour=MUTED, width_mm=_COLUMN_MM)
        return float(paper.pdf.get_y())
    parts = sorted(risk.contributions, key=lambda part: -abs(part.log_hazard))
    moved = [part for part in parts if part.log_hazard != 0.0] or parts[:1]
    height = _BAR_MM * len(moved) + 8.0
    words = tuple((f"{part.name}: {part.value}", part.log_hazard) for part in moved)
    paper.pdf.image(
        plot_contributions(words, width_mm=_COLUMN_MM, height_mm=height), x=x, y=y, w=_COLUMN_MM, h=height
    )
    still = [f"{part.name} ({part.value})" for part in parts if part.log_hazard == 0.0]
    paper.pdf.set_xy(x, y + height + 0.5)
    if still:
        paper.write_block(
            f"At their reference, adding nothing: {', '.join(still)}.",
            points=6.2,
            colour=MUTED,
            width_mm=_COLUMN_MM,
        )
    return float(paper.pdf.get_y())


def _draw_clinical(paper: Paper, report: Report, *, x: float) -> None:
    paper.pdf.set_x(x)
    paper.write_heading("Clinical variables", width_mm=_COLUMN_MM)
    if not report.clinical:
        paper.write_block("None were given.", colour=MUTED, width_mm=_COLUMN_MM)
        return
    rows = [
        (variable.name, "missing" if variable.value is None else f"{variable.value} {variable.unit}".strip())
        for variable in report.clinical
    ]
    paper.write_table(rows, (_COLUMN_MM * 0.56, _COLUMN_MM * 0.44), points=6.6)


def _draw_models(paper: Paper, report: Report) -> None:
    """Which models took part: version, cohort, C-index, hash."""
    paper.write_heading("Models", width_mm=_COLUMN_MM)
    if not report.models:
        paper.write_block("No model took part.", colour=MUTED, width_mm=_COLUMN_MM)
    for model in report.models:
        rows = (
            ("Model", f"{model.name}, version {model.version}"),
            ("Trained on", model.trained_on or "not stated"),
            ("C-index", model.c_index or "not stated"),
            ("SHA-256", model.sha256),
        )
        paper.write_table(rows, (17.0, _COLUMN_MM - 17.0), points=6.3, bold_first=True)


def _draw_networks(paper: Paper, report: Report) -> None:
    paper.write_heading("Networks and ensemble", width_mm=_COLUMN_MM)
    names = list(dict.fromkeys(name for risk in report.risks for name, _ in risk.network_scores))
    if not names:
        paper.write_block("No network took part.", colour=MUTED, width_mm=_COLUMN_MM)
        return
    scores = {risk.endpoint: dict(risk.network_scores) for risk in report.risks}
    rows = [
        (
            re.sub(r"^network(\d)$", r"Network \1", name),
            *(f"{scores[end][name]:+.3f}" if name in scores.get(end, {}) else "–" for end in ENDPOINT_TITLES),
        )
        for name in names
    ]
    paper.write_table(
        rows,
        (_COLUMN_MM * 0.5, _COLUMN_MM * 0.25, _COLUMN_MM * 0.25),
        head=("Log-risk", "OS", "PFS"),
        points=6.6,
        bold_first=True,
    )
