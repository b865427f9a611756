"""From prepared pairs to a cache of token ids: encoding, truncation, and the cache itself."""
