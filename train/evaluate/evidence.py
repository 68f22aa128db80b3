"""What a cohort, its fit and its ablation tell beyond a table of scores, gathered once for the report."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engines.clinical.response import Response
from engines.models.model import Model
from engines.models.store import load_model
from train.errors import AblationRefused, FitRefused
from train.evaluate.ablation_cells import RECORD, Ablation, read_ablation
from train.evaluate.case_facts import CohortFacts, read_case_facts
from train.evaluate.fit_scores import read_ensemble_scores, read_fit_scores, with_facts
from train.evaluate.network_runs import NetworkRun, read_network_runs
from train.evaluate.radiomics import count_selections
from train.evaluate.score_table import ScoreTable
from train.evaluate.treatment import FIRST_CT_MONTHS, NON_RESPONDER, PROGRESSIVE
from train.fit_cohort import digest_cohort
from train.fit_folder import WHOLE, Fit, FitFolder, FitRecord


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Everything beside the scores; each part is empty where it is not known.

    Attributes:
        facts: of the case folders.
        fit: the record of the fit.
        model: the model folder of the fit.
        runs: the trained networks of the fit.
        ensembles: single networks, pairs and all three as scores (supplementary Table 4).
        selections: (endpoint, feature) -> folds that selected it.
        folds: number of folds of ``selections``.
        ablation: of the same cohort.
    """

    facts: CohortFacts | None = None
    fit: FitRecord | None = None
    model: Model | None = None
    runs: tuple[NetworkRun, ...] = ()
    ensembles: ScoreTable | None = None
    selections: Mapping[tuple[str, str], int] = field(default_factory=dict)
    folds: int = 0
    ablation: Ablation | None = None

    @property
    def features(self) -> Mapping[str, Mapping[str, float]]:
        """Radiomic features by patient."""
        return {} if self.facts is None else {case.patient: case.features for case in self.facts.cases}


NO_EVIDENCE = Evidence()
"""Of a ready table of scores."""


def default_ablation_folder(cohort: Path) -> Path:
    """Returns the folder of the ablation of a cohort: beside it, never inside."""
    resolved = cohort.resolve()
    return resolved.with_name(f"{resolved.name}-ablation")


def read_facts(table: ScoreTable, folders: Sequence[Path]) -> tuple[ScoreTable, CohortFacts]:
    """Returns the table with what the case folders tell of its patients, and those facts.

    Args:
        table: checked scores.
        folders: the cohort and external cohorts.

    Raises:
        CaseRefused: a case folder is damaged.
        CohortRefused: exclusions.csv has other columns.
    """
    facts = read_case_facts(folders)
    return with_facts(table, facts.groups(), facts.background()), facts


def gather_evidence(
    fit: Fit, folders: Sequence[Path], external: Sequence[ScoreTable], ablation: Path | None
) -> tuple[ScoreTable, Evidence]:
    """Returns the scores of a fit with everything that is known beside them.

    Args:
        fit: of the first folder.
        folders: the cohort and external cohorts.
        external: scores of the external cohorts by the released parts.
        ablation: folder; None looks beside the cohort, and does without where there is none.

    Raises:
        FitRefused: the fit is of another cohort, or a file of it is damaged.
        AblationRefused: the ablation is damaged, or of another cohort.
        ModelRefused: the model folder is damaged.
        CaseRefused: a case folder is damaged.
        CohortRefused: cohorts that do not go together.
    """
    check_cohort(fit, folders[0])
    table, facts = read_facts(read_fit_scores(fit, external), folders)
    outside = {patient for one in external for patient in one.patient_ids}
    own, others = (
        replace(facts, cases=tuple(case for case in facts.cases if (case.patient in outside) is foreign))
        for foreign in (False, True)
    )
    table = with_facts(table, {}, gather_responses(fit.paths, own, others))
    frequency, folds = _read_selections(fit.paths.radiomic)
    return table, Evidence(
        facts=facts,
        fit=fit.record,
        model=load_model(fit.paths.model, allow_demonstration=True),
        runs=read_network_runs(fit.paths, outcomes_by_case(table, own)),
        ensembles=read_ensemble_scores(fit),
        selections=frequency,
        folds=folds,
        ablation=_find_ablation(folders[0], ablation, fit),
    )


def check_cohort(fit: Fit, folder: Path) -> None:
    """Refuses the fit of another cohort: its scores would stand beside the facts of patients it has never seen.

    Args:
        fit: a finished fit.
        folder: of the cohort that it is said to be of.

    Raises:
        FitRefused: another cohort, or the cohort has changed since.
        CohortRefused: a fault of the cohort.
        CaseRefused: a case folder is damaged.
    """
    own, found = fit.record.cohort, digest_cohort(folder, seed=fit.record.seeds[0])
    if found != own.digest:
        raise FitRefused(
            f"{fit.paths.root} is the fit of {own.name} (cohort {own.digest[:12]}), {folder} is cohort {found[:12]}:"
            " another one, or changed since. Give the cohort and the fit that belong together, or fit it:"
            f" `mmf-train fit --cohort {folder} --out NEW`"
        )


def gather_responses(
    paths: FitFolder, own: CohortFacts, external: CohortFacts
) -> dict[str, dict[str, float]]:
    """Returns ``NON_RESPONDER``, ``PROGRESSIVE`` and ``FIRST_CT_MONTHS`` by patient.

    Those of the fit from response.csv, those of other cohorts from their lesion lists.

    Args:
        paths: of the fit; without response.csv its patients are left out.
        own: facts of the fit's patients alone: response.csv names cases, and a case id is unique in one cohort only.
        external: facts of the others.

    Raises:
        FitRefused: response.csv has other columns, or a cell that is no number.
    """
    patient_of = {case.case_id: case.patient for case in own.cases}
    found: dict[str, dict[str, float]] = {NON_RESPONDER: {}, PROGRESSIVE: {}, FIRST_CT_MONTHS: {}}
    for row in _read_rows(paths.response, ("case_id", "non_responder", "months")):
        patient = patient_of.get(row["case_id"])
        if patient is None:
            continue
        try:
            found[NON_RESPONDER][patient] = float(row["non_responder"])
            if row.get("progressive"):
                found[PROGRESSIVE][patient] = float(row["progressive"])
            if row["months"]:
                found[FIRST_CT_MONTHS][patient] = float(row["months"])
        except ValueError as error:
            raise FitRefused(f"{paths.response}, case {row['case_id']}: {error}") from error
    for case in external.cases:
        first = case.first_response
        responder = None if first is None else first.category.is_responder
        if first is not None and responder is not None and first.months is not None:
            found[NON_RESPONDER][case.patient] = float(not responder)
            found[PROGRESSIVE][case.patient] = float(first.category is Response.PROGRESSIVE)
            found[FIRST_CT_MONTHS][case.patient] = first.months
    return found


def outcomes_by_case(table: ScoreTable, facts: CohortFacts) -> dict[str, dict[str, tuple[float, bool]]]:
    """Returns case id -> endpoint -> months and event, of the patients whose follow-up is known."""
    place = {patient: row for row, patient in reversed(list(enumerate(table.patient_ids)))}
    found: dict[str, dict[str, tuple[float, bool]]] = {}
    for case in facts.cases:
        row = place.get(case.patient)
        if row is None:
            continue
        found[case.case_id] = {
            endpoint.name: (float(endpoint.time[row]), bool(endpoint.event[row]))
            for endpoint in table.endpoints
            if endpoint.known[row]
        }
    return found


def _read_selections(path: Path) -> tuple[dict[tuple[str, str], int], int]:
    return count_selections(_read_rows(path, ("unit", "endpoint", "feature")), WHOLE)


def _read_rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(needed) <= set(reader.fieldnames or ()):
            raise FitRefused(f"{path} has columns {reader.fieldnames}; expected {', '.join(needed)}")
        return list(reader)


def _find_ablation(cohort: Path, explicit: Path | None, fit: Fit) -> Ablation | None:
    folder = explicit or default_ablation_folder(cohort)
    if explicit is None and not (folder / RECORD).is_file():
        return None
    found = read_ablation(folder)
    record = found.record
    if record.cohort != cohort.resolve().name:
        raise AblationRefused(f"{folder} is an ablation of {record.cohort}, not of {cohort.resolve().name}")
    if record.digest != fit.record.cohort.digest:
        raise AblationRefused(
            f"{folder} is an ablation of another state of {record.cohort}; make it again: `mmf-train ablate --cohort {cohort}"
            " --out NEW`, then give it with --ablation NEW"
        )
    return found
