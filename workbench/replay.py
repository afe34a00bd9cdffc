"""Running single blocks of a decoder again, on other residual streams.

The bridge cannot start in the middle of a model. Every block is therefore called with what it was
called with during one whole pass (masks, rotary tables), which differs from layer to layer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

_CACHE_WORDS = ("past_key_values", "past_key_value", "layer_past", "past_kv_cache")


@dataclass(frozen=True)
class BlockCall:
    """What one block was called with: the residual stream entering it, and everything else."""

    resid: Float[Tensor, "batch pos d_model"]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def cache_word(self) -> str | None:
        """The name under which this architecture hands the key-value cache to its blocks."""
        return next((word for word in _CACHE_WORDS if word in self.kwargs), None)


@contextmanager
def recorded_calls(bridge: Any) -> Iterator[list[BlockCall]]:
    """Record the call of every block during the passes inside the context, in layer order."""
    calls: list[BlockCall] = []

    def record(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kwargs = dict(kwargs)
        resid = args[0] if args else kwargs.pop("hidden_states")
        calls.append(BlockCall(resid.detach(), tuple(args[1:]), kwargs))

    handles = [block.register_forward_pre_hook(record, with_kwargs=True) for block in bridge.blocks]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def replay_block(
    block: Callable[..., Any], call: BlockCall, resid: Float[Tensor, "row pos d_model"], cache: Any = None
) -> Float[Tensor, "row pos d_model"]:
    """Run one block as it was called, but on another residual stream and with another cache.

    Masks and rotary tables recorded for one prompt are shared by all rows.
    """
    kwargs = dict(call.kwargs)
    for word in _CACHE_WORDS:
        if word in kwargs:
            kwargs[word] = cache
    if cache is None and "use_cache" in kwargs:
        kwargs["use_cache"] = False
    args = tuple(cache if _is_cache(value) else value for value in call.args)
    output = block(resid, *args, **kwargs)
    return output[0] if isinstance(output, tuple) else output


def _is_cache(value: Any) -> bool:
    return hasattr(value, "get_seq_length") and hasattr(value, "update")
