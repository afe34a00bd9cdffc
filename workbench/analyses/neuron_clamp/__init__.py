"""Neuron clamp: whether holding a neuron at a value moves the tokens that it decodes to.

Idea. A neuron of a gated MLP writes act(gate) * up times its column. Held at a large value it should move the
token that its column decodes to, up with one sign and down with the other; whether it moves the token that
it reads is an open question. Other neurons of the layer and random tokens show what clamping does anyway.
Score. Change of a token's logit above the mean logit at the last position, any sign, mean over prompts;
`predicted` is the same by the direct way with frozen norms. `log_probability` is in nats.
Differs from the paper. It clamps `up` alone, whose effect has the sign of act(gate) at that place; here the
product (mlp_post) is clamped too, where the sign is known, always at both signs. Values are in multiples of the
neuron's own largest size on the prompts, so that they can be compared.
Beware. Large clamps leave what the model was trained on. The direct way leaves out what later layers make of
it, and the norms change with a large clamp.
Reference: Flash Interpretability, arXiv 2501.02688; authors' code: not published.
"""

from typing import Literal

from workbench.analyses.neuron_clamp.choosing import choose
from workbench.analyses.neuron_clamp.clamping import clamp_all
from workbench.analyses.neuron_clamp.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.weights import has_gates
from workbench.words import Site

NEEDS = ("mlp_in", "mlp_post", "mlp_out", "resid_post")
TOUR = {"count": 3, "factors": (1, 10), "controls": 2}


@analysis(title="Neuron clamp", family="neurons", reference="arXiv:2501.02688")
def neuron_clamp(
    model: Model,
    prompts: Prompts,
    *,
    neurons: list[Site] = [],  # noqa: B006 - read as text, never changed
    token: str = "",
    count: int = 5,
    factors: tuple[int, ...] = (1, 2, 5, 10),
    positions: Literal["last", "all"] = "last",
    controls: int = 3,
    random_tokens: int = 50,
    seed: int = 0,
) -> Result:
    """Hold neurons at values of both signs and see which tokens move.

    Args:
        model: a loaded model.
        prompts: neutral prompts of two tokens or more; effects are means over them.
        neurons: sites such as L3.N5.mlp_post; empty for those that write farthest along `token`, or without one
            for those that add most to what the model says after the first prompt.
        token: the token that is measured (exactly one token); empty for each neuron's own farthest.
        count: how many neurons to choose when none is given, 1 or more.
        factors: values to hold, in multiples of the neuron's largest size on the prompts; each with both signs.
        positions: clamp at the last position, or at all but the first, where sinks live.
        controls: other neurons of the same layer, with columns of nearly the same length, for each neuron.
        random_tokens: how many random tokens to measure as well, 1 or more.
        seed: seed of controls and random tokens.

    Returns:
        Result with `write`, `read`, `random_tokens`, `control_neurons`, `predicted`, `log_probability`, `kl` and
        `said` ([component, neuron, step]: what is clamped, which neuron, to which multiple), and the tables
        `neurons` and `controls`.

    Example:
        >>> result = neuron_clamp(model, prompts, count=1, factors=(5,), controls=1)
        >>> result.arrays["write"].axes
        ('component', 'neuron', 'step')
    """
    for name, value, least in (("count", count, 1), ("controls", controls, 1), ("random_tokens", random_tokens, 1)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, found {value}")
    if not factors or min(factors) < 1 or len(set(factors)) < len(factors):
        raise ValueError(f"factors are different whole numbers from 1 up, found {factors}")
    chosen = choose(model, prompts, neurons, token, count, controls, seed)
    steps = (*(-factor for factor in sorted(factors, reverse=True)), *sorted(factors))
    clamped = clamp_all(model, prompts, chosen, steps, positions == "all", random_tokens, seed)
    return tell(model, chosen, clamped, seed)


def cost(
    model: Model,
    prompts: Prompts,
    *,
    neurons: list[Site],
    count: int,
    factors: tuple[int, ...],
    positions: str,
    controls: int,
    **_others: object,
) -> Cost:
    """One token (or each, when all are clamped) for every clamp of every prompt, and the columns decoded."""
    lengths = model.tokens(prompts).lengths
    kinds = 2 if has_gates(model) else 1
    rows = (len(neurons) or count) * (1 + controls) * kinds * 2 * len(factors)
    places = [1 if positions == "last" else length for length in lengths]
    decoding = model.shape.n_layers * model.shape.d_mlp * model.shape.d_model // model.parameters + 1
    return Cost(
        passes=2 * len(lengths) + 2,
        tokens=sum(rows * place for place in places) + 2 * sum(lengths) + decoding,
        bytes=4 * 3 * model.shape.d_vocab * min(rows, 512),
    )
