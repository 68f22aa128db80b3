"""``make bench``: every benchmark one after the other, each in a process of its own, on a quiet machine."""

import subprocess
import sys

BENCHMARKS = ("walk", "reception", "radiomics", "statistics", "training_loader")


def main() -> None:
    """Runs the benchmarks named on the command line, or all of them; ends with 1 when one failed."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = set(chosen) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    failed = []
    for name in chosen:
        sys.stdout.write(f"\n== {name}\n")
        sys.stdout.flush()
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
