"""Radiomic features with pyradiomics' names and values."""
