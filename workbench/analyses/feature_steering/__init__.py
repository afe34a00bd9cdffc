"""Feature steering: what the model says when one feature of a sparse coder is held, raised or taken away.

Idea. The feature's value is changed where it is computed, what the coder misses is kept, and the model goes on from
there. A dose curve shows how far the prediction moves; the same vectors along random directions, and along other
features, show how far any push of this length would move it.
Score. Change of a token's logit above the mean logit at the last position, any sign, mean over prompts; KL(plain ||
steered) of the next token in nats, from 0 up. Controls: root mean square of the logit's change, mean of KL. A dose of
100 % is the feature's largest activation (clamp, add), or all of it (ablate).
Differs from the paper. Doses are in units of the feature's own activations instead of the stream's norm, and every
dose has controls that write vectors of exactly the same length at the same positions.
Beware. Large doses leave what the model was trained on, and then any direction breaks the text: compare the
controls. Ablating a feature that is silent on the prompts does nothing. Steering towards a token shows what a feature
writes, not what it is for.
Reference: Templeton et al. 2024, "Scaling Monosemanticity", feature steering; authors' code: not published.
"""

from typing import Literal

from workbench.analyses.feature_steering.doses import Plan, draw_directions, unit_of
from workbench.analyses.feature_steering.steering import steer_all
from workbench.analyses.feature_steering.telling import tell
from workbench.catalog import Cost, analysis
from workbench.features import fitted_coders, open_index, refuse_other_feature
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("resid_post",)


@analysis(title="Feature steering", family="features", reference="Templeton et al. 2024, Scaling Monosemanticity")
def feature_steering(
    model: Model,
    prompts: Prompts,
    *,
    coders: str = "",
    layer: int = 0,
    feature: int = 0,
    way: Literal["clamp", "add", "ablate"] = "clamp",
    doses: tuple[int, ...] = (0, 50, 100, 200, 400),
    unit: float = 0.0,
    index: str = "",
    positions: Literal["all", "last"] = "all",
    token: str = "",
    new_tokens: int = 12,
    controls: int = 8,
    seed: int = 0,
) -> Result:
    """Steer one feature at several doses, beside the plain model and pushes of the same length elsewhere.

    Args:
        model: a loaded model.
        prompts: texts to be continued; numbers are means over them.
        coders: a folder of transcoders or sparse autoencoders, `saelens:<release>/<id>`; empty for a planted
            model's own.
        layer: the layer of the feature.
        feature: its number.
        way: hold the feature at the dose, add the dose to it, or take that share of it away.
        doses: in percent: of `unit` for clamp and add (any sign), of the activation for ablate (0-100).
        unit: the activation that is 100 %; 0 for the feature's largest in the index, or else on the prompts.
        index: the folder of a feature index, for the unit; empty for none.
        positions: steer at all positions but the first, where sinks live, or from the last one on; generated
            tokens always.
        token: the token that is measured (exactly one token); empty for the one that the feature writes most.
        new_tokens: length of the continuations of the first three prompts; 0 for none.
        controls: random directions, and as many other features of the layer, for each dose, 1 or more.
        seed: seed of the controls.

    Returns:
        Result with `logit`, `logit_random`, `logit_others`, `kl`, `kl_random`, `kl_others` and `predicted` (step),
        `by_prompt` (example, step), and the tables `doses`, `continuations` and `controls`.
    """
    if controls < 1 or new_tokens < 0 or unit < 0:
        raise ValueError(
            f"controls is 1 or more, new_tokens and unit are 0 or more: found {controls}, {new_tokens} and {unit:g}"
        )
    fitted = fitted_coders(model, coders)
    refuse_other_feature(fitted, layer, feature)
    held = open_index(model, fitted, index) if index else None
    measure = 1.0 if way == "ablate" else unit or unit_of(model, prompts, fitted, (layer, feature), held)
    directions = draw_directions(fitted, (layer, feature), controls, seed)
    plan = Plan(fitted, (layer, feature), way, doses, measure, positions == "all", directions)
    return tell(model, plan, steer_all(model, prompts, plan, token, new_tokens))


def cost(
    model: Model, prompts: Prompts, *, doses: tuple[int, ...], controls: int, new_tokens: int, **_others: object
) -> Cost:
    """Each prompt once for every dose and control, in batches, and the continuations."""
    lengths = model.tokens(prompts).lengths
    rows = len(doses) * (1 + 2 * controls)
    spoken = min(3, len(lengths)) * (len(doses) + 2) * (new_tokens + max(lengths))
    return Cost(
        passes=len(lengths) * (3 + rows // 32) + spoken,
        tokens=sum(lengths) * (rows + 3) + spoken,
        bytes=4 * 32 * model.shape.d_vocab * 3,
    )
