"""Everything of a fit that stands on scores, features and clinical variables: forests, comparators, Cox models, cut-offs.

Pure functions of arrays: what the networks say comes in, fitted models and the columns of the tables go out. Whatever is
fitted for a fold is fitted here without the rows of that fold, selection and complete cases included.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from engines.endpoint import Endpoint
from engines.ensemble import Ensemble
from engines.errors import InvalidInput, SurvivalRefused
from engines.mmf import ModelName
from engines.models.comparator import Comparator, ComparatorName
from engines.models.cox_file import coarsen_baseline
from engines.networks.settings import ENSEMBLE, NetworkName
from engines.survival.cox import CoxFit, log_hazard
from train.clinical_model import (
    CoxSettings,
    RiskFit,
    TrainingRows,
    fit_hazard,
    fit_risk_model,
    input_table,
    score_table,
)
from train.cutoff import MEDIAN, choose_cutoff
from train.errors import CohortRefused
from train.fit_cohort import FitCohort
from train.fit_folder import (
    BENCHMARK,
    ENSEMBLE_DL,
    MMF,
    MODELS,
    MRECIST,
    MRECIST_FROM_START,
    NETWORK_TITLES,
    RADIOMIC,
    WHOLE,
    fold_unit,
)
from train.fit_plan import FitPlan, describe_rows
from train.out_of_fold import OutOfFold, fit_ensembles, score_out_of_fold
from train.radiomic_model import RadiomicFit, fit_radiomic
from train.response_model import fit_response, score_responses

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Columns = dict[str, dict[Endpoint, FloatArray]]
"""Model -> endpoint -> (n,) score of every case of the cohort, NaN where there is none."""

LogRisks = Mapping[str, Mapping[Endpoint, FloatArray]]
"""Unit -> endpoint -> (n, networks): what the unit's networks say of every case of the cohort."""

_CLINICAL = {ModelName.MMF: MMF, ModelName.BENCHMARK: BENCHMARK}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedModels:
    """The result of a fit.

    Attributes:
        fold: (discovery rows,), the fold that held each one out.
        out_of_fold: scores of the discovery rows by what has not seen them; NaN elsewhere.
        apparent: scores of all cases by the released parts.
        ensembles_out_of_fold: every network, pair and all three, as ``out_of_fold``.
        ensembles_apparent: as ``apparent``.
        standardised: by endpoint (discovery rows, networks), out-of-fold z-scored log-risks.
        ensembles: the released Ensemble-DL by endpoint.
        fold_ensembles: of each fold.
        risk_fits: the released MMF, Ensemble-DL and Benchmark.
        comparators: the released Radiomic and mRECIST models, where they could be fitted.
        radiomic: by unit and endpoint.
        cutoffs: by column and endpoint: value and rule, on the scale of the columns.
        fitted: every array that was fitted, by what it is; the proof that nothing else decides hashes them.
        used: "MMF OS" -> discovery rows the released model was fitted on.
        limits: what a reader must know, one sentence each.
    """

    fold: IntArray
    out_of_fold: Columns
    apparent: Columns
    ensembles_out_of_fold: Columns
    ensembles_apparent: Columns
    standardised: Mapping[Endpoint, FloatArray]
    ensembles: Mapping[Endpoint, Ensemble]
    fold_ensembles: tuple[Mapping[Endpoint, Ensemble], ...]
    risk_fits: tuple[RiskFit, ...]
    comparators: tuple[Comparator, ...]
    radiomic: Mapping[tuple[str, Endpoint], RadiomicFit]
    cutoffs: Mapping[tuple[str, Endpoint], tuple[float, str]]
    fitted: Mapping[str, FloatArray]
    used: Mapping[str, int]
    limits: tuple[str, ...]


def fit_models(cohort: FitCohort, plan: FitPlan, fold: IntArray, log_risks: LogRisks) -> FittedModels:
    """Returns every model of a fit but the networks.

    Args:
        cohort: outcomes, clinical variables, features and responses of every case.
        plan: settings.
        fold: (discovery rows,), as ``draw_cohort_folds`` gives it.
        log_risks: of every unit.

    Raises:
        CohortRefused: a fold cannot be fitted; the message names it, the model and the reason.
    """
    work = _Work(cohort, plan, fold, log_risks)
    work.fit_ensembles()
    work.fit_radiomic()
    work.fit_responses()
    work.fit_clinical()
    return work.result()


def name_combination(networks: Sequence[NetworkName]) -> str:
    """Returns the title of a combination of networks, e.g. ``Network 1+3``."""
    return "Network " + "+".join(NETWORK_TITLES[name].removeprefix("Network ") for name in networks)


@dataclass(slots=True, eq=False)
class _Work:
    """A fit in progress: each step adds columns, models and sentences."""

    cohort: FitCohort
    plan: FitPlan
    fold: IntArray
    log_risks: LogRisks
    rows: IntArray = field(init=False)
    out_of_fold: Columns = field(default_factory=dict)
    apparent: Columns = field(default_factory=dict)
    combined: tuple[Columns, Columns] = field(default_factory=lambda: ({}, {}))
    ensembles: dict[Endpoint, Ensemble] = field(default_factory=dict)
    scored: OutOfFold | None = None
    risk_fits: list[RiskFit] = field(default_factory=list)
    comparators: list[Comparator] = field(default_factory=list)
    radiomic: dict[tuple[str, Endpoint], RadiomicFit] = field(default_factory=dict)
    cutoffs: dict[tuple[str, Endpoint], tuple[float, str]] = field(default_factory=dict)
    fitted: dict[str, FloatArray] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = self.cohort.discovery()

    @property
    def description(self) -> str:
        word = "phantoms" if self.cohort.synthetic else "patients"
        return f"out-of-fold, {self.plan.folds} folds, {self.rows.size} training {word}"

    def folds(self) -> Iterator[tuple[str, IntArray, IntArray]]:
        """Gives name, rows that may be seen and rows held out of each fold."""
        for number in range(self.plan.folds):
            yield fold_unit(number), self.rows[self.fold != number], self.rows[self.fold == number]

    def fit_ensembles(self) -> None:
        """Fits Ensemble-DL and every smaller combination of networks."""
        for size in range(1, len(ENSEMBLE) + 1):
            for networks in combinations(ENSEMBLE, size):
                self._fit_combination(networks)

    def _fit_combination(self, networks: tuple[NetworkName, ...]) -> None:
        places = [ENSEMBLE.index(name) for name in networks]
        cohort = describe_rows(self.cohort, self.rows, networks)
        by_rows = {self.rows.tobytes(): WHOLE} | {seen.tobytes(): name for name, seen, _ in self.folds()}

        def networks_of(seen: IntArray) -> Callable[[IntArray], Mapping[Endpoint, FloatArray]]:
            said = self.log_risks[by_rows[self.rows[seen].tobytes()]]
            return lambda wanted: {end: said[end][self.rows[wanted]][:, places] for end in Endpoint}

        title = name_combination(networks)
        single = len(networks) == 1
        settings = self.plan.forest
        if single:  # the raw network, not a forest of one input (method, section 5)
            self._standardise_network(networks[0], places[0], title)
            return
        scored = score_out_of_fold(cohort, networks_of, self.fold, settings)
        everyone = np.arange(self.rows.size)
        released = fit_ensembles(cohort, networks_of(everyone)(everyone), everyone, settings)
        for endpoint in Endpoint:
            whole = self.log_risks[WHOLE][endpoint][:, places]
            apparent = released[endpoint].scores(whole)
            spread = self._spread(scored.scores[endpoint])
            for columns, values in zip(self.combined, (spread, apparent), strict=True):
                columns.setdefault(title, {})[endpoint] = values
            self._keep(f"{title} {endpoint}", released[endpoint])
            for number, fitted in enumerate(scored.ensembles):
                self._keep(f"{title} {endpoint} {fold_unit(number)}", fitted[endpoint])
            if len(networks) == len(ENSEMBLE):
                self._put(ENSEMBLE_DL, endpoint, spread, apparent)
        if len(networks) == len(ENSEMBLE):
            self.scored, self.ensembles = scored, released

    def _standardise_network(self, name: NetworkName, place: int, title: str) -> None:
        """z-scores one network on the rows that each unit has seen."""
        for endpoint in Endpoint:
            out_of_fold = np.full(self.cohort.n, np.nan)
            for unit, seen, held_out in self.folds():
                said = self.log_risks[unit][endpoint][:, place]
                out_of_fold[held_out] = _z_score(said, seen, f"{name} {endpoint} {unit}")[held_out]
            whole = self.log_risks[WHOLE][endpoint][:, place]
            apparent = _z_score(whole, self.rows, f"{name} {endpoint}")
            self._put(NETWORK_TITLES[name], endpoint, out_of_fold, apparent)
            for columns, values in zip(self.combined, (out_of_fold, apparent), strict=True):
                columns.setdefault(title, {})[endpoint] = values

    def fit_radiomic(self) -> None:
        """Fits the Radiomic model, its selection repeated in every fold."""
        features = self.cohort.features
        if not features.names:
            self.limits.append("No case has radiomic features: there is no Radiomic model.")
            return
        for endpoint in Endpoint:
            out_of_fold = np.full(self.cohort.n, np.nan)
            for unit, seen, held_out in self.folds():
                fit = self._radiomic(unit, seen, endpoint)
                out_of_fold[held_out] = fit.log_hazards(features)[held_out]
            whole = self._radiomic(WHOLE, self.rows, endpoint)
            self._put(RADIOMIC, endpoint, out_of_fold, whole.log_hazards(features))
            self._note_radiomic(endpoint, whole)
            if whole.cox is not None:
                self._add_comparator(ComparatorName.RADIOMIC, endpoint, whole.cox)

    def _radiomic(self, unit: str, seen: IntArray, endpoint: Endpoint) -> RadiomicFit:
        with _fold_faults(unit, RADIOMIC):
            fit = fit_radiomic(
                self.cohort.features,
                seen,
                self.cohort.outcome(endpoint, seen),
                endpoint,
                self.plan.radiomic,
                seed=self.plan.seed,
            )
        self.radiomic[unit, endpoint] = fit
        if fit.cox is not None:
            self._keep_cox(f"Radiomic {endpoint} {unit}", fit.cox)
        return fit

    def _note_radiomic(self, endpoint: Endpoint, whole: RadiomicFit) -> None:
        self.used[f"{RADIOMIC} {endpoint}"] = int(whole.used.size)
        left_out = self.rows.size - whole.used.size
        if left_out:
            self.limits.append(
                f"Radiomic {endpoint}: {left_out} of {self.rows.size} discovery cases lack a feature and are left out"
                " (complete case)."
            )
        empty = [unit for (unit, end), fit in self.radiomic.items() if end is endpoint and fit.cox is None]
        if empty:
            self.limits.append(
                f"Radiomic {endpoint}: no feature was left in {', '.join(empty)}; everyone has the log hazard 0 there."
            )

    def fit_responses(self) -> None:
        """Fits mRECIST: OS from the first dose, PFS from the first follow-up CT, and PFS as in the paper beside it."""
        if not np.isfinite(self.cohort.responses.non_responder).any():
            self.limits.append("No case tells its response: there is no mRECIST model.")
            return
        pfs = self.cohort.data.pfs
        free = self.cohort.responses.free_of_progression(pfs.months)
        against = int(self.cohort.responses.contradicting(pfs.months, pfs.event > 0)[self.rows].sum())
        if against:
            self.limits.append(
                f"{against} discovery cases have PD at their first follow-up CT, but a PFS that goes on beyond it; mRECIST"
                " for PFS leaves them out, as all with PD there. Check their response and their date of progression."
            )
        if free[self.rows].any():
            self._fit_response(ComparatorName.MRECIST, MRECIST, free)
        else:
            self.limits.append(
                "No case tells when its first follow-up CT was: mRECIST for PFS has no landmark and is circular."
            )
        self._fit_response(ComparatorName.MRECIST_FROM_START, MRECIST_FROM_START, None)

    def _fit_response(self, name: ComparatorName, title: str, free: npt.NDArray[np.bool_] | None) -> None:
        responses = self.cohort.responses
        for endpoint in Endpoint:
            landmark = endpoint is Endpoint.PFS and free is not None
            allowed = free if landmark else None
            out_of_fold = np.full(self.cohort.n, np.nan)
            failed: list[str] = []
            for unit, seen, held_out in self.folds():
                cox = fit_response(responses, seen, self.cohort.outcome(endpoint, seen), landmark=landmark)
                if cox is None:
                    failed.append(unit)
                    continue
                out_of_fold[held_out] = score_responses(cox, responses, allowed)[held_out]
                self._keep_cox(f"{title} {endpoint} {unit}", cox)
            whole = fit_response(
                responses, self.rows, self.cohort.outcome(endpoint, self.rows), landmark=landmark
            )
            if whole is None or failed:
                where = ", ".join(failed) or WHOLE
                self.limits.append(
                    f"{title} {endpoint} cannot be fitted in {where}: no event, or all answered alike."
                )
            if whole is None or not np.isfinite(out_of_fold).any():
                self.out_of_fold.pop(title, None)
                self.apparent.pop(title, None)
                return
            self._put(title, endpoint, out_of_fold, score_responses(whole, responses, allowed))
            self.used[f"{title} {endpoint}"] = whole.n
            self._add_comparator(name, endpoint, whole)

    def fit_clinical(self) -> None:
        """Fits MMF and Benchmark in every fold and for release, and the released Ensemble-DL."""
        for endpoint in Endpoint:
            for name, title in _CLINICAL.items():
                self._fit_clinical(name, title, endpoint)
            with _fold_faults(WHOLE, f"{ENSEMBLE_DL} {endpoint}"):
                self._release(ModelName.ENSEMBLE_DL, self._training(endpoint), None, self.plan.clinical)

    def _fit_clinical(self, name: ModelName, title: str, endpoint: Endpoint) -> None:
        rows, settings = self._training(endpoint), self._clinical_settings(name, endpoint)
        out_of_fold = np.full(self.cohort.n, np.nan)
        for number, (unit, _, held_out) in enumerate(self.folds()):
            with _fold_faults(unit, f"{title} {endpoint}"):
                fit = fit_hazard(name, rows.take(np.flatnonzero(self.fold != number)), settings)
            table = rows.take(np.flatnonzero(self.fold == number)).table(fit.names)
            out_of_fold[held_out] = fit.log_hazards(table)
            self._keep_cox(f"{title} {endpoint} {unit}", fit.cox)
            self.limits += [f"{unit}: {words}" for words in fit.limits]
            if fit.front is not None:
                self.fitted[f"{title} {endpoint} {unit} forest"] = fit.front.forest.threshold
        with _fold_faults(WHOLE, f"{title} {endpoint}"):
            released = self._release(name, rows, out_of_fold[self.rows], settings)
        apparent = score_table(released.model, self._everyone(endpoint, released.model.names))
        self._put(title, endpoint, out_of_fold, apparent)
        self.cutoffs[title, endpoint] = (released.model.cutoff, released.model.cutoff_rule)
        self.used[f"{title} {endpoint}"] = int(released.used.size)
        left_out = self.rows.size - released.used.size
        if left_out:
            self.limits.append(
                f"{title} {endpoint}: {left_out} of {self.rows.size} discovery cases lack an input or lie outside the"
                " population and are left out, in every fold (complete case); nothing is imputed."
            )

    def _clinical_settings(self, name: ModelName, endpoint: Endpoint) -> CoxSettings:
        """The plan's; without the Radiomic score where no feature is left to compute it from in the released model."""
        settings = self.plan.clinical
        if name is not ModelName.MMF or not settings.with_radiomic:
            return settings
        if any(one.name is ComparatorName.RADIOMIC and one.endpoint is endpoint for one in self.comparators):
            return settings
        self.limits.append(
            f"MMF {endpoint} was fitted without the Radiomic score: no feature was left in {WHOLE}."
        )
        return replace(settings, with_radiomic=False)

    def _release(
        self, name: ModelName, rows: TrainingRows, out_of_fold: FloatArray | None, settings: CoxSettings
    ) -> RiskFit:
        released = fit_risk_model(name, rows, settings, out_of_fold=out_of_fold)
        self._keep_cox(f"{name} {rows.endpoint} {WHOLE}", released.full)
        if released.model.front is not None:
            self.fitted[f"{name} {rows.endpoint} forest"] = released.model.front.forest.threshold
        self.fitted[f"{name} {rows.endpoint} cut-off"] = np.array([released.model.cutoff])
        self.risk_fits.append(released)
        self.limits += [words for words in released.limits if words not in self.limits]
        return released

    def _training(self, endpoint: Endpoint) -> TrainingRows:
        """The discovery rows with out-of-fold Ensemble-DL and Radiomic scores."""
        radiomic = self.out_of_fold.get(RADIOMIC)
        return TrainingRows(
            endpoint=endpoint,
            ensemble_scores=self.out_of_fold[ENSEMBLE_DL][endpoint][self.rows],
            patients=[self.cohort.clinical[row] for row in self.rows],
            outcome=self.cohort.outcome(endpoint, self.rows),
            description=self.description,
            radiomic_scores=None if radiomic is None else radiomic[endpoint][self.rows],
        )

    def _everyone(self, endpoint: Endpoint, names: tuple[str, ...]) -> FloatArray:
        """The inputs of all cases, (n, names), with what the released parts say."""
        radiomic = self.apparent.get(RADIOMIC)
        return input_table(
            names,
            self.cohort.clinical,
            self.apparent[ENSEMBLE_DL][endpoint],
            None if radiomic is None else radiomic[endpoint],
        )

    def _put(self, title: str, endpoint: Endpoint, out_of_fold: FloatArray, apparent: FloatArray) -> None:
        """Keeps a pair of columns, and its cut-off from the discovery cases' out-of-fold scores alone."""
        self.out_of_fold.setdefault(title, {})[endpoint] = out_of_fold
        self.apparent.setdefault(title, {})[endpoint] = apparent
        known = self.rows[np.isfinite(out_of_fold[self.rows])]
        scores, outcome = out_of_fold[known], self.cohort.outcome(endpoint, known)
        choice = self.plan.clinical.cutoff.of(title)
        try:
            self.cutoffs[title, endpoint] = choose_cutoff(choice, scores, outcome, self.description)
        except SurvivalRefused as error:
            self.cutoffs[title, endpoint] = choose_cutoff(MEDIAN, scores, outcome, self.description)
            self.limits.append(
                f"{title} {endpoint}: no maximally selected cut-off ({error}); the median serves."
            )

    def _spread(self, values: FloatArray) -> FloatArray:
        """Scores of the discovery rows as a column of the cohort."""
        column = np.full(self.cohort.n, np.nan)
        column[self.rows] = values
        return column

    def _add_comparator(self, name: ComparatorName, endpoint: Endpoint, cox: CoxFit) -> None:
        self._keep_cox(f"{name} {endpoint} {WHOLE}", cox)
        if name is not ComparatorName.RADIOMIC:
            middle = float(log_hazard(cox, np.array([[0.5]]))[0])
            self.cutoffs[name.value, endpoint] = (middle, "between responders and others")
        value, rule = self.cutoffs[name.value, endpoint]
        self.comparators.append(
            Comparator(
                name=name,
                endpoint=endpoint,
                cox=coarsen_baseline(cox),
                cutoff=value,
                cutoff_rule=rule,
                origin=self.cohort.feature_origin if name is ComparatorName.RADIOMIC else None,
            )
        )

    def _keep(self, name: str, ensemble: Ensemble) -> None:
        arrays = (ensemble.mean, ensemble.sd, *ensemble.forest.arrays().values())
        self.fitted[name] = np.concatenate([array.astype(np.float64).ravel() for array in arrays])

    def _keep_cox(self, name: str, cox: CoxFit) -> None:
        base = cox.baseline
        arrays = (cox.coefficients, cox.means, cox.covariance, base.time, base.cumulative_hazard)
        self.fitted[name] = np.concatenate([array.ravel() for array in arrays])

    def result(self) -> FittedModels:
        """Returns what was fitted, columns in the order of supplementary Table 1."""
        if self.scored is None:
            raise InvalidInput("Ensemble-DL was not fitted before the result was asked for")
        return FittedModels(
            fold=self.fold,
            out_of_fold={title: self.out_of_fold[title] for title in MODELS if title in self.out_of_fold},
            apparent={title: self.apparent[title] for title in MODELS if title in self.apparent},
            ensembles_out_of_fold=self.combined[0],
            ensembles_apparent=self.combined[1],
            standardised=self.scored.standardised,
            ensembles=self.ensembles,
            fold_ensembles=self.scored.ensembles,
            risk_fits=tuple(self.risk_fits),
            comparators=tuple(self.comparators),
            radiomic=self.radiomic,
            cutoffs={key: value for key, value in self.cutoffs.items() if key[0] in self.out_of_fold},
            fitted=self.fitted,
            used=self.used,
            limits=(*self.cohort.limits, *dict.fromkeys(self.limits)),
        )


def _z_score(said: FloatArray, seen: IntArray, what: str) -> FloatArray:
    mean, spread = said[seen].mean(), said[seen].std(ddof=1)
    if not spread > 0:
        raise InvalidInput(f"{what}: the same log-risk for all {seen.size} rows")
    scored: FloatArray = (said - mean) / spread
    return scored


@contextmanager
def _fold_faults(unit: str, model: str) -> Iterator[None]:
    """Says of which fold and model a fault is."""
    try:
        yield
    except (InvalidInput, SurvivalRefused) as error:
        raise CohortRefused(
            f"{model} cannot be fitted on the rows of {unit}: {error}; use fewer folds or complete more cases"
        ) from error
