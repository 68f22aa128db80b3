"""``mmf-node send DIR HOST:PORT:AET``: sends the DICOM files of a folder, as a scanner would."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import InvalidInput
from node.commands.jobs import AsJson
from node.dicom.send import SendSettings, is_dicom_file, parse_peer, send_objects
from node.ports import Answer, Delivery

_STORED = (Answer.STORED, Answer.STORED_WITH_WARNING)
_FAILED = 1


def send(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files, searched recursively.")],
    peer: Annotated[str, typer.Argument(help="HOST:PORT:AET")],
    calling: Annotated[str, typer.Option(help="Our calling AE title.")] = "MMFSEND",
    as_json: AsJson = False,
) -> None:
    """Sends every DICOM file of a folder by C-STORE on one association; files of other kinds are named and left."""
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    objects = [path for path in files if is_dicom_file(path)]
    if not objects:
        raise InvalidInput(f"{folder} holds no DICOM file")
    deliveries = send_objects(objects, parse_peer(peer), SendSettings(ae_title=calling))
    failed = [delivery for delivery in deliveries if delivery.answer not in _STORED]
    if as_json:
        typer.echo(json.dumps(_describe(deliveries, len(files) - len(objects)), indent=2))
    else:
        for path in sorted(set(files) - set(objects)):
            typer.echo(f"not DICOM, left out: {path}", err=True)
        for delivery in failed:
            typer.echo(f"{delivery.sop_instance_uid}  {delivery.answer}  {delivery.detail}", err=True)
        typer.echo(f"{len(deliveries) - len(failed)} of {len(objects)} objects stored at {peer}")
    if failed:
        raise typer.Exit(_FAILED)


def _describe(deliveries: Sequence[Delivery], left_out: int) -> dict[str, object]:
    return {
        "stored": sum(delivery.answer in _STORED for delivery in deliveries),
        "left_out": left_out,
        "objects": [
            {
                "sop_instance_uid": delivery.sop_instance_uid,
                "answer": delivery.answer,
                "status": delivery.status,
                "detail": delivery.detail,
            }
            for delivery in deliveries
        ],
    }
