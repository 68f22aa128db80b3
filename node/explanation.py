"""What is told beside the scores and never changes them: where the networks looked, and how usual their input is."""

from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import TypeAdapter

from engines.case import write_array
from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.models.model import Model
from engines.network_input import network_grid
from engines.networks.settings import NetworkName
from engines.novelty import Novelty, find_unusual_channels, judge_novelty
from engines.volume import Grid, Volume
from node.report.record import NotAssessable
from node.report.sources import SaliencyMap
from node.walk import Walk

log = structlog.get_logger(__name__)

COARSE_CHECK = (
    "whether the input is a usual one was checked coarsely only, by brightness and spread of each phase: this model keeps no"
    " finer reference of its training inputs"
)
"""Said of models released before the finer reference was kept, or fitted on too few inputs for it."""

_FULL = 255
"""A map is kept in bytes: steps of 0.4 per cent cannot be told apart on a page."""


def explain_scores(walk: Walk) -> NotAssessable | None:
    """Where the networks looked and whether their input is unusual; what cannot be drawn is said, the risk stands."""
    model, liver = walk.model, walk.liver
    if model is None or liver is None:
        raise InvalidInput("an explanation was asked for before the scores")
    walk.flags += flag_novelty(model, walk.case.read_network_input())
    if not walk.tools.activation_maps:
        return None
    path = walk.case.activation_maps_path
    try:
        walk.steps.run(
            "explain",
            [version("mmf-node"), model.sha256, walk.steps.digest("input")],
            lambda: write_array(draw_maps(model, walk.case.read_network_input()), path),
            TypeAdapter(None),
            [path],
        )
    except (InvalidInput, ModelRefused) as refused:
        log.warning("no activation maps", study=walk.request.study.study_instance_uid, reason=str(refused))
        walk.flags.append(f"where the networks looked cannot be shown: {refused}")
        return None
    grid = network_grid(liver, model.card.preprocessing)
    walk.saliency = place_maps(model, walk.case.read_activation_maps(), grid)
    return None


def flag_novelty(model: Model, network_input: npt.NDArray[np.float16]) -> tuple[str, ...]:
    """Returns warnings: that the network input is unlike those that the model was trained on, or was checked coarsely only.

    Args:
        model: whose reference tells what is usual.
        network_input: float16 (phases, side, side, side), 0 to 1.
    """
    told: list[str] = []
    reference = model.reference.novelty
    if reference is not None:
        novelty = judge_novelty(network_input, reference)
        if novelty.unusual:
            told.append(_tell_novelty(novelty, model))
    told += [
        f"{one.phase.value.replace('_', ' ').lower()} {one.quantity} {one.value:.2f}, training {one.usual:.2f}"
        f" ± {one.deviation:.2f} ({one.deviations:+.0f} SD)"
        for one in find_unusual_channels(network_input, model.reference.network_input)
    ]
    flags = (f"input unlike the training data: {'; '.join(told)}",) if told else ()
    return flags if reference is not None else (*flags, COARSE_CHECK)


def _tell_novelty(novelty: Novelty, model: Model) -> str:
    words = (
        f"distance {novelty.distance:.1f}, {novelty.level:.0%} of the training inputs lie within"
        f" {novelty.threshold:.1f}"
    )
    if novelty.exchanged is None:
        return words
    one, other = (
        model.card.preprocessing.phases[place].value.replace("_", " ").lower() for place in novelty.exchanged
    )
    return f"{words}; it would be usual with {one} and {other} exchanged: check the phases"


def draw_maps(model: Model, network_input: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
    """Returns what raises each endpoint's log-risk, (endpoints, networks, side, side, side), each map's largest 255.

    One network at a time is followed, so that the memory of a step is that of its largest network.

    Args:
        model: its networks are read when they were not yet.
        network_input: float16 (phases, side, side, side), 0 to 1.

    Raises:
        InvalidInput: a map is not finite.
        ModelRefused: the weights of a network are damaged.
    """
    from engines.saliency import explain_risk

    maps = np.zeros((len(Endpoint), len(_networks(model)), *network_input.shape[1:]), dtype=np.uint8)
    for column, name in enumerate(_networks(model)):
        for row, endpoint in enumerate(Endpoint):
            found = explain_risk(model.network(name, endpoint), network_input, endpoint)
            maps[row, column] = np.rint(found.values * _FULL)
    return maps


def place_maps(model: Model, maps: npt.NDArray[np.uint8], grid: Grid) -> tuple[SaliencyMap, ...]:
    """Returns the maps as the report draws them.

    Args:
        model: whose networks they are of.
        maps: as ``draw_maps`` gives them.
        grid: of the network input.
    """
    return tuple(
        SaliencyMap(
            endpoint=endpoint.value,
            network=name.value.replace("network", "Network "),
            volume=Volume(array=maps[row, column].astype(np.float32) / _FULL, grid=grid),
        )
        for row, endpoint in enumerate(Endpoint)
        for column, name in enumerate(_networks(model))
    )


def _networks(model: Model) -> tuple[NetworkName, ...]:
    return tuple(NetworkName(name) for name in model.ensembles[Endpoint.OS].networks)
