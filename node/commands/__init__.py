"""One file a command of ``mmf-node``."""
