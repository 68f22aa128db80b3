"""``mmf-node export``: finished studies, and folders of DICOM with a clinical table, become pseudonymised cases."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.commands.jobs import AsJson, Conf, Data
from node.log import configure_log
from node.settings import Settings, read_settings

if TYPE_CHECKING:
    from node.cohort.export import Outcome

LINKAGE_NAME = "linkage"
"""Private folder below the data folder: secret, register, studies in preparation."""

CohortFolder = Annotated[
    Path | None,
    typer.Option("--cohort", help="Folder of the cohort; default: learning.cohort, else DATA/cohort."),
]


def export(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]...", help="Folders of DICOM studies; none: finished jobs."),
    ] = None,
    cohort: CohortFolder = None,
    clinical: Annotated[
        Path | None, typer.Option(help="Clinical table (CSV); default: clinical.table of the settings.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=2, help="Voxels of the network input; default: learning.side.")
    ] = None,
    unlabelled: Annotated[
        bool,
        typer.Option("--unlabelled", help="Also patients without a clinical row: for the autoencoder alone."),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write cases again that changed, take out those found wrong.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Operational log on standard error.")] = False,
) -> None:
    """Turns studies into pseudonymised cases of a cohort: one index scan a patient, every exclusion with its reason.

    Names, identifiers and dates stay behind; UIDs become keyed pseudonyms. A second run writes nothing again, and a run
    that was killed goes on. The secret and the register that links cases to patients lie in DATA/linkage, mode 0600.
    """
    changes = {} if clinical is None else {"clinical": {"table": str(clinical)}}
    settings = read_settings(conf, data=data, changes=changes)
    configure_log("plain", logging.INFO if verbose else logging.ERROR)
    outcomes = export_studies(
        settings,
        folders or [],
        cohort=find_cohort(settings, cohort),
        side=side or settings.learning.side,
        unlabelled=unlabelled,
        replace=replace,
        dry_run=dry_run,
    )
    show_outcomes(outcomes, find_cohort(settings, cohort), as_json=as_json)


def find_cohort(settings: Settings, cohort: Path | None) -> Path:
    """Returns the folder of the cohort: the one named, that of the settings, or DATA/cohort."""
    from node.app import COHORT_NAME

    return cohort or settings.learning.cohort or settings.storage.data / COHORT_NAME


def find_linkage(settings: Settings) -> Path:
    """Returns the site's private folder of pseudonyms."""
    return settings.storage.data / LINKAGE_NAME


def export_studies(
    settings: Settings,
    folders: list[Path],
    *,
    cohort: Path,
    side: int,
    unlabelled: bool = False,
    replace: bool = False,
    dry_run: bool = False,
) -> tuple["Outcome", ...]:
    """Returns what became of each study after exporting; one export at a time.

    Args:
        settings: of the node.
        folders: of DICOM studies; none = the finished jobs of the node.
        cohort: folder of the cohort.
        side: voxels of the network input.
        unlabelled: also patients without a clinical row.
        replace: write again what changed.
        dry_run: write nothing.

    Raises:
        Busy: another export is under way.
        MmfError: a folder, the clinical table, the secret or the cohort cannot be used.
    """
    from node.app import build_prepare, list_node_folders, prepare_threads

    prepare_threads(settings.worker.threads)
    from engines.clinical.table import ClinicalTable, read_clinical_table
    from engines.lock import hold_lock
    from engines.network_input import Preprocessing
    from node.cohort.export import Exporter, ExportPlan
    from node.cohort.linkage import LOCK_NAME, WORK_NAME, Linkage
    from node.cohort.sources import find_finished_studies, find_folder_studies

    table = settings.clinical.table
    plan = ExportPlan(
        cohort=cohort,
        preprocessing=Preprocessing(side=side),
        table=ClinicalTable(rows=()) if table is None else read_clinical_table(table),
        maximum_scan_age_weeks=settings.assessment.maximum_scan_age_weeks,
        centre=settings.learning.centre,
        unlabelled=unlabelled,
        replace=replace,
        dry_run=dry_run,
    )
    private = find_linkage(settings)
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(private / LOCK_NAME, "an export or an import of outcomes"):
        linkage = Linkage.open(private)
        prepare, work = build_prepare(settings), private / WORK_NAME
        if folders:
            studies = find_folder_studies(folders, prepare, linkage.pseudonyms, work)
        else:
            studies = find_finished_studies(list_node_folders(settings), prepare, linkage.pseudonyms, work)
        return Exporter(plan, linkage, lambda line: typer.echo(line, err=True)).run(studies)


def show_outcomes(outcomes: tuple["Outcome", ...], cohort: Path, *, as_json: bool) -> None:
    """Writes what became of the studies on standard output."""
    from node.cohort.export import count_fates

    if as_json:
        content = {"cohort": str(cohort), "studies": [asdict(outcome) for outcome in outcomes]}
        typer.echo(json.dumps({**content, "counts": count_fates(outcomes)}, indent=2))
        return
    for word, count in sorted(count_fates(outcomes).items()):
        typer.echo(f"{count:>6}  {word}")
    if not outcomes:
        typer.echo("no finished study", err=True)
