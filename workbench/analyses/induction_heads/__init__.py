"""Induction heads: which heads continue what is said a second time, and what is lost without them.

Idea. Where a text repeats, the next token can be read off: look behind the earlier copy of the current token. An
induction head does so, with the help of an earlier head that told each token what stands in front of it (a
previous-token head). Random tokens said twice can be continued in no other way. They are drawn from the tokens of
the prompts if these hold enough different ones, else from the whole vocabulary (the usual test); a small model may
know no more than the words of its own world.
Score. `match`: mean attention, from the tokens of the second copy, to the token so many places behind the earlier
copy; `prefix_matching` is one place behind (the score of the literature), `match` the best number of places up to
`reach`. From 0 to 1. `control`: the same keys where the second half is other tokens, so that a head that looks a
fixed way back gains nothing; `lift` is the difference. `previous`: the same for a fixed number of places back, within
the first copy. `copying`, from -1 to 1: of the eigenvalues of embedding, values, outputs and unembedding of a head,
the sum of the real parts over the sum of the sizes; 1 raises what it looks at, 0 is any matrix, -1 lowers it.
`loss_change`: nats by which a head's mean in the place of its output raises the loss in the second copy. Baseline:
as many random other heads.
Differs from the paper. Places beyond the first behind the copy count: small models learn to look two or four ahead.
Norms are taken into `copying` as a short run froze them. Heads are replaced by their mean, not removed.
Beware. Random tokens are no text: heads that match words or meanings are missed. `copying` says what a head would
do with a token it looks at, not whether it looks. When one head is out, others may step in. A sliding window
shorter than the copy hides it.
Reference: Olsson et al. 2022, arXiv 2209.11895; Elhage et al. 2021 (copying by eigenvalues); Hernandez et al. 2022,
arXiv 2205.10487; authors' code: not consulted.
"""

from workbench.analyses.induction_heads.ablating import ablate
from workbench.analyses.induction_heads.copying import copying_scores
from workbench.analyses.induction_heads.matching import Pool, Repeated, read_matches
from workbench.analyses.induction_heads.telling import Found, tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("pattern", "z")
TOUR = {"length": 20, "repeats": 2, "draws": 1, "ablated": 2}


@analysis(title="Induction heads", family="attention", reference="arXiv:2209.11895")
def induction_heads(
    model: Model,
    prompts: Prompts,
    *,
    length: int = 30,
    repeats: int = 8,
    reach: int = 8,
    ablated: int = 4,
    draws: int = 3,
    seed: int = 0,
) -> Result:
    """Find the heads that continue a repetition, and take them out.

    Args:
        model: a loaded model.
        prompts: texts with twice as many different tokens as length, to draw them from; any other texts for the
            whole vocabulary.
        length: how many random tokens are said twice, all different, 2 or more.
        repeats: how many such sequences, 1 or more.
        reach: up to how many places behind the earlier copy, and in front of a token, a head may look, 1 or more
            and below length.
        ablated: up to how many of the best induction heads, and of the best previous-token heads, are taken out,
            each by itself and all together, if they put a tenth of their attention there; at most a quarter of all.
        draws: how many sets of as many random other heads, 1 or more.
        seed: seed of the tokens and of the sets.

    Returns:
        Result with `match`, `lift`, `prefix_matching`, `control`, `previous`, `copying` and `loss_change`
        ([layer, head]), `behind`, `behind_control` and `before` ([component, layer, head], a component for each
        number of places), `loss` ([component, pos], in nats) and the tables `heads` and `sets`.

    Example:
        >>> induction_heads(model, prompts, length=20, repeats=2, ablated=2).scalars["best"]
        'L2.H1'
    """
    for name, given, least in (("length", length, 2), ("repeats", repeats, 1), ("ablated", ablated, 1)):
        if given < least:
            raise ValueError(f"{name} must be {least} or more, found {given}")
    if not 1 <= reach < length:
        raise ValueError(f"reach lies between 1 and length - 1, here {length - 1}: found {reach}")
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, found {draws}: without random heads a loss says nothing")
    pool = Pool.of(model, prompts, 2 * length)
    said = Repeated.of(model, pool.ids, length, repeats, seed)
    twice, once = (read_matches(model, tokens, said, reach) for tokens in (said.twice, said.once))
    copying, refused = copying_scores(model, said.twice)
    found = Found(twice, once, copying, refused)
    most = max(1, min(ablated, found.lift.numel() // 4))
    induction, previous = found.best(found.lift, most), found.best(found.previous, most)
    others = [head for head in found.ranked(found.lift) if head not in (*induction, *previous)]
    losses = ablate(model, said, induction, previous, others, draws, seed)
    return tell(model, said, found, losses, pool.told)


def cost(
    model: Model, _prompts: Prompts, *, length: int, repeats: int, ablated: int, draws: int, **_others: object
) -> Cost:
    """Two passes for the patterns, and one for each head or set that is taken out."""
    whole = repeats * (2 * length + 1)
    count = 4 + 2 * (ablated + 1) + draws
    return Cost(
        passes=count, tokens=count * whole, bytes=4 * max(64_000_000, model.shape.n_heads * whole * (2 * length + 1))
    )
