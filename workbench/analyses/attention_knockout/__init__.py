"""Attention knockout: in which layers the end of a two-hop question must look at its entity.

Idea. In a window of layers the last token is kept from attending to chosen tokens. If what the model says
depends on that window, this is where the entity, or what has been gathered there, is read.
Score. Change of the probability of a token under the cut: of what the model says, of the bridge and of the
answer (their first tokens together), from -1 to 1; and the share of questions in which another token comes
first. The window of layer l holds the layers from l - reach to l + reach.
Differs from the paper. Probabilities are read, where the paper compares continuations; questions need not be
answered right; `others`, just as many tokens drawn at random, is the baseline.
Beware. What was read in an earlier layer, or by way of another token, gets past the window. The first token
is a resting place of many heads and is never among the others. A cut changes all heads at once.
Reference: Biran et al. 2024, arXiv 2406.12775, after Geva et al. 2023; authors' code: consulted for its
definitions.
"""

from typing import Literal

import numpy as np

from workbench.analyses.attention_knockout.cutting import Cutting, cut_question
from workbench.analyses.attention_knockout.telling import tell, tell_failure
from workbench.catalog import Cost, analysis
from workbench.hops import TwoHops
from workbench.model import Model
from workbench.progress import track
from workbench.questions import PARTS, Tested, ask_all, build_cases
from workbench.result import Result

NEEDS = ("scores", "resid_post")

_ASKED_TOKENS = 10
"""Length of the answers by which questions are chosen, as in the paper."""


@analysis(title="Attention knockout", family="causes", reference="arXiv:2406.12775")
def attention_knockout(
    model: Model,
    hops: TwoHops,
    *,
    hops_used: int = 20,
    tested: Literal["all", "correct", "incorrect"] = "all",
    reach: int = 3,
    draws: int = 3,
    seed: int = 0,
) -> Result:
    """Keep the last token from attending to the entity, window by window, and see what the model says then.

    Args:
        model: a loaded model.
        hops: two-hop questions.
        hops_used: how many of the questions to use, from the first on; 0 for all.
        tested: all questions, or the known ones (both hops right, no shortcut) that are answered right, or
            wrong; these are asked first.
        reach: layers on each side of the middle of a window; the paper takes 3.
        draws: random sets of other tokens per question, 1 or more.
        seed: seed of these sets and of the intervals.

    Returns:
        Result with `change` and the ends of its 95% interval `change_low` and `change_high` ([component, key,
        layer], probability), `turned` ([key, layer], share of the questions), `probability` ([example,
        component, key, layer]), `plain` ([example, component]) and the tables `windows` and `questions`.
    """
    for name, value, least in (("hops_used", hops_used, 0), ("reach", reach, 0), ("draws", draws, 1)):
        if value < least:
            raise ValueError(f"{name} is {least} or more, found {value}")
    if not model.capabilities.writable.get("scores"):
        raise ValueError(f"{model.name} has no attention edge whose cut would have an effect")
    cases = build_cases(model, TwoHops.of(*hops[: hops_used or len(hops)]), ("entity", "last"))
    if tested != "all":
        chosen: Tested = tested
        asked = ask_all(model, cases, _ASKED_TOKENS, "words")
        cases = [one.case for one in asked if one.is_tested(chosen)]
        if not cases:
            return tell_failure(len(asked), tested)
    generator = np.random.default_rng(seed)
    cuttings: list[Cutting] = []
    for case in track(cases, "two-hop questions"):
        cuttings.append(cut_question(model, case, reach, draws, looped=not cuttings, generator=generator))
    return tell(model, cuttings, reach, draws, seed)


def cost(model: Model, hops: TwoHops, *, hops_used: int, tested: str, draws: int, **_others: object) -> Cost:
    """One pass for each question, and the last token once for every window and every set of tokens."""
    cases = build_cases(model, TwoHops.of(*hops[: hops_used or len(hops)]), ())
    lengths = [case.tokens.lengths[0] for case in cases]
    asking = 0 if tested == "all" else len(PARTS) * sum(length + _ASKED_TOKENS for length in lengths)
    rows = (2 + draws) * model.shape.n_layers + 1
    return Cost(passes=3 * len(cases), tokens=asking + 3 * sum(lengths) + rows * len(cases), bytes=1_000_000_000)
