"""Rows of a sweep run together: as long as rows are alike, one lane of the batch stands for all of them.

Below the first layer that a row changes, it differs from the other rows only in the tokens that it has
made. There one lane for each continuation so far is enough; from that layer on the row has its own.
"""

from collections.abc import Collection, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.cache import Keys, empty_cache, filled_cache, keeps, layer_of, rows_of
from workbench.choice import Choice, Chooser
from workbench.edit import SiteEdit
from workbench.lens import read_out, read_tokens
from workbench.model import Model, Pass
from workbench.replay import BlockCall, Growing, recorded_calls
from workbench.rewiring import Cut
from workbench.tokens import Tokens
from workbench.variants import Variant
from workbench.words import Site

_PREFIX_STEP = 512
"""Tokens of the shared prefix at once, so that no attention map of a long prompt is made."""


@dataclass(frozen=True)
class Outcome:
    """What one row gave.

    Attributes:
        row: its number.
        logits: after the prompt, of all tokens or of `only` some; None when none were asked for.
        ids: the greedy continuation.
        leads: for each of its tokens, how far its logit lies above the second best.
    """

    row: int
    logits: Float[Tensor, " _"] | None
    ids: tuple[int, ...]
    leads: tuple[float, ...]


@dataclass(frozen=True)
class Reading:
    """What is read of every row behind the last layer.

    Attributes:
        new_tokens: length of the greedy continuation.
        stop: tokens that end it.
        only: tokens whose logits alone are read after the prompt, in this order; () for all.
        with_logits: whether any are read there.
    """

    new_tokens: int
    stop: frozenset[int]
    only: tuple[int, ...]
    with_logits: bool

    def logits(self, bridge: Any, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row _"] | None:
        """The logits after the prompt that are asked for."""
        if not self.with_logits:
            return None
        if self.only:
            return read_tokens(bridge, resid, torch.tensor(self.only, device=resid.device)).float()
        return read_out(bridge, resid).float()


@dataclass(frozen=True)
class Lanes:
    """Which rows have lanes at one layer.

    Attributes:
        rows: for each lane the row that it computes, the first of those that share it.
        of: for each row its lane.
    """

    rows: tuple[int, ...]
    of: Mapping[int, int]

    @classmethod
    def shared(cls, keys: Mapping[int, Hashable]) -> "Lanes":
        """Rows with the same key share a lane; lanes stand in the order of their first rows.

        Example:
            >>> Lanes.shared({0: "a", 2: "b", 3: "a"})
            Lanes(rows=(0, 2), of={0: 0, 2: 1, 3: 0})
        """
        lanes: dict[Hashable, int] = {}
        of = {row: lanes.setdefault(key, len(lanes)) for row, key in keys.items()}
        firsts = {lane: row for row, lane in reversed(of.items())}
        return cls(tuple(firsts[lane] for lane in range(len(lanes))), of)

    def sources(self, before: "Lanes") -> list[int] | None:
        """For each lane the lane of `before` that it continues; None when these are the same, in order."""
        found = [before.of[row] for row in self.rows]
        return None if found == list(range(len(before.rows))) else found


@dataclass(frozen=True)
class Trunk:
    """What all rows share: the prompt, and its keys and values before the first position that one changes."""

    ids: Int[Tensor, "batch pos"]
    position: int
    layers: list[tuple[Keys, Keys]]
    growing: list[Growing]

    @classmethod
    def of(cls, model: Model, tokens: Tokens, position: int) -> "Trunk":
        """Run the prompt once: up to the first changed position, then from there on, for one row and for two.

        Raises:
            ValueError: a layer keeps no keys, or the blocks cannot be run for several rows at once.
        """
        cache = empty_cache()
        for start in range(0, position, _PREFIX_STEP):
            end = min(start + _PREFIX_STEP, position)
            model.forward(tokens.ids[:, start:end], cache=cache, keep=1)
        with recorded_calls(model.bridge) as once:
            model.forward(tokens.ids[:, position:], cache=cache, keep=1)
        if not keeps(cache, tokens.lengths[0]) or len(cache.layers) < len(once):
            raise ValueError(f"{model.name} cannot be swept: not every layer keeps its keys and values")
        parts = [layer_of(cache, layer) for layer in range(len(once))]
        layers = [(keys[:, :, :position], values[:, :, :position]) for keys, values in parts]
        with recorded_calls(model.bridge) as twice:
            both = filled_cache([rows_of(pair, 2) for pair in layers])
            model.forward(tokens.ids[:, position:].expand(2, -1), cache=both, keep=1)
        growing = [one.growing(two) for one, two in zip(once, twice, strict=True)]
        return cls(tokens.ids, position, layers, growing)


class _Through(Exception):
    """The rows have left the last block; their logits are nobody's business."""


@dataclass
class Batch:
    """Some rows that first differ at the same position.

    Attributes:
        made: the tokens that each row has made so far.
        leads: how sure each of them was.
        live: the rows that have not ended.
        lanes: for every layer the lanes of the latest pass.
        leaving: the stream that left the last block in the latest pass.
    """

    model: Model
    chooser: Chooser
    trunk: Trunk
    variants: list[Variant]
    made: list[tuple[int, ...]] = field(default_factory=list)
    leads: list[tuple[float, ...]] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    lanes: list[Lanes] = field(default_factory=list)
    leaving: Tensor | None = None

    def run(self, reading: Reading) -> list[Outcome]:
        """Run the prompt for all rows, then continue each greedily."""
        count = len(self.variants)
        self.live = list(range(count))
        self.made = [() for _ in self.live]
        self.leads = [() for _ in self.live]
        with ExitStack() as stack:
            self._hook(stack)
            self._share([variant.layer for variant in self.variants])
            cache = filled_cache(
                [rows_of(pair, len(lanes.rows)) for pair, lanes in zip(self.trunk.layers, self.lanes, strict=True)]
            )
            resid = self._pass(self.trunk.ids[:, self.trunk.position :].expand(count, -1), cache)
            logits, first = reading.logits(self.model.bridge, resid), self.lanes[-1]
            for step in range(reading.new_tokens):
                self._take(self.chooser.choose(resid), reading.stop)
                if step + 1 == reading.new_tokens or not self.live:
                    break
                self._regroup(cache)
                newest = torch.tensor([[self.made[row][-1]] for row in self.live], device=resid.device)
                resid = self._pass(newest, cache)
        self._refuse_silent_edits()
        return [
            Outcome(
                variant.row, None if logits is None else logits[first.of[place]], self.made[place], self.leads[place]
            )
            for place, variant in enumerate(self.variants)
        ]

    def _take(self, choice: Choice, stop: Collection[int]) -> None:
        """Add the chosen tokens; rows that end with them leave the batch."""
        ids, leads = choice.ids.tolist(), choice.leads.tolist()
        for row, lane in self.lanes[-1].of.items():
            self.made[row] += (ids[lane],)
            self.leads[row] += (leads[lane],)
        self.live = [row for row in self.live if self.made[row][-1] not in stop]

    def _share(self, joins: list[int]) -> None:
        """Give every row a lane at every layer: from the layer on at which it joins its own, below it a shared one."""
        self.lanes = [
            Lanes.shared({row: row if joins[row] <= layer else self.made[row] for row in self.live})
            for layer in range(len(self.trunk.layers))
        ]

    def _regroup(self, cache: Any) -> None:
        """New lanes for rows that have made different tokens, with the keys and values of their old ones."""
        before = self.lanes
        self._share([variant.later for variant in self.variants])
        for layer, (new, old) in enumerate(zip(self.lanes, before, strict=True)):
            sources = new.sources(old)
            if sources is not None:
                held = cache.layers[layer]
                held.keys, held.values = held.keys[sources], held.values[sources]

    def _pass(self, entering: Int[Tensor, "row pos"], cache: Any) -> Float[Tensor, "lane d_model"]:
        """One pass of the live rows; what leaves the last block at the last position, for each lane."""
        lengths = (self.trunk.ids.shape[1],) * len(self.live)  # positions are those of the prompt
        try:
            self.model.forward(entering, lengths=lengths, cache=cache, keep=1)
        except _Through:
            assert self.leaving is not None, "the last block has just been left"
            return self.leaving[:, -1]
        raise ValueError(f"{self.model.name} cannot be swept: its last block is never left")

    def _hook(self, stack: ExitStack) -> None:
        """Lanes at the entry of every block, an end behind the last, and one hook per edited site."""
        blocks = self.model.bridge.blocks
        for layer, block in enumerate(blocks):
            enter = partial(self._enter, layer)
            stack.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
        stack.callback(blocks[-1].register_forward_hook(self._leave).remove)
        sites: dict[Site, list[tuple[int, SiteEdit | Cut]]] = {}
        for row, variant in enumerate(self.variants):
            for edit in variant.edits:
                sites.setdefault(edit.site.whole, []).append((row, edit))
        for site, edits in sites.items():
            for handle in self.model.places.attach(site, partial(self._changed, site, edits)):
                stack.callback(handle.remove)

    def _enter(self, layer: int, _block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Bring the rows of the model's call, and the lanes of the layer below, to the lanes of this layer."""
        everyone = Lanes.shared({row: row for row in self.live})
        lanes, call = self.lanes[layer], BlockCall.of(args, kwargs)
        came = lanes.sources(self.lanes[layer - 1] if layer else everyone)
        rows = lanes.sources(everyone)
        if rows is not None:
            call = call.of_rows(rows, len(self.live), self.trunk.growing[layer])
        return (call if came is None else replace(call, resid=call.resid[came])).written()

    def _leave(self, _block: Any, _args: tuple[Any, ...], output: Any) -> None:
        self.leaving = output[0] if isinstance(output, tuple) else output
        raise _Through

    def _changed(self, site: Site, edits: list[tuple[int, SiteEdit | Cut]], value: Tensor) -> Tensor | None:
        """A site's activation with the edits of every live row, each on its own lane."""
        current = self.model.current_pass
        assert current is not None, "a sweep only runs inside a pass of its own"
        one = Pass(current.lengths[:1], current.offset, cached=True)
        changed = None
        lanes = self.lanes[site.block]
        for row, edit in edits:
            if row not in lanes.of:
                continue
            lane = lanes.of[row]
            source = value if changed is None else changed
            new = edit.changed(one, source[lane : lane + 1])
            if new is not None:
                changed = value.clone() if changed is None else changed
                changed[lane] = new[0]
        return changed

    def _refuse_silent_edits(self) -> None:
        silent = [str(edit) for variant in self.variants for edit in variant.edits if not edit.fired]
        if silent:
            raise ValueError(f"edits that never took effect in any pass: {', '.join(silent)}")
