"""The reference: its model, and log-probabilities that are computed in every step or once."""
