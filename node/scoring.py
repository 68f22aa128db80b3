"""What the model in service says of a study: its network input and its scores. Stages of the pipeline."""

import json
from importlib.metadata import version

from pydantic import TypeAdapter

from engines.case import write_array, write_json
from engines.clinical.variables import encode_variables
from engines.errors import InvalidInput, ModelRefused, RegistrationRefused
from engines.models.model import Scores
from engines.models.store import load_model
from engines.network_input import network_input
from engines.radiomics.feature_file import read_features
from node.conclusion import flag_scores
from node.imaging import FEATURES, list_placements
from node.report.record import NotAssessable, ReasonCode
from node.walk import Walk


def prepare_input(walk: Walk) -> NotAssessable | None:
    """The model in service, and the liver box of the three phases as it wants it."""
    tools = walk.tools
    try:
        model = load_model(tools.model_folder, allow_demonstration=tools.allow_demonstration)
    except ModelRefused as refused:
        return NotAssessable(code=ReasonCode.MODEL_NOT_ALLOWED, reason=str(refused))
    walk.model = model
    liver = walk.liver
    if liver is None:
        raise InvalidInput("the network input was asked for before the segmentation")

    def produce() -> None:
        array = network_input(walk.volumes, walk.transforms, liver, model.card.preprocessing)
        write_array(array, walk.case.network_input_path)

    try:
        walk.steps.run(
            "input",
            [version("mmf-node"), repr(model.card.preprocessing), *list_placements(walk)],
            produce,
            TypeAdapter(None),
            [walk.case.network_input_path],
        )
    except RegistrationRefused as refused:
        return NotAssessable(code=ReasonCode.POOR_REGISTRATION, reason=str(refused))
    return None


def score_study(walk: Walk) -> NotAssessable | None:
    """The three networks, Ensemble-DL, and MMF where every variable and radiomic feature that it needs is known."""
    model, row = walk.model, walk.row
    if model is None:
        raise InvalidInput("the scores were asked for before the model")
    clinical = None if row is None else row.variables
    known = None if clinical is None else encode_variables(clinical)
    measured = [walk.steps.digest(FEATURES)] if walk.tools.radiomics is not None else []
    form = TypeAdapter(Scores)

    def produce() -> Scores:
        features = read_features(walk.case.features_path) if measured else None
        return model.score(walk.case.read_network_input(), clinical, features)

    walk.scores = walk.steps.run(
        "score",
        [version("mmf-node"), model.sha256, walk.steps.digest("input"), json.dumps(known), *measured],
        produce,
        form,
    )
    write_json(form.dump_python(walk.scores, mode="json"), walk.case.folder / "scores.json")
    walk.steps.outputs.add(walk.case.folder / "scores.json")
    if known is not None:
        write_json(known, walk.case.folder / "clinical.json")
        walk.steps.outputs.add(walk.case.folder / "clinical.json")
    walk.flags += flag_scores(walk.scores)
    return None
