"""``python -m node`` is ``mmf-node``."""

from node.cli import main

if __name__ == "__main__":
    main()
