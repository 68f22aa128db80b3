"""One study from headers to objects: wall seconds and peak memory of each step, in a process of its own."""

import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Assesses the demonstration's patient and prints a line a step."""
    folder = Path(tempfile.mkdtemp(prefix="mmf-bench-"))
    try:
        measure(folder)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path) -> None:
    """Runs the walk in ``folder`` and prints what its steps took."""
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
    write = sys.stdout.write
    write("One study, 4 series of 60 slices of 256 x 256, from headers to objects, 2 threads\n")
    write(f"{'step':<34}{'seconds':>9}{'peak MiB so far':>17}\n")
    started = time.perf_counter()
    report = assess_folder(
        settings, FolderRequest(folder=study.folder), case_folder=folder / "case", out=folder / "out"
    )
    whole = time.perf_counter() - started
    records = sorted(
        (folder / "case" / "steps").glob("[a-z]*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    for record in records:
        content = json.loads(record.read_text())
        write(f"{content['step']:<34}{content['seconds']:>9.2f}{content['peak_mib']:>17.0f}\n")
    steps = sum(seconds for _, seconds in report.seconds_per_step)
    write(f"{'headers, phases, objects, imports':<34}{whole - steps:>9.2f}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    write(f"{'all':<34}{whole:>9.2f}{peak:>17.0f}\n")


if __name__ == "__main__":
    main()
