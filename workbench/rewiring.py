"""Edits that rewire the model: attention edges cut, blocks or branches left out, blocks run again."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workbench.edit import SiteEdit, refuse_read_only
from workbench.model import Model, Pass
from workbench.replay import BlockCall, replay_block
from workbench.sites import MASKED
from workbench.words import Site


@dataclass
class Cut:
    """Attention edges set to minus infinity before the softmax."""

    site: Site
    query: int | None
    key: int | None
    count: int = 0

    def __str__(self) -> str:
        return f"{self.site} cut query {self.query} key {self.key}"

    @property
    def fired(self) -> bool:
        """Whether an edge was cut."""
        return self.count > 0

    def attach(self, model: Model) -> list[RemovableHandle]:
        """Hook the cut in at the attention scores of its layer."""
        refuse_read_only(model, self.site)
        return model.places.attach(self.site.whole, lambda scores: self.changed(model.current_pass, scores))

    def changed(self, current: Pass | None, scores: Float[Tensor, "batch head query key"]) -> Tensor | None:
        """The scores with the edges cut; None when this pass does not compute the query."""
        offset = current.offset if current else 0
        lengths = current.lengths if current else (scores.shape[3],) * scores.shape[0]
        heads = slice(None) if self.site.head is None else slice(self.site.head, self.site.head + 1)
        found = [(row, *self._edge(length, offset, *scores.shape[2:])) for row, length in enumerate(lengths)]
        found = [(row, query, key) for row, query, key in found if query is not None]
        if not found:
            return None
        self.count += 1
        changed = scores.clone()
        for row, query, key in found:
            changed[row, heads, query, key] = torch.finfo(scores.dtype).min
        blind = (changed < MASKED).all(-1) & ~(scores < MASKED).all(-1)
        if bool(blind.any()):
            query = int(blind.nonzero()[0][2]) + offset
            raise ValueError(f"{self}: query {query} would have no key left to attend to")
        return changed

    def _edge(self, length: int, offset: int, queries: int, keys: int) -> tuple[slice | None, slice]:
        """Which of the queries of this pass (None: not this one) and which keys, in a prompt of this length."""
        key = slice(None)
        if self.key is not None:
            place = self.key if self.key >= 0 else length + self.key
            if not 0 <= place < keys:
                raise ValueError(f"{self}: the prompt has {keys} tokens (0-{keys - 1})")
            key = slice(place, place + 1)
        if self.query is None:
            return slice(None), key
        place = (self.query if self.query >= 0 else length + self.query) - offset
        return (slice(place, place + 1) if 0 <= place < queries else None), key


@dataclass
class Skip:
    """A block, or one of its branches, left out of the residual stream."""

    part: str
    layer: int
    count: int = 0
    entering: list[Tensor] = field(default_factory=list)

    def __str__(self) -> str:
        return f"skip {self.part} {self.layer}"

    @property
    def fired(self) -> bool:
        """Whether a pass ran without the part."""
        return self.count > 0

    def attach(self, model: Model) -> list[RemovableHandle]:
        """Hook in: a block gives back what it got, a branch adds nothing."""
        if self.part != "block":
            return SiteEdit(Site(f"{self.part}_out", self.layer), self._nothing).attach(model)
        after = Site("resid_post", self.layer)
        model.check_site(after)
        return [model.places.attach_entry(self.layer, self._enter), *model.places.attach(after, self._leave)]

    def _nothing(self, branch: Tensor) -> Tensor:
        self.count += 1
        return torch.zeros_like(branch)

    def _enter(self, resid: Tensor) -> None:
        self.entering[:] = [resid]

    def _leave(self, _resid: Tensor) -> Tensor:
        self.count += 1
        return self.entering.pop()


@dataclass
class Repeat:
    """A block run several times in a row (without a key-value cache)."""

    layer: int
    times: int
    count: int = 0

    def __str__(self) -> str:
        return f"repeat block {self.layer} x{self.times}"

    @property
    def fired(self) -> bool:
        """Whether the block was repeated."""
        return self.count > 0

    def attach(self, model: Model) -> list[RemovableHandle]:
        """Hook in before the block: its last run is the one that all other hooks see as its own."""
        model.check_site(Site("resid_post", self.layer))
        block = model.bridge.blocks[self.layer]

        def rehearse(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if model.rehearsing:
                return None
            if model.current_pass is not None and model.current_pass.cached:
                raise ValueError(f"{self} cannot run with a key-value cache, which would hold the block's keys twice")
            rest = {word: value for word, value in kwargs.items() if word != "hidden_states"}
            resid = args[0] if args else kwargs["hidden_states"]
            call = BlockCall(resid, tuple(args[1:]), rest)
            model.rehearsing = True
            try:
                for _ in range(self.times - 1):
                    resid = replay_block(block, call, resid)
            finally:
                model.rehearsing = False
            self.count += 1
            return ((resid, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": resid})

        return [block.register_forward_pre_hook(rehearse, with_kwargs=True)]


def cut(layer: int, *, key: int | None = None, query: int | None = None, head: int | None = None) -> Cut:
    """Cut attention edges before the softmax: from `query` to `key`, or all of one of them.

    Negative positions count from the end of each prompt.
    A cut of all keys of a query is refused, since nothing would be left to attend to.
    """
    if key is None and query is None:
        raise ValueError("cut needs a key or a query: which edge of attention shall go?")
    return Cut(Site("scores", layer, head=head), query, key)


def skip(part: str, layer: int) -> Skip:
    """Leave out a whole "block", or its "attn" or "mlp" branch: the residual stream passes by."""
    if part not in ("block", "attn", "mlp"):
        raise ValueError(f"skip {part!r} is unknown: allowed are block, attn, mlp")
    return Skip(part, layer)


def repeat(layer: int, times: int = 2) -> Repeat:
    """Run a block `times` times in a row, each time on its own output."""
    if times < 1:
        raise ValueError(f"a block runs at least once, {times} times were asked for")
    return Repeat(layer, times)
