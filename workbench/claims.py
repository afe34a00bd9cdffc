"""What must hold for each kind of site to be what it promises.

A hook point may have a familiar name and carry something else, or swallow what is written to it. Every
claim is a numeric test of one layer; where it fails, the kinds that rest on it are not served, and the
claim says why.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workbench.replay import BlockCall, replay_block
from workbench.sites import MASKED, Change, Places, Point
from workbench.words import Site


class Absent(LookupError):
    """A claim cannot be tested, because a part that it needs does not fire."""


@dataclass(frozen=True)
class Look:
    """What one pass over a few tokens showed, and a way to run single blocks of it again."""

    bridge: Any
    places: Places
    values: Mapping[Site, Tensor]
    calls: list[BlockCall]
    logits: Float[Tensor, "batch pos vocab"]
    unchanged: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def at(self, layer: int, *kinds: str) -> list[Tensor]:
        """The activations of some kinds in one layer. Raises Absent when one did not fire."""
        sites = [Site(kind, layer) for kind in kinds]
        if missing := [str(site) for site in sites if site not in self.values]:
            raise Absent(f"{', '.join(missing)} did not fire")
        return [self.values[site] for site in sites]

    def again(self, layer: int, kind: str, change: Change, watched: str) -> Tensor:
        """What a kind of site, or the output of "attn" or "mlp", is when its block runs again with one change."""
        watch = {watched: self._point(watched, layer)}
        return self._fired(self._run(layer, self.places.attach(Site(kind, layer), change), watch), watched)

    def plain(self, layer: int, watched: str) -> Tensor:
        """The same of a block that runs again unchanged."""
        if layer not in self.unchanged:
            here = {name: point for (name, place), point in self.places.points.items() if place == layer}
            self.unchanged[layer] = self._run(layer, [], here)
        return self._fired(self.unchanged[layer], watched)

    def _run(self, layer: int, handles: list[RemovableHandle], watch: Mapping[str, Point]) -> dict[str, Tensor]:
        """Run one block again, as it was called, with hooks in place that are removed afterwards."""
        seen: dict[str, Tensor] = {}
        for name, point in watch.items():

            def keep(value: Tensor, name: str = name) -> None:
                seen[name] = value.detach()

            handles.append(point.attach(keep))
        try:
            if len(self.calls) != self.places.n_layers:
                raise Absent("the blocks are not called one by one")
            with torch.no_grad():
                replay_block(self.places.blocks[layer], self.calls[layer], self.calls[layer].resid)
        finally:
            for handle in handles:
                handle.remove()
        return seen

    @staticmethod
    def _fired(seen: Mapping[str, Tensor], name: str) -> Tensor:
        if name not in seen:
            raise Absent(f"{name} did not fire")
        return seen[name]

    def _point(self, name: str, layer: int) -> Point:
        point = self.places.points.get((name, layer))
        if point is None:
            raise Absent(f"{name} has no hook point in layer {layer}")
        return point


@dataclass(frozen=True)
class Claim:
    """Something that must hold in a layer for some kinds of site to be served there.

    Attributes:
        name: the claim in words.
        kinds: the kinds that rest on it.
        gap: its relative error in a layer.
        otherwise: why the kinds are not served where it fails.
    """

    name: str
    kinds: tuple[str, ...]
    gap: Callable[[Look, int], float]
    otherwise: str

    def measure(self, look: Look, layer: int) -> float:
        """The relative error in a layer; NaN where the claim cannot be tested."""
        try:
            return self.gap(look, layer)
        except Absent:
            return float("nan")


def relative_gap(found: Float[Tensor, "*axes"], expected: Float[Tensor, "*axes"]) -> float:
    """Largest absolute difference over the largest absolute value expected."""
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def _entry_gap(look: Look, layer: int) -> float:
    """Error of resid_pre against what the block is really called with."""
    (entering,) = look.at(layer, "resid_pre")
    if len(look.calls) != look.places.n_layers:
        raise Absent("the blocks are not called one by one")
    return relative_gap(entering, look.calls[layer].resid)


def _branches_gap(look: Look, layer: int) -> float:
    """Error of resid_pre + attn_out + mlp_out = resid_post, element by element, over the size of the parts.

    Single channels of a residual stream may be ten thousand times larger than the others, so the error
    of one channel is never measured by another.
    """
    before, attention, mlp, after = look.at(layer, "resid_pre", "attn_out", "mlp_out", "resid_post")
    size = before.abs() + attention.abs() + mlp.abs()
    return float(((before + attention + mlp - after).abs() / size.clamp_min(1e-30)).max())


def _between_gap(look: Look, layer: int) -> float:
    """0 where the MLP reads what attention wrote, infinite where both read the same stream."""
    moved = look.again(layer, "attn_out", _disturbed, "mlp_in")
    return float("inf") if torch.equal(moved, look.plain(layer, "mlp_in")) else 0.0


def _softmax_gap(look: Look, layer: int) -> float:
    """Error of softmax(scores) = pattern."""
    scores, pattern = look.at(layer, "scores", "pattern")
    return relative_gap(scores.double().softmax(-1), pattern.double())


def _mixture_gap(look: Look, layer: int) -> float:
    """Error of pattern times v = z, with each key-value head shared by its group of query heads."""
    pattern, v, z = look.at(layer, "pattern", "v", "z")
    shared = v.repeat_interleave(z.shape[2] // v.shape[2], dim=2)
    if shared.shape[2:] != z.shape[2:]:
        return float("inf")
    return relative_gap(torch.einsum("bhqk,bkhd->bqhd", pattern.to(v.dtype), shared), z)


def _pattern_gap(look: Look, layer: int) -> float:
    """Error of "z is pattern times v", or at least that z is linear in the pattern."""
    mixture = _mixture_gap(look, layer)
    return mixture if mixture < 1e-3 else _linear_gap(look, layer, "pattern", "z")


def _linear_gap(look: Look, layer: int, kind: str, part: str) -> float:
    """Error of "the step from nothing to a site's value changes the output as much as the step to twice it"."""
    (value,) = look.at(layer, kind)
    once = look.plain(layer, part)
    if not bool(once.any()):
        return 0.0  # a branch that gives nothing here (a planted model's empty layer) has nothing to disprove
    nothing = look.again(layer, kind, torch.zeros_like, part)
    twice = look.again(layer, kind, lambda value: value * 2, part)
    if torch.equal(nothing, once) or (value.shape == once.shape and torch.equal(value, once)):
        return float("inf")
    return relative_gap(twice - once, once - nothing)


def _neuron_gap(look: Look, layer: int) -> float:
    """Error of "a neuron's input bends its own activation, and moves no other neuron's"."""
    before, after = look.at(layer, "mlp_pre", "mlp_post")
    if before.shape != after.shape:
        return float("inf")
    even = torch.arange(before.shape[-1], device=before.device) % 2 == 0
    step = before.std()
    once, twice = (
        look.again(layer, "mlp_pre", lambda value, far=far: torch.where(even, value + far, value), "mlp_post")
        for far in (step, 2 * step)
    )
    first, second = (once - after)[..., even], (twice - once)[..., even]
    if relative_gap(second, first) <= 1e-4:  # a straight line: the linear half of a gated MLP, or behind the bend
        return float("inf")
    return relative_gap(once[..., ~even], after[..., ~even])


CLAIMS = (
    Claim(
        "resid_pre is what enters each block",
        ("resid_pre",),
        _entry_gap,
        "the hook point does not carry what enters the block",
    ),
    Claim(
        "parts of each layer add up to the residual stream",
        ("attn_out", "mlp_out", "resid_mid"),
        _branches_gap,
        "what attention and MLP give does not add up to the residual stream of this architecture",
    ),
    Claim(
        "the MLP reads what attention wrote",
        ("resid_mid",),
        _between_gap,
        "attention and MLP read the same stream in parallel, so there is none between them",
    ),
    Claim(
        "attention patterns are the softmax of the scores",
        ("scores",),
        _softmax_gap,
        "the hook point does not carry what goes into the softmax",
    ),
    Claim(
        "z is made linearly of the attention pattern",
        ("pattern",),
        _pattern_gap,
        "the hook point does not carry the weights that attention gives to the values",
    ),
    Claim(
        "attention patterns weigh the values into z",
        ("v",),
        _mixture_gap,
        "pattern times v is not z, because values are normed or clipped, or z is gated",
    ),
    Claim(
        "z goes linearly into the attention output",
        ("z",),
        lambda look, layer: _linear_gap(look, layer, "z", "attn"),
        "the hook point does not carry the input of the output projection",
    ),
    Claim(
        "neurons go linearly into the MLP output",
        ("mlp_pre", "mlp_post"),
        lambda look, layer: _linear_gap(look, layer, "mlp_post", "mlp"),
        "the MLP has no neurons that one linear map reads (a mixture of experts)",
    ),
    Claim(
        "a neuron's input moves its own activation alone",
        ("mlp_pre",),
        _neuron_gap,
        "the hook point does not carry the input of the activation function",
    ),
)
"""All claims, in the order in which they are tested."""


def writable_kinds(look: Look, layer: int, kinds: Iterable[str]) -> set[str]:
    """The kinds at which a change changes what the block gives."""
    try:
        plain = look.plain(layer, "resid_post")
    except Absent:
        return set()
    ends = {kind: look.again(layer, kind, _DISTURBANCES.get(kind, _disturbed), "resid_post") for kind in kinds}
    return {kind for kind, end in ends.items() if not torch.equal(end, plain)}


def _disturbed(value: Tensor) -> Tensor:
    """Another direction, another size and another mean, so that no norm can hide the change."""
    return 0.4 - 1.5 * value.roll(1, dims=-1)


def _prefer_early_keys(scores: Tensor) -> Tensor:
    """Every key scores lower than the one before it; the mask stays."""
    ramp = torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype)
    return torch.where(scores < MASKED, scores, scores - 3 * ramp)


def _turn_round(pattern: Tensor) -> Tensor:
    """Every row of attention backwards: still weights that add up to one."""
    return pattern.flip(-1)


_DISTURBANCES: dict[str, Change] = {"scores": _prefer_early_keys, "pattern": _turn_round}
"""How a kind is disturbed to see whether a write arrives there; all others by `_disturbed`."""
