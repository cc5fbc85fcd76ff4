"""Intervals for means."""

import numpy as np


def bootstrap_interval(values: np.ndarray, num_samples: int = 2000, seed: int = 0) -> list[float]:
    """95 % percentile bootstrap interval of the mean: [low, high]."""
    generator = np.random.default_rng(seed)
    means = np.array([values[generator.integers(len(values), size=len(values))].mean() for _ in range(num_samples)])
    return [float(bound) for bound in np.quantile(means, [0.025, 0.975])]
