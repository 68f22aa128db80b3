"""From the last image sent to the last object at the archive: the real node, its processes, its memory."""

import argparse
import logging
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from node.demo.patient import write_demo_study
from node.dicom.archive import EmbeddedArchive
from node.dicom.send import SendSettings, send_objects
from node.job import JobState
from node.log import configure_log
from node.storage.jobs import SqliteJobs
from tests.benchmarks.table import Row, give
from tests.real_node import RealNode

LONGEST_SECONDS = 1800.0


def main() -> None:
    """Sends the demonstration's study and prints or leaves the rows."""
    parser = argparse.ArgumentParser(description="Seconds from the last image to the delivered result.")
    parser.add_argument("--rows", type=Path, help="leave the rows in this file and print nothing")
    options = parser.parse_args()
    configure_log("plain", logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="mmf-bench-") as name:
        give(measure(Path(name)), options.rows)


def measure(folder: Path) -> list[Row]:
    """Two studies one after the other: the first worker has to import what the second has already."""
    rows = []
    with (
        EmbeddedArchive(folder / "archive") as archive,
        RealNode(folder, archive.port, threads=2) as node,
        SqliteJobs(node.database) as jobs,
    ):
        for number, life in ((1, "first study after the start"), (2, "second study")):
            study = write_demo_study(folder / str(number), number)
            paths = sorted(study.folder.glob("*.dcm"))
            done, earlier = jobs.counts()[JobState.DONE], len(node.events("step done"))
            peak, over = [0], threading.Event()
            watch = threading.Thread(target=_watch, args=(node, peak, over))
            watch.start()
            send_objects(paths, node.peer, SendSettings(ae_title="SCANNER"))
            last_image = datetime.now(UTC)
            deadline = time.monotonic() + LONGEST_SECONDS
            while jobs.counts()[JobState.DONE] == done:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not delivered in {LONGEST_SECONDS:g} s: {jobs.find()[0].error}")
                time.sleep(0.02)
            seconds = (datetime.now(UTC) - last_image).total_seconds()
            over.set()
            watch.join()
            steps = sum(line["seconds"] for line in node.events("step done")[earlier:])
            begun = datetime.fromisoformat(node.events("assessment begins")[-1]["timestamp"])
            rows.append(
                Row(
                    f"last image to delivered result, {life}",
                    f"{seconds:7.2f} s, peak {peak[0] / 2**20:5.0f} MiB (PSS of all processes)",
                    f"begun after {(begun - last_image).total_seconds():.2f} s, {steps:.2f} s in steps; "
                    f"{jobs.find()[0].outcome}",
                )
            )
    return rows


def _watch(node: RealNode, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.2):
        peak[0] = max(peak[0], node.memory_bytes())


if __name__ == "__main__":
    main()
