"""Sites to TransformerLens hook points and back: the only file with hook-name strings.

TransformerBridge (3.9) offers the points; this file decides which point is which site, brings every
activation into the documented layout, and mends what the bridge leaves out: a read or write at `resid_mid`
is carried out at the attention output (the bridge's own point misses the skip path), and branch outputs
are scaled where the block scales them before adding (Granite).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workbench.words import KINDS, Site

Change = Callable[[Tensor], Tensor | None]
"""Called with the whole activation of a site; what it returns, if anything, replaces it."""

MASKED = -1e30
"""Attention scores below this are masked: the smallest number of the dtype stands there."""

_POINTS: dict[str, tuple[str, ...]] = {
    "embed": ("embed.hook_out",),
    "resid_pre": ("blocks.{layer}.hook_in",),
    "resid_mid": ("blocks.{layer}.hook_attn_out", "blocks.{layer}.attn.hook_out"),
    "resid_post": ("blocks.{layer}.hook_out",),
    "attn_out": ("blocks.{layer}.hook_attn_out", "blocks.{layer}.attn.hook_out"),
    "q": ("blocks.{layer}.attn.hook_q",),
    "k": ("blocks.{layer}.attn.hook_k",),
    "v": ("blocks.{layer}.attn.hook_v",),
    "z": ("blocks.{layer}.attn.hook_z",),
    "scores": ("blocks.{layer}.attn.hook_attn_scores",),
    "pattern": ("blocks.{layer}.attn.hook_pattern",),
    "mlp_in": ("blocks.{layer}.mlp.hook_in", "blocks.{layer}.mlp.in.hook_in"),
    "mlp_pre": ("blocks.{layer}.mlp.hook_pre",),
    "mlp_post": ("blocks.{layer}.mlp.hook_post",),
    "mlp_out": ("blocks.{layer}.hook_mlp_out", "blocks.{layer}.mlp.hook_out"),
    "attn": ("blocks.{layer}.attn.hook_out", "blocks.{layer}.attn.o.hook_out"),
    "mlp": ("blocks.{layer}.mlp.hook_out", "blocks.{layer}.mlp.out.hook_out"),
}
"""The hook points that may carry a kind of site; the first that fires does.

`attn` and `mlp` are no sites: what attention and MLP give, before any norm or scale behind them."""

_LENS_KINDS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_in": "resid_pre",
    "hook_out": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_q": "q",
    "attn.hook_k": "k",
    "attn.hook_v": "v",
    "attn.hook_z": "z",
    "attn.hook_attn_scores": "scores",
    "attn.hook_pattern": "pattern",
    "mlp.hook_pre": "mlp_pre",
    "mlp.hook_post": "mlp_post",
}
"""TransformerLens names within a block that mean the same in every architecture."""

_LENS_NAME = re.compile(r"^blocks\.(\d+)\.(.+)$")


def read_site(text: str) -> Site:
    """A site from its own text form, or from a TransformerLens hook name.

    Raises:
        ValueError: the text cannot be read, or names a hook point that is no site.

    Example:
        >>> str(read_site("blocks.5.attn.hook_pattern"))
        'L5.pattern'
    """
    if text in ("hook_embed", "embed.hook_out"):
        return Site("embed")
    match = _LENS_NAME.match(text)
    if match is None:
        return Site.parse(text)
    if match[2] not in _LENS_KINDS:
        raise ValueError(
            f"hook name {text!r} is no site: write a site such as {Site('mlp_in', int(match[1]))}, "
            f"or in blocks.{match[1]} one of {', '.join(_LENS_KINDS)}"
        )
    return Site(_LENS_KINDS[match[2]], int(match[1]))


@dataclass(frozen=True)
class Point:
    """A hook point, and how its raw tensor becomes the documented activation and back."""

    module: Any
    d_head: int | None = None
    scale: float = 1.0

    def shown(self, raw: Float[Tensor, "*axes"]) -> Float[Tensor, "*documented"]:
        """The documented layout of what the bridge carries."""
        value = raw if self.module.hook_conversion is None else self.module.hook_conversion.convert(raw)
        if self.d_head is not None and value.ndim == 3:
            value = value.unflatten(-1, (-1, self.d_head))
        return value if self.scale == 1.0 else value * self.scale

    def raw(self, raw: Float[Tensor, "*axes"], value: Float[Tensor, "*documented"]) -> Float[Tensor, "*axes"]:
        """A changed activation in the bridge's own layout."""
        if self.scale != 1.0:
            value = value / self.scale
        if self.module.hook_conversion is not None:
            value = self.module.hook_conversion.revert(value)
        return value.reshape(raw.shape).to(raw.dtype)

    def attach(self, change: Change) -> RemovableHandle:
        """Call `change` with the activation each time the point fires."""

        def hook(_module: Any, _inputs: Any, raw: Tensor) -> Tensor | None:
            shown = self.shown(raw)
            changed = change(shown)
            return None if changed is None or changed is shown else self.raw(raw, changed)

        return self.module.register_forward_hook(hook)


@dataclass(frozen=True)
class Places:
    """The hook points of one bridge, as sites.

    Attributes:
        points: the point that carries each (kind, layer); under the names "attn" and "mlp" what these
            two give, before any norm or scale behind them.
        blocks: the bridge's blocks.
    """

    points: Mapping[tuple[str, int | None], Point]
    blocks: tuple[Any, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site that has a hook point."""
        return tuple(Site(kind, layer) for kind, layer in self.points if kind in KINDS)

    @property
    def n_layers(self) -> int:
        """How many blocks there are."""
        return len(self.blocks)

    def attach(self, site: Site, change: Change) -> list[RemovableHandle]:
        """Call `change` with the whole activation each time the site fires.

        Raises:
            ValueError: the model has no hook point for this site.
        """
        point = self.points.get((site.kind, site.layer))
        if point is None:
            raise ValueError(f"site {site}: this architecture has no hook point for {site.kind}")
        return self._attach_between(site, point, change) if site.kind == "resid_mid" else [point.attach(change)]

    def attach_entry(self, layer: int, keep: Callable[[Tensor], None]) -> RemovableHandle:
        """Show the residual stream that really enters a block, after every change at resid_pre."""

        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            keep(args[0] if args else kwargs["hidden_states"])

        return self.blocks[layer].original_component.register_forward_pre_hook(hook, with_kwargs=True)

    def _attach_between(self, site: Site, point: Point, change: Change) -> list[RemovableHandle]:
        """resid_mid = resid_pre + attn_out, read and written at the attention output."""
        entered: list[Tensor] = []

        def enter(resid: Tensor) -> None:
            entered[:] = [resid]

        def between(out: Tensor) -> Tensor | None:
            middle = entered.pop() + out
            changed = change(middle)
            # where nothing changed the difference is exactly zero, so an identity edit stays bitwise nothing
            return None if changed is None else out + (changed - middle)

        return [self.attach_entry(site.block, enter), point.attach(between)]


def places_of(bridge: Any, ids: Int[Tensor, " pos"]) -> Places:
    """The sites of a booted TransformerBridge, each at the first of its hook points that fires.

    A point that exists need not fire (an MLP without a module of its own, a branch that the block
    scales), so the model runs once over a few tokens.

    Raises:
        ValueError: TransformerLens cannot run this architecture.
    """
    fired = _firing(bridge, ids)
    d_head = int(bridge.cfg.d_head)

    def point(kind: str, layer: int | None) -> Point | None:
        names = [name.format(layer=layer) for name in _POINTS[kind]]
        name = next((name for name in names if name in fired), None)
        if name is None:
            return None
        heads = d_head if KINDS.get(kind, "").endswith("head d_head") else None
        scaled = kind in ("attn_out", "mlp_out", "resid_mid") and name.endswith((".attn.hook_out", ".mlp.hook_out"))
        scale = getattr(bridge.blocks[layer], "residual_contribution_scale", 1.0) if scaled else 1.0
        return Point(fired[name], heads, float(scale))

    layers = range(len(bridge.blocks))
    places = [(kind, layer) for kind in _POINTS for layer in ([None] if kind == "embed" else layers)]
    found = {place: point(*place) for place in places}
    return Places({place: point for place, point in found.items() if point is not None}, tuple(bridge.blocks))


def _firing(bridge: Any, ids: Int[Tensor, " pos"]) -> dict[str, Any]:
    """The hook points through which a tensor passes when the model runs, by name."""
    fired: dict[str, Any] = {}
    handles = []
    for name, module in bridge.hook_dict.items():

        def note(module: Any, _inputs: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor):
                fired[name] = module

        handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            bridge(ids[None], use_cache=False)
    except Exception as error:  # the first pass of an unknown architecture: TransformerLens may fail in any way
        name = type(bridge.original_model).__name__
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
        raise ValueError(f"architecture {name} cannot be run by TransformerLens 3.9 ({reason})") from error
    finally:
        for handle in handles:
            handle.remove()
    return fired


def expand(wanted: Iterable[Site | str] | Site | str, served: Mapping[str, tuple[int, ...]]) -> tuple[Site, ...]:
    """Sites from sites and texts; a bare kind such as "resid_post" or "L*.z" stands for every layer.

    Args:
        wanted: sites, their text forms, TransformerLens names, or kinds.
        served: for each kind the layers on which the model has it.

    Raises:
        ValueError: a text cannot be read.
    """
    found: dict[Site, None] = {}
    for item in [wanted] if isinstance(wanted, Site | str) else wanted:
        if isinstance(item, Site):
            found[item] = None
            continue
        head, _, rest = item.rpartition("*.")
        unit = rest if head == "L" else item
        kind = unit.split("@")[0].split(".")[-1]
        if (head == "L" or item == kind) and kind in KINDS and kind not in ("embed", "logits"):
            # a kind that is not served stands for its first layer, so that its absence is noticed and explained
            for layer in served.get(kind) or (0,):
                found[Site.parse(f"L{layer}.{unit}")] = None
        else:
            found[read_site(item)] = None
    return tuple(found)


def whole_shape(kind: str, sizes: Mapping[str, int], batch: int, length: int) -> tuple[int, ...]:
    """The shape of a whole activation, for `batch` prompts of `length` tokens."""
    known = {"batch": batch, "pos": length, "query": length, "key": length, **sizes}
    return tuple(known[axis] for axis in KINDS[kind].split())


def finite(value: Float[Tensor, "*axes"]) -> bool:
    """Whether every number is finite; read in one pass, since NaN and infinity are among the extremes."""
    return value.numel() == 0 or all(map(math.isfinite, torch.stack(torch.aminmax(value)).tolist()))
