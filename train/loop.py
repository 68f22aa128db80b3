"""Trains one network on one split: epochs, validation, choice of checkpoints, resumption."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch

from engines.networks.heads import RiskNetwork
from engines.networks.registry import build_network
from engines.networks.settings import NetworkName, NetworkSettings
from train.augment import apply_augmentation, draw_augmentation
from train.checkpoint import Checkpoint, read_checkpoint, remove_drafts, write_checkpoint
from train.data import IntArray, Split, TrainingData, check_training_data
from train.device import prepare_device, refuse_full_device
from train.errors import TrainingStopped
from train.feasibility import check_plan
from train.identity import describe_run
from train.losses import TaskWeights, measure_losses
from train.memory import allocate
from train.prefetch import prefetch
from train.progress import EpochRecord, Selection, smoothed_c
from train.ranks import Ranks
from train.recipes import Schedule
from train.ridge_head import fit_ridge_heads
from train.sampler import deal_batches
from train.scoring import Scores, measure_c, score_cases
from train.step import MicroBatch, StepResult, compute_gradients, reconstructs

LOG = structlog.get_logger(__name__)

CHECKPOINT_NAME = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where and how a run happens; on one machine only device and number of processes change the result.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:1`` ...
        folder: for the checkpoint; None keeps nothing on disk.
        ranks: the processes that train together.
        progress: is told after each epoch.
    """

    device: str = "cpu"
    folder: Path | None = None
    ranks: Ranks = field(default_factory=Ranks)
    progress: Callable[[EpochRecord], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedNetwork:
    """A trained network: one set of weights for each selection.

    Attributes:
        name: which network.
        settings: its size.
        schedule: how it was trained.
        seed: of the run.
        states: weights of each selection, on the CPU.
        chosen_epoch: epoch of each selection.
        validation_c: C of the chosen epochs by selection and endpoint. The epoch was chosen on these cases: the
            numbers are optimistic and support no claim.
        history: all epochs.
    """

    name: NetworkName
    settings: NetworkSettings
    schedule: Schedule
    seed: int
    states: dict[Selection, dict[str, torch.Tensor]]
    chosen_epoch: dict[Selection, int]
    validation_c: dict[Selection, dict[str, float]]
    history: tuple[EpochRecord, ...]

    def network(self, selection: Selection = Selection.COMBINED) -> RiskNetwork:
        """Returns the network with the weights of a selection, in evaluation mode, on the CPU."""
        network = build_network(self.name, self.settings)
        network.load_state_dict(self.states[selection])
        return network.eval()

    def score(self, data: TrainingData, rows: IntArray, selection: Selection = Selection.COMBINED) -> Scores:
        """Returns the scores of some rows of a cohort."""
        return score_cases(self.network(selection), data.inputs, rows)


def train_network(
    name: NetworkName,
    settings: NetworkSettings,
    data: TrainingData,
    schedule: Schedule,
    *,
    seed: int = 0,
    options: RunOptions | None = None,
) -> TrainedNetwork:
    """Returns a network trained on the TRAINING rows, its checkpoints chosen on the VALIDATION rows.

    Network 2 and its unsupervised rival also reconstruct the UNLABELLED rows; TESTING rows are never read here. With
    ``options.folder`` a killed run continues from its last whole epoch and ends with the same weights bit for bit
    (same machine, same number of threads).

    Args:
        name: which network.
        settings: its size; side and phases must be those of the inputs.
        data: the cases.
        schedule: how to train.
        seed: decides initial weights, batches, augmentation and dropout.
        options: where and how.

    Raises:
        CohortRefused: the data has a fault (:func:`train.data.check_training_data`).
        RecipeRefused: as :func:`train.feasibility.check_plan`.
        TrainingStopped: a value is not finite; the message names the cases.
        DeviceFull: the device has too little memory.
        CheckpointRefused: the folder holds another run.
    """
    chosen = options or RunOptions()
    check_training_data(data)
    check_plan(name, settings, data, schedule, processes=chosen.ranks.count)
    with refuse_full_device(f"{name.value}: training on {chosen.device}"):
        run = _Run(name, settings, data, schedule, seed, chosen)
        run.resume()
        while run.epoch < run.schedule.epochs:
            run.train_epoch()
        return run.finish()


class _Run:
    """A run in progress: the network, the optimiser and what was learned about the epochs so far."""

    def __init__(
        self,
        name: NetworkName,
        settings: NetworkSettings,
        data: TrainingData,
        schedule: Schedule,
        seed: int,
        options: RunOptions,
    ) -> None:
        if name is NetworkName.UNSUPERVISED:
            schedule = replace(schedule, reconstruction_epochs=schedule.epochs)
        self.name, self.settings, self.data, self.schedule = name, settings, data, schedule
        self.seed, self.options = seed, options
        self.identity = describe_run(
            name, settings, schedule, seed, data, device=options.device, processes=options.ranks.count
        )
        self.device = torch.device(options.device)
        prepare_device(self.device, repeatable=schedule.repeatable)
        torch.manual_seed(seed)
        self.network = build_network(name, settings)
        torch.nn.utils.convert_conv3d_weight_memory_format(self.network, torch.channels_last_3d)
        self.network.to(self.device)
        if schedule.compiled:
            torch.nn.Module.compile(self.network)
        self.weights = TaskWeights(schedule.auxiliary_log_variance).to(self.device)
        parameters = [*self.network.parameters(), *self.weights.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=schedule.learning_rate)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser,
            factor=schedule.decay_factor,
            patience=schedule.decay_patience,
            min_lr=schedule.lowest_learning_rate,
        )
        self.epoch = 0
        self.history: list[EpochRecord] = []
        self.best: dict[Selection, tuple[float, int]] = {}
        self.states: dict[Selection, dict[str, torch.Tensor]] = {}
        self.training_rows = data.rows(Split.TRAINING)
        self.validation_rows = data.rows(Split.VALIDATION)
        self.reconstructs = reconstructs(self.network)
        self.memory = allocate((schedule.batch_size, *settings.input_shape), torch.float32, self.device)

    def train_epoch(self) -> None:
        """Goes once through the training cases, validates, chooses, saves."""
        started = time.perf_counter()
        unsupervised = self.epoch < self.schedule.reconstruction_epochs and self.reconstructs
        rate = float(self.optimiser.param_groups[0]["lr"])
        self.network.train()
        sums: dict[str, list[float]] = {}
        waited = 0.0
        reader = prefetch(self.data.inputs, self._pools(), pinned=self.device.type == "cuda")
        for step, (rows, inputs, wait) in enumerate(reader):
            waited += wait
            result = self._step(step, rows, inputs, unsupervised)
            for task, loss in result.losses.items():
                sums.setdefault(task.value, []).append(loss)
        self.options.ranks.average_buffers(self.network)
        c_index, validation_loss = ({}, None) if unsupervised else self._validate()
        if validation_loss is not None:
            self.plateau.step(validation_loss)
        seconds = time.perf_counter() - started
        record = EpochRecord(
            epoch=self.epoch,
            losses={task: float(np.mean(values)) for task, values in sums.items()},
            log_variances=self.weights.table(),
            c_index=c_index,
            validation_loss=validation_loss,
            learning_rate=rate,
            seconds=seconds,
            data_wait=waited / seconds,
            remaining_seconds=seconds * (self.schedule.epochs - self.epoch - 1),
        )
        self.history.append(record)
        self._choose()
        self.epoch += 1
        self._save()
        if self.options.ranks.rank == 0:
            LOG.debug("epoch trained", network=self.name.value, **_progress_fields(record))
            if self.options.progress is not None:
                self.options.progress(record)

    def resume(self) -> None:
        """Continues from the folder's checkpoint, where there is one."""
        if self.options.folder is None:
            return
        if self.options.ranks.rank == 0:
            remove_drafts(self.options.folder)
        checkpoint = read_checkpoint(self.options.folder / CHECKPOINT_NAME, self.identity)
        if checkpoint is None:
            return
        self._restore(checkpoint)
        LOG.info("run continued", network=self.name.value, epoch=self.epoch)

    def finish(self) -> TrainedNetwork:
        """Returns what was learned; the unsupervised rival gets its ridge Cox heads now."""
        if self.name is NetworkName.UNSUPERVISED:
            fit_ridge_heads(self.network, self.data, self.training_rows)
            scores = score_cases(self.network, self.data.inputs, self.validation_rows)
            c_index = measure_c(scores, self.data, self.validation_rows)
            self.history[-1] = replace(self.history[-1], c_index=c_index)
            self.states = {selection: self._state() for selection in Selection}
            self.best = {selection: (float("nan"), self.epoch - 1) for selection in Selection}
        chosen = {selection: epoch for selection, (_, epoch) in self.best.items()}
        return TrainedNetwork(
            name=self.name,
            settings=self.settings,
            schedule=self.schedule,
            seed=self.seed,
            states=self.states,
            chosen_epoch=chosen,
            validation_c={selection: self.history[epoch].c_index for selection, epoch in chosen.items()},
            history=tuple(self.history),
        )

    def _pools(self) -> list[IntArray]:
        """This process's rows of each step of the epoch."""
        rows = self.training_rows
        strata = np.where(np.nan_to_num(self.data.os.event[rows]) > 0, 2, 0)
        strata += np.where(np.nan_to_num(self.data.pfs.event[rows]) > 0, 1, 0)
        if self.reconstructs:
            unlabelled = self.data.rows(Split.UNLABELLED)
            rows = np.concatenate([rows, unlabelled])
            strata = np.concatenate([strata, np.full(unlabelled.size, 4)])
        ranks = self.options.ranks
        size = self.schedule.batch_size * self.schedule.pooled_batches * ranks.count
        dealt = deal_batches(strata, size, self.seed, self.epoch)
        return [rows[np.array_split(pool, ranks.count)[ranks.rank]] for pool in dealt]

    def _step(self, step: int, rows: IntArray, inputs: torch.Tensor, unsupervised: bool) -> StepResult:
        """One optimisation step on the rows of one pool."""
        pool: list[MicroBatch] = []
        count = max(1, -(-rows.size // self.schedule.batch_size))
        places = np.array_split(np.arange(rows.size), count)
        for index, place in enumerate(places):
            seed = _mix(self.seed, self.epoch, step, index, self.options.ranks.rank)
            pool.append(
                MicroBatch(
                    inputs=_Prepared(inputs[place[0] : place[-1] + 1], self.schedule, seed, self.memory),
                    targets=self.data.targets(rows[place], self.device),
                    seed=seed,
                )
            )
        result = compute_gradients(
            self.network,
            self.weights,
            pool,
            self.schedule,
            self.options.ranks,
            reconstruction_only=unsupervised,
        )
        self._check_finite(step, rows, result)
        self.optimiser.step()
        return result

    def _check_finite(self, step: int, rows: IntArray, result: StepResult) -> None:
        """Stops before the weights are spoiled.

        Raises:
            TrainingStopped: names the cases whose outputs are not finite, or else all of the step's.
        """
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        if np.isfinite(result.total) and bool(torch.isfinite(norms).all()):
            return
        wrong = (~torch.isfinite(result.signals)).any(dim=1).cpu().numpy()
        named = rows[wrong] if wrong.any() else rows
        cases = ", ".join(self.data.case_ids[row] for row in named)
        what = "outputs" if wrong.any() else "the loss or a gradient"
        raise TrainingStopped(
            f"{self.name.value}, epoch {self.epoch}, step {step}: {what} not finite for cases {cases}; "
            f"losses {result.losses}"
        )

    def _validate(self) -> tuple[dict[str, float], float]:
        """C and Cox loss on the validation cases."""
        rows = self.validation_rows
        scores = score_cases(self.network, self.data.inputs, rows, self.schedule.batch_size)
        signals = torch.zeros(rows.size, 4 + scores.labels.shape[1])
        signals[:, 0], signals[:, 1] = torch.from_numpy(scores.os), torch.from_numpy(scores.pfs)
        if not bool(torch.isfinite(signals).all()):
            raise TrainingStopped(f"{self.name.value}, epoch {self.epoch}: validation scores are not finite")
        losses = measure_losses(
            signals, self.data.targets(rows, torch.device("cpu")), reconstructs=False, ties=self.schedule.ties
        )
        cox = [float(loss) for task, loss in losses.items() if task.value in ("os", "pfs")]
        found = measure_c(scores, self.data, rows)
        *concordance, total = self.options.ranks.agree([*found.values(), float(np.sum(cox))], self.device)
        return dict(zip(found, concordance, strict=True)), total

    def _choose(self) -> None:
        """Keeps the weights of this epoch where its smoothed C is the best so far; the earliest wins a tie."""
        first = max(self.schedule.warm_up_epochs, self.schedule.reconstruction_epochs)
        if self.name is NetworkName.UNSUPERVISED:
            return
        for selection in Selection:
            value = smoothed_c(self.history, selection, first)
            if value is not None and (selection not in self.best or value > self.best[selection][0]):
                self.best[selection] = (value, self.epoch)
                self.states[selection] = self._state()

    def _state(self) -> dict[str, torch.Tensor]:
        return {
            key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, tensor in self.network.state_dict().items()
        }

    def _save(self) -> None:
        if self.options.folder is None or self.options.ranks.rank != 0:
            return
        tensors = {f"network.{key}": tensor for key, tensor in self.network.state_dict().items()}
        tensors |= {f"weights.{key}": tensor for key, tensor in self.weights.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{key}": value for key, value in state.items()}
        for selection, weights in self.states.items():
            tensors |= {f"best.{selection.value}.{key}": tensor for key, tensor in weights.items()}
        progress: dict[str, Any] = {
            "epoch": self.epoch,
            "history": [asdict(record) for record in self.history],
            "best": {selection.value: list(best) for selection, best in self.best.items()},
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "plateau": {
                key: value
                for key, value in self.plateau.state_dict().items()
                if isinstance(value, int | float)
            },
        }
        checkpoint = Checkpoint(run=self.identity, progress=progress, tensors=tensors)
        write_checkpoint(self.options.folder / CHECKPOINT_NAME, checkpoint)

    def _restore(self, checkpoint: Checkpoint) -> None:
        tensors, progress = checkpoint.tensors, checkpoint.progress
        self.network.load_state_dict(_below(tensors, "network."))
        self.weights.load_state_dict(_below(tensors, "weights."))
        state = self.optimiser.state_dict()
        parameters = [*self.network.parameters(), *self.weights.parameters()]
        for name, tensor in _below(tensors, "optimiser.").items():
            number, key = name.split(".")
            parameter = parameters[int(number)]
            like = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
            state["state"].setdefault(int(number), {})[key] = like
        state["param_groups"][0]["lr"] = progress["learning_rate"]
        self.optimiser.load_state_dict(state)
        self.plateau.load_state_dict(progress["plateau"])
        self.epoch = progress["epoch"]
        self.history = [EpochRecord(**record) for record in progress["history"]]
        self.best = {Selection(word): (value, epoch) for word, (value, epoch) in progress["best"].items()}
        self.states = {selection: _below(tensors, f"best.{selection.value}.") for selection in self.best}


class _Prepared:
    """Gives a micro-batch's inputs on the device, float32 and augmented, the same at each call.

    Args:
        inputs: (n, phases, side, side, side) float16, on the CPU.
        schedule: how likely each change is, and whether the contrast is among them.
        seed: decides the changes.
        memory: float32 on the device, for n cases or more; what was there before is gone.
    """

    def __init__(self, inputs: torch.Tensor, schedule: Schedule, seed: int, memory: torch.Tensor) -> None:
        self.inputs, self.schedule, self.seed, self.memory = inputs, schedule, seed, memory

    def __call__(self) -> torch.Tensor:
        inputs = self.inputs.to(self.memory.device, non_blocking=True)
        drawn = draw_augmentation(
            inputs.shape[0],
            self.schedule.augmentation,
            torch.Generator().manual_seed(self.seed),
            contrast=self.schedule.contrast,
        )
        changed = apply_augmentation(inputs, drawn, self.memory)
        return changed.contiguous(memory_format=torch.channels_last_3d)


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under a prefix, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _mix(*numbers: int) -> int:
    """One seed from several numbers; near numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _progress_fields(record: EpochRecord) -> dict[str, object]:
    """The canonical log line of an epoch."""
    rounded = {f"c_{endpoint}": round(value, 4) for endpoint, value in record.c_index.items()}
    losses = {f"loss_{task}": round(value, 4) for task, value in record.losses.items()}
    return {
        "epoch": record.epoch,
        **losses,
        **rounded,
        "learning_rate": record.learning_rate,
        "seconds": round(record.seconds, 2),
        "remaining_seconds": round(record.remaining_seconds),
        "data_wait": round(record.data_wait, 4),
    }
