"""The survival networks: one architecture a file, the same four heads on each."""
