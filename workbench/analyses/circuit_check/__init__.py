"""Circuit check: whether chosen features are necessary for what the model says, and whether they are enough.

Idea. A circuit that explains a target should take the target with it when it is removed, and uphold it when all
else is. So the model runs without the features of the circuit, then without all others, and with no features at all.
Score. With the target (logits) in the whole model, without a set, with a set alone and with no feature:
necessity = (whole - without) / (whole - none), sufficiency = (alone - none) / (whole - none). 1 means that the set
does all that features do, 0 nothing; both can leave 0 to 1 where features oppose each other.
Differs from the paper. Everything is measured in the running model with attention free to answer; what transcoders
miss is kept, so no replacement model stands between; random sets that write as much stand beside the circuit.
Beware. Without most features the model is far from anything that it was trained on. Errors, and MLPs without a
transcoder, stay: look at `none` to see how much of the target they make without features. Features that others
replace when they are missing look unnecessary. One prompt is one prompt.
Reference: Dunefsky et al. 2024, arXiv 2406.11944; Wang et al. 2022, arXiv 2211.00593 (faithfulness, completeness).
"""

from typing import Literal

from workbench.analyses.circuit_check.checking import Asked, check_circuit
from workbench.analyses.circuit_check.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out", "v", "pattern")


@analysis(title="Circuit check", family="circuits", reference="arXiv:2406.11944")
def circuit_check(
    model: Model,
    prompts: Prompts,
    *,
    nodes: str = "",
    coders: str = "",
    target: str = "",
    against: str = "",
    pos: int = -1,
    fill: Literal["zero", "mean"] = "zero",
    node_threshold: float = 0.8,
    keep_first: bool = True,
    draws: int = 10,
    seed: int = 0,
) -> Result:
    """Run the model without the features of a circuit, then without all others, and see what is left of a target.

    Args:
        model: a loaded model.
        prompts: one prompt.
        nodes: the circuit: L0.F3@1 or ids such as 0_3_1, with blanks or commas between; supernodes with `;` between,
            each with `label:` in front. Empty for the features that an attribution graph keeps.
        coders: transcoders: a folder, `saelens:<release>/<id>`; empty for a planted or bundled model's own.
        target: the token to watch (exactly one token); empty for the prompt's own, or else the likeliest one.
        against: a token to compare it with; empty for the prompt's own distractor, or else the vocabulary's mean.
        pos: the position at which the model speaks; negative counts from the end.
        fill: what stands in the place of a feature: nothing, or its mean over the prompt.
        node_threshold: without nodes, the share of influence that the features of the circuit have, 0 to 1.
        keep_first: leave the first position alone, where activations are huge and say little.
        draws: random sets to compare with, 1 or more.
        seed: seed of the random sets.

    Returns:
        Result with `value` ([component]: the target in each run) and its range over random sets, `necessity` and
        `sufficiency` ([component]: the circuit, and each supernode where there are several), the same of random
        sets ([example]), and the tables `sets` and `members`.
    """
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, found {draws}")
    if len(prompts) != 1:
        raise ValueError(f"a circuit is checked on one prompt, found {len(prompts)}: choose one of them")
    asked = Asked(nodes, coders, target, against, pos, fill, node_threshold, keep_first, draws, seed)
    return tell(model, check_circuit(model, prompts, asked), asked)


def cost(model: Model, prompts: Prompts, *, draws: int, **_others: object) -> Cost:
    """One pass for the graph, and two for the circuit and for each random set."""
    length, shape = max(model.tokens(prompts).lengths), model.shape
    passes = 4 + 2 * (draws + 2)
    patterns = shape.n_layers * shape.n_heads * length**2
    return Cost(passes=passes, tokens=passes * length, bytes=4 * patterns + 300_000_000)
