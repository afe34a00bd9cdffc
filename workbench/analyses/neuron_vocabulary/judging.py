"""Which neurons beat random directions, and which of those stand for a family of tokens."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.analyses.neuron_vocabulary.reading import Decoded

_ALIKE = 0.95
"""A family is more alike than this share of random directions; being specialised was the strict test."""


@dataclass(frozen=True)
class Verdict:
    """Peaks against the null.

    Attributes:
        peak, p_value, coherence, specialised: of each neuron.
        family: of each neuron, whether its tokens are more alike than those of the null.
        null: peaks of the random directions.
        threshold: the quantile of the null's peaks.
        alike: what 95% of the null's coherence stay below.
    """

    peak: Float[Tensor, " row"]
    p_value: Float[Tensor, " row"]
    coherence: Float[Tensor, " row"]
    specialised: Bool[Tensor, " row"]
    family: Bool[Tensor, " row"]
    null: Float[Tensor, " draw"]
    threshold: float
    alike: float

    @classmethod
    def of(cls, decoded: Decoded, quantile: float) -> "Verdict":
        """Each neuron against the quantile of the null."""
        peak, null = decoded.neurons.tokens.peak, decoded.null.tokens.peak.sort().values
        above = len(null) - torch.searchsorted(null, peak)
        threshold = float(np.quantile(null.numpy(), quantile, method="higher"))
        alike = float(np.quantile(decoded.null.coherence.numpy(), _ALIKE, method="higher"))
        p_value = (above + 1) / (len(null) + 1)
        specialised = peak > threshold
        family = specialised & (decoded.neurons.coherence > alike)
        return cls(peak, p_value, decoded.neurons.coherence, specialised, family, null, threshold, alike)
