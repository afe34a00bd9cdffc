"""A blank Llama, and the few strokes that write a mechanism into it.

The residual stream is divided into named slots. One coordinate, `one`, holds the constant BALLAST at
every position, and nothing writes to it; every norm has the gain that brings a stream of length
BALLAST back to that length. What the slots hold is short beside the ballast, so a norm hardly
changes the stream (it shrinks it by 1 % where the slots hold 2.3 in length), and
weights can be read as if there were no norms.
"""

from collections.abc import Iterator
from itertools import accumulate
from math import sqrt
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel

from workbench.planted.vocabulary import BOS, EOS, PAD

BALLAST = 16.0
CONTEXT = 4096

_SLOWING = 3.0
"""Each pair of dimensions of a head turns this many times slower with position than the pair before."""

TURNING = 8
"""How many pairs of dimensions per head tell distances; the slowest ones all but stand still."""

Built = TypeVar("Built", bound=PreTrainedModel)


class Stream:
    """The residual stream as named slots, the first of which is `one`.

    Args:
        multiple: the width is rounded up to a multiple of this (the number of heads).
        widths: the name and the width of each further slot, in order.

    Example:
        >>> Stream(now=3, out=3).basis("now").shape
        torch.Size([3, 7])
    """

    def __init__(self, multiple: int = 1, **widths: int) -> None:
        names, sizes = ["one", *widths], [1, *widths.values()]
        starts = [0, *accumulate(sizes)]
        self._slots = {
            name: slice(start, start + size) for name, start, size in zip(names, starts, sizes, strict=False)
        }
        self.width = -(-starts[-1] // multiple) * multiple

    def basis(self, *names: str) -> Float[Tensor, "slot d_model"]:
        """The unit directions of these slots, one below the other."""
        return torch.cat([torch.eye(self.width)[self._slots[name]] for name in names])

    @property
    def one(self) -> Float[Tensor, "1 d_model"]:
        """The direction along which every normalised stream reads 1."""
        return self.basis("one") / BALLAST


def blank_llama(stream: Stream, *, vocabulary: int, layers: int, heads: int, d_head: int) -> LlamaForCausalLM:
    """A Llama that does nothing: heads attend evenly and write nothing, gates are shut, logits are 0.

    The up and down weights of the MLPs are seeded noise behind gates that are exactly zero.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=stream.width,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        head_dim=d_head,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": _SLOWING ** (d_head / 2)},
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = seeded_model(LlamaForCausalLM, config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.fill_(BALLAST / sqrt(stream.width))
        elif "up_proj" not in name and "down_proj" not in name:
            parameter.data.zero_()
    model.model.embed_tokens.weight.data += BALLAST * stream.basis("one")
    return model


def seeded_model(kind: type[Built], config: PreTrainedConfig) -> Built:
    """A model with random weights, always the same; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config).eval()


def weight(model: PreTrainedModel, layer: int, part: str) -> Float[Tensor, "out in"]:
    """The weights of one part of a Llama layer, such as "mlp.up_proj", to be written in place."""
    return model.get_parameter(f"model.layers.{layer}.{part}.weight").data


class Head:
    """One attention head, written as a sum of score terms and one value map."""

    def __init__(self, model: LlamaForCausalLM, layer: int, head: int) -> None:
        self._size = int(model.config.head_dim or 0)
        rows = slice(head * self._size, (head + 1) * self._size)
        self._q, self._k, self._v = (weight(model, layer, f"self_attn.{name}_proj")[rows] for name in "qkv")
        self._o = weight(model, layer, "self_attn.o_proj")[:, rows]
        self._still = self._still_dimensions()

    def _still_dimensions(self) -> Iterator[int]:
        """The dimensions that hardly turn with position, the slowest pair first."""
        half = self._size // 2
        for pair in range(half - 1, TURNING - 1, -1):
            yield from (pair, pair + half)

    def attend(
        self, query: Float[Tensor, "term d_model"], key: Float[Tensor, "term d_model"], strength: float
    ) -> "Head":
        """Add strength times the sum over terms of (query . x at the query) (key . x at the key)."""
        places = [next(self._still) for _ in query]
        scale = sqrt(abs(strength) * sqrt(self._size))
        self._q[places] = scale * query
        self._k[places] = (scale if strength > 0 else -scale) * key
        return self

    def attend_back(self, distance: int, query: Float[Tensor, "1 d_model"], strength: float) -> "Head":
        """Add (query . x) times a score that is highest for the key `distance` tokens back.

        The score of a key d tokens back is strength times the sum over the turning pairs of
        cos(speed * (d - distance)): 8 strengths at its peak, and at least half a strength lower at every
        other distance within the context.
        """
        scale, half = sqrt(strength * sqrt(self._size)), self._size // 2
        angle = distance * _SLOWING ** -torch.arange(TURNING)
        one = torch.eye(self._q.shape[1])[0] / BALLAST
        self._q[:TURNING] = scale * query
        self._k[:TURNING] = scale * angle.cos()[:, None] * one
        self._k[half : half + TURNING] = scale * angle.sin()[:, None] * one
        return self

    def carry(self, read: Float[Tensor, "term d_model"], write: Float[Tensor, "term d_model"]) -> "Head":
        """Write, for each term, `write` times (read . x) of the tokens attended to."""
        self._v[: len(read)], self._o[:, : len(read)] = read, write.T
        return self


def look_up(
    model: LlamaForCausalLM,
    layer: int,
    one: Float[Tensor, "1 d_model"],
    read: Float[Tensor, "neuron d_model"],
    write: Float[Tensor, "neuron d_model"],
) -> None:
    """Make neuron i add `write[i]` where `read[i]` . x is 1 or more, and nothing where it is 0."""
    count, sharpness = len(read), 60.0
    weight(model, layer, "mlp.gate_proj")[:count] = sharpness * (read - one / 2)
    weight(model, layer, "mlp.up_proj")[:count] = 2 / sharpness * one
    weight(model, layer, "mlp.down_proj")[:, :count] = write.T
