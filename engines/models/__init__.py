"""The model folder: card, weights, forests, Cox models and reference data, checked by hash before use."""
