"""The clinical variables of the method: units, ranges, categories, scores, tables."""
