"""Coarse organs in one CT volume of unknown contrast phase."""

from engines.anatomy.coarse import CoarseAnatomy, find_anatomy, to_working_grid

__all__ = ["CoarseAnatomy", "find_anatomy", "to_working_grid"]
