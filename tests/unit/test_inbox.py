"""The inbox: what is kept is kept once, under our own name, and known again after any stop."""

import hashlib
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from node.arrival import Identity
from node.dicom.reception.accept import encode_file_meta, read_stored
from node.dicom.reception.command import Command
from node.errors import InboxFull
from node.storage import durable
from node.storage.durable import FolderSync
from node.storage.inbox import FolderInbox, Kept, Sender
from node.testing import SyntheticSlice, encode_dataset, make_slice

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def inbox(tmp_path):
    with FolderInbox(tmp_path / "inbox", tmp_path / "node.sqlite", read_stored=read_stored) as opened:
        yield opened


def keep(inbox: FolderInbox, one: SyntheticSlice, *, ours: bool = False, now: datetime = NOW) -> Kept:
    command = Command(
        field=1, message_id=1, has_data_set=True, sop_class_uid=CT, sop_instance_uid=one.instance
    )
    spool = inbox.begin(encode_file_meta(command, EXPLICIT, "SCANNER"))
    spool.write(encode_dataset(make_slice(one)))
    identity = Identity(
        sop_class_uid=CT,
        sop_instance_uid=one.instance,
        study_instance_uid=one.study,
        series_instance_uid=one.series,
        modality="CT",
        acquisition=str(one.acquisition),
        position_mm=one.position_mm,
        ours=ours,
    )
    return inbox.keep(spool, identity, EXPLICIT, Sender(calling_ae_title="SCANNER", address="192.0.2.1"), now)


def test_a_kept_object_is_a_dicom_file_with_our_name_a_zeroed_preamble_and_mode_0640(inbox):
    kept = keep(inbox, SyntheticSlice())
    path = inbox.folder / kept.arrival.path
    assert path.read_bytes()[:132] == bytes(128) + b"DICM"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "2.25" not in str(kept.arrival.path)
    assert hashlib.sha256(b"2.25.1001").hexdigest()[:32] in str(kept.arrival.path)


def test_the_same_object_again_is_a_success_without_a_second_copy(inbox):
    assert not keep(inbox, SyntheticSlice()).duplicate
    assert keep(inbox, SyntheticSlice()).duplicate
    inbox.record()
    assert len(inbox.arrivals("2.25.1001")) == 1
    assert len(list((inbox.folder / "studies").rglob("*.dcm"))) == 1
    assert list((inbox.folder / "incoming").iterdir()) == []


def test_the_same_uid_with_other_content_is_kept_apart_and_flagged(inbox):
    keep(inbox, SyntheticSlice(fill=1))
    keep(inbox, SyntheticSlice(fill=2))
    inbox.record()
    arrivals = inbox.arrivals("2.25.1001")
    assert [arrival.conflict for arrival in arrivals] == [True, True]
    assert len({arrival.path for arrival in arrivals}) == 2


def test_a_full_disk_refuses_before_a_byte_is_written_and_keeps_what_it_has(tmp_path):
    with (
        FolderInbox(
            tmp_path / "inbox", tmp_path / "node.sqlite", read_stored=read_stored, minimum_free_bytes=1 << 60
        ) as inbox,
        pytest.raises(InboxFull, match="watermark"),
    ):
        keep(inbox, SyntheticSlice())
    assert list((tmp_path / "inbox" / "incoming").iterdir()) == []


def test_after_a_kill_the_index_is_rebuilt_from_the_folder(tmp_path):
    first = FolderInbox(tmp_path / "inbox", tmp_path / "node.sqlite", read_stored=read_stored)
    keep(first, SyntheticSlice(instance="2.25.1"))
    first.record()
    keep(first, SyntheticSlice(instance="2.25.2", position_mm=5.0))  # acknowledged, not yet in the index
    first.begin(b"half").close()
    with FolderInbox(tmp_path / "inbox", tmp_path / "node.sqlite", read_stored=read_stored) as second:
        assert second.rebuild() == 1
        assert {arrival.identity.sop_instance_uid for arrival in second.arrivals("2.25.1001")} == {
            "2.25.1",
            "2.25.2",
        }
        assert second.arrivals("2.25.1001")[1].identity.position_mm in {0.0, 5.0}
        assert list((tmp_path / "inbox" / "incoming").iterdir()) == []
        assert second.rebuild() == 0


def test_a_name_without_its_content_after_a_power_cut_is_set_aside(tmp_path):
    with FolderInbox(tmp_path / "inbox", tmp_path / "node.sqlite", read_stored=read_stored) as first:
        path = first.folder / keep(first, SyntheticSlice()).arrival.path
        first._pending.clear()  # the process dies before the index is written
    os.truncate(path, path.stat().st_size - 100)
    with FolderInbox(tmp_path / "inbox", tmp_path / "node.sqlite", read_stored=read_stored) as second:
        assert second.rebuild() == 0
        assert (tmp_path / "inbox" / "damaged" / path.name).exists()


def test_only_ct_that_is_not_ours_makes_a_study_open(inbox):
    keep(inbox, SyntheticSlice(study="2.25.5", instance="2.25.5.1"), ours=True)
    inbox.record()
    assert inbox.open_studies() == ()
    keep(inbox, SyntheticSlice(study="2.25.5", instance="2.25.5.2"))
    inbox.record()
    (study,) = inbox.open_studies()
    assert (study.study_instance_uid, study.images) == ("2.25.5", 1)


def test_another_modality_is_kept_and_said_to_open_no_job(inbox):
    for number in range(3):
        one = SyntheticSlice(study="2.25.5", instance=f"2.25.5.{number}")
        identity = Identity(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            sop_instance_uid=one.instance,
            study_instance_uid=one.study,
            series_instance_uid=one.series,
            modality="MR",
        )
        spool = inbox.begin(b"header")
        spool.write(one.instance.encode())
        inbox.keep(spool, identity, EXPLICIT, Sender(), NOW)
    with capture_logs() as lines:
        inbox.record()
    (line,) = lines
    assert (line["study"], line["modality"], line["objects"], line["why"]) == (
        "2.25.5",
        "MR",
        3,
        "no CT images",
    )
    assert len(inbox.arrivals("2.25.5")) == 3
    assert inbox.open_studies() == ()


def test_passes_are_counted_again_when_a_study_grows(inbox):
    for number in range(1, 4):
        keep(inbox, SyntheticSlice(instance=f"2.25.6.{number}", position_mm=float(number)))
        inbox.record()
        (study,) = inbox.open_studies()
        assert study.passes[0].images == number
        assert inbox.open_studies() == (study,)


def test_passes_are_counted_by_series_and_acquisition(inbox):
    for number in range(6):
        keep(
            inbox,
            SyntheticSlice(
                instance=f"2.25.6.{number}", acquisition=1 + number // 3, position_mm=float(number % 3)
            ),
        )
    inbox.record()
    (study,) = inbox.open_studies()
    assert [(one.acquisition, one.images, one.positions_mm) for one in study.passes] == [
        ("1", 3, (0.0, 1.0, 2.0)),
        ("2", 3, (0.0, 1.0, 2.0)),
    ]


def test_a_study_recently_active_is_not_listed_as_quiet(inbox):
    keep(inbox, SyntheticSlice())
    inbox.record()
    assert inbox.open_studies(quiet_since=datetime(2026, 1, 1, tzinfo=UTC)) == ()
    assert len(inbox.open_studies(quiet_since=NOW)) == 1


def test_removing_a_study_removes_its_files_and_its_rows(inbox):
    kept = keep(inbox, SyntheticSlice())
    inbox.record()
    assert inbox.remove_study("2.25.1001") == 1
    assert not (inbox.folder / kept.arrival.path).exists()
    assert inbox.arrivals("2.25.1001") == ()
    assert not keep(inbox, SyntheticSlice()).duplicate


def test_a_folder_sync_serves_everyone_who_came_before_it_began(tmp_path, monkeypatch):
    begun, may_end, calls = threading.Event(), threading.Event(), []

    def slow_sync(path: Path) -> None:
        calls.append(path)
        begun.set()
        assert may_end.wait(5)

    monkeypatch.setattr(durable, "sync_path", slow_sync)
    sync = FolderSync()
    threads = [threading.Thread(target=sync.sync, args=(tmp_path,))]
    threads[0].start()
    assert begun.wait(5)
    threads += [threading.Thread(target=sync.sync, args=(tmp_path,)) for _ in range(8)]
    for thread in threads[1:]:
        thread.start()
    may_end.set()
    for thread in threads:
        thread.join(5)
    assert 2 <= len(calls) <= 9  # the first, and at least one that began after the others came


def test_a_failed_folder_sync_fails_everyone_who_waited_for_it(tmp_path):
    with pytest.raises(OSError, match="fsync"):
        FolderSync().sync(tmp_path / "absent")


def test_pieces_are_written_whole_when_the_system_takes_only_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: os.write(descriptor, b"".join(pieces)[:7]))
    with (tmp_path / "file").open("wb") as file:
        durable.write_pieces(file.fileno(), [b"meta", b"", memoryview(b"second"), b"third"])
    assert (tmp_path / "file").read_bytes() == b"metasecondthird"


def test_many_short_pieces_of_one_object_do_not_pile_up(inbox):
    spool = inbox.begin(b"meta")
    for number in range(1000):
        spool.write(number.to_bytes(2, "big"))
    assert os.fstat(spool.descriptor).st_size > 1000
    spool.flush()
    content = b"".join(number.to_bytes(2, "big") for number in range(1000))
    assert spool.path.read_bytes() == b"meta" + content
    assert spool.content_sha256 == hashlib.sha256(content).hexdigest()
    spool.close()
