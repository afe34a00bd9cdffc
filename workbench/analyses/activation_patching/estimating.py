"""Attribution patching: every effect of a pair estimated from gradients, in a handful of passes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.activation_patching.cases import Case
from workbench.analyses.activation_patching.patching import CLEAN, CORRUPT, Plan
from workbench.attribution import attribute, part_sites, token_directions
from workbench.edit import edited, patch
from workbench.model import Model
from workbench.tokens import Tokens
from workbench.tracer import Trace, trace
from workbench.words import Site

DIRECT = "direct"
AT_CORRUPT, AT_CLEAN, INTEGRATED = "gradient at corrupt", "gradient at clean", "integrated gradients"
ESTIMATES = (AT_CORRUPT, AT_CLEAN, INTEGRATED)
"""The estimates: of denoising, of noising, and of both along the path between the two runs."""

_START = Site("resid_pre", 0)


@dataclass(frozen=True)
class Estimated:
    """What the gradients of one pair say, in units of the metric.

    Attributes:
        effects: for each estimate, at the heads ([layer, head]) or along a track of the plan ([layer, pos]).
        total: what the integrated gradients add up to over the tokens that enter: the gap, but for the
            steps; None without steps.
    """

    effects: dict[tuple[str, str], Float[np.ndarray, "layer place"]]
    total: float | None


def read_runs(model: Model, case: Case, plan: Plan) -> Trace:
    """The clean and the corrupt run of a pair in one pass, with the gradient of the metric at every site."""
    return _read(model, case, case.aligned.tokens, plan)


def estimate(model: Model, case: Case, runs: Trace, plan: Plan, steps: int) -> Estimated:
    """(Clean minus corrupt) times the gradient, at either end or on average over the path between them.

    Args:
        model: a loaded model.
        case: the pair.
        runs: its runs, with gradients.
        plan: what is estimated.
        steps: points on the straight path of the embeddings from corrupt to clean, each in the middle of its
            part; 0 for no path.
    """
    gradients: dict[str, Callable[[Site], Tensor]] = {
        AT_CORRUPT: lambda site: runs.grad(site)[CORRUPT],
        AT_CLEAN: lambda site: runs.grad(site)[CLEAN],
    }
    if steps:
        path = _walk(model, case, runs, plan, steps)
        gradients[INTEGRATED] = lambda site: path.grad(site).mean(0)
    effects: dict[tuple[str, str], np.ndarray] = {}
    for name, gradient in gradients.items():
        for kind in plan.kinds:
            sites = [Site(kind, layer) for layer in range(model.shape.n_layers)]
            shares = torch.stack([_share(site, runs, gradient(site)) for site in sites]).double().cpu().numpy()
            effects[name, kind] = shares.sum(1) if kind == plan.head_kind else shares
            if kind == plan.head_kind and plan.apart:
                effects |= {(name, f"H{head}"): shares[..., head] for head in range(plan.heads)}
    total = float(effects[INTEGRATED, _START.kind][0].sum()) if steps else None
    return Estimated(effects, total)


def direct_effects(model: Model, case: Case) -> Float[np.ndarray, "layer head"]:
    """What each head of the clean run adds to the logits directly, with every norm frozen."""
    chosen = torch.tensor([[case.aligned.target, case.aligned.distractor or 0]], device=model.device)
    other = None if case.aligned.distractor is None else chosen[:, 1]
    traced = trace(model, case.aligned.clean, part_sites(model, -1))
    parts = attribute(model, traced, -1, token_directions(model, chosen[:, 0], other))
    return parts.heads.units[..., 0].double().numpy()


def _walk(model: Model, case: Case, runs: Trace, plan: Plan, steps: int) -> Trace:
    """Runs, one a row, on what enters the first layer between corrupt and clean."""
    clean, corrupt = runs[_START][CLEAN], runs[_START][CORRUPT]
    parts = (torch.arange(steps, device=clean.device, dtype=clean.dtype) + 0.5) / steps
    between = corrupt + parts[:, None, None] * (clean - corrupt)
    tokens = model.tokens_of([case.aligned.corrupt.ids[0].tolist()] * steps)
    with edited(model, [(_START, patch(between))]):
        return _read(model, case, tokens, plan)


def _read(model: Model, case: Case, tokens: Tokens, plan: Plan) -> Trace:
    sites = [Site(kind, layer) for kind in plan.kinds for layer in range(model.shape.n_layers)]
    return trace(
        model, tokens, [*sites, "logits@-1"], grads_of=lambda logits: case.reading(logits[:, -1]).sum(), last_only=True
    )


def _share(site: Site, runs: Trace, gradient: Float[Tensor, "*axes"]) -> Float[Tensor, "pos ..."]:
    """(Clean minus corrupt) times the gradient, summed over everything but position and head."""
    shares = ((runs[site][CLEAN] - runs[site][CORRUPT]) * gradient).sum(-1)
    return shares.T if "query" in site.axes else shares
