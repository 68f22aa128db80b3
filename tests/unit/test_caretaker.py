"""The chores by the clock: closing studies, taking back leases, cleaning."""

from datetime import UTC, datetime, timedelta

import pytest

from node.completeness import CompletenessRules, Traffic
from node.dicom.reception.accept import Acceptance, Origin, read_stored
from node.dicom.reception.command import Command
from node.job import JobState
from node.schedule import CLOCK_TOLERANCE, Caretaker, revive_chores, start_schedule
from node.storage.inbox import FolderInbox, Sender
from node.storage.jobs import SqliteJobs
from node.testing import FakeClock, SyntheticSlice, encode_dataset, make_slice

EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "2.25.1001"


class House:
    """Receiver rooms without a network, on a clock that stands."""

    def __init__(self, inbox, jobs):
        self.clock, self.traffic = FakeClock(), Traffic()
        self.inbox, self.jobs = inbox, jobs
        self.removed = []
        self.acceptance = Acceptance(inbox, self.traffic, self.clock, maximum_object_bytes=100_000)
        self.caretaker = Caretaker(
            inbox=inbox,
            jobs=jobs,
            traffic=self.traffic,
            clock=self.clock,
            rules=CompletenessRules(
                release_seconds=1, quiet_seconds=10, settle_seconds=60, required_passes=1
            ),
            assessment_tries=3,
            keep_days=30,
            remove_results=self.removed.append,
        )

    def receive(self, one: SyntheticSlice, association: int = 1, data: bytes | None = None, said: str = ""):
        command = Command(
            field=1,
            message_id=1,
            has_data_set=True,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            sop_instance_uid=said or one.instance,
        )
        origin = Origin(association=association, sender=Sender(), transfer_syntax_uid=EXPLICIT)
        incoming = self.acceptance.begin(command, origin)
        encoded = encode_dataset(make_slice(one)) if data is None else data
        for start in range(0, len(encoded), 300):
            incoming.write(memoryview(encoded)[start : start + 300])
        return incoming.finish()

    def receive_pass(self, slices: int = 20, **place):
        for number in range(slices):
            one = SyntheticSlice(instance=f"2.25.7.{number}", position_mm=2.5 * number)
            assert self.receive(one, **place) == (0, "")


@pytest.fixture
def house(tmp_path):
    database = tmp_path / "node.sqlite"
    with (
        FolderInbox(tmp_path / "inbox", database, read_stored=read_stored) as inbox,
        SqliteJobs(database) as jobs,
    ):
        yield House(inbox, jobs)


def test_a_released_whole_study_becomes_a_job_after_the_release_time(house):
    house.receive_pass()
    house.traffic.association_ends(1, released=True, now=house.clock.now())
    assert house.caretaker.close_studies() == ()
    house.clock.advance(1)
    (job,) = house.caretaker.close_studies()
    assert (job.study_instance_uid, job.state) == (STUDY, JobState.WAITING)
    house.clock.advance(100)
    assert house.caretaker.close_studies() == ()


def test_a_study_in_transfer_never_closes(house):
    house.receive_pass()
    command = Command(field=1, message_id=1, has_data_set=True, sop_class_uid="1.2", sop_instance_uid="1.3")
    house.acceptance.begin(command, Origin(association=1, sender=Sender(), transfer_syntax_uid=EXPLICIT))
    house.clock.advance(10_000)
    assert house.caretaker.close_studies() == ()


def test_without_release_the_quiet_time_counts_and_after_a_restart_too(house):
    house.receive_pass()
    house.clock.advance(9)
    assert house.caretaker.close_studies() == ()
    house.clock.advance(1)
    assert len(house.caretaker.close_studies()) == 1


def test_a_late_series_makes_a_job_that_supersedes(house):
    house.receive_pass()
    house.clock.advance(100)
    (first,) = house.caretaker.close_studies()
    house.jobs.claim(JobState.WAITING, "w", house.clock.now(), 60)
    house.receive(SyntheticSlice(instance="2.25.8.1", series="2.25.8"))
    house.clock.advance(100)
    (second,) = house.caretaker.close_studies()
    assert second.supersedes == first.job_id


def test_lost_leases_come_back(house):
    house.receive_pass()
    house.clock.advance(100)
    house.caretaker.close_studies()
    house.jobs.claim(JobState.WAITING, "w", house.clock.now(), 60)
    house.clock.advance(61)
    house.caretaker.recover_leases()
    assert house.jobs.find()[0].state is JobState.WAITING


def test_a_clock_that_was_put_back_delays_neither_open_studies_nor_jobs(house):
    house.receive_pass()
    house.clock.advance(100)
    house.caretaker.close_studies()
    house.jobs.claim(JobState.WAITING, "w", house.clock.now(), 60)
    house.jobs.postpone(1, "w", house.clock.now() + timedelta(seconds=40), "away", house.clock.now())
    house.receive(SyntheticSlice(instance="2.25.8.1", series="2.25.8", study="2.25.1002"), association=2)
    house.caretaker.close_studies()
    house.caretaker.follow_clock()
    assert house.jobs.get(1).due_at == house.clock.now() + timedelta(seconds=40)
    house.clock.advance(-7200)
    house.caretaker.follow_clock()
    assert house.jobs.get(1).due_at == house.clock.now() + timedelta(seconds=40), "the pause stays as long"
    house.clock.advance(40)
    assert house.jobs.claim(JobState.WAITING, "w", house.clock.now(), 60).job_id == 1
    house.clock.advance(30)
    (late,) = house.caretaker.close_studies()
    assert late.study_instance_uid == "2.25.1002"


def test_a_clock_that_was_put_back_does_not_stop_the_schedule(house):
    schedule = start_schedule(house.caretaker)
    try:
        schedule.pause()
        usual = datetime.now(UTC) + timedelta(minutes=30)
        schedule.modify_job("clean", next_run_time=usual)
        revive_chores(schedule)
        assert schedule.get_job("clean").next_run_time == usual, "it is due within its hour"
        for job in schedule.get_jobs():  # what the clock leaves when it is put back by two hours
            job.modify(next_run_time=datetime.now(UTC) + job.trigger.interval + timedelta(hours=2))
        revive_chores(schedule)
        assert len(schedule.get_jobs()) == 5
        assert all(job.next_run_time <= datetime.now(UTC) + CLOCK_TOLERANCE for job in schedule.get_jobs())
    finally:
        schedule.shutdown()


def test_finished_studies_go_after_their_days_and_unfinished_ones_stay(house):
    house.receive_pass()
    house.clock.advance(100)
    (job,) = house.caretaker.close_studies()
    house.clock.advance(timedelta(days=31).total_seconds())
    assert house.caretaker.clean() == 0
    house.jobs.cancel(job.job_id, house.clock.now())
    house.clock.advance(timedelta(days=31).total_seconds())
    assert house.caretaker.clean() == 1
    assert [removed.job_id for removed in house.removed] == [job.job_id]
    assert not house.inbox.study_folder(STUDY).exists()
    assert house.caretaker.clean() == 0


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"said": "9.9.9"}, 0xA900, "SOP Instance UID is 2.25.1001.1.1, the command says 9.9.9"),
        ({"data": b""}, 0xC000, "empty"),
        ({"data": b"not a data set at all"}, 0xC000, "the data set has 13 more"),
        ({"data": bytes(200_000)}, 0xA700, "larger than 100000"),
    ],
)
def test_what_cannot_be_kept_gets_its_status_and_leaves_nothing(house, change, status, words):
    answer, comment = house.receive(SyntheticSlice(), **change)
    assert answer == status
    assert words in comment
    assert list((house.inbox.folder / "incoming").iterdir()) == []
    assert house.inbox.record() == 0


def test_a_fault_of_ours_is_a_status_and_not_the_end(house, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(house.inbox, "keep", broken)
    assert house.receive(SyntheticSlice()) == (0x0110, "ZeroDivisionError")


def test_an_association_that_breaks_leaves_nothing_half_done(house):
    command = Command(field=1, message_id=1, has_data_set=True, sop_class_uid="1.2", sop_instance_uid="1.3")
    incoming = house.acceptance.begin(
        command, Origin(association=1, sender=Sender(), transfer_syntax_uid=EXPLICIT)
    )
    incoming.write(memoryview(b"half"))
    incoming.abandon()
    assert list((house.inbox.folder / "incoming").iterdir()) == []
    assert not house.traffic.of_study(STUDY).in_transfer
