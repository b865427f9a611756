"""Corpus of planted faults and clean rows in five languages, written without the patterns of the checks at hand."""
