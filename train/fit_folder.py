"""The fit folder, version 1: everything that ``mmf-train fit`` leaves of one cohort, written once and read by later steps.

Layout (FIT is ``COHORT-fit`` beside the cohort unless it is named; absent parts were not available in the cohort):

    fit.json                    ``FitRecord``: what was fitted, on what, with which limits; written last, so a folder
                                without it is a fit in progress
    folds.csv                   case_id,fold of the discovery cases (fold from 0)
    out_of_fold.csv             the discovery cases (cohort training or validation), each scored by networks, forest,
                                checkpoint choice, selection and Cox models that have not seen it
    apparent.csv                ALL cases with a known outcome, scored by the released parts: training rows apparent,
                                validation rows apparent too but for the networks, whose checkpoints were chosen there;
                                testing rows untouched by any fit
    ensembles_out_of_fold.csv   the same rows and form: every network, every pair, all three (supplementary Table 4)
    ensembles_apparent.csv
    radiomic.csv                unit,endpoint,feature,coefficient of every Radiomic model (supplementary Table 5)
    response.csv                case_id,non_responder,progressive (0, 1),months of the first follow-up CT, where the cases tell it
    seeds.csv                   network,seed,endpoint,rows (validation: selected on; testing),patients,c: the spread of seeds
    networks/UNIT/NETWORK/seed-N/   weights, history.csv, scores.csv (all cases), summary.json, as ``train.campaign``
                                writes them; UNIT is ``whole`` or ``fold-K``, seeds after the first in ``whole`` alone
    model/                      the model folder (engines.models), loadable by ``load_model``

The four tables have the form of ``mmf-train evaluate --table`` (train.evaluate.score_file): patient_id, cohort,
os_months, os_event, pfs_months, pfs_event, clinical variables, groups, and a pair of columns ``MODEL_os`` and
``MODEL_pfs`` for each model of ``MODELS`` that could be fitted; an empty cell is a score that could not be computed.

    mRECIST      for PFS fitted at the landmark of each patient's first follow-up CT, empty where the patient was no longer
                 free of progression; ``mRECIST (no landmark)`` is the paper's version, of every patient, and circular
    Network 1-3  log-risk, z-scored on the discovery rows that the unit has seen
    Ensemble-DL  log(mortality / event times)
    MMF, Benchmark, Radiomic, mRECIST   log hazard

Which rows a unit may see: discovery is training plus validation. ``whole`` trains the released networks on the training
cases and chooses their checkpoints on the validation cases (on one fifth of the training cases where the cohort has no
validation cases); ``fold-K`` sees the discovery cases outside fold K, one fifth of which choose its checkpoints. Forests
and standardisation are fitted on the unit's discovery rows. Cases without outcome teach the autoencoder of every unit.
What stands on features, responses and clinical variables is fitted for fold K without it. MMF of fold K is fitted on the
other folds' out-of-fold Ensemble-DL scores, which come from units that have seen fold K (stacking): strictly without it
would take a fit inside each fold. Its optimism on data without signal is about .004 to .007 of C, which shuffled outcomes
of few cohorts do not show (tests/slow/test_shuffled_fit.py); the notes of every report of a fit say so.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.case import replaced
from engines.endpoint import Endpoint
from engines.networks.settings import NetworkName
from train.errors import FitRefused

SCHEMA = "mmf-fit"
SCHEMA_VERSION = 1

WHOLE = "whole"
"""The unit whose networks are released."""

MRECIST = "mRECIST"
MRECIST_FROM_START = "mRECIST (no landmark)"
RADIOMIC = "Radiomic"
NETWORK_TITLES: Mapping[NetworkName, str] = {
    NetworkName.NETWORK1: "Network 1",
    NetworkName.NETWORK2: "Network 2",
    NetworkName.NETWORK3: "Network 3",
}
BENCHMARK = "Benchmark"
ENSEMBLE_DL = "Ensemble-DL"
MMF = "MMF"
MODELS = (MRECIST, MRECIST_FROM_START, RADIOMIC, *NETWORK_TITLES.values(), BENCHMARK, ENSEMBLE_DL, MMF)
"""Names of the models in the tables, in the order of supplementary Table 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRecord:
    """The cohort that was fitted on.

    Attributes:
        name: of its folder.
        digest: SHA-256 over the case manifests and splits: another cohort has another one.
        synthetic: every case is made of phantoms. Cohorts that mix are refused.
        cases: all, of every split.
        patients: with a known outcome.
        splits: number of cases by split.
        events_os: deaths among the discovery cases.
        events_pfs: progressions or deaths among them.
    """

    name: str
    digest: str
    synthetic: bool
    cases: int
    patients: int
    splits: dict[str, int]
    events_os: int
    events_pfs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoffRecord:
    """Cut-off between low and high of one column of the tables, from out-of-fold discovery scores alone."""

    endpoint: Endpoint
    model: str
    value: float
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcordanceRecord:
    """Harrell's C of one model.

    Attributes:
        rows: ``out-of-fold``, or ``testing`` for the released parts on the testing cases.
        low: of the 95 % bootstrap interval; None where it is not estimable.
    """

    endpoint: Endpoint
    model: str
    rows: str
    patients: int
    events: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRecord:
    """fit.json.

    Attributes:
        created: aware time.
        plan: SHA-256 of the whole plan and cohort; units of another plan are never mixed.
        recipe: its name.
        networks: of Ensemble-DL, in the order of its inputs.
        phases: input channels, DICOM words in capitals.
        side: voxels of the inputs.
        folds: number of folds.
        seeds: of the networks; those of the first are released, the others show the spread.
        preset: of the clinical variables of MMF and Benchmark.
        estimator: of MMF: ``cox`` or ``forest``.
        with_radiomic: whether the Radiomic score is an input of MMF.
        radiomic: ``selected``, ``fixed`` or ``none``.
        epochs: by network.
        cohort: what was fitted on.
        device: cpu, or the accelerator's name.
        seconds: wall time of all units, whenever they ran.
        versions: of this product, Python, torch, scikit-survival.
        cutoffs: of every model.
        concordance: of every model, out-of-fold and on the testing cases.
        used: "MODEL OS" -> discovery rows that the released model was fitted on (complete case).
        limits: what a reader must know, one sentence each: exclusions, separating variables, missing parts.
        feature_origin: extractor, settings and masks of the radiomic features; "" without features.
    """

    created: datetime
    plan: str
    recipe: str
    networks: tuple[NetworkName, ...]
    phases: tuple[str, ...]
    side: int
    folds: int
    seeds: tuple[int, ...]
    preset: str
    estimator: str
    with_radiomic: bool
    radiomic: str
    epochs: dict[str, int]
    cohort: CohortRecord
    device: str
    seconds: float
    versions: dict[str, str]
    cutoffs: tuple[CutoffRecord, ...]
    concordance: tuple[ConcordanceRecord, ...]
    used: dict[str, int]
    limits: tuple[str, ...]
    feature_origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitFolder:
    """Paths in the folder of a fit."""

    root: Path

    @property
    def record(self) -> Path:
        """fit.json."""
        return self.root / "fit.json"

    @property
    def folds(self) -> Path:
        """folds.csv."""
        return self.root / "folds.csv"

    @property
    def out_of_fold(self) -> Path:
        """out_of_fold.csv."""
        return self.root / "out_of_fold.csv"

    @property
    def apparent(self) -> Path:
        """apparent.csv."""
        return self.root / "apparent.csv"

    @property
    def ensembles_out_of_fold(self) -> Path:
        """ensembles_out_of_fold.csv."""
        return self.root / "ensembles_out_of_fold.csv"

    @property
    def ensembles_apparent(self) -> Path:
        """ensembles_apparent.csv."""
        return self.root / "ensembles_apparent.csv"

    @property
    def radiomic(self) -> Path:
        """radiomic.csv."""
        return self.root / "radiomic.csv"

    @property
    def response(self) -> Path:
        """response.csv."""
        return self.root / "response.csv"

    @property
    def seeds(self) -> Path:
        """seeds.csv."""
        return self.root / "seeds.csv"

    @property
    def networks(self) -> Path:
        """Folder of all units."""
        return self.root / "networks"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.root / "model"

    def unit(self, unit: str) -> Path:
        """Folder of one unit: ``whole`` or ``fold-K``."""
        return self.networks / unit

    def run(self, unit: str, network: NetworkName, seed: int) -> Path:
        """Folder of one network of one unit and seed."""
        return self.unit(unit) / network.value / f"seed-{seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A finished fit on disk.

    Attributes:
        paths: where everything lies.
        record: fit.json.
    """

    paths: FitFolder
    record: FitRecord

    def read_folds(self) -> dict[str, int]:
        """Returns the fold of each discovery case by its id.

        Raises:
            FitRefused: folds.csv is missing or no such table.
        """
        try:
            with self.paths.folds.open(newline="", encoding="utf-8") as file:
                return {row["case_id"]: int(row["fold"]) for row in csv.DictReader(file)}
        except (OSError, KeyError, ValueError) as error:
            raise FitRefused(f"{self.paths.folds} cannot be read as case_id,fold: {error}") from error


def default_fit_folder(cohort: Path) -> Path:
    """Returns the folder of the fit of a cohort: beside it, never inside."""
    resolved = cohort.resolve()
    return resolved.with_name(f"{resolved.name}-fit")


def fold_unit(fold: int) -> str:
    """Returns the name of the unit that has not seen a fold."""
    return f"fold-{fold}"


def write_record(record: FitRecord, paths: FitFolder) -> None:
    """Writes fit.json atomically; the folder is a finished fit from then on."""
    content = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(record)}
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False, default=_as_text)
    with replaced(paths.record) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def read_fit(folder: Path) -> Fit:
    """Returns a finished fit after checking its record and that its tables are there.

    Raises:
        FitRefused: no fit.json (never fitted, or still in progress), another schema or version, unknown, missing or
            wrong values (all named), or a file that every fit has is missing.
    """
    paths = FitFolder(root=folder)
    try:
        content = json.loads(paths.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        state = (
            "is a fit in progress: run `mmf-train fit` to its end" if paths.networks.is_dir() else "is no fit"
        )
        raise FitRefused(f"{folder} {state} (no {paths.record.name})") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FitRefused(f"{paths.record} is not JSON: {error}") from error
    record = _decode(content, paths.record)
    needed = (paths.folds, paths.out_of_fold, paths.apparent, paths.model / "manifest.json")
    absent = [path.relative_to(folder).as_posix() for path in needed if not path.is_file()]
    if absent:
        raise FitRefused(f"{folder} is damaged: {', '.join(absent)} missing")
    return Fit(paths=paths, record=record)


def _decode(content: object, path: Path) -> FitRecord:
    if not isinstance(content, dict):
        raise FitRefused(f"{path}: expected an object, got {type(content).__name__}")
    found = (content.get("schema"), content.get("schema_version"))
    if found != (SCHEMA, SCHEMA_VERSION):
        raise FitRefused(
            f"{path}: schema {found[0]} version {found[1]}, expected {SCHEMA} version {SCHEMA_VERSION}"
        )
    body = {key: value for key, value in content.items() if key not in ("schema", "schema_version")}
    known = {item.name for item in fields(FitRecord)}
    faults = [f"unknown key {key}" for key in sorted(set(body) - known)]
    try:
        record: FitRecord = TypeAdapter(FitRecord).validate_python(body)
    except ValidationError as error:
        faults += [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {str(fault['input'])[:80]}"
            for fault in error.errors()
        ]
        raise FitRefused(f"{path}: " + "; ".join(faults)) from error
    if record.created.tzinfo is None:
        faults.append("created has no time zone")
    if faults:
        raise FitRefused(f"{path}: " + "; ".join(faults))
    return record


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in {SCHEMA}")
