"""Survival statistics: concordance, Cox, Kaplan-Meier, time-dependent ROC, calibration."""
