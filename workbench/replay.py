"""Running single blocks of a decoder again, on other residual streams.

The bridge cannot start in the middle of a model. Every block is therefore called with what it was
called with during one whole pass (masks, rotary tables), which differs from layer to layer.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_CACHE_WORDS = ("past_key_values", "past_key_value", "layer_past", "past_kv_cache")

Growing = Mapping[str | int, Any]
"""For every tensor of a call, by keyword or place, whether its first axis grows with the rows."""


@dataclass(frozen=True)
class BlockCall:
    """What one block was called with: the residual stream entering it, and everything else."""

    resid: Float[Tensor, "batch pos d_model"]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "BlockCall":
        """The call as a hook sees it: the stream comes first, or by its name."""
        rest = dict(kwargs)
        resid = args[0] if args else rest.pop("hidden_states")
        return cls(resid, tuple(args[1:]), rest)

    def written(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with which the block is called."""
        return (self.resid, *self.args), self.kwargs

    def growing(self, twice: "BlockCall") -> Growing:
        """Which tensors of this call, made for one row, are there once for every row.

        Args:
            twice: the call of the same block for the same row two times.

        Raises:
            ValueError: a tensor depends on the number of rows in another way.
        """
        words = {**dict(enumerate(self.args)), **self.kwargs}
        others = {**dict(enumerate(twice.args)), **twice.kwargs}
        return {word: _growing(value, others[word], str(word)) for word, value in words.items()}

    def for_rows(self, rows: int, growing: Growing) -> "BlockCall":
        """The call as it would have been for several rows of this prompt; the stream stays that of one.

        Args:
            rows: how many rows.
            growing: which tensors have an entry for every row, as `growing` found.
        """
        args = [_for_rows(value, rows, growing[place]) for place, value in enumerate(self.args)]
        kwargs = {word: _for_rows(value, rows, growing[word]) for word, value in self.kwargs.items()}
        return BlockCall(self.resid, tuple(args), kwargs)

    def of_rows(self, rows: list[int], count: int, growing: Growing) -> "BlockCall":
        """The call for some of its rows; the stream stays as it is.

        Args:
            rows: which of them.
            count: how many the call was made for.
            growing: which tensors have an entry for every row, as `growing` found.
        """
        args = [_of_rows(value, rows, count, growing[place]) for place, value in enumerate(self.args)]
        kwargs = {word: _of_rows(value, rows, count, growing[word]) for word, value in self.kwargs.items()}
        return BlockCall(self.resid, tuple(args), kwargs)


def _growing(one: Any, two: Any, word: str) -> Any:
    if isinstance(one, tuple | list):
        return [_growing(first, second, word) for first, second in zip(one, two, strict=True)]
    if not isinstance(one, Tensor):
        return None
    if torch.equal(one, two):
        return False
    if one.ndim and torch.equal(_repeated(one, 2), two):
        return True
    raise ValueError(
        f"the blocks cannot be run for several rows at once: their argument {word} has the shape "
        f"{tuple(one.shape)} for one row and {tuple(two.shape)} for two, and is neither shared nor repeated"
    )


def _for_rows(value: Any, rows: int, growing: Any) -> Any:
    if isinstance(value, tuple | list):
        within = growing or [None] * len(value)
        return type(value)(_for_rows(part, rows, grows) for part, grows in zip(value, within, strict=True))
    if isinstance(value, Tensor) and growing is None:
        raise ValueError("the blocks cannot be run for several rows at once: their arguments change in kind")
    return _repeated(value, rows) if growing else value


def _of_rows(value: Any, rows: list[int], count: int, growing: Any) -> Any:
    if isinstance(value, tuple | list):
        within = growing or [None] * len(value)
        return type(value)(_of_rows(part, rows, count, grows) for part, grows in zip(value, within, strict=True))
    if isinstance(value, Tensor) and growing is None:
        raise ValueError("the blocks cannot be run for several rows at once: their arguments change in kind")
    return value.unflatten(0, (count, -1))[rows].flatten(0, 1) if isinstance(value, Tensor) and growing else value


def _repeated(value: Tensor, rows: int) -> Tensor:
    """The first axis once for every row; a first axis of one takes no memory."""
    rest = value.shape[1:]
    return value.expand(rows, *rest) if value.shape[0] == 1 else value.repeat(rows, *[1 for _ in rest])


@contextmanager
def recorded_calls(bridge: Any) -> Generator[list[BlockCall]]:
    """Record the call of every block during the passes inside the context, in layer order."""
    calls: list[BlockCall] = []

    def record(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = BlockCall.of(args, kwargs)
        calls.append(replace(call, resid=call.resid.detach()))

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

    A call that was made for another number of rows must be brought to this one by `for_rows`.
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
