"""``mmf-node demo``: the main job on this machine, with synthetic images and the truth beside the result."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    pacs: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT:AET", help="Deliver to this archive instead of the embedded one."),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder of the demonstration; each run gets its own inside.")
    ] = Path("demo-data"),
    patient: Annotated[int, typer.Option(min=0, max=9999, help="Which synthetic patient.")] = 1,
) -> None:
    """Shows the main job: scanner, node and archive on this machine, one three-phase study from C-STORE to the report.

    The images are synthetic and the models were trained on phantoms: the numbers have no clinical meaning.
    """
    from node.demo.show import show_demo
    from node.dicom.send import parse_peer

    show_demo(data, patient, None if pacs is None else parse_peer(pacs))
