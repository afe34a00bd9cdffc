"""Activation patching: which heads, layers and positions carry what differs between two prompts.

Idea. A clean and a corrupt prompt differ in what decides the answer. An activation of the clean run, put into
the corrupt run at one place, shows whether that place is enough to bring the answer back (denoise); an
activation of the corrupt run, put into the clean run, shows whether the place is needed (noise).
Score. Metric after the patch, on a scale on which corrupt is 0 and clean is 1: `denoise` is how much of the
difference is gained over the corrupt run, `noise` how much of it is lost from the clean one. 1 is all, 0
nothing, and a place that speaks against the answer is negative. Beside them, on the same scale: what is lost
when a head is removed (zero, mean, resample), what it adds directly to the logits, and estimates from
gradients, (clean - corrupt) x gradient, at either end or along the path between them.
Differs from the paper. Effects of all pairs are added up before they are divided by the mean difference, so
that a pair whose runs hardly differ cannot blow up; `noise` is turned round, so that all measures have one
sign; ablations leave the token that begins the sequence alone. Gradients run through norms and attention as
they are. The path is that of the embeddings, as in EAP-IG, with points in the middle of its parts.
Beware. No measure is the importance of a head: when one head is taken out others may step in, and a head that
is needed need not be enough. Look where the measures disagree. Effects of single places do not add up. Zero is
no natural value of a head. Where a norm follows the heads (Gemma 2 and 3), removing one rescales its siblings.
Reference: Heimersheim and Nanda 2024, arXiv 2404.15255; Wang et al. 2022, arXiv 2211.00593; Hanna et al. 2024,
arXiv 2403.17806 (integrated gradients); authors' code: not consulted.
"""

from typing import Literal

import numpy as np

from workbench.analyses.activation_patching.cases import (
    Case,
    Ends,
    build_cases,
    choose_pairs,
    read_ends,
    refuse_close,
)
from workbench.analyses.activation_patching.collecting import Studied
from workbench.analyses.activation_patching.estimating import DIRECT, direct_effects, estimate, read_runs
from workbench.analyses.activation_patching.patching import STREAMS, Donors, Plan, patch_pair, self_gap
from workbench.analyses.activation_patching.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.pairs import Pairs
from workbench.progress import track
from workbench.result import Result
from workbench.tracer import trace

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z")
TOUR = {"where": "heads", "steps": 2}
LOOPED = 3
"""Rows of each direction that the plain loop runs as well, in the first pair."""


@analysis(title="Activation patching", family="causes", reference="arXiv:2404.15255")
def activation_patching(
    model: Model,
    pairs: Pairs,
    *,
    pairs_used: int = 20,
    corruption: str = "",
    metric: Literal["difference", "logit", "probability"] = "difference",
    where: Literal["heads and positions", "heads", "positions", "heads at positions"] = "heads and positions",
    head_site: Literal["z", "q", "k", "v", "pattern"] = "z",
    ablations: bool = True,
    steps: int = 5,
    least_difference: float = 0.05,
    unfit: Literal["refuse", "skip"] = "refuse",
    seed: int = 0,
) -> Result:
    """Patch every head and every position between two runs, and hold the measures side by side.

    Args:
        model: a loaded model.
        pairs: clean and corrupt prompts, token for token as long, with target and distractor.
        pairs_used: how many pairs to use, from the first on; 0 for all.
        corruption: only pairs of this corruption; empty for that of the first pair, "all" for any.
        metric: what is read behind the last token: the logit of the target minus that of the distractor, the
            logit of the target, or its probability.
        where: patch each head over all positions, each position of the stream and of what attention and MLP
            add to it, or both; or each head both over all positions and at each by itself.
        head_site: what of a head is patched: its output z, its query, key or value, or its attention pattern.
            Keys and values belong to a group of heads. All but z leave ablations and the direct effect out.
        ablations: also remove each head from the clean run: by zero, by its mean over tokens and pairs, by
            what it gives in another pair of the same length.
        steps: points on the path of the integrated gradients, 0 for none.
        least_difference: the smallest mean difference between clean and corrupt, in units of the metric,
            that effects may be divided by.
        unfit: refuse the run, or skip the pair, when a pair does not fit this model's tokens.
        seed: seed of the other pairs, of the sampled rows and of the intervals.

    Returns:
        Result with `head` ([component, layer, head]; the measures are the components) with `head_lower` and
        `head_upper` (95% bootstrap over pairs), `head_raw` ([example, component, layer, head] in units of the
        metric), `resid_pre`, `attn_out` and `mlp_out` ([component, layer, pos]) or `head_at` ([component,
        layer, head, pos]), `rank_correlation` (of every two measures at the heads), and the tables `heads`,
        `ranks`, `correlations`, `agreement` and `pairs`.
    """
    if steps < 0:
        raise ValueError(f"steps is 0 for no path, or how many points it has: found {steps}")
    chosen = choose_pairs(pairs, corruption, pairs_used)
    cases, left_out = build_cases(model, chosen, metric, skip=unfit == "skip")
    plan = _plan(model, where, head_site, ablations)
    ends = read_ends(model, cases, average=plan.ablate)
    refuse_close(ends, least_difference, metric)
    generator = np.random.default_rng(seed)
    studied: list[Studied] = []
    for case in track(cases, "pairs patched"):
        looped = 0 if studied else LOOPED
        studied.append(_study(model, case, cases, plan, ends, steps, looped, generator))
    return tell(model, studied, plan, self_gap(model, cases[0], plan), left_out, seed)


def cost(
    model: Model,
    pairs: Pairs,
    *,
    pairs_used: int,
    corruption: str,
    metric: Literal["difference", "logit", "probability"],
    where: str,
    head_site: str,
    ablations: bool,
    steps: int,
    unfit: str,
    **_others: object,
) -> Cost:
    """Every patch is a row over the tokens from its position on; on average it joins half way up."""
    cases, _ = build_cases(model, choose_pairs(pairs, corruption, pairs_used), metric, skip=unfit == "skip")
    plan = _plan(model, where, head_site, ablations)
    layers = model.shape.n_layers
    passes = tokens = 0
    for case in cases:
        behind = case.length - case.first
        positions = 2 * layers * len(plan.tracks) * behind * (behind + 1) // 2
        heads = 3 * layers * plan.heads * behind + (3 * layers * plan.heads * case.length if plan.ablate else 0)
        passes += 10 + (4 * behind if plan.tracks else 0)
        tokens += (positions + heads) // 2 + (10 + 3 * steps) * case.length
    return Cost(passes=passes, tokens=tokens, bytes=1_000_000_000)


def _study(
    model: Model,
    case: Case,
    cases: list[Case],
    plan: Plan,
    ends: Ends,
    steps: int,
    looped: int,
    generator: np.random.Generator,
) -> Studied:
    """One pair under all measures."""
    runs = read_runs(model, case, plan)
    others = [one for one in cases if one.length == case.length and one.aligned.pair.clean != case.aligned.pair.clean]
    drawn = others[generator.integers(len(others))] if others and plan.head_kind else None
    other = None if drawn is None else trace(model, drawn.aligned.tokens, plan.head_kind)
    patched = patch_pair(model, case, runs, plan, Donors(ends.means, other), looped, generator)
    estimated = estimate(model, case, runs, plan, steps)
    effects = {**patched.effects, **estimated.effects}
    if plan.head_kind == "z" and case.reading.metric != "probability":
        effects[DIRECT, "z"] = direct_effects(model, case)
    return Studied(case, patched, effects, estimated.total)


def _plan(model: Model, where: str, head_site: str, ablations: bool) -> Plan:
    kind = head_site if "heads" in where else ""
    return Plan(
        head_kind=kind,
        heads=model.heads_at(kind) if kind else 0,
        streams=STREAMS if "and" in where or where == "positions" else (),
        ablate=ablations and kind == "z",
        apart=where == "heads at positions",
    )
