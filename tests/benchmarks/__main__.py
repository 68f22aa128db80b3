"""``make bench``: the node in one table (receiving, each step, last image to result), then the engines beside theirs.

Each benchmark runs in a process of its own, on a machine that has nothing else to do.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.table import Row, print_table, take

NODE = ("reception", "walk", "delivery")
"""Their rows make one table."""
OTHERS = ("radiomics", "statistics", "training_loader")
DISK = Path("bench-data")
"""On the disk of the checkout; the other place is memory, where a sync costs nothing."""
MEMORY = Path("/dev/shm")


def main() -> None:
    """Runs the benchmarks named on the command line, or all of them; ends with 1 when one failed."""
    chosen = sys.argv[1:] or [*NODE, *OTHERS]
    unknown = set(chosen) - {*NODE, *OTHERS}
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join([*NODE, *OTHERS])}")
    failed = []
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for benchmark in [one for one in NODE if one in chosen]:
            file = Path(name) / f"{benchmark}.json"
            if run(benchmark, "--rows", str(file), *places(benchmark)):
                rows += take(file)
            else:
                failed.append(benchmark)
    if rows:
        print_table(rows)
    for benchmark in [one for one in OTHERS if one in chosen]:
        sys.stdout.write(f"\n== {benchmark}\n")
        sys.stdout.flush()
        if not run(benchmark):
            failed.append(benchmark)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def places(benchmark: str) -> list[str]:
    """Where receivers write: a real disk, and memory where there is one."""
    if benchmark != "reception":
        return []
    DISK.mkdir(exist_ok=True)
    folders = [DISK, MEMORY] if MEMORY.is_dir() else [DISK]
    return [word for folder in folders for word in ("--folder", str(folder.resolve()))]


def run(benchmark: str, *words: str) -> bool:
    """Runs one benchmark; False when it failed."""
    sys.stderr.write(f"measuring {benchmark}\n")
    return (
        subprocess.run(
            [sys.executable, "-m", f"tests.benchmarks.{benchmark}", *words], check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    main()
