"""Small statistics that several analyses share. Every random draw takes a seed."""

import numpy as np
from jaxtyping import Float


def bootstrap_mean(
    values: Float[np.ndarray, "example ..."], *, seed: int, draws: int = 1000, level: float = 0.95
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Percentile bootstrap interval of the mean over examples.

    Args:
        values: one value per example, finite.
        seed: seed of the resampling.
        draws: how many resampled means.
        level: share of them inside the interval.

    Returns:
        Lower and upper ends.

    Raises:
        ValueError: no example, or a value that is not finite.
    """
    if len(values) == 0:
        raise ValueError("an interval needs at least one example")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite values: leave out the examples without one")
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    means = np.tensordot(weights.astype(np.float64), values.astype(np.float64), axes=1) / len(values)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return np.asarray(low, dtype=np.float32), np.asarray(high, dtype=np.float32)


def pearson(first: Float[np.ndarray, " example"], second: Float[np.ndarray, " example"]) -> float:
    """Correlation from -1 to 1; NaN where one of the two does not vary."""
    one, two = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (first, second))
    size = np.sqrt((one @ one) * (two @ two))
    return float(np.clip(one @ two / size, -1, 1)) if size > 0 else float("nan")


def spearman(first: Float[np.ndarray, " example"], second: Float[np.ndarray, " example"]) -> float:
    """Correlation of the ranks, from -1 to 1; equal values share their mean rank.

    Example:
        >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([0.1, 5.0, 9000.0])), 6)
        1.0
    """
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: Float[np.ndarray, " example"]) -> Float[np.ndarray, " example"]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts - 1) / 2)[place]
