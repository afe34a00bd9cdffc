"""What every head does with the sink token in one text, reduced as the rows of attention pass."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.attention import stream_rows
from workbench.model import Model
from workbench.sites import MASKED
from workbench.weights import head_outputs

HALF = 0.5
"""A query that puts more than this on the sink token is dormant."""

_CHUNK = 256


@dataclass(frozen=True)
class Reading:
    """One text; layers are those that attend. NaN where no query sees the sink token.

    Attributes:
        sink: mean attention to the sink token.
        dormancy: share of the queries that put more than half there.
        even: what evenly spread attention would put there.
        received: mean attention that each token gets from the queries behind it, over the heads.
        written: length of what each head would write of each token.
        norms: length of the stream behind each block.
        gap: the largest error of "a row sums to one".
    """

    sink: Float[Tensor, "layer head"]
    dormancy: Float[Tensor, "layer head"]
    even: Float[Tensor, " layer"]
    received: Float[Tensor, "layer pos"]
    written: Float[Tensor, "layer head pos"]
    norms: Float[Tensor, "depth pos"]
    gap: float


def attending_layers(model: Model) -> tuple[int, ...]:
    """The layers that have attention to look at."""
    return model.capabilities.served["pattern"]


def read_text(model: Model, ids: tuple[int, ...], position: int) -> Reading:
    """Run one text once.

    Args:
        model: a loaded model.
        ids: its tokens.
        position: the place of the sink token.
    """
    sums = _Sums(model, len(ids), position)
    takes = {
        "v": sums.take_v,
        "scores": sums.take_scores,
        "pattern": sums.take_pattern,
        "resid_post": sums.take_stream,
    }
    stream_rows(model, model.tokens_of([ids]), takes, chunk=_CHUNK)
    return sums.reading()


@dataclass
class _Sums:
    """Running sums over the queries of one text, by layer."""

    model: Model
    length: int
    position: int
    gap: float = 0.0
    reach: dict[int, Bool[Tensor, "query key"]] = field(default_factory=dict)
    mass: dict[int, Tensor] = field(default_factory=dict)
    resting: dict[int, Tensor] = field(default_factory=dict)
    even: dict[int, float] = field(default_factory=dict)
    queries: dict[int, int] = field(default_factory=dict)
    received: dict[int, Tensor] = field(default_factory=dict)
    written: dict[int, list[Tensor]] = field(default_factory=dict)
    norms: dict[int, list[Tensor]] = field(default_factory=dict)

    def take_v(self, layer: int, _start: int, v: Float[Tensor, "batch pos kv_head d_head"]) -> None:
        """How long what each head would write of each token is."""
        outputs = head_outputs(self.model, layer).float()
        shared = v[0].float().repeat_interleave(len(outputs) // v.shape[2], dim=1)
        squares = torch.einsum("hdm,hem->hde", outputs, outputs)
        lengths = torch.einsum("phd,hde,phe->hp", shared, squares, shared).clamp_min(0).sqrt()
        self.written.setdefault(layer, []).append(lengths.cpu())

    def take_scores(self, layer: int, _start: int, scores: Float[Tensor, "batch head query key"]) -> None:
        """Which keys each query sees."""
        self.reach[layer] = scores[0, 0] >= MASKED

    def take_pattern(self, layer: int, start: int, pattern: Float[Tensor, "batch head query key"]) -> None:
        """Reduce the rows of one layer."""
        rows, reach = pattern[0].float(), self.reach.pop(layer)
        self.gap = max(self.gap, float((rows.sum(-1) - 1).abs().max()))
        places = torch.arange(start, start + rows.shape[1], device=rows.device)
        received = self.received.setdefault(layer, torch.zeros(self.length))
        behind = places[:, None] > torch.arange(rows.shape[2], device=rows.device)
        received[: rows.shape[2]] += (rows.mean(0) * behind).sum(0).cpu()
        if self.position >= rows.shape[2]:
            return
        counted = reach[:, self.position] & (places >= self.position + 2)
        there = rows[:, counted, self.position]
        self.mass[layer] = self.mass.get(layer, torch.zeros(len(rows))) + there.sum(1).cpu()
        self.resting[layer] = self.resting.get(layer, torch.zeros(len(rows))) + (there > HALF).sum(1).cpu()
        self.even[layer] = self.even.get(layer, 0.0) + float((1 / reach[counted].sum(-1)).sum())
        self.queries[layer] = self.queries.get(layer, 0) + int(counted.sum())

    def take_stream(self, layer: int, _start: int, stream: Float[Tensor, "batch pos d_model"]) -> None:
        """How long the stream is."""
        self.norms.setdefault(layer, []).append(stream[0].float().norm(dim=-1).cpu())

    def reading(self) -> Reading:
        """The means."""
        layers = attending_layers(self.model)
        count = torch.tensor([self.queries[layer] or torch.nan for layer in layers])
        later = (self.length - 1 - torch.arange(self.length)).clamp_min(1)
        return Reading(
            sink=torch.stack([self.mass[layer] for layer in layers]) / count[:, None],
            dormancy=torch.stack([self.resting[layer] for layer in layers]) / count[:, None],
            even=torch.tensor([self.even[layer] for layer in layers]) / count,
            received=torch.stack([self.received[layer] for layer in layers]) / later,
            written=torch.stack([torch.cat(self.written[layer], dim=1) for layer in layers]),
            norms=torch.stack([torch.cat(self.norms[layer]) for layer in sorted(self.norms)]),
            gap=self.gap,
        )
