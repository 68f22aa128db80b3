"""One study from headers to objects: wall seconds and peak memory of each step, in a process of its own."""

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path

from tests.benchmarks.table import Row, give


def main() -> None:
    """Assesses the demonstration's patient and prints or leaves a row a step."""
    parser = argparse.ArgumentParser(description="Seconds and memory of each step of one assessment.")
    parser.add_argument("--rows", type=Path, help="leave the rows in this file and print nothing")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmf-bench-"))
    try:
        give(measure(folder), options.rows)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path) -> list[Row]:
    """Runs the walk in ``folder`` and returns what its steps took."""
    from node.app import FolderRequest, assess_folder, prepare_threads

    prepare_threads(2)
    from node.demo.patient import write_demo_study
    from node.log import configure_log
    from node.settings import read_settings

    configure_log("plain", 40)
    study = write_demo_study(folder, 1)
    settings = read_settings(
        changes={"models": {"allow_demonstration": True}, "clinical": {"table": str(study.clinical_table)}}
    )
    started = time.perf_counter()
    report = assess_folder(
        settings, FolderRequest(folder=study.folder), case_folder=folder / "case", out=folder / "out"
    )
    whole = time.perf_counter() - started
    rows, inside = [], 0.0
    records = sorted(
        (folder / "case" / "steps").glob("[a-z]*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    for record in records:
        content = json.loads(record.read_text())
        name = content["step"]
        if name.startswith("enhancement-"):
            name = f"enhancement of series {len(rows) + 1}"
        inside += content["seconds"]
        rows.append(_row(f"step {name}", content["seconds"], content["peak_mib"]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(_row("headers, phases, objects, imports", whole - inside, peak))
    rows.append(
        _row("one assessment, 4 series of 60 slices", whole, peak, f"{report.status.value}, 2 threads")
    )
    return rows


def _row(what: str, seconds: float, peak_mib: float, beside: str = "") -> Row:
    return Row(what, f"{seconds:7.2f} s, peak so far {peak_mib:5.0f} MiB", beside)


if __name__ == "__main__":
    main()
