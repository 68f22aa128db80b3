"""Supplementary Tables 2, 3 and 4 from an ablation and from the ensembles of a fit, the published values beside them."""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

from engines.networks.settings import ENSEMBLE, NetworkName
from train.evaluate.ablation_cells import (
    ALL_PHASES,
    PHASE_SETS,
    AblationCell,
    AblationRecord,
    EnsembleCell,
    Measure,
)
from train.evaluate.document import Row, RowKind, Table
from train.evaluate.measures import ModelRecord
from train.evaluate.published import ENSEMBLE_MODEL, SOURCE, Published, PublishedValue, canonical_model
from train.evaluate.score_table import COPIES, FIT_COPIES
from train.evaluate.tables import heading
from train.evaluate.words import estimate_text

PAPER_COHORTS = ("training", "validation", "testing")

GROUPS: Mapping[str, tuple[NetworkName, ...]] = {
    "Network 1: CNN-based models": (
        NetworkName.RESNET50,
        NetworkName.DENSENET121,
        NetworkName.CONVNEXT,
        NetworkName.NETWORK1,
    ),
    "Network 2: different learning paradigms": (NetworkName.UNSUPERVISED, NetworkName.NETWORK2),
    "Network 3: transformer-based models": (
        NetworkName.VIT,
        NetworkName.SWIN_UNETR,
        NetworkName.MAXVIT,
        NetworkName.NETWORK3,
    ),
}
"""Rows of supplementary Table 2, in its order."""

TITLES: Mapping[NetworkName, str] = {
    NetworkName.RESNET50: "3D ResNet50",
    NetworkName.DENSENET121: "3D DenseNet121",
    NetworkName.CONVNEXT: "3D ConvNeXt",
    NetworkName.NETWORK1: "Network 1: EfficientNet-B1",
    NetworkName.UNSUPERVISED: "Unsupervised",
    NetworkName.NETWORK2: "Network 2: semi-supervised",
    NetworkName.VIT: "3D ViT",
    NetworkName.SWIN_UNETR: "3D SwinUNETR",
    NetworkName.MAXVIT: "3D MaxViT",
    NetworkName.NETWORK3: "Network 3: CNN-transformer",
}

_PUBLISHED_NAMES: Mapping[NetworkName, str] = {
    NetworkName.NETWORK1: "Network 1",
    NetworkName.NETWORK2: "Network 2",
    NetworkName.NETWORK3: "Network 3",
    NetworkName.VIT: "3D VIT",
    NetworkName.MAXVIT: "3D MaxVit",
}

ENDPOINTS = ("OS", "PFS")

_ABLATION_NOTE = (
    "Harrell's C (95% percentile bootstrap) of the first seed. Training (apparent) and validation (selected on) support no"
    " claim; out-of-fold scores exist for A+V+D of the three networks alone."
)

_MISPRINT = (
    "The published table prints its OS and PFS blocks swapped (its PFS block holds the OS values of supplementary Table 2):"
    " they are put back here."
)


def architecture_table(record: AblationRecord, cells: Sequence[AblationCell], published: Published) -> Table:
    """Returns supplementary Table 2: every architecture on A+V+D."""
    cohorts = _cohorts(cells)
    columns = [(endpoint, cohort) for endpoint in ENDPOINTS for cohort in cohorts]
    found = {
        (cell.network, cell.endpoint, cell.cohort): cell
        for cell in cells
        if cell.phases == ALL_PHASES and cell.seed == record.seeds[0]
    }
    rows: list[Row] = []
    for title, networks in GROUPS.items():
        rows.append(heading(title))
        for name in networks:
            texts = [_cell_text(found.get((name, *column))) for column in columns]
            rows.append(Row(cells=(TITLES[name], *texts)))
            word = _PUBLISHED_NAMES.get(name, TITLES[name])
            rows += _published_row(
                [published.c_index.get((_plain(cohort), endpoint, word)) for endpoint, cohort in columns]
            )
    return Table(
        name="supplementary_table_2_architectures",
        title="Supplementary Table 2 layout: every architecture, Harrell's C-index (95% CI)",
        header=("Model", *(f"{endpoint} {_heading(cohort)}" for endpoint, cohort in columns)),
        rows=tuple(rows),
        notes=(*_describe(record), _ABLATION_NOTE, SOURCE),
    )


def phase_table(record: AblationRecord, cells: Sequence[AblationCell], endpoint: str) -> Table:
    """Returns supplementary Table 3 for one endpoint: seven sets of phases, three networks, parts of the cohort."""
    networks = (NetworkName.NETWORK1, NetworkName.NETWORK2, NetworkName.NETWORK3)
    cohorts = [cohort for cohort in _cohorts(cells) if cohort in (*COPIES.values(), "testing")]
    found = {
        (cell.phases, cell.network, cell.cohort): cell
        for cell in cells
        if cell.endpoint == endpoint and cell.seed == record.seeds[0]
    }
    published = read_published_phases()
    rows: list[Row] = []
    for phases in PHASE_SETS:
        texts = [_short(found.get((phases, name, cohort))) for name in networks for cohort in cohorts]
        rows.append(Row(cells=(phases, *texts)))
        values = [
            published.get((phases, _PUBLISHED_NAMES[name], endpoint, _plain(cohort)))
            for name in networks
            for cohort in cohorts
        ]
        if any(value is not None for value in values):
            texts = ["" if value is None else f"{value:.2f}" for value in values]
            rows.append(Row(cells=("published", *texts), kind=RowKind.PUBLISHED))
    return Table(
        name=f"supplementary_table_3_phases_{endpoint.lower()}",
        title=f"Supplementary Table 3 layout: ablation of the phases, {endpoint}, Harrell's C-index",
        header=("Input", *(f"{_PUBLISHED_NAMES[name]} {cohort}" for name in networks for cohort in cohorts)),
        rows=tuple(rows),
        notes=(
            *_describe(record),
            "A arterial, V portal venous, D delayed.",
            _ABLATION_NOTE,
            _MISPRINT,
            SOURCE,
        ),
    )


def as_ensemble_cell(record: ModelRecord, seed: int = 0) -> EnsembleCell:
    """Returns what was measured of a combination of a fit as an ablation writes it."""
    return EnsembleCell(
        ensemble=record.model,
        seed=seed,
        endpoint=record.endpoint,
        cohort=record.cohort,
        n=record.n,
        events=record.events,
        c_index=record.c_index,
        low=record.ci_low,
        high=record.ci_high,
    )


def ensemble_table(
    cells: Sequence[EnsembleCell], cohorts: Sequence[str], title: Callable[[str], str], published: Published
) -> Table:
    """Returns supplementary Table 4: every single network, every pair, all three.

    Args:
        cells: of one seed; the ensembles are named ``Network 1``, ``Network 1+2``, ``Network 1+2+3``.
        cohorts: columns in order.
        title: how a cohort is headed.
        published: for the rows beside them.
    """
    columns = [(endpoint, cohort) for endpoint in ENDPOINTS for cohort in cohorts]
    index = {(cell.ensemble, cell.endpoint, cell.cohort): cell for cell in cells}
    models = list(dict.fromkeys(cell.ensemble for cell in cells))
    rows: list[Row] = []
    for words, members in (
        ("Single model (the raw network)", [m for m in models if _members(m) == 1]),
        ("Two models", [m for m in models if _members(m) == 2]),
        ("All", [m for m in models if _members(m) == 3]),
    ):
        if not members:
            continue
        rows.append(heading(words))
        for model in members:
            texts = [_cell_text(index.get((model, *column))) for column in columns]
            rows.append(Row(cells=(model, *texts)))
            values = [
                published.c_index.get((_plain(cohort), endpoint, _published_ensemble(model)))
                for endpoint, cohort in columns
            ]
            rows += _published_row(values)
    return Table(
        name="supplementary_table_4_ensembles",
        title="Supplementary Table 4 layout: ablation of the ensemble, Harrell's C-index (95% CI)",
        header=("Ensemble", *(f"{endpoint} {title(cohort)}" for endpoint, cohort in columns)),
        rows=tuple(rows),
        notes=(
            "A single network is the network itself, no forest of one input. With depth 2 and one candidate a split the forest"
            " weighs good and bad networks alike: it may lose to the best of them.",
            SOURCE,
        ),
    )


def read_published_phases() -> dict[tuple[str, str, str, str], float]:
    """Returns (phases, network, endpoint, cohort) -> published C. Source: supplementary Table 3, blocks put back."""
    text = files("train.evaluate").joinpath("published_phases.csv").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines()[1:]:
        phases, network, endpoint, cohort, value = line.split(",")
        found[phases, network, endpoint, cohort] = float(value)
    return found


def _members(model: str) -> int:
    """Networks in an ensemble by its name: ``Network 1`` 1, ``Network 1+2`` 2, ``Ensemble-DL`` all three."""
    return len(ENSEMBLE) if model == ENSEMBLE_MODEL else model.count("+") + 1


def _published_ensemble(model: str) -> str:
    """The published name of a pair or of all three; a single network has its own."""
    count = _members(model)
    if count == len(ENSEMBLE):
        return ENSEMBLE_MODEL
    return canonical_model(model) if count == 1 else f"Ensemble {model.split(' ')[-1]}"


def _cohorts(cells: Sequence[AblationCell]) -> list[str]:
    order = [name for part, copy in COPIES.items() for name in (part, copy)]
    named = dict.fromkeys(cell.cohort for cell in cells)
    return [name for name in order if name in named] + [name for name in named if name not in order]


def _heading(cohort: str) -> str:
    return f"{cohort}, out-of-fold" if cohort in COPIES else cohort


def _plain(cohort: str) -> str:
    """The paper's cohort that a column stands beside: its training column is apparent, its validation one selected on."""
    copies = (*COPIES.items(), *FIT_COPIES.items())
    return next((part for part, copy in copies if copy == cohort), "" if cohort in COPIES else cohort)


def _cell_text(cell: Measure | None) -> str:
    return "" if cell is None else estimate_text(cell.c_index, cell.low, cell.high)


def _short(cell: AblationCell | None) -> str:
    return "" if cell is None else estimate_text(cell.c_index, None, None)


def _published_row(values: Sequence[PublishedValue | None]) -> list[Row]:
    if not any(values):
        return []
    texts = ["" if value is None else estimate_text(value.value, value.low, value.high) for value in values]
    return [Row(cells=("published", *texts), kind=RowKind.PUBLISHED)]


def _describe(record: AblationRecord) -> tuple[str, ...]:
    words = f"Recipe {record.recipe}, seeds {', '.join(map(str, record.seeds))}, {record.device}. An empty row was not asked for."
    if record.complete:
        return (words,)
    return (words, f"The ablation is not complete; missing: {', '.join(record.missing)}.")
