"""Look at prepared data: validation, statistics, search, tokens of a pair, diff, where."""
