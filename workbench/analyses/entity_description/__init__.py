"""Entity description: what the stream of a two-hop question at one token would be described as, layer by layer.

Idea. The residual stream of the question, taken behind a layer, is put into another prompt that goes on to
describe whatever stands at its placeholder. Which name comes out tells what the stream holds by then: the
entity, the bridge or the answer.
Score. For each pair of layers, the share of questions whose description names it; for each source layer, the
share of which some target layer does, from 0 to 1. Beside that, the same for random vectors of the same norm,
for the stream of another question, and for the names of other questions (`other_names`).
Differs from the paper. Continuations are greedy, where the paper joins three samples; names match as whole
words (`match="paper"`: framed as "name is said" by colon, comma or stop, and only the first of entity, bridge
and answer counts); all questions are used, known or not; the description is our own.
Beware. "Some target layer" grows with the number of layers: compare it with the controls, never with 0. A
name that the description does not say may be there all the same. What the question itself says (the entity)
comes back easily.
Reference: Biran et al. 2024, arXiv 2406.12775, with the patching of Ghandeharioun et al. 2024; authors' code:
consulted for its definitions.
"""

from typing import Literal

import numpy as np

from workbench.analyses.entity_description.patching import describe_all, place_of
from workbench.analyses.entity_description.scoring import score_all
from workbench.analyses.entity_description.telling import tell
from workbench.catalog import Cost, analysis
from workbench.hops import TwoHops
from workbench.model import Model
from workbench.questions import POSITIONS, build_cases
from workbench.result import Result

NEEDS = ("resid_post",)

DESCRIPTION = (
    "Everest: Everest is a mountain in Asia, Mozart: Mozart is a composer from Austria, Toyota: Toyota is a maker of "
    "cars, x"
)


@analysis(title="Entity description", family="lens", reference="arXiv:2406.12775")
def entity_description(
    model: Model,
    hops: TwoHops,
    *,
    hops_used: int = 3,
    positions: Literal["both", "entity", "last"] = "both",
    pairs: Literal["all", "same"] = "all",
    description: str = DESCRIPTION,
    placeholder: str = "x",
    new_tokens: int = 10,
    match: Literal["words", "paper"] = "words",
    seed: int = 0,
) -> Result:
    """Put the stream of a two-hop question into a prompt that describes it, from every layer into every layer.

    Args:
        model: a loaded model.
        hops: two-hop questions; the names of all others are a control.
        hops_used: how many of the questions to use, from the first on; 0 for all.
        positions: take the stream at the last token of the part that describes the bridge, at the prompt's
            last token, or at each of them.
        pairs: from every layer into every layer, as in the paper, or only into the same layer.
        description: the prompt that goes on to describe its placeholder.
        placeholder: the word at whose last occurrence (its last token) the stream is put.
        new_tokens: length of every description, 1 or more.
        match: a name counts when it is said as whole words, or framed by signs as in the paper.
        seed: seed of the random vectors and of the other questions.

    Returns:
        Result with `share` ([component, pos, source_layer, target_layer], NaN for pairs that were not
        patched), `decoded`, `random_vector`, `other_prompt` and `other_names` ([component, pos,
        source_layer]), all shares of the questions, and the tables `layers`, `descriptions` and `questions`.
    """
    if hops_used < 0:
        raise ValueError(f"hops_used is 0 for all, or how many: found {hops_used}")
    if new_tokens < 1:
        raise ValueError(f"a description has 1 token or more, {new_tokens} were asked for")
    tokens = model.tokens(description)
    place = place_of(tokens, description, placeholder)
    cases = build_cases(model, TwoHops.of(*hops[: hops_used or len(hops)]), POSITIONS[positions])
    described = describe_all(model, cases, tokens, place, pairs == "same", new_tokens, np.random.default_rng(seed))
    scores = score_all(described, hops, POSITIONS[positions], model.shape.n_layers, match)
    return tell(described, scores, POSITIONS[positions], description, match)


def cost(
    model: Model, hops: TwoHops, *, hops_used: int, positions: str, pairs: str, new_tokens: int, **_others: object
) -> Cost:
    """One pass for each question, and the end of the description once for every pair of layers and control."""
    count, layers = len(hops[: hops_used or len(hops)]), model.shape.n_layers
    rows = 3 * count * len(POSITIONS[positions]) * (layers if pairs == "same" else layers**2)
    return Cost(passes=count + new_tokens, tokens=rows * new_tokens, bytes=1_000_000_000)
