"""Sites to TransformerLens hook points and back: the only file with hook-name strings.

TransformerBridge (3.9) offers the points; this file decides which point is which site, brings every
activation into the documented layout, and mends what the bridge leaves out: a write at `resid_mid`
is carried out at the attention output (the bridge's own point misses the skip path), and branch
outputs are scaled where the block scales them before adding (Granite).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workbench.words import KINDS, Site

Change = Callable[[Tensor], Tensor | None]
"""Called with the whole activation of a site; what it returns, if anything, replaces it."""

_POINTS = {
    "embed": "embed.hook_out",
    "resid_pre": "blocks.{layer}.hook_in",
    "resid_mid": "blocks.{layer}.hook_attn_out",
    "resid_post": "blocks.{layer}.hook_out",
    "attn_out": "blocks.{layer}.hook_attn_out",
    "q": "blocks.{layer}.attn.hook_q",
    "k": "blocks.{layer}.attn.hook_k",
    "v": "blocks.{layer}.attn.hook_v",
    "z": "blocks.{layer}.attn.hook_z",
    "scores": "blocks.{layer}.attn.hook_attn_scores",
    "pattern": "blocks.{layer}.attn.hook_pattern",
    "mlp_in": "blocks.{layer}.mlp.hook_in",
    "mlp_pre": "blocks.{layer}.mlp.hook_pre",
    "mlp_post": "blocks.{layer}.mlp.hook_post",
    "mlp_out": "blocks.{layer}.hook_mlp_out",
}
_LENS_NAME = re.compile(r"^blocks\.(\d+)\.(?:attn\.|mlp\.)?hook_(\w+)$")
_LENS_KINDS = {"attn_scores": "scores", "in": "resid_pre", "out": "resid_post", "pre": "mlp_pre", "post": "mlp_post"}


def read_site(text: str) -> Site:
    """A site from its own text form, or from a TransformerLens hook name.

    Example:
        >>> str(read_site("blocks.5.attn.hook_pattern"))
        'L5.pattern'
    """
    match = _LENS_NAME.match(text)
    if match is None:
        return Site("embed") if text == "hook_embed" else Site.parse(text)
    kind = _LENS_KINDS.get(match[2], match[2])
    if ".mlp.hook_in" in text or ".mlp.hook_out" in text or ".attn.hook_out" in text:
        raise ValueError(f"hook name {text!r} is before the post-norm in some models: write mlp_in, mlp_out or attn_out")
    return Site(kind, int(match[1]))


@dataclass(frozen=True)
class Places:
    """The hook points of one bridge, as sites."""

    points: Mapping[str, Any]
    n_layers: int
    d_head: int
    branch_scale: float

    def point(self, site: Site) -> Any | None:
        """The hook point that carries this site, or None when the architecture has none."""
        name = _POINTS.get(site.kind)
        return None if name is None else self.points.get(name.format(layer=site.layer))

    def attach(self, site: Site, change: Change) -> list[RemovableHandle]:
        """Call `change` with the whole activation each time the site fires.

        Raises:
            ValueError: the model has no hook point for this site.
        """
        point = self.point(site)
        if point is None:
            raise ValueError(f"site {site}: this architecture has no hook point for {site.kind}")
        if site.kind == "resid_mid":
            return self._attach_between(site, point, change)
        return [point.register_forward_hook(self._hook(site.kind, point, change))]

    def _hook(self, kind: str, point: Any, change: Change) -> Callable[..., Tensor | None]:
        def hook(_module: Any, _inputs: Any, raw: Tensor) -> Tensor | None:
            shown = self._shown(kind, point, raw)
            changed = change(shown)
            if changed is None:
                return None
            return raw if changed is shown and shown is raw else self._raw(kind, point, raw, changed)

        return hook

    def _shown(self, kind: str, point: Any, raw: Tensor) -> Tensor:
        """The documented layout of what the bridge carries."""
        value = raw if point.hook_conversion is None else point.hook_conversion.convert(raw)
        if KINDS[kind].endswith("head d_head") and value.ndim == 3:
            value = value.reshape(*value.shape[:-1], -1, self.d_head)
        return value * self.branch_scale if self._scaled(kind) else value

    def _raw(self, kind: str, point: Any, raw: Tensor, value: Tensor) -> Tensor:
        """The bridge's own layout of a changed value."""
        if self._scaled(kind):
            value = value / self.branch_scale
        if point.hook_conversion is not None:
            value = point.hook_conversion.revert(value)
        return value.reshape(raw.shape).to(raw.dtype)

    def _scaled(self, kind: str) -> bool:
        return self.branch_scale != 1.0 and kind in ("attn_out", "mlp_out")

    def _attach_between(self, site: Site, point: Any, change: Change) -> list[RemovableHandle]:
        """resid_mid = resid_pre + attn_out, read and written at the attention output."""
        before: dict[str, Tensor] = {}
        scale = self.branch_scale

        def keep(_module: Any, _inputs: Any, resid: Tensor) -> None:
            before["resid"] = resid

        def hook(_module: Any, _inputs: Any, out: Tensor) -> Tensor | None:
            middle = before.pop("resid") + (out * scale if scale != 1.0 else out)
            changed = change(middle)
            # where nothing changed the difference is exactly zero, so an identity edit stays bitwise nothing
            return None if changed is None else out + (changed - middle) / scale

        entry = self.points[_POINTS["resid_pre"].format(layer=site.layer)]
        return [entry.register_forward_hook(keep), point.register_forward_hook(hook)]


def places_of(bridge: Any) -> Places:
    """The sites of a booted TransformerBridge."""
    config = bridge.original_model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return Places(
        points=dict(bridge.hook_dict),
        n_layers=len(bridge.blocks),
        d_head=int(bridge.cfg.d_head),
        branch_scale=float(getattr(text, "residual_multiplier", 1.0)),
    )


def expand(wanted: Iterable[Site | str], served: Mapping[str, tuple[int, ...]]) -> tuple[Site, ...]:
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
            for layer in served.get(kind, ()):
                found[Site.parse(f"L{layer}.{unit}")] = None
            if not served.get(kind):
                found[Site(kind, 0)] = None
        else:
            found[read_site(item)] = None
    return tuple(found)


def near(text: str) -> str:
    """A hint naming the kinds that look like a misspelt one."""
    close = get_close_matches(text, KINDS, n=3, cutoff=0.4)
    return f"; near it are {', '.join(close)}" if close else ""


def whole_shape(kind: str, sizes: Mapping[str, int], batch: int, length: int) -> tuple[int, ...]:
    """The shape of a whole activation, for `batch` prompts of `length` tokens."""
    known = {"batch": batch, "pos": length, "query": length, "key": length, **sizes}
    return tuple(known[axis] for axis in KINDS[kind].split())


def finite(value: Float[Tensor, "*axes"]) -> bool:
    """Whether every number is finite."""
    return bool(torch.isfinite(value).all())
