"""The published values, to be printed beside a cohort's own and marked as another cohort."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from engines.clinical.variables import Variable

REFERENCE_MODEL = "MMF"
"""The model the others are tested against. Source: supplementary Table 1."""

ENSEMBLE_MODEL = "Ensemble-DL"

BENCHMARK_MODEL = "Benchmark"

MODELS = (
    "mRECIST",
    "Radiomic",
    "Network 1",
    "Network 2",
    "Network 3",
    BENCHMARK_MODEL,
    ENSEMBLE_MODEL,
    REFERENCE_MODEL,
)
"""The eight models in the order of supplementary Table 1."""

SOURCE = (
    "Published values are those of Xu et al., npj Precis Oncol 2025;9:185: another cohort (discovery 650, testing 209),"
    " other patients, other hospitals. They are no target and no test."
)

_ALIASES: Mapping[str, str] = {
    "n1": "Network 1",
    "n2": "Network 2",
    "n3": "Network 3",
    "net1": "Network 1",
    "net2": "Network 2",
    "net3": "Network 3",
    "ensemble": ENSEMBLE_MODEL,
    "radiomics": "Radiomic",
    "efficientnetb1": "Network 1",
    "semisupervised": "Network 2",
    "cnntransformer": "Network 3",
    "resnet50": "3D ResNet50",
    "densenet121": "3D DenseNet121",
    "convnext": "3D ConvNeXt",
    "vit": "3D VIT",
    "swinunetr": "3D SwinUNETR",
    "maxvit": "3D MaxVit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedValue:
    """A published estimate; bounds are None and p "" where none is printed."""

    value: float
    low: float | None
    high: float | None
    p_value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The published tables.

    Attributes:
        auc: (cohort, endpoint, model, month). Source: supplementary Table 1. The printed discovery interval of
            Ensemble-DL at 3 months, 0.74-0.79 around 0.75, is kept as printed.
        c_index: (cohort, endpoint, model). Source: supplementary Tables 2 and 4; abstract (MMF); mRECIST and Radiomic
            from a news digest (method, section 1).
        hazard_ratios: (endpoint, variable or "ensemble_dl", cohort, analysis). Source: supplementary Tables 6 and 7;
            BCLC is that of B against C, as its value shows.
    """

    auc: Mapping[tuple[str, str, str, float], PublishedValue]
    c_index: Mapping[tuple[str, str, str], PublishedValue]
    hazard_ratios: Mapping[tuple[str, str, str, str], PublishedValue]


def read_published() -> Published:
    """Returns the published values that are part of the package."""
    return Published(
        auc={
            (row["cohort"], row["endpoint"], row["model"], float(row["month"])): _value(
                row, "auc", row["p_against_mmf"]
            )
            for row in _rows("published_auc.csv")
        },
        c_index={
            (row["cohort"], row["endpoint"], row["model"]): _value(row, "c_index")
            for row in _rows("published_c_index.csv")
        },
        hazard_ratios={
            (row["endpoint"], row["variable"], row["cohort"], row["analysis"]): _value(
                row, "hazard_ratio", row["p"]
            )
            for row in _rows("published_hazard_ratios.csv")
        },
    )


def canonical_model(name: str) -> str:
    """Returns the published name of a model, whatever the spelling of its column; else the name as it is."""
    plain = _plain(name)
    for model in (*MODELS, *_ALIASES.values()):
        if plain == _plain(model):
            return model
    return _ALIASES.get(plain, name)


def published_variable(variable: Variable | None) -> str:
    """Returns the key of a variable in the published hazard ratios; None is the Ensemble-DL score."""
    return "ensemble_dl" if variable is None else variable.value


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _rows(name: str) -> list[dict[str, str]]:
    text = files("train.evaluate").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _value(row: Mapping[str, str], column: str, p_value: str = "") -> PublishedValue:
    return PublishedValue(
        value=float(row[column]),
        low=float(row["low"]) if row["low"] else None,
        high=float(row["high"]) if row["high"] else None,
        p_value=p_value,
    )
