"""Key-value caches that keep every position, so that a row of attention always starts at token 0.

transformers' own default for sliding-window models drops old positions; key index 0 would then not be
token 0. The window itself is the mask's business.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

Keys = Float[Tensor, "_ kv_head _ d_head"]
"""[row, kv_head, key, d_head] of one layer; how many rows and keys there are differs from cache to cache."""


def empty_cache() -> DynamicCache:
    """A cache to be filled by a pass."""
    return DynamicCache()


def filled_cache(layers: Sequence[tuple[Keys, Keys] | None]) -> DynamicCache:
    """A cache that holds the given keys and values; None leaves a layer empty."""
    cache = DynamicCache()
    cache.layers = [_layer(pair) for pair in layers]
    return cache


def keeps(cache: Any, length: int) -> bool:
    """Whether a pass has left the keys of all its tokens in the cache.

    TransformerLens leaves the cache alone in some attentions with linear biases (MPT, Falcon-RW); what is
    continued from there would not see the tokens before.
    """
    return cache.get_seq_length() == length


def layer_of(cache: Any, layer: int) -> tuple[Keys, Keys]:
    """Keys and values of one layer."""
    held = cache.layers[layer]
    return held.keys, held.values


def rows_of(pair: tuple[Keys, Keys], rows: int) -> tuple[Keys, Keys]:
    """The keys and values of one prompt, seen by several rows (no memory is taken)."""
    return pair[0].expand(rows, -1, -1, -1), pair[1].expand(rows, -1, -1, -1)


def _layer(pair: tuple[Keys, Keys] | None) -> DynamicLayer:
    made = DynamicLayer()
    if pair is not None and pair[0].shape[-2] > 0:
        made.lazy_initialization(*pair)
        made.keys, made.values = pair
    return made
