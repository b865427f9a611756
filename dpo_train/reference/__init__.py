"""The reference: models that answer live, and log-probabilities precomputed and stored."""
