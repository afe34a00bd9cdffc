"""The one tracer: run a model over prompts and keep exactly the activations that were asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model import Model
from workbench.prompts import Prompt, Prompts
from workbench.sites import expand, finite, whole_shape
from workbench.tokens import Tokens
from workbench.words import Site

Wanted = Iterable[Site | str] | Site | str
Asked = Prompts | Prompt | str | Sequence[str] | Tokens
Metric = Callable[[Float[Tensor, "batch pos vocab"]], Float[Tensor, ""]]


class _Enough(Exception):
    """Everything that was asked for has been seen; the rest of the pass is not needed."""


@dataclass(frozen=True)
class Trace(Mapping[Site, Tensor]):
    """Activations by site, and the tokens that gave them.

    `trace["L3.resid_post"]` is [batch, pos, d_model]; a head, neuron or position that was named in
    the site is selected and its axis gone. A part of a captured whole can be read as well
    (`trace["L3.H2.z"]` from `L3.z`). At padding every number is NaN, so that no mean can take it in
    unnoticed; `mask` tells where the real tokens are.
    """

    activations: Mapping[Site, Tensor]
    tokens: Tokens
    grads: Mapping[Site, Tensor] = field(default_factory=dict)
    metric: float | None = None

    @property
    def mask(self) -> Tensor:
        """[batch, pos], True at real tokens."""
        return self.tokens.mask

    @property
    def logits(self) -> Float[Tensor, "batch pos vocab"]:
        """The model's logits, when the site `logits` was asked for."""
        return self["logits"]

    def __getitem__(self, site: Site | str) -> Tensor:
        return self._find(self.activations, site)

    def grad(self, site: Site | str) -> Tensor:
        """The gradient of the metric at a site, in the layout of the activation."""
        return self._find(self.grads, site)

    def _find(self, table: Mapping[Site, Tensor], site: Site | str) -> Tensor:
        named = expand(site, {})[0] if isinstance(site, str) else site
        if named in table:
            return table[named]
        if named.whole in table:
            return _select(table[named.whole], named, self.tokens.lengths)
        held = ", ".join(map(str, list(table)[:6]))
        raise KeyError(f"site {named} was not asked for in this trace; it holds {held}")

    def __iter__(self) -> Iterator[Site]:
        return iter(self.activations)

    def __len__(self) -> int:
        return len(self.activations)


def trace(
    model: Model,
    prompts: Asked,
    sites: Wanted,
    *,
    grads_of: Metric | None = None,
    last_only: bool = False,
    stop_after: Site | str | None = None,
    dtype: torch.dtype | None = None,
) -> Trace:
    """Run the model once and keep the activations at the given sites, and nothing else.

    The pass ends as soon as everything has been seen. Hooks are always removed, also after an error. What
    leaves a block is what enters the next one: asked for both, it is stored once.

    Args:
        model: a loaded model.
        prompts: texts, `Prompts` or `Tokens`; unequal lengths are padded on the right.
        sites: sites or their texts ("L9.resid_post", "L3.H2.z@-1"); a bare kind ("resid_post", "L*.z")
            means every layer.
        grads_of: a scalar function of the logits, whose gradient at every site is kept too.
        last_only: make the logits of the last position alone, so that the function is given [batch, 1, vocab].
        stop_after: end the pass after this site, even if later ones were asked for (which then raises).
        dtype: store activations in this dtype instead of the model's.

    Returns:
        A Trace.

    Raises:
        ValueError: a site that the model has not, that did not fire, or whose numbers are not finite.
    """
    tokens = prompts if isinstance(prompts, Tokens) else model.tokens(prompts)
    wanted = expand(sites, model.capabilities.served)
    if not wanted:
        raise ValueError("no site was asked for: name at least one, for example 'resid_post'")
    for site in wanted:
        model.check_site(site)
    if grads_of is not None and all(site.kind == "logits" for site in wanted):
        raise ValueError("a gradient is taken at a site before the logits: name at least one")
    capture = _Capture(model, tokens, wanted, dtype, last_only)
    stop = expand(stop_after, {})[0].whole if stop_after is not None else None
    grads, metric = capture.run(stop, grads_of)
    return Trace({site: capture.values[site] for site in wanted}, tokens, grads, metric)


@dataclass
class _Capture:
    """The hooks of one traced pass, and what they have seen.

    Attributes:
        pending: whole sites that have not fired yet.
        roots: for gradients, the whole activations that the rest of the pass hangs on.
        leaving: the residual stream that left the latest captured block, and where that was.
    """

    model: Model
    tokens: Tokens
    wanted: tuple[Site, ...]
    dtype: torch.dtype | None
    last_only: bool
    values: dict[Site, Tensor] = field(default_factory=dict)
    pending: set[Site] = field(default_factory=set)
    roots: dict[Site, Tensor] = field(default_factory=dict)
    leaving: tuple[Site, Tensor] | None = None

    def run(self, stop: Site | None, grads_of: Metric | None) -> tuple[dict[Site, Tensor], float | None]:
        """One forward pass; with a metric one backward pass too, for gradients."""
        model, tokens = self.model, self.tokens
        wholes: dict[Site, list[Site]] = {} if stop is None else {stop: []}
        for site in self.wanted:
            wholes.setdefault(site.whole, []).append(site)
        logit_parts = wholes.pop(Site("logits"), [])
        self.pending = set(wholes) if grads_of is None and not logit_parts else {*wholes, Site("logits")}
        with ExitStack() as stack, model.lock, torch.set_grad_enabled(grads_of is not None):
            for whole, parts in wholes.items():
                keep = self._keeper(whole, parts, stop, rooted=grads_of is not None)
                for handle in model.places.attach(whole, keep):
                    stack.callback(handle.remove)
            only_last = self._last_serves(logit_parts) and (self.last_only or grads_of is None)
            if self.last_only and not only_last:
                raise ValueError("last_only: the prompts differ in length, or logits of other positions are asked for")
            try:
                logits = model.forward(tokens.ids, lengths=tokens.lengths, keep=int(only_last))
            except _Enough:
                logits = None
            if logits is not None:
                for part in logit_parts:
                    self.values[part] = self._stored(logits, replace(part, pos=0) if only_last else part)
            missing = [str(site) for site in self.wanted if site not in self.values]
            if missing:
                raise ValueError(f"sites that never fired in this pass: {', '.join(missing[:5])}")
            if grads_of is None:
                return {}, None
            if logits is None:
                raise ValueError("gradients need the whole pass: leave stop_after out")
            return self._backward(grads_of(logits))

    def _last_serves(self, logits: list[Site]) -> bool:
        """Whether the wanted logits are those of the last position alone, the same one in all rows."""
        return all(site.pos == -1 for site in logits) and len(set(self.tokens.lengths)) == 1

    def _keeper(
        self, whole: Site, parts: list[Site], stop: Site | None, rooted: bool
    ) -> Callable[[Tensor], Tensor | None]:
        def keep(value: Tensor) -> Tensor | None:
            if rooted:
                value = value if value.requires_grad else value.detach().requires_grad_()
                value = self.roots[whole] = value.view_as(value)  # a node of its own, for the rest of the pass
            for part in parts:
                twin = self._twin(value, part)
                self.values[part] = self._stored(value, part) if twin is None else twin
            if whole.kind == "resid_post":
                self.leaving = whole, value
            if not self.model.rehearsing:  # a block that will run again shows its last run
                self.pending.discard(whole)
                if whole == stop or not self.pending:
                    raise _Enough
            return value if rooted else None

        return keep

    def _twin(self, value: Tensor, part: Site) -> Tensor | None:
        """What is stored already of the same stream, where it left the block before."""
        if part.kind != "resid_pre" or part.block == 0 or self.leaving is None:
            return None
        before = replace(part, kind="resid_post", layer=part.block - 1)
        site, stream = self.leaving
        return self.values.get(before) if site == before.whole and stream is value else None

    def _stored(self, value: Tensor, part: Site) -> Tensor:
        kept = _select(value.detach(), part, self.tokens.lengths)
        if part != part.whole:
            kept = kept.clone()  # a view would keep the whole activation alive
        if self.dtype is not None:
            kept = kept.to(self.dtype)
        if part.kind != "scores" and not finite(kept):
            word = str(kept.dtype).removeprefix("torch.")
            raise ValueError(f"site {part}: the activations are not finite in {word}; use bfloat16 or float32")
        return _blank_padding(kept, part, self.tokens)

    def _backward(self, metric: Tensor) -> tuple[dict[Site, Tensor], float]:
        """The gradient of the metric at every site, and the metric."""
        if metric.numel() != 1:
            raise ValueError(f"grads_of must give one number, it gave the shape {tuple(metric.shape)}")
        found = torch.autograd.grad(metric, list(self.roots.values()), allow_unused=True)
        wholes = {
            site: torch.zeros_like(root) if grad is None else grad
            for (site, root), grad in zip(self.roots.items(), found, strict=True)
        }
        parts = [site for site in self.wanted if site.kind != "logits"]
        lengths = self.tokens.lengths
        grads = {site: _blank_padding(_select(wholes[site.whole], site, lengths), site, self.tokens) for site in parts}
        return grads, float(metric.detach())


def _select(value: Tensor, site: Site, lengths: tuple[int, ...]) -> Tensor:
    """The head, neuron and position that a site names, out of a whole activation."""
    axes = list(site.axes)
    for unit, words in (("head", ("head", "kv_head")), ("neuron", ("d_mlp",))):
        index = getattr(site, unit)
        if index is not None:
            axis = next(axes.index(word) for word in words if word in axes)
            value = value.select(axis, index)
            axes.pop(axis)
    if site.pos is None:
        return value
    axis = axes.index("query") if "query" in axes else axes.index("pos")
    places = torch.tensor([resolve_position(site, length) for length in lengths], device=value.device)
    moved = value.movedim(axis, 1)
    return moved[torch.arange(len(lengths), device=value.device), places]


def resolve_position(site: Site, length: int) -> int:
    """A site's position in a prompt of this length, counted from the front.

    Raises:
        ValueError: the prompt is too short.
    """
    wanted = 0 if site.pos is None else site.pos
    place = wanted if wanted >= 0 else length + wanted
    if not 0 <= place < length:
        raise ValueError(f"site {site}: the prompt has {length} tokens (positions 0-{length - 1})")
    return place


def _blank_padding(value: Tensor, site: Site, tokens: Tokens) -> Tensor:
    """NaN wherever a padding token stands, so that no statistic can take it in unnoticed."""
    if site.pos is not None or len(set(tokens.lengths)) == 1:
        return value
    axes = [axis for axis in site.axes if not (axis in ("head", "kv_head") and site.head is not None)]
    axes = [axis for axis in axes if not (axis == "d_mlp" and site.neuron is not None)]
    axis = axes.index("query") if "query" in axes else axes.index("pos")
    mask = tokens.mask.view(len(tokens.lengths), *[-1 if place == axis else 1 for place in range(1, value.ndim)])
    return value.masked_fill(~mask, float("nan"))


def estimate(model: Model, prompts: Asked, sites: Wanted, *, dtype: torch.dtype | None = None) -> int:
    """How many bytes a trace would hold, before running it.

    A residual stream that leaves one block and enters the next is counted once, as it is stored.
    """
    tokens = prompts if isinstance(prompts, Tokens) else model.tokens(prompts)
    shape = model.shape
    sizes = {
        "d_model": shape.d_model,
        "head": shape.n_heads,
        "kv_head": shape.n_kv_heads,
        "d_head": shape.d_head,
        "d_mlp": shape.d_mlp,
        "vocab": shape.d_vocab,
    }
    total = 0
    wanted = expand(sites, model.capabilities.served)
    for site in wanted:
        model.check_site(site)
        if site.kind == "resid_pre" and site.layer and replace(site, kind="resid_post", layer=site.layer - 1) in wanted:
            continue
        numbers = torch.Size(whole_shape(site.kind, sizes, *tokens.ids.shape)).numel()
        counts = {"head": model.heads_at(site.kind), "neuron": shape.d_mlp, "pos": tokens.ids.shape[1]}
        for unit, count in counts.items():
            if getattr(site, unit) is not None:
                numbers //= count
        total += numbers * (dtype or model.dtype).itemsize
    return total


trace.estimate = estimate  # ty: ignore[missing-attribute]
