"""Log-probabilities of responses, padded and packed."""
