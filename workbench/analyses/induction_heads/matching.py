"""Random tokens said twice, and how much of its attention each head puts where the answer stands."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.attention import stream_rows
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.tokens import Tokens
from workbench.vocabulary import usable_tokens


@dataclass(frozen=True)
class Pool:
    """The tokens that are drawn from, and in words where they come from."""

    ids: Int[Tensor, " token"]
    told: str

    @classmethod
    def of(cls, model: Model, prompts: Prompts, needed: int) -> "Pool":
        """The different tokens of the prompts, if they are as many as needed, else those of the vocabulary."""
        usable = usable_tokens(model)
        tokens = model.tokens(prompts)
        own = tokens.ids[tokens.mask].cpu().unique()
        own = own[torch.isin(own, usable)]
        if len(own) >= needed:
            return cls(own, f"The tokens are drawn from the {len(own)} different ones of the prompts.")
        few = f"the prompts hold {len(own)} different ones, and {needed} are needed"
        return cls(usable, f"The tokens are drawn from the whole vocabulary of {len(usable)}: {few}.")


@dataclass(frozen=True)
class Repeated:
    """Sequences of random tokens, all different within a half.

    Attributes:
        twice: the second half is the first once more.
        once: the same first halves, with other tokens behind them.
        start: how many tokens stand in front (the one that begins a sequence, or none).
        length: tokens in a half.
    """

    twice: Tokens
    once: Tokens
    start: int
    length: int

    @classmethod
    def of(cls, model: Model, words: Int[Tensor, " token"], length: int, repeats: int, seed: int) -> "Repeated":
        """Sequences of some tokens for a model.

        Raises:
            ValueError: they would be longer than its context, or need more tokens than there are.
        """
        start = [model.tokenizer.bos_token_id] if model.prepend_bos else []
        most = min(model.shape.n_ctx - len(start), len(words)) // 2
        if length > most:
            raise ValueError(
                f"length must be {most} or less for a context of {model.shape.n_ctx} tokens and a vocabulary of "
                f"{len(words)}: found {length}"
            )
        generator = torch.Generator().manual_seed(seed)
        drawn = [words[torch.randperm(len(words), generator=generator)[: 2 * length]].tolist() for _ in range(repeats)]
        twice = [[*start, *row[:length], *row[:length]] for row in drawn]
        once = [[*start, *row] for row in drawn]
        return cls(model.tokens_of(twice), model.tokens_of(once), len(start), length)

    @property
    def first(self) -> range:
        """The positions of the first half."""
        return range(self.start, self.start + self.length)

    @property
    def second(self) -> range:
        """The positions of the second half."""
        return range(self.start + self.length, self.start + 2 * self.length)


@dataclass(frozen=True)
class Matches:
    """Mean attention of every head, over the queries and the sequences.

    Attributes:
        behind: from the second half, to 0, 1, ... places behind the same place of the first.
        before: from the first half, to 1, 2, ... places before the query.
        layers: the layers that attend.
        gap: the largest error of "a row sums to one".
    """

    behind: Float[Tensor, "offset layer head"]
    before: Float[Tensor, "distance layer head"]
    layers: tuple[int, ...]
    gap: float


def read_matches(model: Model, tokens: Tokens, said: Repeated, reach: int) -> Matches:
    """Reduce the patterns of one pass, layer by layer, to a few means for each head."""
    behind: dict[int, Tensor] = {}
    before: dict[int, Tensor] = {}
    gaps: list[float] = []

    def take(layer: int, _start: int, pattern: Float[Tensor, "batch head query key"]) -> None:
        rows = pattern.float()
        gaps.append(float((rows.sum(-1) - 1).abs().max()))
        second = [-said.length + offset for offset in range(reach + 1)]
        behind[layer] = torch.stack([mean_at(rows, said.second, step) for step in second])
        inner = said.first[reach:]
        before[layer] = torch.stack([mean_at(rows, inner, -distance) for distance in range(1, reach + 1)])

    stream_rows(model, tokens, {"pattern": take}, chunk=tokens.ids.shape[1])
    layers = tuple(sorted(behind))
    stacked = (torch.stack([table[layer] for layer in layers], dim=1).cpu() for table in (behind, before))
    return Matches(*stacked, layers, max(gaps))


def mean_at(pattern: Float[Tensor, "batch head query key"], queries: range, step: int) -> Float[Tensor, " head"]:
    """Mean attention from some queries to the key so many places further (back, where negative).

    Example:
        >>> mean_at(torch.eye(3)[None, None], range(1, 3), 0)
        tensor([1.])
    """
    places = torch.tensor(queries, device=pattern.device)
    return pattern[:, :, places, places + step].mean(dim=(0, 2))
