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
