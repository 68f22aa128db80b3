"""Synthetic patients: an abdomen with known truth, and cohorts with known hazards. Never a real patient."""
