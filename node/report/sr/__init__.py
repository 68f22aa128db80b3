"""The structured report: Comprehensive 3D SR after TID 1500."""
