"""Evaluation of any cohort: the tables and figures of the supplement, with intervals, and what a reviewer asks for."""
