"""Running a model in the tests: one prompt, its logits, with and without a key-value cache."""

from typing import Any

import torch
from torch import Tensor

TEXT = "w5 w6 w7 w8 w9 w10 w11"
UNEQUAL = ("w5 w6 w7 w8 w9 w10", "w20 w21", "w30 w31 w32 w33")


def logits_of(model: Any, ids: Tensor) -> Tensor:
    """The logits of one whole pass."""
    with torch.no_grad():
        return model.forward(ids)


def cached_logits(model: Any, ids: Tensor, split: int) -> Tensor:
    """The logits of a prompt that is run in two parts with a key-value cache."""
    from transformers import DynamicCache

    cache, length = DynamicCache(), (ids.shape[1],)
    with torch.no_grad():
        first = model.forward(ids[:, :split], lengths=length, cache=cache)
        return torch.cat([first, model.forward(ids[:, split:], lengths=length, cache=cache)], dim=1)


def with_number(value: Tensor, place: Any, number: float) -> Tensor:
    """A copy with one number written at a place."""
    changed = value.clone()
    changed[place] = number
    return changed
