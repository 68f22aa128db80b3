"""The night: begun by the clock as processes, one at a time, ended with the node."""

import subprocess
import sys
import threading
import time

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from engines.errors import Busy
from engines.lock import hold_lock
from node.app import plan_nightly
from node.errors import SettingsRefused
from node.nightly import JOB_NAME, MISFIRE_SECONDS, NightlyPlan, NightlyTraining, add_nightly
from node.settings import read_settings


def plan(folder, *codes):
    return NightlyPlan(
        hour=2,
        time_zone="Europe/Paris",
        commands=tuple((sys.executable, "-c", code) for code in codes),
        folder=folder,
        settings="[storage]\n",
    )


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_commands_run_in_order_in_their_own_processes(tmp_path):
    training = NightlyTraining(plan(tmp_path, "import os; print('one', os.getpid())", "print('two')"))
    assert training.run()
    log = (tmp_path / "nightly.log").read_text()
    assert log.index("one") < log.index("two")
    assert (tmp_path / "node.toml").read_text() == "[storage]\n"


def test_a_failing_command_ends_the_night(tmp_path):
    training = NightlyTraining(plan(tmp_path, "raise SystemExit(1)", "print('never')"))
    assert not training.run()
    assert "never" not in (tmp_path / "nightly.log").read_text()


def test_a_training_ends_with_the_node(tmp_path):
    code = "import time; print('begun', flush=True); time.sleep(600)"
    training = NightlyTraining(plan(tmp_path, code, "print('never')"))
    ended = []
    thread = threading.Thread(target=lambda: ended.append(training.run()))
    thread.start()
    wait_for(
        lambda: (tmp_path / "nightly.log").exists() and "begun" in (tmp_path / "nightly.log").read_text()
    )
    training.stop()
    thread.join(20)
    assert ended == [False]
    assert not training.run()


def test_the_clock_begins_it_once_and_never_twice_at_once(tmp_path):
    scheduler = BackgroundScheduler(timezone="UTC")
    add_nightly(scheduler, NightlyTraining(plan(tmp_path, "pass")))
    scheduler.start(paused=True)
    job = scheduler.get_job(JOB_NAME)
    assert (job.max_instances, job.coalesce, job.misfire_grace_time) == (1, True, MISFIRE_SECONDS)
    assert job.next_run_time.hour == 2
    assert str(job.next_run_time.tzinfo) == "Europe/Paris"
    scheduler.shutdown()


def test_a_manual_run_beside_the_clocks_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    path = tmp_path / "nightly.lock"
    code = (
        "import sys, time; from pathlib import Path; from engines.lock import hold_lock\n"
        "with hold_lock(Path(sys.argv[1]), 'x'):\n print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=f"process {holder.pid}"), hold_lock(path, "nightly training"):
            pass
        holder.kill()
    with hold_lock(path, "nightly training"):
        pass


def test_the_settings_say_what_the_night_runs(tmp_path):
    settings = read_settings(
        data=tmp_path / "data",
        changes={
            "models": {"folder": str(tmp_path)},
            "learning": {"enabled": True, "hour": 3, "time_zone": "Asia/Shanghai", "margin": 0.05},
        },
    )
    night = plan_nightly(settings)
    assert (night.hour, night.time_zone) == (3, "Asia/Shanghai")
    export, train = night.commands
    assert export[1:4] == ("-m", "node", "export")
    assert train[1:4] == ("-m", "train.cli", "nightly")
    assert train[train.index("--margin") + 1] == "0.05"
    assert "--automatic" not in train
    again = tmp_path / "again.toml"
    again.write_text(night.settings)
    assert read_settings(again).learning == settings.learning
    assert plan_nightly(read_settings()) is None


def test_faults_of_the_section_are_named():
    with pytest.raises(SettingsRefused, match=r"learning\.enabled"):
        read_settings(changes={"learning": {"enabled": True}})
    with pytest.raises(SettingsRefused, match="no IANA time zone"):
        read_settings(changes={"learning": {"time_zone": "Mars/Olympus"}})
