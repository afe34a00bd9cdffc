"""Everything that writes into the residual stream, as the columns of an attribution graph.

The columns are, in order: active features by layer and position, reconstruction errors, tokens, positions,
the MLP outputs at the first position, and one for all biases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.frozen import FrozenRun
from workbench.coders.coder import Transcoder

KINDS = ("feature", "error", "token", "position", "first", "bias")
"""The kinds of column, in order."""


@dataclass(frozen=True)
class Columns:
    """Where each kind of source has its columns.

    An error stands at `layer * n_pos + pos` of its slice, a token and a position at `pos`, an output at the
    first position at `layer`; there is one bias.
    """

    n_features: int
    n_layers: int
    n_pos: int

    @property
    def slices(self) -> dict[str, slice]:
        """The columns of each kind."""
        sizes = (self.n_features, self.n_layers * self.n_pos, self.n_pos, self.n_pos, self.n_layers, 1)
        found, start = {}, 0
        for kind, size in zip(KINDS, sizes, strict=True):
            found[kind] = slice(start, start + size)
            start += size
        return found

    @property
    def count(self) -> int:
        """How many columns there are."""
        return self.slices["bias"].stop

    def label(self, column: int) -> tuple[str, int | None, int | None]:
        """The kind, the layer and the position of a column that is no feature."""
        kind = next(kind for kind, part in self.slices.items() if column < part.stop)
        place = column - self.slices[kind].start
        if kind == "error":
            return kind, place // self.n_pos, place % self.n_pos
        if kind == "first":
            return kind, place, 0
        return (kind, None, place) if kind in ("token", "position") else (kind, None, None)

    def name(self, column: int, features: Int[Tensor, "feature place"], text: Sequence[str]) -> str:
        """A column as a person would write it.

        Args:
            column: which one.
            features: layer, position and number of each feature.
            text: the tokens.
        """
        if column < self.n_features:
            layer, pos, number = features[column].tolist()
            return f"L{layer}.F{number}@{pos}"
        kind, layer, pos = self.label(column)
        if kind == "token" and pos is not None:
            return f"token {text[pos]!r}@{pos}"
        if kind == "error":
            return f"L{layer}.error@{pos}"
        return {"position": f"position {pos}", "first": f"L{layer}.first", "bias": "bias"}[kind]


@dataclass(frozen=True)
class Writing:
    """What the active features of one layer add to the stream behind an MLP, one row for each feature.

    Attributes:
        starts: the column at which each position begins; one entry more than there are positions.
    """

    vectors: Float[Tensor, "feature d_model"]
    starts: tuple[int, ...]

    def at(self, pos: int) -> tuple[slice, Float[Tensor, "some d_model"]]:
        """The columns of a position, and what their features write."""
        first, last = self.starts[pos], self.starts[pos + 1]
        return slice(first, last), self.vectors[first - self.starts[0] : last - self.starts[0]]


@dataclass(frozen=True)
class LayerSources:
    """What is written behind one MLP: features of this and earlier layers, the error, the bias, and a skip.

    Attributes:
        error: what the coders miss; zero at a first position that is kept whole.
        first: the MLP's output at the first position where that is kept whole, else None.
        bias: the output bias of the coder; None without a coder.
        skip: a linear path from what the MLP reads to what it writes.
    """

    writings: tuple[Writing, ...]
    error: Float[Tensor, "pos d_model"]
    first: Float[Tensor, " d_model"] | None
    bias: Float[Tensor, " d_model"] | None
    skip: Float[Tensor, "d_model d_model"] | None


@dataclass(frozen=True)
class Sources:
    """The columns of the graph of one run.

    Attributes:
        features: layer, position and number of each active feature, in the order of the columns.
        values: their activations.
        pre: their pre-activations, which is what their rows add up to.
        encoders: what each reads behind the norm in front of its MLP.
        encoder_biases: what is added to that.
        layers: what is written behind each MLP.
        start: the first position at which the coders are asked (0, or 1 where the first is kept whole).
    """

    columns: Columns
    features: Int[Tensor, "feature place"]
    values: Float[Tensor, " feature"]
    pre: Float[Tensor, " feature"]
    encoders: Float[Tensor, "feature d_model"]
    encoder_biases: Float[Tensor, " feature"]
    layers: tuple[LayerSources, ...]
    start: int


@torch.no_grad()
def find_sources(run: FrozenRun, coders: Mapping[int, Transcoder], *, keep_first: bool = True) -> Sources:
    """Encode a frozen run, and lay out everything that writes into its stream.

    Args:
        run: a frozen run.
        coders: transcoders of some layers, or of none; the MLP of any other layer is an error node as a whole.
        keep_first: take the MLP outputs at the first position as they are, since its activations are
            hundreds of times larger than all others in most models.

    Raises:
        ValueError: a coder does not read what enters the MLP and write what it adds, or does not fit the model.
    """
    for coder in coders.values():
        _check_place(run, coder)
    start = 1 if keep_first else 0
    depth, length = run.size
    encoded = {layer: _encode(run, coder, start) for layer, coder in coders.items()}
    counts = [len(encoded[layer].places) if layer in encoded else 0 for layer in range(depth)]
    columns = Columns(sum(counts), depth, length)
    firsts = [sum(counts[:layer]) for layer in range(depth)]
    like = run.stream
    read = [(coders[layer], one) for layer, one in encoded.items()]
    none = torch.empty(0, 3, dtype=torch.long, device=like.device)
    return Sources(
        columns=columns,
        features=torch.cat([none, *(one.placed(coder.layer) for coder, one in read)]),
        values=torch.cat([like.new_empty(0), *(one.values for _, one in read)]),
        pre=torch.cat([like.new_empty(0), *(one.pre for _, one in read)]),
        encoders=torch.cat([like[:0], *(coder.w_enc[one.numbers].to(like) for coder, one in read)]),
        encoder_biases=torch.cat([like.new_empty(0), *(coder.b_enc[one.numbers].to(like) for coder, one in read)]),
        layers=tuple(_layer_sources(run, coders, encoded, firsts, layer, start) for layer in range(depth)),
        start=start,
    )


@dataclass(frozen=True)
class _Encoded:
    """The active features of one layer, by position and number."""

    places: Int[Tensor, " feature"]
    numbers: Int[Tensor, " feature"]
    values: Float[Tensor, " feature"]
    pre: Float[Tensor, " feature"]

    def placed(self, layer: int) -> Int[Tensor, "feature place"]:
        """Layer, position and number of each."""
        return torch.stack([torch.full_like(self.places, layer), self.places, self.numbers], dim=1)

    def starts(self, first: int, length: int) -> tuple[int, ...]:
        """The column at which each position begins."""
        counted = torch.bincount(self.places, minlength=length).cumsum(0).tolist()
        return (first, *(first + count for count in counted))


def _encode(run: FrozenRun, coder: Transcoder, start: int) -> _Encoded:
    """The features that are not zero, at the positions that are asked."""
    pre = coder.pre(run.layers[coder.layer].mlp_in[start:])
    values = coder.activate(pre)
    places, numbers = values.nonzero(as_tuple=True)
    like = run.stream
    return _Encoded(places + start, numbers, values[places, numbers].to(like), pre[places, numbers].to(like))


def _layer_sources(
    run: FrozenRun,
    coders: Mapping[int, Transcoder],
    encoded: Mapping[int, _Encoded],
    firsts: list[int],
    layer: int,
    start: int,
) -> LayerSources:
    """What is written behind the MLP of one layer."""
    frozen, like = run.layers[layer], run.stream
    own = coders.get(layer)
    writings = []
    left = frozen.mlp_out.clone()
    for source, one in encoded.items():
        decoder = coders[source].decoder_to(layer)
        if decoder is None:
            continue
        vectors = one.values[:, None] * decoder[one.numbers].to(like)
        left.index_add_(0, one.places, -vectors)
        writings.append(Writing(vectors, one.starts(firsts[source], len(like))))
    skip = None if own is None or own.w_skip is None else own.w_skip.to(like)
    if own is not None:
        left -= own.b_dec.to(like)
    if skip is not None:
        left -= frozen.mlp_in @ skip.T
    left[:start] = 0
    first = frozen.mlp_out[0] if start else None
    return LayerSources(tuple(writings), left, first, None if own is None else own.b_dec.to(like), skip)


def _check_place(run: FrozenRun, coder: Transcoder) -> None:
    """Raise ValueError where a coder cannot stand in for the MLP of its layer."""
    depth, width = len(run.layers), run.stream.shape[1]
    if (coder.read, coder.write) != ("mlp_in", "mlp_out"):
        raise ValueError(
            f"the coder of layer {coder.layer} goes from {coder.read} to {coder.write}: "
            "an attribution graph needs transcoders from mlp_in to mlp_out"
        )
    if coder.layer >= depth or (coder.d_in, coder.d_out) != (width, width):
        raise ValueError(
            f"the coder of layer {coder.layer} takes {coder.d_in} numbers to {coder.d_out}, "
            f"but the model has {depth} layers of width {width}"
        )
