"""Preference data in numbers: lengths, scores, simple rules that win too often, label noise, truncation.

Everything is gathered in one pass over a prepared folder, in memory that does not grow with its rows.
"""
