"""Draws the reliability diagram of the phase model over synthetic studies: stated probability against share right.

    python tests/golden/phase_reliability.py ../shared/data/phase/hu-by-phase.csv 10000

writes phase_reliability.csv and phase_reliability.png beside this file. Every pass counts once, with its most probable phase,
whether or not the model then names it; the dashed line at 0.90 is where naming begins.
"""

import csv
import logging
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import structlog

sys.path.insert(0, str(Path(__file__).parent))

from phase_studies import DrawnStudy, draw_study, read_vessels

from engines.phase import Phase
from node.phases.exclusion import exclude_acquisition
from node.phases.passes import group_passes, read_candidates
from node.phases.plan import weigh_evidence
from node.phases.rules import STATES, PhaseRules, load_rules
from node.phases.sequence import infer_phases

BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 0.999, 1.0)
SEED = 20250917


def judge_passes(study: DrawnStudy, rules: PhaseRules) -> list[tuple[float, bool]]:
    """(probability of the most probable phase, whether it is right) of every pass of a study."""
    passing = [a for a in study.acquisitions if exclude_acquisition(a, rules) is None]
    grouped = group_passes(read_candidates(passing, study.hounsfield, {}, rules), rules)
    posterior = infer_phases(weigh_evidence(grouped.passes, with_pixels=True), grouped.order_from, rules)
    judged = []
    for item, row in zip(grouped.passes, posterior, strict=True):
        best = max(Phase, key=lambda phase: row[STATES.index(phase.value)])
        truth = study.truth[item.members[0].acquisition.label]
        judged.append((float(row[STATES.index(best.value)]), best == truth))
    return judged


def bin_judgements(judged: np.ndarray) -> list[tuple[float, float, int, float, float]]:
    """(from, to, passes, mean probability, share right) by bin of stated probability."""
    rows = []
    for low, high in pairwise(BINS):
        inside = judged[(judged[:, 0] > low) & (judged[:, 0] <= high)]
        if len(inside):
            rows.append((low, high, len(inside), float(inside[:, 0].mean()), float(inside[:, 1].mean())))
    return rows


def draw_diagram(rows: list[tuple[float, float, int, float, float]], path: Path) -> None:
    """Writes the diagram as PNG, with the exact 95 % interval of each share."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from scipy.stats import beta

    stated, right, count = (np.array([row[place] for row in rows]) for place in (3, 4, 2))
    hits = np.rint(right * count)
    low, high = beta.ppf(0.025, hits, count - hits + 1), beta.ppf(0.975, hits + 1, count - hits)
    low, high = np.nan_to_num(low, nan=0.0), np.nan_to_num(high, nan=1.0)
    figure, axes = plt.subplots(figsize=(5.2, 5.2), dpi=120)
    axes.plot([0.3, 1], [0.3, 1], color="0.6", linewidth=1, label="perfect calibration")
    axes.axvline(0.90, color="0.6", linewidth=1, linestyle="--", label="named from here on")
    axes.errorbar(
        stated, right, yerr=[np.maximum(right - low, 0), np.maximum(high - right, 0)], fmt="o", color="#1f4e79", capsize=3,
        label=f"{int(count.sum())} passes of synthetic studies",
    )  # fmt: skip
    axes.set_xlabel("stated probability of the most probable phase")
    axes.set_ylabel("share that is right")
    axes.set_xlim(0.3, 1.02)
    axes.set_ylim(0.3, 1.02)
    axes.set_title("Reliability of the phase model (synthetic studies)", fontsize=11)
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": ""})
    plt.close(figure)


def main() -> None:
    """Draws the studies and writes both files."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rng, rules = np.random.default_rng(SEED), load_rules()
    vessels = read_vessels(Path(sys.argv[1]))
    judged = np.array(
        [pair for _ in range(int(sys.argv[2])) for pair in judge_passes(draw_study(rng, vessels), rules)]
    )
    rows = bin_judgements(judged)
    here = Path(__file__).parent
    with (here / "phase_reliability.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["from", "to", "passes", "mean_probability", "share_right"])
        writer.writerows(
            [low, high, count, f"{mean:.5f}", f"{share:.5f}"] for low, high, count, mean, share in rows
        )
    draw_diagram(rows, here / "phase_reliability.png")


if __name__ == "__main__":
    main()
