"""The one engine for many variants of one prompt: every row is the prompt with its own edits.

What rows share is computed once. Tokens before the first changed position keep their keys and values;
layers below the first changed layer keep their residual stream, so a row joins the batch at the layer
where it first differs. The numbers are those of running each row by itself under `edited`.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.cache import Keys, empty_cache, filled_cache, keeps, layer_of, rows_of
from workbench.edit import SiteEdit
from workbench.lens import read_out
from workbench.model import Model, Pass
from workbench.progress import track
from workbench.prompts import Prompt
from workbench.replay import BlockCall, Growing, recorded_calls, replay_block
from workbench.rewiring import Cut
from workbench.tokens import Tokens
from workbench.variants import Row, Variant, read_row
from workbench.words import Site

_BUDGET = 1_000_000_000
"""Bytes that one batch of rows may take."""

_PREFIX_STEP = 512
"""Tokens of the shared prefix at once, so that no attention map of a long prompt is made."""

_PROOFS = (
    "unembedding the last residual gives the logits",
    "blocks replayed by themselves give the same stream",
)
"""Self-checks of the model that a sweep rests on."""


@dataclass(frozen=True)
class Outcome:
    """What one row gave: the logits after the prompt, and the greedy continuation."""

    row: int
    logits: Float[Tensor, " vocab"]
    ids: tuple[int, ...]


def sweep(
    model: Model,
    prompt: Tokens | Prompt | str,
    rows: Sequence[Row],
    *,
    new_tokens: int = 0,
    stop: Collection[int] = (),
    batch: int | None = None,
    done: Collection[int] = (),
) -> Iterator[Outcome]:
    """Run one prompt under many sets of edits.

    Args:
        model: a loaded model.
        prompt: one prompt.
        rows: for each row its edits: (site, function) pairs, `onward` edits or cuts. Positions are those
            of the prompt; an edit without one acts everywhere, on generated tokens too.
        new_tokens: length of the greedy continuation of each row.
        stop: token ids that end a continuation (they are kept).
        batch: rows at once; by default as many as fit into 1 GB.
        done: row numbers to leave out, to resume a sweep that was stopped.

    Yields:
        An Outcome for each row, as its batch is finished (not in row order).

    Raises:
        ValueError: more than one prompt, a row without edits, a site that cannot be written, a position
            outside the prompt, more tokens than the context has room for, an edit that never took effect,
            a model whose blocks cannot be run by themselves.
        Cancelled: the listener stopped the sweep between two batches.
    """
    tokens = prompt if isinstance(prompt, Tokens) else model.tokens(prompt)
    _refuse(model, tokens, new_tokens, batch)
    length = tokens.lengths[0]
    variants = [read_row(model, number, row, length) for number, row in enumerate(rows) if number not in done]
    return _outcomes(model, tokens, variants, new_tokens, frozenset(stop), batch)


def _refuse(model: Model, tokens: Tokens, new_tokens: int, batch: int | None) -> None:
    if len(tokens.lengths) != 1:
        raise ValueError(f"a sweep varies one prompt, {len(tokens.lengths)} were given")
    room = model.shape.n_ctx - tokens.lengths[0]
    if not 0 <= new_tokens <= room:
        raise ValueError(f"a sweep of this prompt makes 0-{room} new tokens, {new_tokens} were asked for")
    if batch is not None and batch < 1:
        raise ValueError(f"a batch holds at least one row, {batch} were asked for")
    failed = [proof for proof in _PROOFS if not model.capabilities.passed(proof)]
    if failed:
        raise ValueError(f"{model.name} cannot be swept: its self-check {failed[0]!r} did not pass")


def _outcomes(
    model: Model,
    tokens: Tokens,
    variants: list[Variant],
    new_tokens: int,
    stop: frozenset[int],
    batch: int | None,
) -> Iterator[Outcome]:
    """Run the rows, batch by batch; rows of one batch first differ at the same position."""
    chunks = _chunks(model, variants, tokens.lengths[0], new_tokens, batch)
    base: _Base | None = None
    growing: list[Growing] | None = None
    for chunk in track(chunks, f"batches of rows ({len(variants)} rows)"):
        with torch.no_grad(), model.lock:
            if base is None or base.position != chunk[0].position:
                base = _Base.of(model, tokens, chunk[0].position)
            growing = growing or base.growing(model)
            outcomes = _Chunk(model, base, growing, chunk).run(new_tokens, stop)
        yield from outcomes


def _chunks(
    model: Model, variants: list[Variant], length: int, new_tokens: int, batch: int | None
) -> list[list[Variant]]:
    ordered = sorted(variants, key=lambda variant: (variant.position, variant.layer))
    chunks = []
    for position, group in groupby(ordered, key=lambda variant: variant.position):
        same = list(group)
        size = batch or _rows_at_once(model, position, length, new_tokens)
        chunks += [same[start : start + size] for start in range(0, len(same), size)]
    return chunks


def _rows_at_once(model: Model, position: int, length: int, new_tokens: int) -> int:
    """How many rows fit, with their keys, values and logits, and the widest of a layer's activations."""
    shape, queries = model.shape, length - position
    keys = 2 * shape.n_layers * shape.n_kv_heads * shape.d_head * (length + new_tokens)
    widest = queries * (3 * shape.n_heads * length + 4 * max(shape.d_model, shape.d_mlp))
    each = (keys + widest + 2 * shape.d_vocab) * model.dtype.itemsize
    return max(1, min(512, _BUDGET // each))


@dataclass(frozen=True)
class _Base:
    """The plain prompt: the shared keys and values, and how each block was called on the rest."""

    ids: Int[Tensor, "batch pos"]
    position: int
    layers: list[tuple[Keys, Keys]]
    calls: list[BlockCall]

    @classmethod
    def of(cls, model: Model, tokens: Tokens, position: int) -> "_Base":
        """Run the prompt once: up to the first changed position, then from there on."""
        cache = empty_cache()
        for start in range(0, position, _PREFIX_STEP):
            end = min(start + _PREFIX_STEP, position)
            model.forward(tokens.ids[:, start:end], cache=cache, keep=1)
        with recorded_calls(model.bridge) as calls:
            model.forward(tokens.ids[:, position:], cache=cache, keep=1)
        if not keeps(cache, tokens.lengths[0]) or len(cache.layers) < len(calls):
            raise ValueError(f"{model.name} cannot be swept: not every layer keeps its keys and values")
        layers = [layer_of(cache, layer) for layer in range(len(calls))]
        return cls(tokens.ids, position, layers, calls)

    def prefix(self, layer: int, rows: int) -> tuple[Keys, Keys]:
        """Keys and values of the tokens before the first changed position, for several rows."""
        keys, values = self.layers[layer]
        return rows_of((keys[:, :, : self.position], values[:, :, : self.position]), rows)

    def growing(self, model: Model) -> list[Growing]:
        """For each layer, what of its call is there once for every row: found by the same pass for two."""
        cache = filled_cache([self.prefix(layer, 2) for layer in range(len(self.layers))])
        with recorded_calls(model.bridge) as calls:
            model.forward(self.ids[:, self.position :].expand(2, -1), cache=cache, keep=1)
        return [one.growing(twice) for one, twice in zip(self.calls, calls, strict=True)]


@dataclass(frozen=True)
class _Chunk:
    """Some rows that first differ at the same position, in the order in which they join."""

    model: Model
    base: _Base
    growing: list[Growing]
    variants: list[Variant]

    def run(self, new_tokens: int, stop: frozenset[int]) -> list[Outcome]:
        """Prefill all rows, then continue each greedily."""
        with ExitStack() as stack:
            self._hook(stack)
            resid, layers = self._prefill()
            logits = read_out(self.model.bridge, resid[:, -1]).float()
            ids = self._continue(logits, layers, new_tokens, stop)
        self._refuse_silent_edits()
        return [Outcome(variant.row, logits[place], tuple(ids[place])) for place, variant in enumerate(self.variants)]

    def _hook(self, stack: ExitStack) -> None:
        """One hook per site, which hands every row its own slice of the batch."""
        sites: dict[Site, list[tuple[int, SiteEdit | Cut]]] = {}
        for place, variant in enumerate(self.variants):
            for edit in variant.edits:
                sites.setdefault(edit.site.whole, []).append((place, edit))
        for site, edits in sites.items():
            for handle in self.model.places.attach(site, lambda value, edits=edits: self._changed(value, edits)):
                stack.callback(handle.remove)

    def _refuse_silent_edits(self) -> None:
        silent = [str(edit) for variant in self.variants for edit in variant.edits if not edit.fired]
        if silent:
            raise ValueError(f"edits that never took effect in any pass: {', '.join(silent)}")

    def _changed(self, value: Tensor, edits: list[tuple[int, SiteEdit | Cut]]) -> Tensor | None:
        current = self.model.current_pass
        assert current is not None, "a sweep only runs inside a pass of its own"
        one = Pass(current.lengths[:1], current.offset, cached=True)
        changed = None
        for place, edit in edits:
            source = value if changed is None else changed
            new = edit.changed(one, source[place : place + 1])
            if new is not None:
                changed = value.clone() if changed is None else changed
                changed[place] = new[0]
        return changed

    def _prefill(self) -> tuple[Float[Tensor, "row pos d_model"], list[tuple[Keys, Keys]]]:
        """Carry the rows through the layers; a row joins where it first differs."""
        base, bridge = self.base, self.model.bridge
        resid = base.calls[0].resid[:0]
        layers: list[tuple[Keys, Keys]] = []
        length = base.ids.shape[1]
        with self.model.passing(Pass((length,) * len(self.variants), base.position, cached=True)):
            for layer, call in enumerate(base.calls):
                joining = sum(variant.layer == layer for variant in self.variants)
                resid = torch.cat([resid, call.resid.expand(joining, -1, -1)])
                if resid.shape[0] == 0:
                    layers.append(rows_of(base.layers[layer], len(self.variants)))
                    continue
                cache = filled_cache([None] * layer + [base.prefix(layer, resid.shape[0])])
                spread = call.for_rows(resid.shape[0], self.growing[layer])
                resid = replay_block(bridge.blocks[layer], spread, resid, cache)
                layers.append(self._completed(layer_of(cache, layer), base.layers[layer]))
        return resid, layers

    def _completed(self, live: tuple[Keys, Keys], plain: tuple[Keys, Keys]) -> tuple[Keys, Keys]:
        """Keys and values of all rows: those that have not joined yet hold the plain prompt's."""
        waiting = len(self.variants) - live[0].shape[0]
        if waiting == 0:
            return live
        rest = rows_of(plain, waiting)
        return torch.cat([live[0], rest[0]]), torch.cat([live[1], rest[1]])

    def _continue(
        self,
        logits: Float[Tensor, "row vocab"],
        layers: list[tuple[Keys, Keys]],
        new_tokens: int,
        stop: frozenset[int],
    ) -> list[list[int]]:
        made: list[list[int]] = [[] for _ in self.variants]
        lengths = (self.base.ids.shape[1],) * len(self.variants)  # positions are those of the prompt
        cache = filled_cache(layers) if new_tokens > 1 else None
        for step in range(new_tokens):
            chosen = logits.argmax(-1)
            for ids, index in zip(made, chosen.tolist(), strict=True):
                if not (ids and ids[-1] in stop):
                    ids.append(index)
            if step + 1 == new_tokens or all(ids[-1] in stop for ids in made):
                break
            logits = self.model.forward(chosen[:, None], lengths=lengths, cache=cache, keep=1)[:, -1].float()
        return made
