"""Liver and tumours as masks, by providers behind one protocol, and the gate that refuses implausible ones."""
