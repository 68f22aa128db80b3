"""The main job on one machine: a synthetic scanner, the node, an archive, and the result beside the truth."""
