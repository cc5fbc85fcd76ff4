"""Weights to a trainable network. Knows nothing of data."""
