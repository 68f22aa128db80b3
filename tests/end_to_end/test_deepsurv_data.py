"""The Cox loss on DeepSurv's public splits: a small non-linear head beats the linear Cox model on SUPPORT and gaussian.

The epoch is chosen on an inner validation part; the test part is read once. WHAS is left out: 70 % of its test rows are
copies of training rows.
"""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from engines.survival.concordance import harrell_c
from engines.survival.cox import fit_cox, log_hazard
from engines.survival.outcome import Outcome
from tests.hdf5 import read_hdf5
from train.losses import cox_loss

torch.set_num_threads(1)

PRINTED_COX = {"support_train_test.h5": 0.583074, "gaussian_survival_data.h5": 0.486842}
STEPS = 300
BATCH = 512


def train_head(values, months, event):
    """A two-layer head, its steps chosen on a fifth of the training rows by the mean C of five evaluations."""
    torch.manual_seed(0)
    rows = np.random.default_rng(0).permutation(len(months))
    inner, learn = rows[: len(rows) // 5], rows[len(rows) // 5 :]
    head = nn.Sequential(
        nn.Linear(values.shape[1], 48),
        nn.SELU(),
        nn.Dropout(0.2),
        nn.Linear(48, 48),
        nn.SELU(),
        nn.Linear(48, 1),
    )
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3, weight_decay=1e-4)
    x, t, e = (torch.from_numpy(np.asarray(array, dtype=np.float32)) for array in (values, months, event))
    outcome = Outcome(months[inner], event[inner].astype(bool))
    generator = torch.Generator().manual_seed(0)
    found, best = [], (0.0, None)
    for step in range(STEPS):
        batch = torch.from_numpy(learn)[torch.randperm(len(learn), generator=generator)[:BATCH]]
        optimiser.zero_grad()
        cox_loss(head.train()(x[batch]).squeeze(1), t[batch], e[batch]).backward()
        optimiser.step()
        if step % 10 == 9:
            with torch.no_grad():
                found.append(harrell_c(head.eval()(x[inner]).squeeze(1).numpy(), outcome))
            if len(found) >= 5 and np.mean(found[-5:]) > best[0]:
                best = (np.mean(found[-5:]), {key: value.clone() for key, value in head.state_dict().items()})
    head.load_state_dict(best[1])
    return head.eval()


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(PRINTED_COX))
def test_a_non_linear_head_beats_cox(name, test_data):
    parts = read_hdf5(test_data / "survival" / "deepsurv" / name)
    train, test = parts["train"], parts["test"]
    mean, spread = train["x"].mean(0), train["x"].std(0)
    learn, unseen = ((part["x"].astype(np.float64) - mean) / spread for part in (train, test))
    months = train["t"].astype(np.float64)
    outcome = Outcome(test["t"].astype(np.float64), test["e"].astype(bool))
    linear = fit_cox(learn, Outcome(months, train["e"].astype(bool)))
    cox = harrell_c(log_hazard(linear, unseen), outcome)
    assert cox == pytest.approx(PRINTED_COX[name], abs=2e-3)
    head = train_head(learn, months, train["e"])
    with torch.no_grad():
        found = harrell_c(head(torch.from_numpy(unseen.astype(np.float32))).squeeze(1).numpy(), outcome)
    sys.stderr.write(f"\n{name}: head {found:.4f}, Cox {cox:.4f}\n")
    assert found > cox + 0.01, f"{name}: head {found:.3f}, Cox {cox:.3f}"
