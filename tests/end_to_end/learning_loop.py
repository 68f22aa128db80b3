"""The whole learning loop as one scripted scenario: ``make loop`` runs it at the size of miniatures, the tests smaller.

Phantoms -> studies through the node and its export -> outcomes import -> nightly training -> the gate's report ->
a person promotes -> the next study is assessed with the new version -> rollback. Everything is synthetic.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import tomli_w

from engines.configuration import find_conf
from engines.network_input import Preprocessing
from node.job import JobState
from node.processes import DATABASE_NAME
from node.storage.jobs import SqliteJobs
from tests.loop_cohort import (
    FREEZE,
    LAG_DAYS,
    add_cases,
    draw_balls,
    draw_patients,
    write_cohort_record,
    write_outcomes,
)

WAIT_SECONDS = 1800.0
"""For one study, on a machine that does much else."""

Call = Callable[..., str]
"""Runs a program with words and returns its standard output."""


@dataclass(frozen=True)
class LoopSize:
    """How large the scenario is.

    Attributes:
        patients: synthetic patients whose cases are written as an export leaves them.
        studies: further patients who go through scanner, node and export, and one more who comes after the promotion.
        rendered: phantoms are drawn and cut out as studies are; else crude balls.
        recipe: of the training.
    """

    patients: int
    studies: int
    rendered: bool
    recipe: str
    side: int = 32
    folds: int = 2
    trees: int = 100
    processes: int = 1
    margin: float = 0.1
    seed: int = 7


def run_loop(folder: Path, size: LoopSize, call: Call, model: Path, tell: Callable[[str], None]):
    """Runs the scenario in ``folder`` and returns what the tests look at."""
    loop = _Loop(folder, size, call, model, tell)
    with loop.step("the model that serves today, delivered from elsewhere"):
        loop.install()
    with loop.step(f"{size.patients} synthetic patients as exported cases"):
        loop.make_cohort()
    if size.studies:
        with loop.step(f"{size.studies} studies: scanner, C-STORE, node, archive-less delivery"):
            loop.receive(range(1, 1 + size.studies))
        with loop.step("export of the finished studies"):
            loop.export()
    with loop.step("outcomes: template, dry run, import"):
        loop.import_outcomes()
    with loop.step(f"nightly training by recipe {Path(size.recipe).stem}, and the gate"):
        loop.train()
    with loop.step("a second night: nothing is new"):
        loop.train_again()
    with loop.step("a person promotes"):
        loop.promote()
    if size.studies:
        with loop.step("the next study, with the new version"):
            loop.receive([1 + size.studies])
    with loop.step("rollback"):
        loop.roll_back()
    tell(f"the whole loop took {time.monotonic() - loop.started:.0f} s; everything is in {folder}")
    return loop


class _Loop:
    def __init__(self, folder, size, call, model, tell):
        self.folder, self.size, self._call, self.model, self.tell = folder, size, call, model, tell
        self.data, self.store, self.runs = folder / "data", folder / "store", folder / "nightly"
        self.cohort, self.conf = self.data / "cohort", folder / "node.toml"
        self.started = time.monotonic()
        self.reports = []
        self.store.mkdir(parents=True)
        self.clinical = folder / "clinical.csv"
        self.clinical.write_text("patient_id\n")
        self._write_settings()

    @contextmanager
    def step(self, words):
        self.tell(f"-- {words}")
        began = time.monotonic()
        yield
        self.tell(f"   {time.monotonic() - began:.1f} s")

    def node(self, *words):
        return self._call("node", *words, "--conf", str(self.conf))

    def install(self):
        self.node("models", "install", str(self.model), "--trained-elsewhere", "trained on other phantoms")
        (version,) = [row["version"] for row in self._models()["models"]]
        self.node("models", "promote", version, "--by", "operator")
        self.first = version
        self.tell(f"   {self.node('models', 'list').strip()}")

    def make_cohort(self):
        self.patients = draw_patients(self.size.patients, self.size.seed)
        if self.size.rendered:
            inputs = _render([one.traits for one, _ in self.patients], self.size)
        else:
            inputs = draw_balls(self.patients, self.size.side)
        write_cohort_record(self.cohort, self.size.side)
        add_cases(self.cohort, self.data / "linkage", self.patients, inputs)

    def receive(self, numbers):
        """Studies arrive by C-STORE at a running node, which assesses them."""
        from node.demo.patient import write_demo_study
        from node.dicom.send import PeerAddress, SendSettings, send_objects

        for number in numbers:
            study = write_demo_study(self.folder / f"scan-{number}", number)
            self._add_clinical(study.clinical_table)
            with _serving(self.conf, self.folder / "node.log") as port:
                peer = PeerAddress(host="127.0.0.1", port=port, ae_title="MMFNODE")
                answers = send_objects(
                    sorted(study.folder.glob("*.dcm")), peer, SendSettings(ae_title="SYNTHETIC_CT")
                )
                assert all(answer.answer == "STORED" for answer in answers)
                job = self._wait_for(study.study_instance_uid)
            report = json.loads((self.data / "results" / str(job.job_id) / "report.json").read_text())
            assert report["status"] == "assessed", report
            self.reports.append(report)
            self.tell(
                f"   study {number}: {report['status']} by {report['models'][0]['name']} {report['models'][0]['version']}"
            )

    def export(self):
        first = json.loads(self.node("export", "--json"))
        again = json.loads(self.node("export", "--json"))
        assert first["counts"] == {"exported": self.size.studies}, first
        assert again["counts"] == {"present": self.size.studies}, again
        self.tell(f"   {first['counts']}; a second export: {again['counts']}")

    def import_outcomes(self):
        self._call("node", "outcomes", "template", "--patients", "--conf", str(self.conf))
        table = self.folder / "outcomes.csv"
        write_outcomes(table, self.patients, extra=self._late_patients())
        words = ("outcomes", "import", str(table), "--freeze", FREEZE.isoformat())
        planned = json.loads(self.node(*words, "--dry-run", "--json"))
        assert planned["counts"]["new"] >= self.size.patients
        assert not list(self.cohort.glob("*/outcomes.json"))
        self.joined = json.loads(self.node(*words, "--json"))
        self.tell(f"   {self.joined['counts']}, completeness {self.joined['completeness']['share']:.2f}")

    def train(self):
        self.night = json.loads(self._nightly())
        folder = Path(self.night["folder"])
        self.candidate = self.night["candidate"]
        self.tell(f"   candidate {self.candidate}: {self.night['decision']}")
        for reason in self.night["reasons"]:
            self.tell(f"   {reason}")
        power = self.night["power"]
        self.tell(f"   power {'-' if power is None else f'{power:.0%}'}; report {folder / 'report.html'}")
        assert self._models()["current"] == self.first  # in the store, not in service

    def train_again(self):
        again = json.loads(self._nightly())
        assert again["status"] == "nothing new", again
        self.tell(f"   {again['notes'][0]}")

    def promote(self):
        words = ("models", "promote", self.candidate, "--by", "operator")
        if self.night["decision"] != "release":
            words += ("--against-the-gate", "the scenario shows a promotion")
        self.tell(f"   {self.node(*words).strip()}")
        assert self._models()["current"] == self.candidate

    def roll_back(self):
        self.tell(f"   {self.node('models', 'rollback', '--by', 'operator').strip()}")
        assert self._models()["current"] == self.first
        self.tell(self.node("models", "history"))

    def _nightly(self):
        size = self.size
        words = [
            "nightly",
            "--cohort",
            str(self.cohort),
            "--store",
            str(self.store),
            "--runs",
            str(self.runs),
        ]
        words += ["--recipe", size.recipe, "--folds", str(size.folds), "--trees", str(size.trees), "--json"]
        words += ["--margin", str(size.margin), "--processes", str(size.processes), "--device", "cpu"]
        return self._call("train.cli", *words)

    def _models(self):
        return json.loads(self.node("models", "list", "--json"))

    def _late_patients(self):
        """The patients of the studies: treated after the cut, so nothing is known of them yet."""
        from node.demo.patient import TREATMENT_START

        return [
            {
                "patient_id": f"PHANTOM-{number:04d}",
                "issuer": "MMF-SYNTHETIC",
                "treatment_start": TREATMENT_START,
                "last_contact": FREEZE,
            }
            for number in range(1, 1 + self.size.studies)
        ]

    def _add_clinical(self, table):
        header, row = table.read_text().splitlines()
        known = self.clinical.read_text().splitlines()[1:]
        self.clinical.write_text("\n".join([header, *known, row]) + "\n")

    def _wait_for(self, study):
        deadline = time.monotonic() + WAIT_SECONDS
        with SqliteJobs(self.data / DATABASE_NAME) as jobs:
            while time.monotonic() < deadline:
                found = jobs.find(study_instance_uid=study)
                if found and found[0].state in (JobState.DONE, JobState.SHELVED):
                    assert found[0].state == JobState.DONE, found[0]
                    return found[0]
                time.sleep(0.5)
        raise AssertionError(f"study {study} was not assessed in time; read {self.folder / 'node.log'}")

    def _write_settings(self):
        content = {
            "listener": {"ae_title": "MMFNODE", "address": "127.0.0.1", "port": 0},
            "storage": {"data": str(self.data), "minimum_free_gib": 0.1},
            "completeness": {"quiet_seconds": 2.0, "settle_seconds": 10.0},
            "models": {"folder": str(self.store), "allow_demonstration": True},
            "clinical": {"table": str(self.clinical)},
            "worker": {"threads": 1},
            "learning": {"side": self.size.side, "reporting_lag_days": LAG_DAYS, "centre": "site-a"},
        }
        self.conf.write_text(tomli_w.dumps(content))


def _render(traits, size):
    """The inputs of phantoms, rendered side by side."""
    from train.synthetic import render_input

    render = partial(render_input, preprocessing=Preprocessing(side=size.side))
    with ProcessPoolExecutor(size.processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(render, traits, chunksize=8))


@contextmanager
def _serving(conf, log):
    """``mmf-node serve`` in its own process; gives its port."""
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", "serve", "--conf", str(conf)],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
        try:
            line = process.stdout.readline()
            yield int(line.split("127.0.0.1:")[1].split(",")[0])
        finally:
            process.terminate()
            process.wait(timeout=60)


def call_process(module, *words):
    """Runs a program of this product in its own process; its progress goes to this one's standard error."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"{module} {' '.join(words)} ended with {done.returncode}")
    return done.stdout


def _tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    """Runs the scenario at the size of miniatures; the folder is made anew."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "loop-data").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    size = LoopSize(
        patients=200,
        studies=2,
        rendered=True,
        recipe="demo",
        folds=3,
        trees=200,
        processes=os.cpu_count() or 1,
    )
    run_loop(folder, size, call_process, find_conf("models/demo"), _tell)


if __name__ == "__main__":
    main()
