"""Sparse coders: a transcoder reads one site and predicts another through a few active features.

z = activation(W_enc x + b_enc), and the prediction is W_dec z + b_dec, plus W_skip x when there is a skip.
A sparse autoencoder is the case that reads what it writes. Of a cross-layer transcoder, the features of one
layer also write to every later layer, with decoders of their own.

(W_enc, b_enc, threshold) times c and W_dec divided by c describe the same coder for every c > 0.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Activation = Literal["relu", "topk", "jumprelu"]


@dataclass(frozen=True, eq=False)
class Transcoder:
    """The coder of one layer.

    Attributes:
        layer: where it stands.
        w_enc: one row for each feature: the direction that it reads.
        w_dec: one row for each feature: the direction that it writes into its own layer.
        activation: "relu" keeps what is positive; "topk" keeps the k largest pre-activations; "jumprelu"
            keeps those above their threshold (BatchTopK at inference is this one).
        k: how many features "topk" keeps.
        threshold: the thresholds of "jumprelu".
        rectified: whether pre-activations below 0 are set to 0 as well ("topk" with ReLU in front has fewer
            than k features where fewer are positive). Without it a feature can be active below 0.
        w_skip: a linear path from what is read to what is written.
        read: the kind of site that it reads; the default is what enters the MLP, behind its norm.
        write: the kind of site that it predicts; the default is what the MLP adds to the stream.
        w_across: for a cross-layer transcoder, the decoders to the layers after its own, in order.
    """

    layer: int
    w_enc: Float[Tensor, "feature d_in"]
    b_enc: Float[Tensor, " feature"]
    w_dec: Float[Tensor, "feature d_out"]
    b_dec: Float[Tensor, " d_out"]
    activation: Activation = "relu"
    k: int | None = None
    threshold: Float[Tensor, " feature"] | None = None
    rectified: bool = True
    w_skip: Float[Tensor, "d_out d_in"] | None = None
    read: str = "mlp_in"
    write: str = "mlp_out"
    w_across: Float[Tensor, "target feature d_out"] | None = None

    def __post_init__(self) -> None:
        _check_activation(self)
        _check_shapes(self)

    @property
    def width(self) -> int:
        """How many features there are."""
        return self.w_enc.shape[0]

    @property
    def d_in(self) -> int:
        """How many numbers it reads at a position."""
        return self.w_enc.shape[1]

    @property
    def d_out(self) -> int:
        """How many numbers it predicts at a position."""
        return self.w_dec.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The weights that it has, by the name of their attribute."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def pre(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... feature"]:
        """The pre-activations, in the coder's own dtype."""
        return torch.nn.functional.linear(x.to(self.w_enc.dtype), self.w_enc, self.b_enc)

    def activate(self, pre: Float[Tensor, "... feature"]) -> Float[Tensor, "... feature"]:
        """The feature values of pre-activations."""
        values = pre.relu() if self.rectified else pre
        if self.threshold is not None:
            return values * (pre > self.threshold)
        if self.activation == "topk":
            kept, places = self.strongest(values)
            return torch.zeros_like(values).scatter(-1, places, kept)
        return values

    def strongest(
        self, values: Float[Tensor, "... feature"]
    ) -> tuple[Float[Tensor, "... rank"], Int[Tensor, "... rank"]]:
        """The k largest values, and which features they are of."""
        kept = values.topk(min(self.k or 0, self.width), dim=-1)
        return kept.values, kept.indices

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... feature"]:
        """The feature values at what is read; nearly all of them are 0."""
        return self.activate(self.pre(x))

    def decode(self, z: Float[Tensor, "... feature"], x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """The prediction of its own features, with the bias and the skip.

        Args:
            z: feature values.
            x: what was read, which only the skip needs.
        """
        return self.completed(z @ self.w_dec, x)

    def completed(
        self, written: Float[Tensor, "... d_out"], x: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """The prediction from what the features write: with the bias, and the skip from what was read."""
        predicted = written + self.b_dec
        return predicted if self.w_skip is None else predicted + x.to(self.w_skip.dtype) @ self.w_skip.T

    def predict(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """The prediction from what is read: encode, then decode."""
        return self.decode(self.encode(x), x)

    def decoder_to(self, target: int) -> Float[Tensor, "feature d_out"] | None:
        """What each feature writes into a layer; None where it writes nothing."""
        if target == self.layer:
            return self.w_dec
        step = target - self.layer - 1
        reaches = self.w_across is not None and 0 <= step < len(self.w_across)
        return self.w_across[step] if reaches else None

    def rescaled(self, factors: Float[Tensor, " feature"]) -> "Transcoder":
        """The same coder with every feature's value times a positive factor."""
        across = None if self.w_across is None else self.w_across / factors[:, None]
        return replace(
            self,
            w_enc=self.w_enc * factors[:, None],
            b_enc=self.b_enc * factors,
            threshold=None if self.threshold is None else self.threshold * factors,
            w_dec=self.w_dec / factors[:, None],
            w_across=across,
        )

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Transcoder":
        """The same coder elsewhere, or in another dtype."""
        moved: dict[str, Any] = {name: value.to(device=device, dtype=dtype) for name, value in self.tensors.items()}
        return replace(self, **moved)


@dataclass(frozen=True, eq=False)
class Transcoders(Mapping[int, Transcoder]):
    """The coders of a model by layer: `coders[3]` is the one of layer 3.

    Attributes:
        name: where they came from, as a person would write it.
        layers: the coders, in the order of their layers.
        card: what is known of them as plain JSON: the model, the layout of the files, training settings.
    """

    name: str
    layers: Mapping[int, Transcoder]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError(f"coders {self.name}: there is no layer in them")
        wrong = [f"{place} holds layer {one.layer}" for place, one in self.layers.items() if one.layer != place]
        if wrong:
            raise ValueError(f"coders {self.name}: {', '.join(wrong)}")
        object.__setattr__(self, "layers", dict(sorted(self.layers.items())))

    def __getitem__(self, layer: int) -> Transcoder:
        """The coder of a layer. Raises KeyError saying which layers there are."""
        if layer not in self.layers:
            raise KeyError(f"coders {self.name} have no layer {layer}: they have {', '.join(map(str, self.layers))}")
        return self.layers[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"Transcoders({self.name!r}, layers {', '.join(map(str, self))}, width {self.width})"

    @property
    def width(self) -> int:
        """How many features the widest layer has."""
        return max(one.width for one in self.layers.values())

    @property
    def crosses(self) -> bool:
        """Whether features write into later layers too (a cross-layer transcoder)."""
        return any(one.w_across is not None for one in self.layers.values())

    @property
    def fingerprint(self) -> str:
        """The sha256 of everything that their numbers depend on."""
        digest = hashlib.sha256()
        for one in self.layers.values():
            plain = {part.name: getattr(one, part.name) for part in fields(one)}
            words = {name: value for name, value in plain.items() if not isinstance(value, Tensor)}
            digest.update(repr(words).encode())
            for name, value in one.tensors.items():
                exact = value.detach().cpu().contiguous()
                digest.update(f"{name} {exact.dtype} {tuple(exact.shape)}".encode())
                digest.update(exact.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def predict(
        self, layer: int, z: Mapping[int, Float[Tensor, "... feature"]], x: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """What they predict at a layer's output: its own decoder, and those of earlier layers that reach it.

        Args:
            layer: the layer whose output is predicted.
            z: feature values of this layer, and of every earlier one that reaches it.
            x: what this layer's coder reads.
        """
        predicted = self[layer].decode(z[layer], x)
        for source, one in self.layers.items():
            if source < layer and (decoder := one.decoder_to(layer)) is not None:
                predicted = predicted + z[source] @ decoder
        return predicted

    def only(self, layers: tuple[int, ...]) -> "Transcoders":
        """The coders of some layers; all of them when none is named."""
        return replace(self, layers={layer: self[layer] for layer in layers}) if layers else self

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Transcoders":
        """The same coders elsewhere, or in another dtype."""
        return replace(self, layers={layer: one.to(device=device, dtype=dtype) for layer, one in self.items()})


def folded(bias: Float[Tensor, " out"], rows: Float[Tensor, "out width"], taken: Float[Tensor, " width"]) -> Tensor:
    """The bias with which rows read what they read before less `taken`; made in 64 bits, on the CPU."""
    exact = bias.cpu().double() - rows.cpu().double() @ taken.cpu().double()
    return exact.to(device=bias.device, dtype=bias.dtype)


def _check_activation(coder: Transcoder) -> None:
    """Raise ValueError when the activation lacks its numbers."""
    if coder.activation == "relu" and not coder.rectified:
        raise ValueError(f"layer {coder.layer}: relu without its ReLU is no activation")
    if coder.activation == "topk" and (coder.k is None or not 1 <= coder.k <= coder.width):
        raise ValueError(f"layer {coder.layer}: top-k of {coder.width} features needs k in 1-{coder.width}: {coder.k}")
    if (coder.activation == "jumprelu") != (coder.threshold is not None):
        raise ValueError(f"layer {coder.layer}: jumprelu needs thresholds, and no other activation takes them")


def _check_shapes(coder: Transcoder) -> None:
    """Raise ValueError naming every weight whose shape does not fit the encoder and the output bias."""
    (width, d_in), d_out = coder.w_enc.shape, coder.b_dec.shape[0]
    expected = {
        "b_enc": (width,),
        "w_dec": (width, d_out),
        "threshold": (width,),
        "w_skip": (d_out, d_in),
        "w_across": (len(coder.w_across) if coder.w_across is not None else 0, width, d_out),
    }
    wrong = [
        f"{name} has the shape {tuple(value.shape)} where {expected[name]} belongs"
        for name, value in coder.tensors.items()
        if name in expected and tuple(value.shape) != expected[name]
    ]
    if wrong:
        raise ValueError(f"layer {coder.layer}, w_enc {(width, d_in)}: {'; '.join(wrong)}")
