"""A cohort as ``fit`` takes it: training data with clinical variables, radiomic features, responses and groups of each case."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.acquisition import FILE_NAME as ACQUISITION
from engines.acquisition import CtProtocol, read_protocol
from engines.case import Case, check_case, hash_file, list_cases
from engines.clinical.examinations import FILE_NAME as RESPONSE
from engines.clinical.examinations import FirstResponse, first_response, read_examinations
from engines.clinical.treatment import FILE_NAME as TREATMENT
from engines.clinical.treatment import Treatment, read_treatment
from engines.clinical.variables import ClinicalVariables, decode_variables
from engines.endpoint import Endpoint
from engines.models.comparator import feature_column
from engines.network_input import Preprocessing
from engines.radiomics.feature_file import read_features
from engines.radiomics.origin import FeatureOrigin
from engines.survival.outcome import Outcome
from train.cohort import assign_splits, read_cohort
from train.data import Follow, Split, TrainingData
from train.errors import CohortRefused
from train.radiomic_model import FeatureMatrix
from train.response_model import Responses, collect_responses

READ_FILES = (
    "network_input.npy",
    "features.csv",
    "clinical.json",
    "outcomes.json",
    RESPONSE,
    TREATMENT,
    ACQUISITION,
)
"""Files of a case that decide what is fitted or tabled."""

IntArray = npt.NDArray[np.int64]

DISCOVERY = (Split.TRAINING, Split.VALIDATION)
"""Source: method, section 1: discovery is training and validation."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitCohort:
    """Everything that a fit may use of a cohort of n cases.

    Attributes:
        name: of the cohort.
        digest: SHA-256; another cohort has another one.
        synthetic: made of phantoms.
        data: inputs, outcomes, splits.
        clinical: n records.
        features: radiomic features; no column where no case has any.
        responses: first responses.
        groups: group -> n words, "" where not known: centre, scanner, regimen, aetiology.
        preprocessing: that made the inputs.
        limits: what a reader must know of the cohort, one sentence each.
        feature_origin: extractor, settings and masks of the features; None where there are none.
    """

    name: str
    digest: str
    synthetic: bool
    data: TrainingData
    clinical: Sequence[ClinicalVariables]
    features: FeatureMatrix
    responses: Responses
    groups: Mapping[str, tuple[str, ...]]
    preprocessing: Preprocessing
    limits: tuple[str, ...] = ()
    feature_origin: FeatureOrigin | None = None

    @property
    def n(self) -> int:
        """Number of cases."""
        return self.data.n

    def follow(self, endpoint: Endpoint) -> Follow:
        """Returns the follow-up of one endpoint, NaN where not known."""
        return self.data.os if endpoint is Endpoint.OS else self.data.pfs

    def discovery(self) -> IntArray:
        """Returns the rows of discovery with both outcomes known, ascending: those that folds are made of."""
        rows = self.data.rows(*DISCOVERY)
        known = np.isfinite(self.data.os.months[rows]) & np.isfinite(self.data.pfs.months[rows])
        return rows[known]

    def outcome(self, endpoint: Endpoint, rows: IntArray) -> Outcome:
        """Returns the follow-up of rows whose outcome is known."""
        follow = self.follow(endpoint)
        return Outcome(follow.months[rows], follow.event[rows] > 0)

    def with_follow_up(self) -> IntArray:
        """Returns the rows with at least one known outcome, ascending; never those that teach the autoencoder alone."""
        known = np.isfinite(self.data.os.months) | np.isfinite(self.data.pfs.months)
        unlabelled = np.array([split is Split.UNLABELLED for split in self.data.splits], dtype=np.bool_)
        return np.flatnonzero(known & ~unlabelled).astype(np.int64)


def read_fit_cohort(
    folder: Path, preprocessing: Preprocessing, *, seed: int = 0, cache: Path | None = None
) -> FitCohort:
    """Returns a cohort of case folders, checked.

    Beside what ``read_cohort`` reads, each case may give features.csv, response.json or treatment.json, and
    acquisition.json.

    Args:
        folder: of the cohort.
        preprocessing: side and phases that the networks want.
        seed: of splits that are drawn.
        cache: where the inputs are kept; in the cohort when None.

    Raises:
        CohortRefused: a fault of the cohort, named with its case.
        CaseRefused: a case folder is damaged.
    """
    data = read_cohort(folder, preprocessing.phases, preprocessing.side, seed=seed, cache=cache)
    paths = list_cases(folder)
    cases = [Case(folder=path) for path in paths]
    ids = list(data.case_ids)
    manifests = [_manifest(path) for path in paths]
    synthetic = [bool(manifest["synthetic"]) for manifest in manifests]
    if len(set(synthetic)) > 1:
        raise CohortRefused(
            f"{sum(synthetic)} of {len(synthetic)} cases are synthetic: phantoms and patients are never fitted together"
        )
    _refuse_several_scans(data)
    treatments = [_read_treatment(case, case_id) for case, case_id in zip(cases, ids, strict=True)]
    protocols = [_read_protocol(case, case_id) for case, case_id in zip(cases, ids, strict=True)]
    responses = [
        _read_response(case, case_id, treatment)
        for case, case_id, treatment in zip(cases, ids, treatments, strict=True)
    ]
    groups = {
        "centre": tuple(protocol.centre for protocol in protocols),
        "scanner": tuple(_scanner(protocol) for protocol in protocols),
        "regimen": tuple("" if one.regimen is None else one.regimen.text() for one in treatments),
        "aetiology": tuple(one.aetiology for one in treatments),
    }
    features, origin = _read_matrix(cases, ids)
    stored = cases[0].read_network_input().shape[-1]
    averaged = (
        f"The networks were trained on block means of inputs of side {stored}; a node makes inputs of side"
        f" {preprocessing.side} from the pixels, which is nearly but not exactly the same.",
    )
    return FitCohort(
        name=folder.resolve().name,
        digest=_digest(paths, data.splits),
        synthetic=synthetic[0],
        data=data,
        clinical=tuple(
            decode_variables(case.read_json("clinical") if case.has("clinical") else {}) for case in cases
        ),
        features=features,
        responses=collect_responses(responses),
        groups={word: values for word, values in groups.items() if any(values)},
        preprocessing=preprocessing,
        limits=(
            *(averaged if stored != preprocessing.side else ()),
            *_note_centres(groups["centre"]),
            *_note_partial(data),
        ),
        feature_origin=origin,
    )


def digest_cohort(folder: Path, *, seed: int = 0) -> str:
    """Returns the ``FitCohort.digest`` of a cohort from its manifests and what lies unsealed beside them.

    Args:
        folder: of the cohort.
        seed: of splits that are drawn.

    Raises:
        CohortRefused: a fault of the cohort.
        CaseRefused: a case folder is damaged.
    """
    paths = list_cases(folder)
    checked = [check_case(path, ("outcomes.json",)) for path in paths]
    splits = assign_splits(folder, checked, seed)
    words = [splits[identity.case_id] for _, identity in checked]
    return _digest(paths, words)


def _digest(paths: Sequence[Path], splits: Sequence[Split]) -> str:
    """Over ids, splits and the hashes of the files that a fit reads, also of those put beside a sealed case."""
    digest = hashlib.sha256()
    for path, split in zip(paths, splits, strict=True):
        manifest = _manifest(path)
        sealed = manifest["files"]
        files = {name: sealed[name] for name in READ_FILES if name in sealed}
        files |= {
            name: hash_file(path / name)
            for name in READ_FILES
            if name not in sealed and (path / name).is_file()
        }
        words = [manifest["case_id"], manifest["patient_key"], split.value, files]
        digest.update(json.dumps(words, sort_keys=True).encode())
    return digest.hexdigest()


def _manifest(path: Path) -> Mapping[str, Any]:
    """case.json, whose schema ``read_cohort`` has checked."""
    content: dict[str, Any] = json.loads((path / "case.json").read_text(encoding="utf-8"))
    return content


def _refuse_several_scans(data: TrainingData) -> None:
    """One index scan a patient (validity, trap 1); scans without outcome may be several."""
    labelled = [
        key
        for key, split in zip(data.patient_keys, data.splits, strict=True)
        if split is not Split.UNLABELLED
    ]
    several = [key for key, count in Counter(labelled).items() if count > 1]
    if several:
        raise CohortRefused(
            f"{len(several)} patients have several cases with an outcome ({', '.join(several[:10])}); keep the last scan"
            " before the first dose, one a patient"
        )


def _read_treatment(case: Case, case_id: str) -> Treatment:
    name = TREATMENT.removesuffix(".json")
    return read_treatment(case.read_json(name), case_id) if case.has(name) else Treatment()


def _read_protocol(case: Case, case_id: str) -> CtProtocol:
    name = ACQUISITION.removesuffix(".json")
    return read_protocol(case.read_json(name), case_id) if case.has(name) else CtProtocol()


def _read_response(case: Case, case_id: str, treatment: Treatment) -> FirstResponse | None:
    """From the lesion lists where there are any, else the category that treatment.json states."""
    stated = treatment.response
    name = RESPONSE.removesuffix(".json")
    if not case.has(name):
        return None if stated is None else FirstResponse(category=stated, months=None)
    found = first_response(read_examinations(case.read_json(name), case_id), case_id)
    if found is not None and stated is not None and found.category is not stated:
        raise CohortRefused(
            f"case {case_id}: the lesions of {RESPONSE} say {found.category}, {TREATMENT} says {stated}; correct one"
        )
    return found


def _note_centres(centres: Sequence[str]) -> tuple[str, ...]:
    known = {centre for centre in centres if centre}
    if len(known) > 1:
        return ()
    if not known:
        return ("No case tells its centre: nothing is known of how the models carry over to another.",)
    return ("All cases come from one centre: nothing is known of how the models carry over to another.",)


def _note_partial(data: TrainingData) -> tuple[str, ...]:
    rows = data.rows(*DISCOVERY)
    known = np.isfinite(data.os.months[rows]) & np.isfinite(data.pfs.months[rows])
    partial = int(rows.size - known.sum())
    if not partial:
        return ()
    return (
        f"{partial} training or validation cases lack an outcome: what is known of them teaches the networks, but they"
        " are in no fold, no forest and no Cox model.",
    )


def _scanner(protocol: CtProtocol) -> str:
    named = [f"{one.manufacturer} {one.model}".strip() for one in protocol.phases.values()]
    return next((words for words in named if words), "")


def _read_matrix(cases: Sequence[Case], ids: Sequence[str]) -> tuple[FeatureMatrix, FeatureOrigin | None]:
    """The features of all cases, measured with the same settings on masks of one provider, and which these are.

    Raises:
        CohortRefused: settings or providers that differ (validity, trap 10).
    """
    rows: list[dict[str, float]] = []
    origin: FeatureOrigin | None = None
    first = ""
    for case, case_id in zip(cases, ids, strict=True):
        row: dict[str, float] = {}
        for line in read_features(case.features_path) if case.features_path.is_file() else ():
            if origin is None:
                origin, first = line.measured, case_id
            if line.measured != origin:
                raise CohortRefused(
                    f"features of case {case_id} come from {line.measured.text()}; those of case {first} from"
                    f" {origin.text()}: other masks are another measurement; extract them again"
                )
            row[feature_column(line.region, line.phase, line.feature)] = line.value
        rows.append(row)
    names = tuple(sorted({name for row in rows for name in row}))
    values = np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=np.float64)
    return FeatureMatrix(names=names, values=values.reshape(len(rows), len(names))), origin
