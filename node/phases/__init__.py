"""Which acquisition shows which contrast phase: split, exclude, weigh the evidence, plan. Pure: pixels come in as data."""
