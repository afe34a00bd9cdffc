"""What a loaded model can serve, and the proof at load that its numbers are right.

A handful of forward passes over a few tokens answer: does the hooked model give the plain model's
logits; is it causal; which kinds of site exist on which layers, with which shapes; which of them can
be written; do the parts of each layer add up to the residual stream; does the unembedding of the last
residual give the logits. What fails is either refused (wrong numbers) or recorded with its reason.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.bridge import plain_logits
from workbench.lens import read_out
from workbench.replay import BlockCall, recorded_calls, replay_block
from workbench.result import Check
from workbench.sites import Places
from workbench.words import KINDS, Site

_LAYER_KINDS = tuple(kind for kind in KINDS if kind not in ("embed", "logits"))
_RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 3e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Capabilities:
    """Which sites a model has, where they can be written, and the self-checks that it passed."""

    served: Mapping[str, tuple[int, ...]]
    writable: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    checks: tuple[Check, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    seconds_per_token: float = 0.0

    def reason(self, kind: str) -> str | None:
        """Why a kind of site cannot be served on any layer; None when it can."""
        return None if self.served.get(kind) or kind in ("embed", "logits") else self.reasons.get(kind, "absent")

    def passed(self, name: str) -> bool:
        """Whether a self-check was made and passed."""
        return any(check.name == name and check.passed for check in self.checks)

    def describe(self) -> dict:
        """As plain JSON, for results and `workbench info`."""
        return {
            "served": {kind: list(layers) for kind, layers in self.served.items()},
            "writable": {kind: list(layers) for kind, layers in self.writable.items()},
            "reasons": dict(self.reasons),
            "checks": [
                {"name": c.name, "value": c.value, "tolerance": c.tolerance, "passed": c.passed} for c in self.checks
            ],
        }


def refuse_broken_weights(hf_model: Any) -> None:
    """Raise ValueError when a weight is NaN or infinite."""
    for name, weight in hf_model.named_parameters():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            bad = int((~torch.isfinite(weight)).sum())
            raise ValueError(f"weight {name} holds {bad} values that are NaN or infinite: the file is damaged")


def prove(bridge: Any, plain: Any, places: Places, ids: Int[Tensor, " pos"]) -> Capabilities:
    """Check a freshly booted model on a short run of tokens.

    Args:
        bridge: the TransformerBridge.
        plain: an unhooked model over the same weights, with the same (eager) attention.
        places: the bridge's hook points as sites.
        ids: at least four different tokens.

    Raises:
        ValueError: the numbers are wrong (hooked and plain logits differ, logits that are not
            finite, a model that sees the future).
    """
    other = ids.clone()
    other[-1] = ids[0]
    batch = torch.stack([ids, other])
    expected = plain_logits(plain, batch)
    values, calls, logits, seconds = _look(bridge, places, batch)
    relative = _RELATIVE.get(expected.dtype, 1e-2)
    checks = [
        Check("hooked logits equal plain logits", _gap(logits, expected), relative),
        Check("earlier logits ignore later tokens", _gap(logits[0, :-1], logits[1, :-1]), relative),
    ]
    _refuse(logits, checks)
    checks += [
        Check("parts of each layer add up to the residual stream", _identity_gap(values, places.n_layers), relative),
        Check("unembedding the last residual gives the logits", _read_out_gap(bridge, values, logits), relative),
        Check("blocks replayed by themselves give the same stream", _replay_gap(bridge, calls, values), relative),
    ]
    served, reasons, sizes = _served(values, places, bridge)
    with torch.no_grad():
        writable = {
            kind: tuple(layer for layer in layers if _write_reaches(bridge, places, calls, kind, layer))
            for kind, layers in served.items()
        }
    if not _sequential(bridge, places, calls):
        for table in (served, writable):
            table.pop("resid_mid", None)
        reasons["resid_mid"] = "attention and MLP read the same stream in parallel, so there is none between them"
    return Capabilities(served, writable, sizes, tuple(checks), reasons, seconds / batch.numel())


def _gap(found: Float[Tensor, "*axes"], expected: Float[Tensor, "*axes"]) -> float:
    """Largest absolute difference over the largest absolute value."""
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def _look(
    bridge: Any, places: Places, batch: Int[Tensor, "batch pos"]
) -> tuple[dict[Site, Tensor], list[BlockCall], Float[Tensor, "batch pos vocab"], float]:
    """One pass with every site captured, and one timed without."""
    values: dict[Site, Tensor] = {}
    handles = []
    for layer in range(places.n_layers):
        for kind in _LAYER_KINDS:
            site = Site(kind, layer)
            if places.point(site) is not None:

                def keep(value: Tensor, site: Site = site) -> None:
                    values[site] = value.detach()

                handles += places.attach(site, keep)
    try:
        with torch.no_grad(), recorded_calls(bridge) as calls:
            logits = bridge(batch, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    start = time.perf_counter()
    with torch.no_grad():
        bridge(batch, use_cache=False)
    return values, calls, logits, time.perf_counter() - start


def _refuse(logits: Float[Tensor, "batch pos vocab"], checks: list[Check]) -> None:
    if not bool(torch.isfinite(logits).all()):
        raise ValueError(
            f"the model's logits are not finite in {str(logits.dtype).removeprefix('torch.')}: "
            "load it with dtype bfloat16 or float32"
        )
    same, causal = checks
    if not same.passed:
        raise ValueError(
            f"hooked and plain logits differ by {same.value:.1e} of their range (allowed {same.tolerance:.0e}): "
            "TransformerLens gives wrong numbers for this architecture, so it is refused"
        )
    if not causal.passed:
        raise ValueError("the model sees later tokens (an encoder?): only causal decoders can be served")


def _served(
    values: Mapping[Site, Tensor], places: Places, bridge: Any
) -> tuple[dict[str, tuple[int, ...]], dict[str, str], dict[str, int]]:
    """The layers on which each kind fired with the documented axes, and why the others did not."""
    config = bridge.original_model.config.get_text_config()
    sizes = {"d_head": places.d_head, "d_model": int(bridge.cfg.d_model)}
    for word, kind, axis in (("head", "z", 2), ("kv_head", "k", 2), ("d_mlp", "mlp_post", 2)):
        fired = [value.shape[axis] for site, value in values.items() if site.kind == kind]
        sizes[word] = int(fired[0]) if fired else 0
    experts = any(getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts"))
    served: dict[str, tuple[int, ...]] = {}
    reasons: dict[str, str] = {}
    for kind in _LAYER_KINDS:
        if experts and kind in ("mlp_pre", "mlp_post"):
            reasons[kind] = "the MLP is a mixture of experts, whose neurons have no hook point"
            continue
        layers = tuple(layer for layer in range(places.n_layers) if Site(kind, layer) in values)
        if layers:
            served[kind] = layers
        else:
            reasons[kind] = f"this architecture's hook point for {kind} does not exist or never fires"
    return served, reasons, sizes


def _identity_gap(values: Mapping[Site, Tensor], n_layers: int) -> float:
    """Largest relative error of resid_pre + attn_out + mlp_out = resid_post; NaN when a part is missing."""
    gaps = []
    for layer in range(n_layers):
        parts = [values.get(Site(kind, layer)) for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
        if any(part is None for part in parts):
            return float("nan")
        before, attention, mlp, after = parts
        gaps.append(_gap(before + attention + mlp, after))
    return max(gaps)


def _read_out_gap(bridge: Any, values: Mapping[Site, Tensor], logits: Float[Tensor, "batch pos vocab"]) -> float:
    last = max((site.layer for site in values if site.kind == "resid_post"), default=None)
    if last is None:
        return float("nan")
    with torch.no_grad():
        return _gap(read_out(bridge, values[Site("resid_post", last)]), logits)


def _replay_gap(bridge: Any, calls: list[BlockCall], values: Mapping[Site, Tensor]) -> float:
    if len(calls) != len(bridge.blocks):
        return float("nan")
    gaps = []
    with torch.no_grad():
        for layer, (block, call) in enumerate(zip(bridge.blocks, calls, strict=True)):
            gaps.append(_gap(replay_block(block, call, call.resid), values[Site("resid_post", layer)]))
    return max(gaps)


def _write_reaches(bridge: Any, places: Places, calls: list[BlockCall], kind: str, layer: int) -> bool:
    """Whether a changed value at a site changes what the block gives."""
    call, block = calls[layer], bridge.blocks[layer]

    def disturb(value: Tensor) -> Tensor:
        if kind == "pattern":
            return value.flip(-1)
        moved = value * -1.5 if kind != "scores" else torch.where(value < -1e30, value, value * -1.5 - 3.0 * value.cumsum(-1).clamp(-9, 9))
        return moved + 0.37 if kind not in ("scores",) else moved

    plain = replay_block(block, call, call.resid)
    handles = places.attach(Site(kind, layer), disturb)
    try:
        changed = replay_block(block, call, call.resid)
    finally:
        for handle in handles:
            handle.remove()
    return not torch.equal(plain, changed)


def _sequential(bridge: Any, places: Places, calls: list[BlockCall]) -> bool:
    """Whether the MLP of the first block reads what its attention wrote."""
    if places.point(Site("attn_out", 0)) is None or places.point(Site("mlp_in", 0)) is None:
        return False
    seen: list[Tensor] = []

    def keep(value: Tensor) -> None:
        seen.append(value.detach())

    handles = places.attach(Site("mlp_in", 0), keep)
    try:
        with torch.no_grad():
            replay_block(bridge.blocks[0], calls[0], calls[0].resid)
            handles += places.attach(Site("attn_out", 0), lambda value: value * 2 + 1)
            replay_block(bridge.blocks[0], calls[0], calls[0].resid)
    finally:
        for handle in handles:
            handle.remove()
    return len(seen) == 2 and not torch.equal(*seen)
