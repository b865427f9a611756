"""Training rows: memory-mapped token ids, token caches, and text tokenized in memory."""
