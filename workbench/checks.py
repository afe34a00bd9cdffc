"""What a loaded model can serve, and the proof at load that its numbers are right.

A handful of forward passes over a few tokens answer: does the hooked model give the plain model's logits;
is it causal; which kinds of site exist on which layers, with the documented shapes and meanings; which of
them can be written; does the unembedding of the last residual give the logits. Wrong numbers are refused;
a kind of site that cannot be proven is not served, and the reason is kept.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.bridge import plain_logits
from workbench.claims import CLAIMS, Look, relative_gap, writable_kinds
from workbench.lens import read_out, reads_out
from workbench.replay import recorded_calls, replay_block
from workbench.result import Check
from workbench.sites import Places, whole_shape
from workbench.words import KINDS, Site

_LAYER_KINDS = tuple(kind for kind in KINDS if kind not in ("embed", "logits"))
_RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 3e-2, torch.float16: 5e-3}
_WIDE = 8
"""How many times as many tokens the long pass has, by which the speed is measured."""
_NEVER_FIRES = "this architecture has no hook point for it that fires"

Layers = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Capabilities:
    """Which sites a model has, where they can be written, and the self-checks that it passed."""

    served: Mapping[str, tuple[int, ...]]
    writable: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    checks: tuple[Check, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    seconds_per_pass: float = 0.0
    seconds_per_token: float = 0.0

    def reason(self, kind: str) -> str | None:
        """Why a kind of site cannot be served on any layer; None when it can."""
        return None if self.served.get(kind) else self.reasons.get(kind)

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
        if not weight.is_floating_point() or bool(torch.isfinite(weight.detach().sum())):
            continue  # one bad number spoils the sum, which is much faster than looking at each
        bad = int((~torch.isfinite(weight)).sum())
        if bad:
            word = str(weight.dtype).removeprefix("torch.")
            raise ValueError(
                f"weight {name} holds {bad} values that are NaN or infinite in {word}: "
                "the file is damaged, or its numbers are too large for this dtype"
            )


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
    look = _look(bridge, places, batch)
    tolerance = _RELATIVE.get(expected.dtype, 1e-2)
    checks = [
        Check("hooked logits equal plain logits", relative_gap(look.logits, expected), tolerance),
        Check("earlier logits ignore later tokens", relative_gap(look.logits[0, :-1], look.logits[1, :-1]), tolerance),
    ]
    _refuse(look.logits, checks)
    checks += [
        Check("unembedding the last residual gives the logits", _read_out_gap(look), tolerance),
        Check("blocks replayed by themselves give the same stream", _replay_gap(look), tolerance),
    ]
    sizes = _sizes(look.values, int(bridge.cfg.d_model))
    served, reasons = _fired(look, sizes)
    # many models of 64 bits still compute their softmax in 32
    checks += _test_claims(look, served, reasons, max(tolerance, 1e-6))
    served = {kind: layers for kind, layers in served.items() if layers}
    writable = _writable(look, served)
    if not served.get("mlp_post"):
        sizes["d_mlp"] = 0
    if not _embedding_reaches(look, batch):
        reasons["embed"] = _NEVER_FIRES
    return Capabilities(served, writable, sizes, tuple(checks), reasons, *_measure_speed(bridge, batch))


def _look(bridge: Any, places: Places, batch: Int[Tensor, "batch pos"]) -> Look:
    """One pass with every site captured and every block's call recorded."""
    values: dict[Site, Tensor] = {}
    handles = []
    for site in places.sites:

        def keep(value: Tensor, site: Site = site) -> None:
            values[site] = value.detach()

        handles += places.attach(site, keep)
    try:
        with torch.no_grad(), recorded_calls(bridge) as calls:
            logits = bridge(batch, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return Look(bridge, places, values, calls, logits)


def _measure_speed(bridge: Any, batch: Int[Tensor, "batch pos"]) -> tuple[float, float]:
    """Seconds of a pass whatever it reads, and seconds of each token besides: a line through a short and a long pass.

    The short pass alone would say too much of a token: most of its time goes into starting kernels and reading
    the weights.
    """
    wide = batch.repeat(_WIDE, 1)
    short = min(_seconds(bridge, batch) for _ in range(2))
    long = _seconds(bridge, wide)
    if long <= short:  # too quick for the clock: all of it then belongs to the tokens
        return 0.0, long / wide.numel()
    per_token = (long - short) / (wide.numel() - batch.numel())
    return max(short - per_token * batch.numel(), 0.0), per_token


def _seconds(bridge: Any, batch: Int[Tensor, "batch pos"]) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        bridge(batch, use_cache=False)[0, 0, 0].item()  # reading a number waits for the device
    return time.perf_counter() - start


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


def _read_out_gap(look: Look) -> float:
    last = look.values.get(Site("resid_post", look.places.n_layers - 1))
    if last is None or not reads_out(look.bridge):
        return float("nan")
    with torch.no_grad():
        return relative_gap(read_out(look.bridge, last), look.logits)


def _replay_gap(look: Look) -> float:
    """Largest error of a block called again as it was called; NaN when the blocks are not called one by one."""
    ends = [look.values.get(Site("resid_post", layer)) for layer in range(look.places.n_layers)]
    known = [end for end in ends if end is not None]
    if len(look.calls) != len(ends) or len(known) != len(ends):
        return float("nan")
    with torch.no_grad():
        streams = [
            replay_block(block, call, call.resid) for block, call in zip(look.places.blocks, look.calls, strict=True)
        ]
    return max(relative_gap(stream, end) for stream, end in zip(streams, known, strict=True))


def _sizes(values: Mapping[Site, Tensor], d_model: int) -> dict[str, int]:
    """How long each axis is, from the activations themselves; 0 where nothing has it."""

    def length(axis: int, *kinds: str) -> int:
        return next((int(values[site].shape[axis]) for kind in kinds for site in values if site.kind == kind), 0)

    return {
        "d_model": d_model,
        "head": length(2, "z", "q") or length(1, "pattern"),
        "kv_head": length(2, "k", "v"),
        "d_head": length(3, "z", "q"),
        "d_mlp": length(2, "mlp_post", "mlp_pre"),
    }


def _fired(look: Look, sizes: Mapping[str, int]) -> tuple[Layers, dict[str, str]]:
    """The layers on which each kind fired with the documented shape, and why the others did not."""
    served: Layers = {}
    reasons: dict[str, str] = {}
    for kind in _LAYER_KINDS:
        expected = whole_shape(kind, sizes, *look.logits.shape[:2])
        shapes = {site.block: tuple(look.values[site].shape) for site in look.values if site.kind == kind}
        served[kind] = tuple(layer for layer in sorted(shapes) if shapes[layer] == expected)
        if not shapes:
            reasons[kind] = _NEVER_FIRES
        elif wrong := [shape for shape in shapes.values() if shape != expected]:
            reasons[kind] = f"its hook point carries the shape {wrong[0]} where {expected} belongs"
    return served, reasons


def _test_claims(look: Look, served: Layers, reasons: dict[str, str], tolerance: float) -> Iterable[Check]:
    """Test every claim; take the kinds that rest on a failed one out of `served` and say why."""
    for claim in CLAIMS:
        asked = sorted({layer for kind in claim.kinds for layer in served[kind]})
        gaps = {layer: claim.measure(look, layer) for layer in asked}
        held = {layer: gap for layer, gap in gaps.items() if gap <= tolerance}
        for kind in claim.kinds:
            kept = tuple(layer for layer in served[kind] if layer in held)
            if kept != served[kind]:
                reasons[kind] = claim.otherwise
            served[kind] = kept
        if held:
            yield Check(claim.name, max(held.values()), tolerance)


def _writable(look: Look, served: Layers) -> Layers:
    """The layers on which a change of each kind has an effect."""
    found = {
        layer: writable_kinds(look, layer, [kind for kind, layers in served.items() if layer in layers])
        for layer in range(look.places.n_layers)
    }
    return {kind: tuple(layer for layer in layers if kind in found[layer]) for kind, layers in served.items()}


def _embedding_reaches(look: Look, batch: Int[Tensor, "batch pos"]) -> bool:
    """Whether the embedding fires, and a change there changes the logits."""
    if Site("embed") not in look.values:
        return False
    handles = look.places.attach(Site("embed"), lambda value: 0.4 - 1.5 * value)
    try:
        with torch.no_grad():
            return not torch.equal(look.bridge(batch, use_cache=False), look.logits)
    finally:
        for handle in handles:
            handle.remove()
