"""Sublayer projections: which attention and MLP writes the bridge or the answer, in words of the vocabulary.

Idea. What an attention or an MLP adds to the stream is read by itself through the final norm and the
unembedding. Where a name comes out on top, that sublayer may be the one that looked it up or moved it.
Score. For each sublayer, the share of questions in which a token that begins the name is among its `top`
tokens, from 0 to 1, and the best rank of such a token (0 is the top; equal logits count as larger ones).
Differs from the paper. `null` is the same share for the names of other questions: how often a name of this
kind comes out anyway. All questions are read, whether or not they are answered.
Beware. The final norm blows up what is short: a sublayer that writes next to nothing has top tokens too. Only
first tokens are compared, which other words may share. A sublayer can write what only a later one turns into
a word, and then nothing is seen here.
Reference: Biran et al. 2024, arXiv 2406.12775; authors' code: consulted for its definitions.
"""

from typing import Literal

from workbench.analyses.sublayer_projections.reading import read_question
from workbench.analyses.sublayer_projections.telling import tell
from workbench.catalog import Cost, analysis
from workbench.hops import TwoHops
from workbench.model import Model
from workbench.progress import track
from workbench.questions import POSITIONS, build_cases
from workbench.result import Result

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_out")


@analysis(title="Sublayer projections", family="lens", reference="arXiv:2406.12775")
def sublayer_projections(
    model: Model,
    hops: TwoHops,
    *,
    hops_used: int = 20,
    positions: Literal["both", "entity", "last"] = "both",
    top: int = 1,
    seed: int = 0,
) -> Result:
    """Read what each attention and MLP writes as words, and look for the bridge and the answer.

    Args:
        model: a loaded model.
        hops: two-hop questions; the names of all others are the null.
        hops_used: how many of the questions to read, from the first on; 0 for all.
        positions: read at the last token of the part that describes the bridge, at the prompt's last
            token, or at each of them.
        top: a name is seen when one of its first tokens is among so many, 1 or more; the paper takes 1.
        seed: seed of the intervals.

    Returns:
        Result with `share`, `null` and the ends of the 95% interval `share_low` and `share_high`
        ([component, pos, sublayer, layer], shares of the questions), `rank` ([example, component, pos,
        sublayer, layer]) and the tables `sightings` and `questions`.
    """
    if not 1 <= top < model.shape.d_vocab:
        raise ValueError(f"top is a number of tokens from 1 to {model.shape.d_vocab - 1}, found {top}")
    if hops_used < 0:
        raise ValueError(f"hops_used is 0 for all, or how many: found {hops_used}")
    cases = build_cases(model, TwoHops.of(*hops[: hops_used or len(hops)]), POSITIONS[positions])
    seen = [read_question(model, case, hops, top) for case in track(cases, "two-hop questions")]
    return tell(model, seen, POSITIONS[positions], top, seed)


def cost(model: Model, hops: TwoHops, *, hops_used: int, positions: str, **_others: object) -> Cost:
    """One pass for each question, and the unembedding once for every sublayer and position."""
    cases = build_cases(model, TwoHops.of(*hops[: hops_used or len(hops)]), POSITIONS[positions])
    head = model.shape.d_model * model.shape.d_vocab
    readings = len(cases) * len(POSITIONS[positions]) * 2 * model.shape.n_layers
    tokens = sum(case.tokens.lengths[0] for case in cases) + round(readings * head / model.parameters)
    return Cost(passes=len(cases), tokens=tokens, bytes=300_000_000)
