"""Small synthetic cohorts with a known hazard for the training tests: bright and dark balls in noise."""

import numpy as np

from engines.case import Case, CaseIdentity, seal_case, write_array, write_json
from engines.clinical.variables import DEFINITIONS, ClinicalVariables, Value, Variable, encode_variables
from engines.networks.heads import LABELS
from train.data import Follow, Split, TrainingData

BACKGROUND = (0.45, 0.60, 0.50)


def make_cohort(n, *, seed=0, side=16, splits=None, signal=1.0, unlabelled=0, decoy=False):
    """Returns (data, log hazard of OS, balls).

    The lesion's size shows in all phases, its enhancement in A alone, its heterogeneity in V alone, its washout in D
    alone. With ``decoy`` a second ball, as bright and as large, tells nothing; ``balls`` are the masks of both.
    ``splits`` maps a split to its number of cases; by default four fifths train and the rest validate.
    """
    random = np.random.default_rng(seed)
    parts = splits or {Split.TRAINING: n - n // 5, Split.VALIDATION: n // 5}
    words = [split for split, count in parts.items() for _ in range(count)] + [Split.UNLABELLED] * unlabelled
    total = len(words)
    burden, heterogeneity = random.uniform(0, 1, total), random.uniform(0, 1, total)
    enhancement, washout = random.normal(size=total), random.normal(size=total)
    inputs = np.empty((total, 3, side, side, side), dtype=np.float16)
    balls = np.zeros((total, 2, side, side, side), dtype=bool)
    axes = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
    for case in range(total):
        volume = np.array(BACKGROUND)[:, None, None, None] + random.normal(0, 0.05, (3, side, side, side))
        centre = random.uniform(side / 4, side * 3 / 4, 3)
        ball = ((axes - centre[:, None, None, None]) ** 2).sum(0) < (side * (0.06 + 0.19 * burden[case])) ** 2
        if decoy:
            away = (centre + side / 2) % side
            size = side * (0.06 + 0.19 * random.uniform(0, 1))
            other = (((axes - away[:, None, None, None]) ** 2).sum(0) < size**2) & ~ball
            volume[1][other] += 0.15 + 0.1 * random.normal()
            balls[case, 1] = other
        volume[0][ball] += 0.15 + 0.1 * enhancement[case]
        volume[1][ball] -= 0.10 + 0.15 * heterogeneity[case] * random.choice([-1, 1], ball.sum())
        volume[2][ball] -= 0.12 + 0.08 * washout[case]
        inputs[case] = np.clip(volume, 0, 1)
        balls[case, 0] = ball
    hazard = signal * (2.5 * (burden - 0.5) + 0.6 * enhancement + 0.6 * washout + 1.2 * (heterogeneity - 0.5))
    death, progression = (
        random.exponential(20 * np.exp(-hazard)),
        random.exponential(8 * np.exp(-0.8 * hazard)),
    )
    progression = np.minimum(death, progression)
    censored = random.uniform(6, 60, total)
    known = np.array([split is not Split.UNLABELLED for split in words])

    def follow(time):
        return Follow(
            months=np.where(known, np.minimum(time, censored), np.nan),
            event=np.where(known, time <= censored, np.nan),
        )

    labels = np.full((total, 9), np.nan)
    labels[:, 6] = burden > 0.5
    data = TrainingData(
        inputs=inputs,
        case_ids=[f"case-{index:04d}" for index in range(total)],
        patient_keys=[f"patient-{index:04d}" for index in range(total)],
        splits=words,
        os=follow(death),
        pfs=follow(progression),
        age_years=random.uniform(40, 80, total),
        labels=labels,
    )
    return data, hazard, balls


def write_cohort(folder, data):
    """Writes training data as a cohort of sealed case folders; unlabelled cases have no outcomes.json."""
    for row, case_id in enumerate(data.case_ids):
        case = Case(folder=folder / case_id)
        write_array(data.inputs[row], case.network_input_path)
        values = {
            Variable.AGE: Value(
                category=">50" if data.age_years[row] > 50 else "<=50", number=float(data.age_years[row])
            )
        }
        for index, label in enumerate(LABELS):
            if np.isfinite(data.labels[row, index]):
                definition = DEFINITIONS[Variable(label)]
                category = definition.other if data.labels[row, index] else definition.reference
                values[Variable(label)] = Value(category=category)
        write_json(encode_variables(ClinicalVariables(values=values)), case.folder / "clinical.json")
        if np.isfinite(data.os.months[row]):
            outcomes = {
                word: {"months": float(follow.months[row]), "event": bool(follow.event[row])}
                for word, follow in (("os", data.os), ("pfs", data.pfs))
            }
            write_json(outcomes, case.folder / "outcomes.json")
        identity = CaseIdentity(
            case_id=case_id,
            patient_key=data.patient_keys[row],
            study=f"study-{row}",
            synthetic=True,
            phases={},
        )
        seal_case(case, identity)
    rows = [f"{case_id},{split.value}" for case_id, split in zip(data.case_ids, data.splits, strict=True)]
    (folder / "splits.csv").write_text("case_id,split\n" + "\n".join(rows) + "\n")
