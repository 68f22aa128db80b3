"""The Cox loss at n = 100,000 with ties costs at most twice a sort and a cumulative log-sum, and grows like n log n."""

import sys
import time

import torch

from train.losses import cox_loss

torch.set_num_threads(1)

REPEATS = 15


def cost(work):
    """Least CPU seconds of several runs."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def case(n):
    generator = torch.Generator().manual_seed(n)
    risk = torch.randn(n, generator=generator, requires_grad=True)
    months = torch.randint(1, 2000, (n,), generator=generator).float()
    return risk, months, (torch.rand(n, generator=generator) < 0.63).float()


def test_forward_and_backward_against_a_sort_and_a_cumulative_log_sum():
    risk, months, event = case(100_000)

    def least():
        order = torch.argsort(months, descending=True)
        torch.logcumsumexp(risk[order], 0).sum().backward()

    ours, reference = cost(lambda: cox_loss(risk, months, event).backward()), cost(least)
    sys.stderr.write(
        f"\nCox loss {ours * 1e3:.1f} ms, reference {reference * 1e3:.1f} ms, ratio {ours / reference:.2f}\n"
    )
    assert ours <= 2 * reference


def test_doubling_the_cases_costs_at_most_2_3_times():
    costs = []
    for n in (100_000, 200_000):
        risk, months, event = case(n)
        costs.append(cost(lambda r=risk, m=months, e=event: cox_loss(r, m, e).backward()))
    sys.stderr.write(f"\nCox loss {costs[0] * 1e3:.1f} ms, twice the cases {costs[1] * 1e3:.1f} ms\n")
    assert costs[1] <= 2.3 * costs[0]
