"""Trains the demonstration models: phantoms rendered, then fitted and released as any cohort is."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import structlog

from engines.case import write_array
from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.models.card import ConcordanceCard
from engines.models.model import Model
from engines.network_input import Preprocessing
from engines.networks.settings import ENSEMBLE
from engines.phantom.cohort import SyntheticPatient, draw_cohort
from engines.survival.bootstrap import bootstrap_concordance, draw_resamples, percentile_interval
from engines.survival.concordance import harrell_c
from engines.survival.outcome import Outcome
from train.data import Split
from train.fit import fit_cohort
from train.fit_cohort import FitCohort
from train.fit_plan import FitPlan
from train.fusion import PAPER_FOREST, ForestSettings
from train.radiomic_model import FeatureMatrix
from train.recipes import Recipe, read_recipe
from train.release import ReleaseWords, release_fit
from train.response_model import Responses
from train.synthetic import gather_outcome, make_training_data, render_inputs

LOG = structlog.get_logger(__name__)

NAME = "mmf-demonstration"
INTENDED_USE = "Demonstration and tests of this software on phantoms. It must not be used for any patient."
LIMITS = (
    "Miniature networks at side 32; the paper's are trained at 128.",
    "The hazards of the phantoms are made up; the C-index of the truth says how well any model could do.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """How large a demonstration is.

    Attributes:
        patients: synthetic training patients.
        testing: other synthetic patients on whom the released model is measured.
        folds: of the out-of-fold scores.
        seed: of the cohort, the folds and the networks; testing patients have the next one.
        recipe: name in conf/recipes.
        epochs: instead of the recipe's, None keeps them.
        forest: settings of the survival forests.
        version: of the release.
    """

    patients: int = 480
    testing: int = 200
    folds: int = 3
    seed: int = 2026
    recipe: str = "demo"
    epochs: int | None = None
    forest: ForestSettings = PAPER_FOREST
    version: str = "demo-3"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SyntheticCohort:
    """Synthetic patients with their rendered inputs, float16 (n, phases, side, side, side)."""

    patients: tuple[SyntheticPatient, ...]
    inputs: npt.NDArray[np.float16]

    def outcome(self, endpoint: Endpoint) -> Outcome:
        """Returns the follow-up of one endpoint."""
        return gather_outcome(self.patients, endpoint)


def render_cohort(
    size: int,
    seed: int,
    preprocessing: Preprocessing,
    executor: Executor | None = None,
    kept: Path | None = None,
) -> SyntheticCohort:
    """Returns a synthetic cohort with its network inputs; about half a second a patient.

    Args:
        size: patients.
        seed: of the cohort.
        preprocessing: of the inputs.
        executor: of processes that share the patients; None renders them in turn.
        kept: folder in which the inputs are kept and found again; None keeps nothing.

    Raises:
        InvalidInput: the inputs that were kept are of other phantoms.
    """
    patients = draw_cohort(size, seed)
    path = None if kept is None else kept / f"phantoms-{seed}.npy"
    if path is not None and path.is_file():
        return SyntheticCohort(patients=patients, inputs=_read_inputs(path, patients, preprocessing))
    inputs = render_inputs(patients, preprocessing, executor)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_array(inputs, path)
    return SyntheticCohort(patients=patients, inputs=inputs)


def train_demo_model(
    folder: Path,
    plan: DemoPlan,
    training: SyntheticCohort,
    testing: SyntheticCohort,
    *,
    created: datetime,
    fit_folder: Path | None = None,
    executor: Executor | None = None,
) -> Model:
    """Fits, releases and measures a demonstration model, and returns it.

    Args:
        folder: of the release; must be empty or absent.
        plan: how large.
        training: synthetic training cohort.
        testing: synthetic cohort that nothing is fitted on.
        created: aware time for the card.
        fit_folder: where the fit is kept, and continued where it was interrupted; None makes it beside the release and
            removes it.
        executor: of processes that train the networks side by side; None trains them in turn.
    """
    cohort = join_cohorts(training, testing)
    fit_plan = FitPlan(
        recipe=_recipe(plan),
        folds=plan.folds,
        seed=plan.seed,
        seeds=(plan.seed,),
        forest=plan.forest,
        half=True,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _fit_folder(folder, fit_folder) as work:
        fit = fit_cohort(cohort, fit_plan, work, created=created, executor=executor, tell=LOG.info)
        words = ReleaseWords(
            name=NAME,
            version=plan.version,
            intended_use=INTENDED_USE,
            limits=LIMITS,
            created=created,
            concordance=_measure_truth(testing),
        )
        return release_fit(fit, folder, words)


def join_cohorts(training: SyntheticCohort, testing: SyntheticCohort) -> FitCohort:
    """Returns training and testing phantoms as one cohort; without features and responses, which phantoms do not have."""
    patients = (*training.patients, *testing.patients)
    splits = [Split.TRAINING] * len(training.patients) + [Split.TESTING] * len(testing.patients)
    n = len(patients)
    return FitCohort(
        name="phantoms",
        digest=_describe(patients),
        synthetic=True,
        data=make_training_data(patients, np.concatenate([training.inputs, testing.inputs]), splits),
        clinical=tuple(patient.clinical for patient in patients),
        features=FeatureMatrix(names=(), values=np.empty((n, 0))),
        responses=Responses(non_responder=np.full(n, np.nan), months=np.full(n, np.nan)),
        groups={},
        preprocessing=Preprocessing(side=training.inputs.shape[-1]),
    )


def _read_inputs(
    path: Path, patients: Sequence[SyntheticPatient], preprocessing: Preprocessing
) -> npt.NDArray[np.float16]:
    """Inputs that were kept; the first, the middle and the last patient are rendered again and must be the same."""
    inputs: npt.NDArray[np.float16] = np.load(path, allow_pickle=False)
    places = sorted({0, len(patients) // 2, len(patients) - 1})
    again = render_inputs([patients[place] for place in places], preprocessing)
    if len(inputs) != len(patients) or not np.array_equal(inputs[places], again):
        raise InvalidInput(
            f"{path} holds other phantoms than these {len(patients)}; choose another folder or remove it"
        )
    return inputs


@contextmanager
def _fit_folder(release: Path, kept: Path | None) -> Iterator[Path]:
    """The folder of the fit: the one that is kept, or one beside the release that goes away."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with TemporaryDirectory(prefix=f".{release.name}-fit-", dir=release.parent) as work:
        yield Path(work)


def _recipe(plan: DemoPlan) -> Recipe:
    recipe = read_recipe(plan.recipe)
    if plan.epochs is None:
        return recipe
    schedules = {name: replace(recipe.schedules[name], epochs=plan.epochs) for name in ENSEMBLE}
    return replace(recipe, schedules=schedules)


def _describe(patients: Sequence[SyntheticPatient]) -> str:
    """A cohort of phantoms follows from the seeds of its patients."""
    return " ".join(str(patient.traits.seed) for patient in patients)


def _measure_truth(testing: SyntheticCohort) -> tuple[ConcordanceCard, ...]:
    """Returns the C-index of the made-up hazards themselves: no model can do better."""
    cards: list[ConcordanceCard] = []
    for endpoint in Endpoint:
        truth = np.array([patient.log_hazard[endpoint] for patient in testing.patients])
        outcome = testing.outcome(endpoint)
        draws = bootstrap_concordance(truth[np.newaxis], outcome, draw_resamples(outcome.n))
        interval = percentile_interval(draws[:, 0])
        cards.append(
            ConcordanceCard(
                endpoint=endpoint,
                model="truth",
                rows=f"testing, {outcome.n} of cohort phantoms",
                value=harrell_c(truth, outcome),
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
            )
        )
    return tuple(cards)
