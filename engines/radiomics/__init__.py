"""pyradiomics' features with pyradiomics' values, an order of magnitude faster, on one fixed grid for all phases."""
