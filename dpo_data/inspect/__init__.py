"""Inspection of prepared data: validation, statistics, search, tokens of a pair, diff, where."""
