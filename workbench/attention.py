"""Rows of attention, taken where they are needed: no map of a long context is ever held.

`read_rows` continues a prompt whose keys and values are cached, and reduces the score rows of the new
queries to their largest key inside the hook, layer by layer. `stream_rows` runs whole prompts some queries
at a time, for everything else that is made of rows.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.cache import empty_cache, filled_cache, keeps, layer_of
from workbench.metrics import top_two_margin
from workbench.model import Model
from workbench.tokens import Tokens
from workbench.words import Site

Take = Callable[[int, int, Tensor], None]
"""Called as take(layer, start, activation), with the activation at the positions from `start` on."""


@dataclass(frozen=True)
class TopKeys:
    """For each head and query the key with the largest score, and its lead over the second."""

    keys: Int[Tensor, "layer head query"]
    margins: Float[Tensor, "layer head query"]

    def first(self, count: int) -> "TopKeys":
        """The first queries only."""
        return TopKeys(self.keys[..., :count], self.margins[..., :count])

    @staticmethod
    def joined(parts: "list[TopKeys]") -> "TopKeys":
        """Queries of several passes in a row."""
        return TopKeys(torch.cat([one.keys for one in parts], -1), torch.cat([one.margins for one in parts], -1))


@dataclass
class Trunk:
    """A long text whose keys and values are computed once and shared by all prompts that begin with it."""

    model: Model
    ids: list[int]
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    computed: int = 0

    def cache_for(self, ids: list[int]) -> tuple[Any, int]:
        """A cache holding the longest beginning that the prompt shares with the trunk, and its length."""
        shared = 0
        for own, other in zip(self.ids, ids, strict=False):
            if own != other:
                break
            shared += 1
        shared = min(shared, len(ids) - 1)
        if shared > self.computed:
            cache = filled_cache(self.pairs) if self.pairs else empty_cache()
            prefill(self.model, self.ids[self.computed : shared], cache)
            self.pairs = [layer_of(cache, layer) for layer in range(self.model.shape.n_layers)]
            self.computed = shared
        if shared == 0:
            return empty_cache(), 0
        return filled_cache([(keys[:, :, :shared], values[:, :, :shared]) for keys, values in self.pairs]), shared


def prefill(model: Model, ids: list[int], cache: Any, chunk: int = 2048) -> None:
    """Extend a cache by tokens, with the fast attention kernel and no logits.

    The unhooked model computes the same keys and values up to the rounding of another kernel.
    """
    with torch.no_grad(), model.lock:
        for start in range(0, len(ids), chunk):
            batch = torch.tensor([ids[start : start + chunk]], device=model.device)
            model.run_plain(batch, cache)


def refuse_lost_keys(model: Model) -> None:
    """Raise ValueError when the hooked attention leaves the cache alone: a row would miss the tokens before.

    Attention with linear biases does so in TransformerLens 3.9; `bridge.KeepsKeys` mends the two kinds known.
    """
    cache = empty_cache()
    with torch.no_grad(), model.lock:
        model.forward(torch.zeros(1, 1, dtype=torch.long, device=model.device), cache=cache, keep=1)
    if not keeps(cache, 1):
        raise ValueError(f"{model.name}: its hooked attention keeps no keys, so no row of a cached prompt can be read")


def read_rows(model: Model, ids: list[int], cache: Any) -> tuple[Float[Tensor, "query vocab"], TopKeys]:
    """Continue a cached prompt by some tokens: their logits, and the top key of each of their queries.

    Raises:
        ValueError: a layer has no attention scores.
    """
    layers = range(model.shape.n_layers)
    served = model.capabilities.served.get("scores", ())
    if len(served) != len(layers):
        raise ValueError(f"{model.name} has attention scores in the layers {list(served)} of {len(layers)} only")
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def reduce(layer: int, scores: Float[Tensor, "batch head query key"]) -> None:
        rows = scores[0].float()
        found[layer] = (rows.argmax(-1), top_two_margin(rows))

    with ExitStack() as stack, torch.no_grad(), model.lock:
        for layer in layers:
            site = Site("scores", layer)
            for handle in model.places.attach(site, lambda scores, layer=layer: reduce(layer, scores)):
                stack.callback(handle.remove)
        logits = model.forward(torch.tensor([ids], device=model.device), cache=cache)
    keys = torch.stack([found[layer][0] for layer in layers])
    return logits[0].float(), TopKeys(keys, torch.stack([found[layer][1] for layer in layers]))


def stream_rows(model: Model, tokens: Tokens, takes: Mapping[str, Take], *, chunk: int = 512) -> None:
    """Run prompts some queries at a time, and show each layer's activations to functions that reduce them.

    Of scores and patterns there are never more than `chunk` rows of one layer at once; prompts of up to
    `chunk` tokens are run in one pass, longer ones over a key-value cache.

    Args:
        model: a loaded model.
        tokens: the prompts, padded on the right.
        takes: for some kinds of site the function that gets their activations, in every layer that has them.
        chunk: queries at once, 1 or more.

    Raises:
        ValueError: a kind that the model has not, or a long prompt on a model that keeps no keys.
    """
    length = tokens.ids.shape[1]
    cache = empty_cache() if length > chunk else None
    if cache is not None:
        refuse_lost_keys(model)

    def watch(kind: str, layer: int) -> None:
        def show(value: Tensor) -> None:
            assert model.current_pass is not None, "hooks fire inside a pass"
            takes[kind](layer, model.current_pass.offset, value)

        model.check_site(Site(kind, layer))
        for handle in model.places.attach(Site(kind, layer), show):
            stack.callback(handle.remove)

    with ExitStack() as stack, torch.no_grad(), model.lock:
        for kind in takes:
            for layer in model.capabilities.served.get(kind) or (0,):  # a missing kind is refused by its name
                watch(kind, layer)
        for start in range(0, length, chunk):
            model.forward(tokens.ids[:, start : start + chunk], lengths=tokens.lengths, cache=cache, keep=1)
