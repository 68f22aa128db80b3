"""Runs the demonstration: scanner, node and archive as separate parties on loopback, then the result beside the truth."""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import tomli_w
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engines.endpoint import Endpoint
from engines.phantom.cohort import true_survival
from node.app import CASES_NAME, RESULTS_NAME
from node.demo.patient import DemoStudy, write_demo_study
from node.dicom.archive import EmbeddedArchive
from node.dicom.send import PeerAddress, SendSettings, send_objects
from node.errors import DeliveryPostponed
from node.job import Job, JobState
from node.log import configure_log
from node.ports import Answer
from node.processes import DATABASE_NAME
from node.report.json_form import read_json
from node.report.record import PhaseEntry, Report, Status
from node.storage.jobs import SqliteJobs

START_SECONDS = 90.0
"""The node must print its ready line within this."""
FINISH_SECONDS = 600.0
"""The study must be delivered within this."""
_POLL_SECONDS = 0.2
_READY = re.compile(r"listens on 127\.0\.0\.1:(\d+),")
_OVER = {JobState.DONE, JobState.UNCONFIRMED, JobState.SHELVED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One run: its folder, and where the results go."""

    folder: Path
    archive: PeerAddress
    console: Console

    @property
    def data(self) -> Path:
        return self.folder / "node"


def show_demo(root: Path, patient: int, pacs: PeerAddress | None) -> None:
    """Runs the demonstration and prints what happened.

    Args:
        root: gets a new folder ``run-N``; earlier runs are kept.
        patient: which synthetic patient.
        pacs: deliver there; None starts an embedded archive.

    Raises:
        DeliveryPostponed: a party did not start, or the study was not delivered; the message names the log to read.
    """
    configure_log("plain", logging.ERROR)
    console = Console(highlight=False)
    folder = _new_folder(root)
    started = time.monotonic()
    console.print(
        "[bold]mmf-node demonstration[/bold]  synthetic images, models trained on phantoms: "
        "the numbers have no clinical meaning. Research use only."
    )
    with ExitStack() as parties:
        if pacs is None:
            embedded = parties.enter_context(EmbeddedArchive(folder / "archive"))
            pacs = PeerAddress(host="127.0.0.1", port=embedded.port, ae_title=embedded.ae_title)
        stage = _Stage(folder=folder, archive=pacs, console=console)
        table = folder / "clinical.csv"
        _write_settings(stage, table)
        console.print(
            "scanner  draws a synthetic patient and scans: native, arterial, portal venous, delayed"
        )
        study = write_demo_study(folder, patient)
        node, port = parties.enter_context(_node(stage))
        console.print(f"node     listens on 127.0.0.1:{port}")
        _send(stage, study, port)
        job = _wait(stage, node)
        report = read_json(
            (stage.data / RESULTS_NAME / str(job.job_id) / "report.json").read_text(encoding="utf-8")
        )
        _tell(stage, study, job, report)
    console.print(
        f"[dim]all of it took {time.monotonic() - started:.0f} s; everything is in {escape(str(folder))}[/dim]"
    )
    if job.state != JobState.DONE or report.status != Status.ASSESSED:
        raise DeliveryPostponed(f"job {job.job_id} ended as {job.state}: {job.error or report.reason}")


def _new_folder(root: Path) -> Path:
    """Makes the next ``run-N`` below the demonstration's folder."""
    numbers = [int(path.name[4:]) for path in root.glob("run-*") if path.name[4:].isdecimal()]
    folder = root / f"run-{max(numbers, default=0) + 1}"
    folder.mkdir(parents=True)
    return folder.resolve()


def _write_settings(stage: _Stage, clinical_table: Path) -> None:
    clinical_table.touch()
    content = {
        "listener": {"ae_title": "MMFNODE", "address": "127.0.0.1", "port": 0},
        "storage": {"data": str(stage.data), "minimum_free_gib": 0.5},
        "completeness": {"quiet_seconds": 3.0, "settle_seconds": 10.0},
        "destination": {
            "host": stage.archive.host,
            "port": stage.archive.port,
            "ae_title": stage.archive.ae_title,
            "maximum_tries": 3,
            "first_retry_seconds": 2.0,
        },
        "models": {"allow_demonstration": True},
        "clinical": {"table": str(clinical_table)},
    }
    (stage.folder / "node.toml").write_text(tomli_w.dumps(content), encoding="utf-8")


@contextmanager
def _node(stage: _Stage) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Runs ``mmf-node serve`` in its own process; gives it and its port; ends it by SIGTERM."""
    with (stage.folder / "node.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", "serve", "--conf", str(stage.folder / "node.toml")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield process, _read_port(process, stage)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _read_port(process: subprocess.Popen[str], stage: _Stage) -> int:
    output: IO[str] | None = process.stdout
    line = output.readline() if output is not None else ""
    found = _READY.search(line)
    if found is None:
        raise DeliveryPostponed(f"the node did not start; read {stage.folder / 'node.log'}")
    return int(found.group(1))


def _send(stage: _Stage, study: DemoStudy, port: int) -> None:
    """Sends every object by C-STORE on one association, as a scanner does."""
    paths = sorted(study.folder.glob("*.dcm"))
    peer = PeerAddress(host="127.0.0.1", port=port, ae_title="MMFNODE")
    began = time.monotonic()
    deliveries = send_objects(paths, peer, SendSettings(ae_title="SYNTHETIC_CT"))
    stored = sum(delivery.answer == Answer.STORED for delivery in deliveries)
    seconds = time.monotonic() - began
    stage.console.print(
        f"scanner  sent {len(paths)} objects by C-STORE, {stored} stored, {seconds:.1f} s ({len(paths) / seconds:.0f} a second)"
    )
    if stored != len(paths):
        raise DeliveryPostponed(
            f"the node stored {stored} of {len(paths)} objects; read {stage.folder / 'node.log'}"
        )


def _wait(stage: _Stage, node: subprocess.Popen[str]) -> Job:
    """Waits until the job is over and tells each step as it ends."""
    told: set[str] = set()
    state = ""
    with (
        SqliteJobs(stage.data / DATABASE_NAME) as jobs,
        stage.console.status("node     waits until the study is complete") as status,
    ):
        for _ in _until(FINISH_SECONDS):
            if node.poll() is not None:
                raise DeliveryPostponed(
                    f"the node ended with {node.returncode}; read {stage.folder / 'node.log'}"
                )
            found = jobs.find(tuple(JobState), "")
            if not found:
                continue
            job = found[0]
            for name, seconds in _finished_steps(stage, job):
                if name not in told:
                    told.add(name)
                    stage.console.print(f"node     {name:<28}{seconds:6.1f} s")
            if job.state != state:
                state = job.state
                status.update(f"node     job {job.job_id} is {state}")
            if job.state in _OVER:
                return job
    raise DeliveryPostponed(
        f"the study was not delivered in {FINISH_SECONDS:g} s; read {stage.folder / 'node.log'}"
    )


def _until(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(_POLL_SECONDS)


def _finished_steps(stage: _Stage, job: Job) -> list[tuple[str, float]]:
    """Returns the steps of the case that are done, in their order, with their wall time in seconds."""
    folder = stage.data / CASES_NAME / str(job.job_id) / "steps"
    records = sorted(folder.glob("[a-z]*.json"), key=lambda path: path.stat().st_mtime_ns)
    steps: list[tuple[str, float]] = []
    for record in records:
        content = json.loads(record.read_text(encoding="utf-8"))
        name = str(content["step"])
        if name.startswith("enhancement-"):
            name = f"enhancement of series {len(steps) + 1}"
        steps.append((name, float(content["seconds"])))
    return steps


def _tell(stage: _Stage, study: DemoStudy, job: Job, report: Report) -> None:
    """Prints phases, volumes, risks beside the truth, objects and where to look."""
    stage.console.print(_phases(study, report))
    for phase in _by_number(report):
        stage.console.print(f"series {phase.series_number}: {escape('; '.join(phase.reasons))}")
    stage.console.print(_volumes(study, report))
    stage.console.print(_risks(study, report))
    results = stage.data / RESULTS_NAME / str(job.job_id)
    seconds = (job.updated_at - job.created_at).total_seconds()
    stage.console.print(f"node     from the complete study to the last object delivered: {seconds:.1f} s")
    objects = Table(title=f"Delivered to {stage.archive}", title_justify="left")
    for column in ("object", "SOP Instance UID"):
        objects.add_column(column)
    for entry in report.objects:
        objects.add_row(entry.kind, entry.sop_instance_uid)
    stage.console.print(objects)
    for flag in report.flags:
        stage.console.print(f"note     {escape(flag)}")
    stage.console.print(f"PDF      {escape(str(results / 'report.pdf'))}", soft_wrap=True)
    for page in sorted((results / "pages").glob("*.png")):
        stage.console.print(f"page     {escape(str(page))}", soft_wrap=True)


def _phases(study: DemoStudy, report: Report) -> Table:
    table = Table(title="Series and contrast phases", title_justify="left")
    for column in ("no.", "series", "recognised as", "truth", "used"):
        table.add_column(column)
    for entry in _by_number(report):
        truth = study.phase_of_series.get(entry.series_instance_uid)
        found = entry.phase.value if entry.phase else "no phase"
        sure = "" if entry.probability is None else f" {entry.probability:.2f}"
        table.add_row(
            str(entry.series_number),
            escape(entry.series_description),
            found + sure,
            truth.value if truth else "-",
            "yes" if entry.used else "no",
        )
    return table


def _by_number(report: Report) -> list[PhaseEntry]:
    return sorted(report.phases, key=lambda entry: entry.series_number or 0)


def _volumes(study: DemoStudy, report: Report) -> Table:
    table = Table(title="Segmentation", title_justify="left")
    for column in ("structure", "measured", "truth"):
        table.add_column(column)
    truth = {
        "liver": f"{study.liver_ml:.0f} mL",
        "tumour": f"{study.tumours_ml:.0f} mL, {study.tumours} lesions, longest {study.longest_diameter_mm:.0f} mm",
    }
    for structure in report.structures:
        longest = structure.longest_diameter_mm
        diameter = f", longest {longest:.0f} mm" if longest is not None else ""
        table.add_row(
            structure.name, f"{structure.volume_ml:.0f} mL{diameter}", truth.get(structure.name, "")
        )
    return table


def _risks(study: DemoStudy, report: Report) -> Table:
    table = Table(title="Risk beside the phantom's truth", title_justify="left")
    for column in ("endpoint", "model", "group", "log hazard (95 %)", "months", "survival (95 %)", "truth"):
        table.add_column(column)
    for risk in report.risks:
        endpoint = Endpoint(risk.endpoint)
        true_hazard = study.patient.log_hazard[endpoint]
        for index, point in enumerate(risk.survival):
            head = (
                (
                    risk.endpoint,
                    risk.model,
                    risk.group,
                    f"{risk.log_hazard:+.2f} ({risk.low:+.2f} to {risk.high:+.2f})",
                )
                if index == 0
                else ("", "", "", "")
            )
            true_probability = true_survival(true_hazard, endpoint, point.months)
            table.add_row(
                *head,
                f"{point.months:g}",
                f"{point.probability:.0%} ({point.low:.0%}-{point.high:.0%})",
                f"{true_probability:.0%}",
            )
    return table
