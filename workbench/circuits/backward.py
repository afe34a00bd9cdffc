"""The layer sweep: from readings of the stream back to everything that wrote into it, without autograd.

The gradient of many readings at one position is carried down the layers at once. Behind each MLP it is
multiplied by what was written there, which gives the row of the graph; through each attention it goes by the
transposed pattern. Positions right of the reading are never touched, and every product is of contiguous slices.
Below the attention of the first layer lies the embedding alone, so there no gradient is made any more.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.linalg import vecdot  # much faster here than a product with a matrix of one column

from workbench.circuits.frozen import FrozenLayer, FrozenNorms, FrozenRun
from workbench.circuits.sources import Sources
from workbench.circuits.targets import Target
from workbench.progress import track

_ROWS, _NUMBERS = 512, 1 << 26
"""How many rows are carried at once, and how many numbers all of their gradients may hold."""


@dataclass(frozen=True)
class Readings:
    """Linear readings of the stream; `layers` is the number of layers for the final stream."""

    layers: Int[Tensor, " row"]
    positions: Int[Tensor, " row"]
    vectors: Float[Tensor, "row d_model"]
    constants: Float[Tensor, " row"]

    @classmethod
    def of(cls, sources: Sources, targets: list[Target]) -> "Readings":
        """What the active features read, then the targets."""
        device = sources.features.device
        places = torch.tensor([[one.layer, one.pos] for one in targets], dtype=torch.long, device=device).reshape(-1, 2)
        layers, positions = torch.cat([sources.features[:, :2], places]).unbind(1)
        vectors = torch.cat([sources.encoders, *(one.vector[None].to(sources.encoders) for one in targets)])
        constants = torch.tensor([one.constant for one in targets], dtype=vectors.dtype, device=device)
        return cls(layers, positions, vectors, torch.cat([sources.encoder_biases, constants]))


@torch.no_grad()
def sweep_back(
    run: FrozenRun, sources: Sources, readings: Readings, rows_at_once: int = _ROWS
) -> Float[Tensor, "row column"]:
    """How much each source adds to each reading; every row sums to the value of its reading.

    Args:
        run: a frozen run.
        sources: what writes into its stream, the columns.
        readings: the rows.
        rows_at_once: how many rows are carried together; it changes memory and time, not the numbers.
    """
    edges = torch.zeros(len(readings.layers), sources.columns.count, dtype=run.stream.dtype)
    widths = [layer.outputs.shape[0] * layer.outputs.shape[1] for layer in run.layers]
    width = max([run.stream.shape[1], *widths])
    parts = []
    for pos in readings.positions.unique().tolist():
        here = (readings.positions == pos).nonzero()[:, 0]
        here = here[readings.layers[here].argsort(descending=True, stable=True)]
        parts += here.split(max(1, min(rows_at_once, _NUMBERS // ((pos + 1) * width))))
    for rows in track(parts, "rows of the graph"):
        edges[rows.cpu()] = Wave.begin(run, sources, readings, rows).carry_down().cpu()
    return edges


@dataclass
class Wave:
    """The gradients of some rows that read at one position, on their way down.

    Attributes:
        layers: where each row reads, highest first, so that the rows that have joined are always the first ones.
        grads: by position, of the stream at the height that is reached.
        edges: the finished part of the rows.
    """

    run: FrozenRun
    sources: Sources
    pos: int
    layers: list[int]
    vectors: Float[Tensor, "row d_model"]
    grads: Float[Tensor, "pos row d_model"]
    edges: Float[Tensor, "row column"]
    slices: dict[str, slice] = field(default_factory=dict)

    @classmethod
    def begin(cls, run: FrozenRun, sources: Sources, readings: Readings, rows: Int[Tensor, " part"]) -> "Wave":
        """Rows that read at one position, sorted by layer from the top; nothing has been carried yet."""
        pos, vectors = int(readings.positions[rows[0]]), readings.vectors[rows]
        grads = vectors.new_zeros(pos + 1, *vectors.shape)
        edges = vectors.new_zeros(len(rows), sources.columns.count)
        edges[:, -1] = readings.constants[rows]
        layers = readings.layers[rows].tolist()
        return cls(run, sources, pos, layers, vectors, grads, edges, sources.columns.slices)

    def carry_down(self) -> Float[Tensor, "row column"]:
        """All the way to the embedding; returns the rows."""
        depth = len(self.run.layers)
        self._join(self.run.final, 0, self._reading_from(depth))
        for layer in reversed(range(depth)):
            frozen, above = self.run.layers[layer], self._reading_from(layer + 1)
            self._collect(layer, above)
            here = self._reading_from(layer)
            skipped = self._through_skip(layer, self.grads[:, :above], slice(above))
            if frozen.sequential:
                self.grads[:, :above] += skipped
                self._join(frozen.before_mlp, above, here)
                self._pass_attention(layer, above, here)
            else:
                self._pass_attention(layer, above, above)
                self.grads[:, :above] += skipped
                self._join(frozen.before_mlp, above, here)
        self._collect_embedding()
        return self.edges

    def _reading_from(self, layer: int) -> int:
        """How many rows read at this layer or above."""
        return sum(place >= layer for place in self.layers)

    def _add_bias(self, rows: slice, shares: Float[Tensor, "pos some"]) -> None:
        """Constants that some rows meet on the way, by position."""
        self.edges[rows, -1] += shares.sum(0)

    def _join(self, norm: FrozenNorms, first: int, last: int) -> None:
        """Let the rows that read here begin, behind the norm that stands in front of them."""
        vectors = self.vectors[first:last]
        self.grads[self.pos, first:last] = norm.pulled_at(self.pos, vectors)
        self.edges[first:last, -1] += vectors @ norm.bias

    def _collect(self, layer: int, count: int) -> None:
        """What was written behind one MLP, times the gradient there."""
        here, grads = self.sources.layers[layer], self.grads[:, :count]
        if not count:
            return
        for writing in here.writings:
            for pos in range(self.sources.start, self.pos + 1):
                columns, vectors = writing.at(pos)
                if len(vectors):
                    self.edges[:count, columns].addmm_(grads[pos], vectors.T)
        errors = vecdot(grads, here.error[: self.pos + 1, None]).T
        first = self.slices["error"].start + layer * self.sources.columns.n_pos
        self.edges[:count, first : first + self.pos + 1] = errors
        if here.first is not None:
            self.edges[:count, self.slices["first"].start + layer] = grads[0] @ here.first
        if here.bias is not None:
            self._add_bias(slice(count), vecdot(grads[self.sources.start :], here.bias))

    def _through_skip(
        self, layer: int, grads: Float[Tensor, "pos some d_model"], rows: slice
    ) -> Float[Tensor, "pos some d_model"] | float:
        """The linear path of a skip transcoder, from what the MLP writes to what it reads."""
        skip, norm = self.sources.layers[layer].skip, self.run.layers[layer].before_mlp
        if skip is None or not grads.shape[1]:
            return 0.0
        inner = grads @ skip
        inner[: self.sources.start] = 0
        self._add_bias(rows, vecdot(inner, norm.bias))
        return norm.pulled(inner)

    def _pass_attention(self, layer: int, above: int, count: int) -> None:
        """Through the attention of a layer, for rows that come from above and those that began right behind it."""
        frozen = self.run.layers[layer]
        if layer == 0:
            self._collect_through_heads(frozen, count)
            return
        self.grads[:, :above] += self._through_attention(frozen, self.grads[:, :above], slice(above))
        if count > above:
            self.grads[:, above:count] += self._first_through_attention(frozen, slice(above, count))

    def _collect_through_heads(self, layer: FrozenLayer, count: int) -> None:
        """What the heads of the first layer bring from the embedding: nothing else lies below, so no row goes on."""
        self._add_bias(slice(count), vecdot(self.grads[:, :count], layer.attention_bias[: self.pos + 1, None]))
        for pos in range(self.pos + 1):
            inner, length = layer.behind_attention.pulled_at(pos, self.grads[pos, :count]), pos + 1
            for kind, made in self.run.embedding_by_head.items():
                written = torch.einsum("hk,hkm->km", layer.pattern[:, pos, :length], made[:, :length])
                first = self.slices[kind].start
                self.edges[:count, first : first + length].addmm_(inner, written.T)

    def _through_attention(
        self, layer: FrozenLayer, grads: Float[Tensor, "pos some d_model"], rows: slice
    ) -> Float[Tensor, "pos some d_model"]:
        """Through every head at once, with its pattern as it was: from queries back to keys."""
        length, count = grads.shape[:2]
        groups, _, size = layer.values.shape
        shared = len(layer.outputs) // groups
        self._add_bias(rows, vecdot(grads, layer.attention_bias[:length, None]))
        inner = layer.behind_attention.pulled(grads)
        mixed = (inner @ layer.outputs.flatten(0, 1).T).view(length, count, groups, shared, size)
        mixed = mixed.permute(2, 3, 0, 1, 4).reshape(groups, shared * length, count * size)
        pattern = layer.pattern[:, :length, :length].unflatten(0, (groups, -1)).flatten(1, 2)
        read = (pattern.transpose(1, 2) @ mixed).view(groups, length, count, size)
        back = read.permute(1, 2, 0, 3).flatten(2) @ layer.values.transpose(1, 2).flatten(0, 1)
        return layer.before_attention.pulled(back)

    def _first_through_attention(self, layer: FrozenLayer, rows: slice) -> Float[Tensor, "pos some d_model"]:
        """The same for rows that begin here: they stand at one query, so only what each head makes is spread."""
        grads, count = self.grads[self.pos, rows], rows.stop - rows.start
        groups, width, size = layer.values.shape
        self.edges[rows, -1] += grads @ layer.attention_bias[self.pos]
        inner = layer.behind_attention.pulled_at(self.pos, grads)
        shared = len(layer.outputs) // groups
        mixed = (inner @ layer.outputs.flatten(0, 1).T).view(count, groups, shared, size).permute(1, 2, 0, 3)
        made = (mixed.flatten(1, 2) @ layer.values.transpose(1, 2)).reshape(len(layer.outputs), count * width)
        weights = layer.pattern[:, self.pos, : self.pos + 1].T
        back = (weights @ made).view(len(weights), count, width)
        return layer.before_attention.pulled(back)

    def _collect_embedding(self) -> None:
        """The bottom of the stream: tokens and positions."""
        length = self.pos + 1
        for kind, part in (("token", self.run.token_part), ("position", self.run.position_part)):
            start = self.slices[kind].start
            self.edges[:, start : start + length] += vecdot(self.grads, part[:length, None]).T
