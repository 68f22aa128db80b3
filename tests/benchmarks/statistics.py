"""Survival statistics beside lifelines, scikit-survival and R's coxph, in one run, on the same synthetic data.

Run it with ``python -m tests.benchmarks.statistics``. One thread a library. Each contender runs ``ROUNDS`` times by
turns and the median of its CPU seconds counts; ratios are against lifelines. R takes part where Rscript is installed.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np

from engines.survival.bootstrap import bootstrap_concordance, count_draws
from engines.survival.concordance import harrell_c
from engines.survival.cox import fit_cox
from engines.survival.outcome import Outcome

ROUNDS = 3
REPEATS = 1000
LOOP = 100
"""Resamples of the lifelines loop that are timed; its time is scaled to REPEATS (a loop is linear)."""

PATIENTS = 859
LARGE = 20_000
VARIABLES = 10

COXPH = """
suppressMessages(library(survival)); d <- read.csv(commandArgs(TRUE)[1])
f <- as.formula(paste("Surv(time, event) ~", paste(setdiff(names(d), c("time", "event")), collapse = " + ")))
invisible(coxph(f, d)); s <- sapply(1:3, function(i) sum(system.time(coxph(f, d))[1:2])); cat(median(s))
"""


def main() -> None:
    """Prints every comparison with its ratio and the agreement of the results."""
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        bootstrap()
        concordance()
        cox()
        evaluation()


def bootstrap() -> None:
    """Bootstrap of C: the same resamples, values compared."""
    from lifelines.utils import concordance_index

    random = np.random.default_rng(1)
    time_, event, score = _cohort(random, PATIENTS, decimals=1)
    outcome = Outcome(time_, event)
    rows = random.integers(0, PATIENTS, (REPEATS, PATIENTS))
    loop = np.array([concordance_index(time_[r], -score[r], event[r]) for r in rows[:LOOP]])
    ours = bootstrap_concordance(score[None], outcome, count_draws(rows, PATIENTS))[:, 0]
    seconds = _by_turns(
        {
            "lifelines loop": lambda: [concordance_index(time_[r], -score[r], event[r]) for r in rows[:LOOP]],
            "ours": lambda: bootstrap_concordance(score[None], outcome, count_draws(rows, PATIENTS)),
        }
    )
    seconds["lifelines loop"] *= REPEATS / LOOP
    _report(f"bootstrap of C, {REPEATS} x {PATIENTS}", seconds, "lifelines loop")
    _say(f"  largest difference on the same resamples: {np.abs(ours[:LOOP] - loop).max():.1e}")


def concordance() -> None:
    """Harrell's C of many patients."""
    from lifelines.utils import concordance_index
    from sksurv.metrics import concordance_index_censored

    random = np.random.default_rng(2)
    time_, event, score = _cohort(random, LARGE, decimals=6)
    outcome = Outcome(time_, event)
    seconds = _by_turns(
        {
            "lifelines": lambda: concordance_index(time_, -score, event),
            "scikit-survival": lambda: concordance_index_censored(event, time_, score),
            "ours": lambda: harrell_c(score, outcome),
        }
    )
    _report(f"Harrell's C, n = {LARGE:,}", seconds, "lifelines")
    difference = harrell_c(score, outcome) - concordance_index(time_, -score, event)
    _say(f"  difference from lifelines: {abs(difference):.1e}")
    time_, event, score = _cohort(random, 1_000_000, decimals=6)
    outcome = Outcome(time_, event)
    _report("Harrell's C, n = 1,000,000", _by_turns({"ours": lambda: harrell_c(score, outcome)}), "ours")


def cox() -> None:
    """Cox model with Efron ties."""
    from lifelines import CoxPHFitter
    from pandas import DataFrame
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    random = np.random.default_rng(3)
    x = random.normal(size=(LARGE, VARIABLES))
    death = random.exponential(30 * np.exp(-x @ np.linspace(-0.5, 0.5, VARIABLES)))
    leaving = random.exponential(50, LARGE)
    time_, event = np.ceil(np.minimum(death, leaving) * 30) / 30, death <= leaving
    outcome = Outcome(time_, event)
    frame = DataFrame(x, columns=[f"x{k}" for k in range(VARIABLES)]).assign(
        time=time_, event=event.astype(int)
    )
    surv = Surv.from_arrays(event, time_)
    seconds = _by_turns(
        {
            "lifelines": lambda: CoxPHFitter().fit(frame, "time", "event"),
            "scikit-survival": lambda: CoxPHSurvivalAnalysis(ties="efron").fit(x, surv),
            "ours": lambda: fit_cox(x, outcome),
        }
    )
    r = _time_coxph(frame.columns.tolist(), frame.to_numpy().tolist())
    if r is None:
        _say("  Rscript with survival is not installed: coxph is left out")
    else:
        seconds["R coxph"] = r
    _report(f"Cox with Efron ties, n = {LARGE:,}, p = {VARIABLES}", seconds, "lifelines")
    peer = CoxPHFitter().fit(frame, "time", "event").params_.to_numpy()
    _say(
        f"  largest difference of a coefficient from lifelines: {np.abs(fit_cox(x, outcome).coefficients - peer).max():.1e}"
    )


def evaluation() -> None:
    """The whole ``mmf-train evaluate`` on a table of 859 patients, eight scores and two clinical variables."""
    random = np.random.default_rng(4)
    time_, event, score = _cohort(random, PATIENTS, decimals=3)
    half = np.round(time_ * random.uniform(0.3, 1, PATIENTS), 3)
    names = ("mRECIST", "Radiomic", "Network 1", "Network 2", "Network 3", "Benchmark", "Ensemble-DL", "MMF")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "scores.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            header = ["patient_id", "cohort", "os_months", "os_event", "pfs_months", "pfs_event"]
            writer.writerow([*header, *names, "sex", "pvtt"])
            for k in range(PATIENTS):
                cohort = "training" if k < 520 else "validation" if k < 650 else "testing"
                scores = np.round(score[k] + random.normal(size=8), 3)
                writer.writerow(
                    [
                        k,
                        cohort,
                        time_[k],
                        int(event[k]),
                        half[k],
                        1,
                        *scores,
                        ("male", "female")[k % 5 == 0],
                        k % 2,
                    ]
                )
        before, wall = os.times(), time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "train.cli",
            "evaluate",
            "--table",
            str(table),
            "--out",
            f"{folder}/report",
        ]
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **one_thread})
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        _say(
            f"mmf-train evaluate, {PATIENTS} patients: {cpu:.1f} s CPU, {time.perf_counter() - wall:.1f} s wall"
        )


def _cohort(random: np.random.Generator, n: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    risk = random.normal(size=n)
    death, leaving = random.exponential(20 * np.exp(-risk)), random.exponential(30, n)
    score = np.round(risk + random.normal(size=n), decimals)
    return np.round(np.minimum(death, leaving) + 0.01, 2), death <= leaving, score


def _by_turns(contenders: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    for contender in contenders.values():
        contender()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            start = time.process_time()
            contender()
            seconds[name].append(time.process_time() - start)
    return {name: median(values) for name, values in seconds.items()}


def _time_coxph(header: list[str], rows: list[list[float]]) -> float | None:
    program = shutil.which("Rscript")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cox.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        done = subprocess.run([program, "-e", COXPH, str(path)], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def _report(title: str, seconds: Mapping[str, float], reference: str) -> None:
    _say(title)
    for name, value in seconds.items():
        _say(f"  {name:18} {value:8.4f} s CPU   {seconds[reference] / value:7.1f} x")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
