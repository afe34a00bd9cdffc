"""Back-patching: whether a two-hop question is answered when a later layer is read again earlier.

Idea. "The mother of the singer of Imagine is": the first hop may be solved so late that the layers which
know the second hop have passed already. The residual stream behind a later layer is put back behind an
earlier one, at the same position of the same prompt, and the model goes on from there.
Score. For a pair of layers, the share of prompts whose greedy continuation then names the answer, from 0
to 1; a prompt succeeds when some pair does. Four controls stand beside it: the same continuations held
against other prompts' answers (what so many tries find by chance), random vectors of the same norm, the
stream of another prompt, and the one pair that was best on the other half of the prompts.
Differs from the paper. Names match as whole words (`match="paper"`: anywhere); the controls are ours; only
pairs that are patched are computed.
Beware. "Some pair" grows with the number of layers: compare it with the controls, never with 0. A success
shows that the model can, not that it usually does. Norms grow with depth, so a late stream may drown an
early layer. Small models know few facts: look at the table of questions first. Shortcuts are asked only
where both hops are known.
Reference: Biran et al. 2024, arXiv 2406.12775; authors' code: consulted for its definitions.
"""

from typing import Literal

import numpy as np

from workbench.analyses.back_patching.patching import Patched, layer_pairs, patch_prompt
from workbench.analyses.back_patching.scoring import score_all
from workbench.analyses.back_patching.telling import tell, tell_failure
from workbench.catalog import Cost, analysis
from workbench.hops import TwoHops
from workbench.model import Model
from workbench.progress import track
from workbench.questions import PARTS, POSITIONS, Asked, ask_all, build_cases, other_names, read_streams
from workbench.result import Result

NEEDS = ("resid_post",)
LOOPED = 4


@analysis(title="Back-patching", family="causes", reference="arXiv:2406.12775")
def back_patching(
    model: Model,
    hops: TwoHops,
    *,
    hops_used: int = 20,
    tested: Literal["incorrect", "correct", "all"] = "incorrect",
    positions: Literal["both", "entity", "last"] = "both",
    pairs: Literal["later", "all"] = "later",
    new_tokens: int = 10,
    match: Literal["words", "paper"] = "words",
    control_draws: int = 1,
    seed: int = 0,
) -> Result:
    """Put later layers back into earlier ones and see which two-hop questions get answered.

    Args:
        model: a loaded model.
        hops: two-hop questions with their single hops and shortcuts.
        hops_used: how many of the questions to ask, from the first on; 0 for all.
        tested: patch the known questions (both hops right, no shortcut) that are answered wrong, as the
            paper does, or right; or all questions, known or not.
        positions: patch at the last token of the part that describes the bridge, at the prompt's last
            token, or at each of them.
        pairs: source later than target, as the paper reports, or all pairs of different layers.
        new_tokens: length of every continuation at most, 1 or more.
        match: an answer counts when one of its names is said as whole words, or anywhere, as in the paper.
        control_draws: random vectors and other prompts per question; 0 for neither control.
        seed: seed of the controls and of the halves.

    Returns:
        Result with `success` ([example, pos, source_layer, target_layer]: 1, 0, NaN for pairs that were not
        patched), its mean over examples `share`, `said_ids` (token ids, -1 for none), `rates` ([pos,
        component]), and the tables `controls`, `examples`, `questions` and `generations`.
    """
    _refuse_numbers(hops_used, new_tokens, control_draws)
    places = POSITIONS[positions]
    used = TwoHops.of(*hops[: hops_used or len(hops)])
    asked = ask_all(model, build_cases(model, used, places), new_tokens, match)
    chosen = [one for one in asked if one.is_tested(tested)]
    if not chosen:
        return tell_failure(asked, tested)
    generator = np.random.default_rng(seed)
    patched = _patch_all(model, asked, chosen, pairs == "later", new_tokens, control_draws, generator)
    scores = score_all(patched, hops, places, model.shape.n_layers, match, generator)
    return tell(asked, patched, scores, places, new_tokens, seed)


def cost(
    model: Model,
    hops: TwoHops,
    *,
    hops_used: int,
    positions: str,
    pairs: str,
    new_tokens: int,
    control_draws: int,
    **_others: object,
) -> Cost:
    """At most: every question and its parts, and for each one all pairs behind the first patched token."""
    places = POSITIONS[positions]
    cases = build_cases(model, TwoHops.of(*hops[: hops_used or len(hops)]), places)
    rows = len(layer_pairs(model, pairs == "later")) * (1 + 2 * control_draws) + model.shape.n_layers
    lengths = [case.tokens.lengths[0] for case in cases]
    asking = len(PARTS) * sum(length + new_tokens for length in lengths)
    patching = rows * sum(
        length - place + new_tokens
        for case, length in zip(cases, lengths, strict=True)
        for place in case.places.values()
    )
    passes = len(cases) * (len(PARTS) + len(places)) * new_tokens
    return Cost(passes=passes, tokens=asking + patching, bytes=1_000_000_000)


def _refuse_numbers(hops_used: int, new_tokens: int, control_draws: int) -> None:
    if hops_used < 0:
        raise ValueError(f"hops_used is 0 for all, or how many: found {hops_used}")
    if new_tokens < 1:
        raise ValueError(f"a continuation has 1 token or more, {new_tokens} were asked for")
    if control_draws < 0:
        raise ValueError(f"control_draws is 0 for no such controls, or how many: found {control_draws}")


def _patch_all(
    model: Model,
    asked: list[Asked],
    chosen: list[Asked],
    later_only: bool,
    new_tokens: int,
    draws: int,
    generator: np.random.Generator,
) -> list[Patched]:
    """Every chosen prompt under its patches; those of other prompts come from all that were asked."""
    pairs = layer_pairs(model, later_only)
    patched = []
    for one in track(chosen, "two-hop prompts patched"):
        others = [other for other in asked if other_names(one.case.hop, [other.case.hop], "answer")]
        drawn = [others[generator.integers(len(others))] for _ in range(draws if others else 0)]
        donors = [read_streams(model, other.case) for other in drawn]
        own = read_streams(model, one.case)
        looped = 0 if patched else LOOPED
        patched.append(patch_prompt(model, one, own, donors, pairs, draws, new_tokens, looped, generator))
    return patched
