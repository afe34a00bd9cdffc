"""What features read and write by the weights alone: tokens, logits, heads, and other features, whatever the input.

Where attention looks is left out, and every norm is an affine map with its usual size, the mean over the tokens of
one passage. The scale of a feature is a convention, so its decoder is taken with length 1: its value is then the
length of what it writes, and an edge is what one unit of the source adds to the target's pre-activation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.frozen import FrozenLayer, FrozenNorms, freeze_run
from workbench.coders import Transcoders
from workbench.model import Model
from workbench.vocabulary import Vocabulary, usable_tokens

_STREAM = ("resid_pre", "resid_mid", "resid_post")
_WRITTEN = ("mlp_out", "attn_out", *_STREAM)

Edges = Iterator[tuple[int, Float[Tensor, "direction feature"]]]
"""The edges between some directions and all features of a layer, layer by layer."""


@dataclass(frozen=True, eq=False)
class Wiring:
    """The affine maps between features.

    Attributes:
        coders: coders that were fitted to the model.
        layers: the model's blocks, each norm once instead of at every position.
        final: the norm in front of the unembedding, likewise.
        gap: the largest error of a frozen map against the pass it was frozen in, relative.
    """

    coders: Transcoders
    layers: tuple[FrozenLayer, ...]
    final: FrozenNorms
    gap: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, coders: Transcoders, ids: list[int]) -> "Wiring":
        """Freeze the norms on one passage; its first token, a sink in most models, does not count.

        Raises:
            ValueError: the passage is one token, or a block of the model is no sum of affine maps.
        """
        if len(ids) < 2:
            raise ValueError(f"norms are frozen on a passage of two tokens or more, found {len(ids)}")
        run = freeze_run(model, model.tokens_of([ids]))
        return cls(coders, tuple(_at_rest(one) for one in run.layers), _usual(run.final), run.gap)

    def reads_stream(self, layer: int) -> bool:
        """Whether a layer's coder reads the stream, or what the MLP's norm makes of it."""
        return self.coders[layer].read in ("mlp_in", *_STREAM)

    def writes_stream(self, layer: int) -> bool:
        """Whether a layer's coder writes vectors of the stream."""
        return self.coders[layer].write in _WRITTEN

    @torch.no_grad()
    def sizes(self, layer: int) -> Float[Tensor, " feature"]:
        """How long each decoder of a layer is; 1 for those of length 0."""
        found = self.coders[layer].w_dec.to(self._exact).norm(dim=1)
        return found.where(found > 0, 1.0)

    @torch.no_grad()
    def decoders(self, layer: int) -> Float[Tensor, "feature d_out"]:
        """The decoders of a layer with length 1."""
        return self.coders[layer].w_dec.to(self._exact) / self.sizes(layer)[:, None]

    @torch.no_grad()
    def readings(self, layer: int, chosen: Int[Tensor, " chosen"] | slice) -> Float[Tensor, "chosen d_model"]:
        """Directions of the stream along which some features of a layer read."""
        coder = self.coders[layer]
        rows = coder.w_enc[chosen].to(self._exact) * self.sizes(layer)[chosen, None]
        return self.layers[layer].before_mlp.pulled_at(0, rows) if coder.read == "mlp_in" else rows

    def heads_in_front(self, layer: int) -> int:
        """The heads of how many layers write in front of what a layer's coder reads."""
        read = self.coders[layer].read
        sees_own = self.layers[layer].sequential if read == "mlp_in" else read in ("resid_mid", "resid_post")
        return layer + sees_own

    @torch.no_grad()
    def through_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction d_model"]
    ) -> Float[Tensor, "direction d_model"]:
        """Directions of the stream in front of a head, at a token it looks at, from those of what it writes."""
        block = self.layers[layer]
        behind = block.behind_attention.pulled_at(0, directions)
        shared = len(block.outputs) // len(block.values)
        fetched = behind @ block.outputs[head].T @ block.values[head // shared].T
        return block.before_attention.pulled_at(0, fetched)

    @torch.no_grad()
    def head_norms(self, layer: int, directions: Float[Tensor, "direction d_model"]) -> Float[Tensor, "direction head"]:
        """How long each direction is in front of each head of a layer."""
        heads = range(len(self.layers[layer].outputs))
        return torch.stack([self.through_head(layer, head, directions).norm(dim=1) for head in heads], dim=1)

    @torch.no_grad()
    def inputs(self, layer: int, directions: Float[Tensor, "direction d_model"]) -> Edges:
        """What one unit of each feature before a layer adds along directions of the stream."""
        for source, one in self.coders.items():
            if source < layer and self.writes_stream(source):
                yield source, directions @ one.w_dec.to(self._exact).T / self.sizes(source)

    @torch.no_grad()
    def outputs(self, layer: int, written: Float[Tensor, "direction d_model"]) -> Edges:
        """What vectors that are written in a layer add to the pre-activation of every later feature."""
        for target, one in self.coders.items():
            if target > layer and self.reads_stream(target):
                moved = self.layers[target].before_mlp.moved(written) if one.read == "mlp_in" else written
                yield target, moved @ one.w_enc.to(self._exact).T * self.sizes(target)

    @torch.no_grad()
    def logit_rows(self, written: Float[Tensor, "direction d_model"]) -> Float[Tensor, "direction d_model"]:
        """What written vectors are behind the final norm, to be compared with the rows of the unembedding."""
        return self.final.moved(written)

    @property
    def _exact(self) -> torch.dtype:
        return self.final.gain.dtype


@torch.no_grad()
def embedded(model: Model, unembedded: Vocabulary) -> Vocabulary:
    """The usable rows of the embedding, as a vocabulary that readings are compared with.

    Args:
        model: a loaded model.
        unembedded: the rows of its unembedding, which are the same in many models and then returned.

    Raises:
        ValueError: the embedding is quantised, or of another width than the stream.
    """
    weight = model.bridge.original_model.get_input_embeddings().weight.detach()
    if not weight.is_floating_point() or weight.shape[1] != model.shape.d_model:
        raise ValueError(f"{model.name}: its embedding has no rows of the stream's {model.shape.d_model} numbers")
    ids = usable_tokens(model).to(weight.device)
    if weight.data_ptr() == unembedded.weight.data_ptr() and ids.equal(unembedded.ids):
        return unembedded
    return Vocabulary.over(weight, ids)


def _usual(norms: FrozenNorms) -> FrozenNorms:
    """One gain for all positions: the mean over all but the first."""
    return replace(norms, gain=norms.gain[1:].mean(0, keepdim=True))


def _at_rest(block: FrozenLayer) -> FrozenLayer:
    names = ("before_attention", "behind_attention", "before_mlp")
    return replace(block, **{name: _usual(getattr(block, name)) for name in names})
