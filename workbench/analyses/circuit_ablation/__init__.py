"""Circuit ablation: what a target loses when chosen features of a circuit are taken away.

Idea. A graph says what each feature adds to a target with everything else held. Here chosen features are set to a
value: once with attention patterns, norm scales, other features and errors held, which gives the share that the
graph draws, and once in the model itself, where all that comes behind answers.
Score. Change of the target, in logits, any sign: `direct` held, `measured` in the running model; each feature alone,
then all together. `random` is the change for as many random features that write as much.
Differs from the paper. Both effects stand side by side, and random features of the same size stand beside them.
Beware. The two differ where features act through others, through what attention looks at, or through norms; a small
measured effect may mean that others step in. A value far from those of the prompt leaves what the model knows.
Reference: Ameisen et al. 2025, "Circuit Tracing", section on interventions; Dunefsky et al. 2024, arXiv 2406.11944.
"""

from workbench.analyses.circuit_ablation.ablating import Asked, ablate
from workbench.analyses.circuit_ablation.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out", "v", "pattern")


@analysis(title="Circuit ablation", family="circuits", reference="arXiv:2406.11944")
def circuit_ablation(
    model: Model,
    prompts: Prompts,
    *,
    features: str = "",
    value: float = 0.0,
    coders: str = "",
    target: str = "",
    against: str = "",
    pos: int = -1,
    mass: float = 0.95,
    most: int = 10,
    keep_first: bool = True,
    draws: int = 5,
    seed: int = 0,
) -> Result:
    """Set features to a value, held and in the running model, and see what the targets lose.

    Args:
        model: a loaded model.
        prompts: one prompt.
        features: features at positions, such as L0.F0@3,L1.F1@3; empty for the one of the largest direct effect.
        value: what they are set to; 0 takes them away.
        coders: transcoders: a folder, `saelens:<release>/<id>`; empty for a planted or bundled model's own.
        target: the token to watch (exactly one token); empty for the prompt's own, or else the likeliest ones.
        against: a token to compare it with; empty for the prompt's own distractor, or else the vocabulary's mean.
        pos: the position at which the model speaks; negative counts from the end.
        mass: without a target, as many tokens are watched as reach this probability, 0 to 1.
        most: without a target, at most this many tokens, 1 or more.
        keep_first: keep the MLPs' outputs at the first position whole, as in the circuit.
        draws: random choices of features to compare with, 1 or more.
        seed: seed of the random choices.

    Returns:
        Result with `direct` and `measured` (component: each feature, then all together) of the first target,
        `random` (example: each draw), and the table `effects` with every target.
    """
    if len(prompts) != 1:
        raise ValueError(f"features are ablated on one prompt, found {len(prompts)}: choose one of them")
    for name, least, found in (("draws", 1, draws), ("most", 1, most)):
        if found < least:
            raise ValueError(f"{name} must be {least} or more, found {found}")
    asked = Asked(coders, features, value, keep_first, draws, seed)
    wishes = {"target": target, "against": against, "pos": pos, "mass": mass, "most": most}
    return tell(model, ablate(model, prompts, asked, wishes))


def cost(model: Model, prompts: Prompts, *, features: str, draws: int, **_others: object) -> Cost:
    """A pass that is held, and one for each feature, all together and each random choice."""
    length = max(model.tokens(prompts).lengths)
    variants = 2 + draws + len([one for one in features.split(",") if one])
    patterns = model.shape.n_layers * model.shape.n_heads * length**2
    return Cost(passes=2 + variants // 16 + 1, tokens=length * (2 + variants), bytes=4 * patterns + 100_000_000)
