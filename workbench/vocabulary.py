"""The vocabulary seen from a direction: which tokens it promotes most, and which it suppresses most.

A row w gives token t the score <w, u_t>, where u_t is the token's row of the unembedding (a bias of the
unembedding is left out). In standard deviations over the vocabulary the score is called z; it does not
depend on the length of w. Mean and deviation follow from the mean and the covariance of the rows u_t,
without a single score; the extremes are kept while tiles of scores pass by, so no [row, vocab] table is made.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.lens import unembedding
from workbench.model import Model

_CPU_TILE, _GPU_TILE = (512, 4096), (8192, 16384)
"""Rows and tokens of which scores are held at once: 8 MB fit into the cache of a CPU."""

_GROUPS = 256
"""Groups of tokens whose largest score decides which of them are looked at."""

_UNUSED = re.compile(r"[<\[].*(unused|reserved).*[>\]]", re.IGNORECASE)
_ROWS = 1024
_ROUNDING = 1e-12
"""A variance below this share of the usual one is none."""


@dataclass(frozen=True)
class Extremes:
    """Both ends of the vocabulary for each row, farthest first: token ids, and their z."""

    promoted: Int[Tensor, "row rank"]
    promoted_z: Float[Tensor, "row rank"]
    suppressed: Int[Tensor, "row rank"]
    suppressed_z: Float[Tensor, "row rank"]

    @property
    def peak(self) -> Float[Tensor, " row"]:
        """Size of the farthest z at either end."""
        return torch.maximum(self.promoted_z[:, 0], -self.suppressed_z[:, 0])

    @property
    def downward(self) -> Bool[Tensor, " row"]:
        """Whether the farthest token is a suppressed one."""
        return -self.suppressed_z[:, 0] > self.promoted_z[:, 0]

    @property
    def farther(self) -> Int[Tensor, "row rank"]:
        """The tokens of the end that holds the farthest one."""
        return torch.where(self.downward[:, None], self.suppressed, self.promoted)

    def rows(self, chosen: slice | Tensor) -> "Extremes":
        """Some of the rows."""
        return Extremes(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: "list[Extremes]") -> "Extremes":
        """The rows of several in a row."""
        return Extremes(*(torch.cat([getattr(one, name) for one in parts]) for name in Extremes.__dataclass_fields__))


@dataclass(frozen=True)
class Vocabulary:
    """The rows of an unembedding that stand for tokens, with their mean and covariance.

    Attributes:
        weight: the whole unembedding, as the model holds it.
        ids: the tokens that count, ascending.
        mean: over the rows of these tokens.
        covariance: of the same rows.
    """

    weight: Float[Tensor, "vocab d_model"]
    ids: Int[Tensor, " token"]
    mean: Float[Tensor, " d_model"]
    covariance: Float[Tensor, "d_model other_d_model"]

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, unused: bool = False) -> "Vocabulary":
        """The vocabulary of a model.

        Args:
            model: a loaded model.
            unused: count also rows that no text leads to: padding behind the tokenizer's words, special
                tokens, and those called unused or reserved. They were hardly trained, and many are alike.

        Raises:
            ValueError: the unembedding is quantised.
        """
        weight, _ = unembedding(model.bridge)
        weight = weight.detach()
        ids = torch.arange(len(weight)) if unused else usable_tokens(model)
        return cls.over(weight, ids.to(weight.device))

    @classmethod
    @torch.no_grad()
    def over(cls, weight: Float[Tensor, "vocab d_model"], ids: Int[Tensor, " token"]) -> "Vocabulary":
        """Some rows of an unembedding."""
        size = weight.shape[1]
        bare = cls(weight, ids, torch.zeros(size), torch.zeros(size, size))
        total = torch.zeros(size, dtype=torch.float64, device=weight.device)
        for _, rows in bare.blocks():
            total += rows.sum(0, dtype=torch.float64)
        mean = total / len(ids)
        products = torch.zeros(size, size, dtype=torch.float64, device=weight.device)
        for _, rows in bare.blocks():
            centred = rows - mean.to(rows.dtype)
            products += centred.T @ centred
        return cls(weight, ids, mean, products / len(ids))

    def blocks(self) -> Iterator[tuple[Int[Tensor, " part"], Float[Tensor, "part d_model"]]]:
        """The tokens and their rows, a block at a time, in 32 bits or more."""
        exact = torch.promote_types(self.weight.dtype, torch.float32)
        for ids in self.ids.split(self._tile[1]):
            first, last = int(ids[0]), int(ids[-1])
            unbroken = last - first + 1 == len(ids)
            yield ids, (self.weight[first : last + 1] if unbroken else self.weight[ids]).to(exact)

    def tiles(
        self, rows: Float[Tensor, "row d_model"]
    ) -> Iterator[tuple[int, Int[Tensor, " part"], Float[Tensor, "tile part"]]]:
        """Scores of some rows for some tokens: the first row, the tokens, the scores (gone at the next tile)."""
        height, width = self._tile
        rows = rows.to(torch.promote_types(self.weight.dtype, torch.float32))
        room = torch.empty(height * width, dtype=rows.dtype, device=rows.device)
        for ids, block in self.blocks():
            for start in range(0, len(rows), height):
                part = rows[start : start + height]
                scores = room[: len(part) * len(ids)].view(len(part), len(ids))
                yield start, ids, torch.mm(part, block.T, out=scores)

    @torch.no_grad()
    def extremes(self, rows: Float[Tensor, "row d_model"], count: int) -> Extremes:
        """The tokens with the largest and the smallest scores of each row, exactly; equal scores by token id.

        Args:
            rows: directions, of any length; a row of zeros has z = 0 everywhere.
            count: how many tokens at each end; at most all there are.
        """
        count = min(count, len(self.ids))
        top, bottom = (_Best.empty(rows, count, largest=largest) for largest in (True, False))
        for start, ids, scores in self.tiles(rows):
            top.take(start, scores, ids)
            bottom.take(start, scores, ids)
        mean, deviation = self.moments(rows)
        ends = ((ids, _standardised(values, mean, deviation)) for ids, values in (top.ordered(), bottom.ordered()))
        return Extremes(*(part for end in ends for part in end))

    @torch.no_grad()
    def moments(self, rows: Float[Tensor, "row d_model"]) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        """Mean and standard deviation of the scores of each row, in closed form and 64 bits.

        A deviation that is but rounding (the row lies where no token differs from another) is 0.
        """
        wide = rows.double()
        variance = torch.linalg.vecdot(wide @ self.covariance, wide)
        usual = wide.square().sum(1) * self.covariance.diagonal().mean()
        return wide @ self.mean, variance.where(variance > _ROUNDING * usual, 0).sqrt()

    @torch.no_grad()
    def z(self, rows: Float[Tensor, "row d_model"], ids: Int[Tensor, " asked"]) -> Float[Tensor, "row asked"]:
        """The z of some tokens."""
        exact = torch.promote_types(self.weight.dtype, torch.float32)
        return _standardised(rows.to(exact) @ self.weight[ids].to(exact).T, *self.moments(rows))

    @torch.no_grad()
    def all_z(self, rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row token"]:
        """The slow definition in 64 bits: every score, less their mean, over their deviation. For few rows."""
        scores = torch.cat([rows.double() @ block.double().T for _, block in self.blocks()], dim=1)
        deviation = scores.std(1, correction=0)
        return _standardised(scores, scores.mean(1), deviation.where(self.moments(rows)[1] > 0, 0))

    @torch.no_grad()
    def coherence(self, ids: Int[Tensor, "row rank"]) -> Float[Tensor, " row"]:
        """How alike the tokens of each row are: mean cosine of all pairs of their centred unembedding rows."""
        count = ids.shape[1]
        if count < 2:
            raise ValueError(f"tokens are alike in pairs: {count} token a row has none")
        return torch.cat([self._mean_cosine(part) for part in ids.split(_ROWS)])

    def _mean_cosine(self, ids: Int[Tensor, "row rank"]) -> Float[Tensor, " row"]:
        exact = torch.promote_types(self.weight.dtype, torch.float32)
        centred = self.weight[ids].to(exact) - self.mean.to(exact)
        together = torch.nn.functional.normalize(centred, dim=-1).sum(1).square().sum(-1)
        count = ids.shape[1]
        return (together - count) / (count * (count - 1))

    @property
    def _tile(self) -> tuple[int, int]:
        return _CPU_TILE if self.weight.device.type == "cpu" else _GPU_TILE


def usable_tokens(model: Model) -> Int[Tensor, " token"]:
    """The tokens that a text can lead to, ascending: no padding rows, no special, unused or reserved tokens."""
    tokenizer = model.tokenizer
    special = {*tokenizer.all_special_ids, *(i for i, one in tokenizer.added_tokens_decoder.items() if one.special)}
    named = tokenizer.get_vocab().items()
    kept = sorted({index for name, index in named if index not in special and not _UNUSED.fullmatch(name)})
    return torch.tensor([index for index in kept if index < model.shape.d_vocab])


def _standardised(
    scores: Float[Tensor, "row token"], mean: Float[Tensor, " row"], deviation: Float[Tensor, " row"]
) -> Float[Tensor, "row token"]:
    """Scores as z; 0 where all are the same."""
    flat = deviation == 0
    z = (scores.double() - mean[:, None]) / deviation.masked_fill(flat, 1)[:, None]
    return z.masked_fill(flat[:, None], 0).to(scores.dtype)


@dataclass
class _Best:
    """The best scores of every row so far, and whose they are."""

    values: Float[Tensor, "row rank"]
    ids: Int[Tensor, "row rank"]
    largest: bool

    @classmethod
    def empty(cls, rows: Float[Tensor, "row d_model"], count: int, *, largest: bool) -> "_Best":
        """Nothing seen yet."""
        worst = -torch.inf if largest else torch.inf
        exact = torch.promote_types(rows.dtype, torch.float32)
        values = torch.full((len(rows), count), worst, dtype=exact, device=rows.device)
        return cls(values, torch.zeros(len(rows), count, dtype=torch.long, device=rows.device), largest)

    def take(self, start: int, scores: Float[Tensor, "tile part"], ids: Int[Tensor, " part"]) -> None:
        """Let a tile of scores in.

        Tokens are put into groups. A token among the best of its tile lies in one of as many best groups:
        if it did not, each of these groups would hold a better one. So one pass finds the best of each
        group, and only rows that can change, in only their best groups, are looked at again.
        """
        height, width = scores.shape
        rank = self.values.shape[1]
        groups = _GROUPS if width % _GROUPS == 0 and rank <= _GROUPS else width
        folded = scores.view(height, -1, groups)
        peaks = folded.amax(1) if self.largest else folded.amin(1)
        values, owners = self.values[start : start + height], self.ids[start : start + height]
        limit = values[:, -1]
        changing = peaks.amax(1) > limit if self.largest else peaks.amin(1) < limit
        rows = changing.nonzero()[:, 0]
        if len(rows) == 0:
            return
        best = peaks[rows].topk(min(rank, groups), largest=self.largest).indices
        steps = torch.arange(0, width, groups, device=scores.device)
        columns = (best[:, None, :] + steps[None, :, None]).flatten(1)
        merged = torch.cat([values[rows], scores.take(rows[:, None] * width + columns)], dim=1)
        kept = merged.topk(rank, largest=self.largest)
        values[rows] = kept.values
        owners[rows] = torch.cat([owners[rows], ids[columns]], dim=1).gather(1, kept.indices)

    def ordered(self) -> tuple[Int[Tensor, "row rank"], Float[Tensor, "row rank"]]:
        """Ids and values, best first, equal ones by id."""
        ids, order = self.ids.sort(1)
        values = self.values.gather(1, order)
        values, order = values.sort(dim=1, descending=self.largest, stable=True)
        return ids.gather(1, order), values
