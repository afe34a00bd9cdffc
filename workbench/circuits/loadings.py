"""Head loadings: through which heads what a source adds reaches what it adds to.

An edge of the graph is a sum over all ways through the frozen attention. Each way is carried last by one head,
the one that hands it to the reader, and first by one, the one that takes it up where it was written; on some
ways there is no head at all, which is the direct part. So an edge splits over carriers in either manner, and the
parts add up to it exactly.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.backward import Wave
from workbench.circuits.frozen import FrozenLayer, FrozenRun
from workbench.circuits.sources import Columns, Sources
from workbench.circuits.targets import Target

HOPS = ("last", "first")

DIRECT = "direct"


@dataclass(frozen=True)
class Loadings:
    """One row of the graph, split over what carries it.

    Attributes:
        carriers: "direct", then heads such as "L3.H1" and the skips of transcoders such as "L3.skip", from the top.
        parts: what each carrier brings to the row from each column, in the unit of the row.
        columns: where each kind of source has its columns.
    """

    carriers: tuple[str, ...]
    parts: Float[Tensor, "carrier column"]
    columns: Columns

    def totals(self) -> Float[Tensor, " carrier"]:
        """What each carrier brings to the whole row."""
        return self.parts.double().sum(1)

    def of(self, column: int, count: int | None = None) -> list[tuple[str, float]]:
        """The carriers of one edge with what each brings, largest first; those that bring nothing are left out."""
        brought = self.parts[:, column]
        order = brought.abs().argsort(descending=True, stable=True)[:count].tolist()
        return [(self.carriers[place], float(brought[place])) for place in order if brought[place] != 0]


@torch.no_grad()
def load_heads(run: FrozenRun, sources: Sources, target: Target, hop: str = "last") -> Loadings:
    """Split the row of a target over the heads that carry it.

    Args:
        run: a frozen run.
        sources: what writes into its stream (`find_sources`).
        target: any target, a feature too (`feature_target`).
        hop: "last" asks which head hands something to the target, "first" which head takes it up from its source.

    Returns:
        Parts that add up, over the carriers, to the row of the graph.

    Raises:
        ValueError: the hop is neither of the two.
    """
    if hop not in HOPS:
        raise ValueError(f"hop {hop!r} is unknown: allowed are {', '.join(HOPS)}")
    wave = _Carried.begin_at(run, sources, target, hop)
    parts = wave.carry_down().cpu()
    return Loadings(tuple(wave.carriers), parts, sources.columns)


@dataclass
class _Carried(Wave):
    """A wave whose rows are the carriers of one reading; a row is taken into use where its carrier is met."""

    hop: str = "last"
    carriers: list[str] = field(default_factory=lambda: [DIRECT])

    @classmethod
    def begin_at(cls, run: FrozenRun, sources: Sources, target: Target, hop: str) -> "_Carried":
        """One reading, and room for everything that may carry it."""
        room = 1 + sum(len(layer.outputs) + 1 for layer in run.layers[: target.layer + 1])
        vectors = target.vector.to(run.stream)[None].expand(room, -1)
        grads = vectors.new_zeros(target.pos + 1, *vectors.shape)
        edges = vectors.new_zeros(room, sources.columns.count)
        edges[0, -1] = target.constant
        return cls(run, sources, target.pos, [target.layer], vectors, grads, edges, sources.columns.slices, hop)

    def carry_down(self) -> Float[Tensor, "carrier column"]:
        """All the way to the embedding; returns what each carrier that was met brings."""
        (top,), depth = self.layers, len(self.run.layers)
        if top == depth:
            self._join(self.run.final, 0, 1)
        for layer in reversed(range(min(top + 1, depth))):
            frozen = self.run.layers[layer]
            above = self._met()
            if layer < top:
                self._collect(layer, above.shape[1])
                self._carry_skip(layer, above)
            else:
                self._join(frozen.before_mlp, 0, 1)
            if frozen.sequential:
                self._carry_attention(layer, frozen, self._met())
            elif layer < top:
                self._carry_attention(layer, frozen, above)
        self._collect_embedding()
        return self.edges[: len(self.carriers)]

    def _met(self) -> Float[Tensor, "pos some d_model"]:
        """The gradients by all carriers that were met, as they are now."""
        return self.grads[:, : len(self.carriers)].clone()

    def _carry_skip(self, layer: int, above: Float[Tensor, "pos some d_model"]) -> None:
        """Let what may go on by the skip of a layer do so: it is a carrier of its own."""
        if self.sources.layers[layer].skip is None:
            return
        count, new = above.shape[1], slice(len(self.carriers), len(self.carriers) + 1)
        self.carriers.append(f"L{layer}.skip")
        if self.hop == "last":
            self.grads[:, 1:count] += self._through_skip(layer, above[:, 1:], slice(1, count))
            above = above[:, :1]
        self.grads[:, new] += self._through_skip(layer, above.sum(1, keepdim=True), new)

    def _carry_attention(self, layer: int, frozen: FrozenLayer, above: Float[Tensor, "pos some d_model"]) -> None:
        """The same by every head of a layer."""
        count, new = above.shape[1], slice(len(self.carriers), len(self.carriers) + len(frozen.outputs))
        self.carriers += [f"L{layer}.H{head}" for head in range(len(frozen.outputs))]
        if self.hop == "last":
            if count > 1:
                self.grads[:, 1:count] += self._through_attention(frozen, above[:, 1:], slice(1, count))
            inner = self._behind_heads(frozen, above[:, :1], slice(1))
        else:
            inner = self._behind_heads(frozen, above, slice(count))
        self.grads[:, new] += self._by_head(frozen, inner.sum(1), new)

    def _behind_heads(
        self, layer: FrozenLayer, grads: Float[Tensor, "pos some d_model"], rows: slice
    ) -> Float[Tensor, "pos some d_model"]:
        """From what attention adds to the stream to what its heads give, past its bias and the norm behind it."""
        inner = layer.behind_attention.pulled(grads)
        self._add_bias(rows, grads @ layer.behind_attention.bias + inner @ layer.output_bias)
        return inner

    def _by_head(
        self, layer: FrozenLayer, inner: Float[Tensor, "pos d_model"], rows: slice
    ) -> Float[Tensor, "pos head d_model"]:
        """Through each head by itself, from queries back to keys."""
        length, shared = len(inner), len(layer.outputs) // len(layer.values)
        mixed = torch.einsum("qm,hdm->hqd", inner, layer.outputs)
        read = (layer.pattern[:, :length, :length].transpose(1, 2) @ mixed).transpose(0, 1)
        self._add_bias(rows, torch.einsum("khd,hd->kh", read, layer.value_bias.repeat_interleave(shared, 0)))
        back = torch.einsum("khd,hmd->khm", read, layer.values.repeat_interleave(shared, 0))
        self._add_bias(rows, back @ layer.before_attention.bias)
        return layer.before_attention.pulled(back)
