"""Synthetic patients as training data: each phantom rendered and cut out as a real study is, with its outcomes."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from functools import partial

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from engines.clinical.variables import Variable
from engines.endpoint import Endpoint
from engines.network_input import Preprocessing, network_input
from engines.networks.heads import LABELS
from engines.phantom.anatomy import Anatomy, abdomen_grid, draw_anatomy, render_masks, render_phase
from engines.phantom.cohort import SyntheticPatient
from engines.phantom.traits import PhantomTraits
from engines.phase import REFERENCE_PHASE
from engines.survival.outcome import Outcome
from engines.volume import Grid, Volume
from train.data import Follow, Split, TrainingData

BOX_ERROR_MM = 3.0
"""Standard deviation of each face of the liver's box: segmenters err, and networks must bear it (OURS)."""

_CHUNK = 10
"""Patients that travel to a process together."""

_ROOM_MM = 20.0
"""Rendered beyond the box on every side: margin, errors of the box and the smoothing filter."""


def render_input(traits: PhantomTraits, preprocessing: Preprocessing) -> npt.NDArray[np.float16]:
    """Returns the network input of a synthetic patient, float16 (phases, side, side, side), 0 to 1.

    The phantom is rendered with noise on the demo's native grid (1.5 mm pixels, 4 mm slices) and goes through the same
    ``network_input`` as a study; the box of the liver is the true one with the errors of a segmenter.

    Args:
        traits: of the patient; the same traits give the same input.
        preprocessing: side, window, margin, phases.
    """
    anatomy = draw_anatomy(traits)
    grid, liver = _liver_region(anatomy, traits.seed)
    volumes = {phase: render_phase(anatomy, phase, grid) for phase in preprocessing.phases}
    aligned = {
        phase: sitk.Transform(3, sitk.sitkIdentity)
        for phase in preprocessing.phases
        if phase is not REFERENCE_PHASE
    }
    return network_input(volumes, aligned, liver, preprocessing)


def render_inputs(
    patients: Iterable[SyntheticPatient], preprocessing: Preprocessing, executor: Executor | None = None
) -> npt.NDArray[np.float16]:
    """Returns the inputs of a cohort, float16 (n, phases, side, side, side); about 0.3 s a patient.

    Args:
        patients: the cohort.
        preprocessing: side, window, margin, phases.
        executor: of processes that share the patients; None renders them in turn.
    """
    traits = [patient.traits for patient in patients]
    render = partial(render_input, preprocessing=preprocessing)
    rendered = map(render, traits) if executor is None else executor.map(render, traits, chunksize=_CHUNK)
    return np.stack(list(rendered))


def gather_outcome(patients: Sequence[SyntheticPatient], endpoint: Endpoint) -> Outcome:
    """Returns the follow-up of a synthetic cohort, in months."""
    follow_up = [patient.follow_up[endpoint] for patient in patients]
    return Outcome(
        np.array([entry.months for entry in follow_up]), np.array([entry.event for entry in follow_up])
    )


def make_training_data(
    patients: Sequence[SyntheticPatient], inputs: npt.NDArray[np.float16], splits: Sequence[Split]
) -> TrainingData:
    """Returns a synthetic cohort as the training loop takes it.

    Args:
        patients: n patients.
        inputs: their n inputs.
        splits: their n splits.
    """
    names = [f"phantom-{patient.traits.seed}" for patient in patients]
    ages = [patient.clinical.get(Variable.AGE) for patient in patients]
    labels = [
        [_number(patient.clinical.indicator(Variable(label))) for label in LABELS] for patient in patients
    ]
    return TrainingData(
        inputs=inputs,
        case_ids=names,
        patient_keys=names,
        splits=list(splits),
        os=_follow(patients, Endpoint.OS),
        pfs=_follow(patients, Endpoint.PFS),
        age_years=np.array([_number(None if age is None else age.number) for age in ages]),
        labels=np.array(labels),
    )


def _liver_region(anatomy: Anatomy, seed: int) -> tuple[Grid, Volume]:
    """Returns the part of the native grid about the liver, and there the box of a liver as a segmenter would find it."""
    whole = abdomen_grid()
    mask, _ = render_masks(anatomy, whole)
    inside = np.argwhere(mask.array)
    spacing = np.asarray(whole.spacing_mm)
    room = np.ceil(_ROOM_MM / spacing).astype(int)
    first = np.maximum(inside.min(axis=0) - room, 0)
    last = np.minimum(inside.max(axis=0) + room + 1, whole.shape)
    x, y, z = (float(c) for c in (whole.affine() @ np.append(first, 1))[:3])
    grid = Grid(
        shape=(int(last[0] - first[0]), int(last[1] - first[1]), int(last[2] - first[2])),
        spacing_mm=whole.spacing_mm,
        origin_mm=(x, y, z),
        axes=whole.axes,
    )
    error = np.rint(np.random.default_rng([seed, 11]).normal(0.0, BOX_ERROR_MM, (2, 3)) / spacing).astype(int)
    low = np.maximum(inside.min(axis=0) - first + error[0], 0)
    high = np.minimum(inside.max(axis=0) - first + error[1] + 1, grid.shape)
    box = np.zeros(grid.shape, dtype=np.bool_)
    box[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))] = True
    return grid, Volume(array=box, grid=grid)


def _follow(patients: Sequence[SyntheticPatient], endpoint: Endpoint) -> Follow:
    outcome = gather_outcome(patients, endpoint)
    return Follow(months=outcome.time, event=outcome.event.astype(np.float64))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
