"""The node as a service: processes that start, die, come back and end in order; and an operator who looks on."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial

import psutil
import pydicom
import pytest
import structlog
from typer import Typer
from typer.testing import CliRunner

from node.commands.check import check
from node.commands.jobs import app as jobs_app
from node.commands.send import send
from node.commands.status import status
from node.completeness import CompletenessRules
from node.dicom.archive import EmbeddedArchive
from node.dicom.reception.access import ListenerSettings
from node.dicom.send import PeerAddress, SendSettings, send_objects
from node.errors import SettingsRefused
from node.job import JobState
from node.ports import Answer
from node.processes import ServicePlan, find_running_node, serve
from node.storage.jobs import SqliteJobs
from node.testing import (
    SyntheticSlice,
    build_fake_assess,
    build_storage_destination,
    prepare_quiet,
    save_slices,
)
from node.worker import WorkRules

SENDER = SendSettings(ae_title="SCANNER")


def plan_for(folder, destination, *, seconds=0.0, workers=1):
    return ServicePlan(
        data=folder / "data",
        listener=ListenerSettings(port=0),
        completeness=CompletenessRules(
            release_seconds=0.2, quiet_seconds=2, settle_seconds=2, required_passes=1
        ),
        work=WorkRules(first_retry_seconds=0.2, idle_seconds=0.05),
        workers=workers,
        minimum_free_bytes=0,
        keep_days=0,
        build_assess=partial(build_fake_assess, folder / "results", seconds),
        build_destination=partial(build_storage_destination, destination),
        prepare_process=prepare_quiet,
    )


class Service:
    """The node in a thread of this process, its children as real processes."""

    def __init__(self, plan):
        self.plan, self.stop, self.ports, self.faults = plan, threading.Event(), [], []
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        assert self.ready.wait(60)
        if self.faults:
            raise self.faults[0]
        self.peer = PeerAddress(host="127.0.0.1", port=self.ports[0], ae_title="MMFNODE")

    def _serve(self):
        try:
            serve(self.plan, self._tell, self.stop)
        except SettingsRefused as error:
            self.faults.append(error)
            self.ready.set()

    def _tell(self, port):
        self.ports.append(port)
        self.ready.set()

    def close(self):
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def archive(tmp_path):
    with EmbeddedArchive(tmp_path / "archive") as opened:
        yield opened


@pytest.fixture
def open_service(tmp_path, archive):
    opened = []

    def open_one(**options):
        destination = PeerAddress(host="127.0.0.1", port=archive.port, ae_title="ARCHIVE")
        service = Service(plan_for(tmp_path, destination, **options))
        opened.append(service)
        return service

    yield open_one
    for service in opened:
        service.close()


def save_study(folder, number, slices=24):
    return save_slices(
        (
            SyntheticSlice(
                study=f"2.25.9.{number}",
                series=f"2.25.9.{number}.1",
                instance=f"2.25.9.{number}.1.{index}",
                position_mm=2.5 * index,
            )
            for index in range(1, slices + 1)
        ),
        folder / str(number),
    )


def wait_for_done(service, wait, count, seconds=60):
    with SqliteJobs(service.plan.database) as jobs:
        wait(lambda: jobs.counts()[JobState.DONE] == count, seconds, f"{count} jobs done")
        return jobs.find()


def children_of_this_process():
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has ended, and may wait for its parent to notice
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_a_study_is_received_assessed_and_delivered_and_everyone_ends_in_order(
    open_service, archive, tmp_path, wait
):
    service = open_service()
    answers = send_objects(save_study(tmp_path, 1), service.peer, SENDER)
    assert {one.answer for one in answers} == {Answer.STORED}
    (job,) = wait_for_done(service, wait, 1)
    assert (job.outcome, job.model_version) == ("assessed", "fake-1")
    (path,) = archive.paths()
    assert pydicom.dcmread(path).StudyInstanceUID == "2.25.9.1"
    assert len(children_of_this_process()) == 2
    assert find_running_node(service.plan.data) == os.getpid()
    service.close()
    assert children_of_this_process() == []
    assert find_running_node(service.plan.data) is None


def test_a_killed_worker_comes_back_and_its_job_is_done_once(open_service, archive, tmp_path, wait):
    service = open_service(seconds=1.0)
    send_objects(save_study(tmp_path, 1), service.peer, SENDER)
    wait(lambda: list((tmp_path / "results" / "runs").glob("*")), 30, "the first run")
    with SqliteJobs(service.plan.database) as jobs:
        (job,) = jobs.find([JobState.RUNNING])
        os.kill(int(job.lease_owner.rpartition("-")[2]), signal.SIGKILL)
    (job,) = wait_for_done(service, wait, 1)
    assert job.state is JobState.DONE
    assert archive.count() == 1
    with SqliteJobs(service.plan.database) as jobs:
        assert any("is gone" in move.detail for move in jobs.history(job.job_id))


def test_a_process_that_dies_while_the_database_cannot_be_written_does_not_end_the_node(
    open_service, archive, tmp_path, wait, monkeypatch
):
    service = open_service()

    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    before = {child.pid for child in children_of_this_process()}
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(SqliteJobs, "recover", full)
        os.kill(min(before), signal.SIGKILL)
        wait(lambda: {child.pid for child in children_of_this_process()} - before, 60, "another process")
    send_objects(save_study(tmp_path, 1), service.peer, SENDER)
    wait_for_done(service, wait, 1)
    assert archive.count() == 1


def test_two_nodes_do_not_share_a_data_folder(open_service):
    open_service()
    with pytest.raises(SettingsRefused, match="another node"):
        open_service()


def test_an_archive_that_comes_late_gets_its_result(tmp_path, wait):
    archive = EmbeddedArchive(tmp_path / "archive")
    port = archive.start()
    archive.stop()
    service = Service(plan_for(tmp_path, PeerAddress(host="127.0.0.1", port=port, ae_title="ARCHIVE")))
    try:
        send_objects(save_study(tmp_path, 1), service.peer, SENDER)
        with SqliteJobs(service.plan.database) as jobs:
            wait(lambda: any(job.error for job in jobs.find([JobState.SENDING])), 40, "a first failure")
        with EmbeddedArchive(tmp_path / "archive", port=port) as late:
            wait_for_done(service, wait, 1)
            assert late.count() == 1
    finally:
        service.close()


def test_twenty_studies_on_four_associations_while_two_are_processed_all_finish_in_bounded_memory(
    open_service, archive, tmp_path, wait
):
    service = open_service(seconds=0.1, workers=2)
    studies = [save_study(tmp_path, number) for number in range(20)]
    memory, watching = [], threading.Event()

    def watch():
        while not watching.wait(0.05):
            memory.append(psutil.Process().memory_info().rss)

    def send_share(share):
        for paths in share:
            send_objects(paths, service.peer, SENDER)

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = psutil.Process().memory_info().rss
    senders = [threading.Thread(target=send_share, args=(studies[first::4],)) for first in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(120)
    jobs = wait_for_done(service, wait, 20, 120)
    watching.set()
    watcher.join()
    assert {job.state for job in jobs} == {JobState.DONE}
    assert archive.count() == 20
    assert max(memory) - before < 96 << 20  # sender and archive live in this process too


PROGRAM = """
import sys
from functools import partial
from pathlib import Path
from node.completeness import CompletenessRules
from node.dicom.reception.access import ListenerSettings
from node.processes import ServicePlan, serve
from node.testing import build_fake_assess, prepare_quiet
from node.worker import WorkRules

def no_destination():
    return None

def tell(port):
    heavy = sorted({"torch", "monai", "SimpleITK", "matplotlib"} & set(sys.modules))
    print(port, heavy, flush=True)

prepare_quiet()
folder = Path(sys.argv[1])
serve(ServicePlan(data=folder, listener=ListenerSettings(port=0), completeness=CompletenessRules(),
    work=WorkRules(), workers=0, minimum_free_bytes=0, keep_days=0,
    build_assess=partial(build_fake_assess, folder), build_destination=partial(dict.get, {}, None),
    prepare_process=prepare_quiet), tell)
"""


def test_the_receiver_process_imports_nothing_heavy_and_ends_with_0_on_sigterm(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    )
    try:
        port, heavy = process.stdout.readline().split(maxsplit=1)
        assert int(port) > 0
        assert heavy.strip() == "[]"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()


# The operator's commands, on the folder of a node that ran


@pytest.fixture
def cli():
    program = Typer()
    program.add_typer(jobs_app, name="jobs")
    for command in (status, check, send):
        program.command(command.__name__)(command)

    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(program, [str(argument) for argument in arguments])
        assert result.exit_code == exit_code, result.output + repr(result.exception)
        return result.stdout

    prepare_quiet()  # the node runs in this process here, and its log would mix with the commands' output
    yield run
    structlog.reset_defaults()


def test_the_operator_sees_and_steers_jobs(open_service, archive, tmp_path, wait, cli):
    service = open_service()
    sent = cli("send", tmp_path_with_study(tmp_path), str(service.peer), "--json")
    assert json.loads(sent)["stored"] == 24
    (job,) = wait_for_done(service, wait, 1)
    data = service.plan.data
    running = json.loads(cli("status", "--data", data, "--json"))
    assert running["process"] == os.getpid()
    assert running["jobs"]["DONE"] == 1
    assert running["instances"] == 24
    assert running["model_versions"] == ["fake-1"]
    assert (running["waiting_since"], running["running"]) == (None, [])
    assert "trained on phantoms" in running["model"]["refused"]
    assert "1 DONE" in cli("status", "--data", data)
    (listed,) = json.loads(cli("jobs", "list", "--data", data, "--json"))
    assert (listed["state"], listed["study_instance_uid"]) == ("DONE", "2.25.9.7")
    assert json.loads(cli("jobs", "list", "--data", data, "--state", "SHELVED", "--json")) == []
    shown = json.loads(cli("jobs", "show", job.job_id, "--data", data, "--json"))
    assert [move["state"] for move in shown["history"]] == ["WAITING", "RUNNING", "SENDING", "DONE"]
    assert shown["deliveries"][0]["answer"] == "STORED"
    assert "STORED" in cli("jobs", "show", job.job_id, "--data", data)
    cli("jobs", "cancel", job.job_id, "--data", data, exit_code=1)  # DONE cannot be cancelled
    cli("jobs", "retry", job.job_id, "--data", data)
    wait_for_done(service, wait, 1)
    assert archive.count() == 1


def tmp_path_with_study(tmp_path):
    save_study(tmp_path / "scanner", 7)
    (tmp_path / "scanner" / "notes.txt").write_text("not DICOM")
    return tmp_path / "scanner"


def test_send_says_what_was_not_stored_and_what_is_not_there(open_reception, tmp_path, cli):
    folder = tmp_path_with_study(tmp_path)
    os.truncate(next(folder.rglob("*.dcm")), 600)
    reception = open_reception()
    answer = json.loads(cli("send", folder, str(reception.peer), "--json", exit_code=1))
    assert answer["stored"] == 23
    assert answer["left_out"] == 1
    assert len(reception.files()) == 23
    cli("send", tmp_path / "absent", str(reception.peer), exit_code=1)


def write_conf(folder, archive_port, data):
    path = folder / "node.toml"
    path.write_text(
        f'[storage]\ndata = "{data}"\nminimum_free_gib = 0.0\n'
        f'[destination]\nhost = "127.0.0.1"\nport = {archive_port}\nae_title = "ARCHIVE"\n',
        encoding="utf-8",
    )
    return path


def test_check_passes_with_a_destination_that_answers_and_fails_when_it_is_gone(tmp_path, cli):
    with EmbeddedArchive(tmp_path / "archive") as archive:
        conf = write_conf(tmp_path, archive.port, tmp_path / "data")
        findings = json.loads(cli("check", "--conf", conf, "--json"))
        assert all(finding["passed"] for finding in findings), findings
    failed = json.loads(cli("check", "--conf", conf, "--json", exit_code=1))
    assert [finding["check"] for finding in failed if not finding["passed"]] == ["destination"]
    conf.write_text("[storage]\nminimum_free_gib = -1\n[listener]\nport = 99999\n", encoding="utf-8")
    faults = json.loads(cli("check", "--conf", conf, "--json", exit_code=1))
    assert len(faults) == 2
    assert "FAIL" in cli("check", "--conf", conf, exit_code=1)
