"""The JSON schemas of the model folder's files, and the one check that lists every fault at once."""

import json
from pathlib import Path

import jsonschema

from engines.errors import ModelRefused

SCHEMA_FOLDER = Path(__file__).parent.parent / "schemas"
"""``model-manifest``, ``model-card``, ``model-cox`` and ``model-reference``; part of the package."""

_MOST_FAULTS_SHOWN = 20


def check_schema(name: str, content: object, file: str) -> None:
    """Refuses content that breaks a schema.

    Args:
        name: of the schema, e.g. ``model-card``.
        content: parsed JSON or TOML.
        file: what the content came from, for the message.

    Raises:
        ModelRefused: every fault with its place.
    """
    schema = json.loads((SCHEMA_FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    faults = [
        f"{fault.json_path}: {fault.message[:200]}"
        for fault in sorted(validator.iter_errors(content), key=lambda fault: fault.json_path)
    ]
    if faults:
        shown = "; ".join(faults[:_MOST_FAULTS_SHOWN])
        raise ModelRefused(f"{file} breaks the schema {name}: {shown}")
