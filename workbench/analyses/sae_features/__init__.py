"""SAE features: which features of a sparse autoencoder are active, and what its reconstruction costs.

Idea. A sparse autoencoder rewrites one place of the model as a few active features. Token by token it is shown which
they are, how much of the place they rebuild, and how the prediction changes when only what they rebuild is kept.
Score. L0: features active on a token. Explained variance: 1 minus the share of the place's variance about its mean
that is missed; 1 is exact, 0 is what the mean gets. Error: length of what is missed over the length of what was there.
Loss recovered = (CE zero - CE rebuilt) / (CE zero - CE original). KL(original || rebuilt) in nats.
Differs from the paper. The first position, a sink in most models, is spared. Beside zero and mean ablation stand
random errors of the same length at every position, without which no one can tell whether an error is harmful.
Beware. A large share of variance is no proof of a harmless reconstruction: errors of an autoencoder often cost more
than random ones. Features that are active on one text say little about what they are for: see `feature_card`.
Reference: Bricken et al. 2023, "Towards Monosemanticity"; Gurnee 2024, "SAE reconstruction errors are (empirically)
pathological", for the random errors; authors' code: not consulted.
"""

from workbench.analyses.sae_features.substituting import Plan, substitute
from workbench.analyses.sae_features.telling import tell
from workbench.catalog import Cost, analysis
from workbench.features import fitted_coders
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result


@analysis(title="SAE features", family="features", reference="Bricken et al. 2023, Towards Monosemanticity")
def sae_features(
    model: Model,
    prompts: Prompts,
    *,
    coders: str = "",
    layer: int = -1,
    top: int = 10,
    draws: int = 4,
    skip_first: bool = True,
    seed: int = 0,
) -> Result:
    """Show the active features of a text, token by token, and the loss when only they are kept.

    Args:
        model: a loaded model.
        prompts: texts of three tokens or more; pictures show the first, numbers are over all.
        coders: a folder of sparse autoencoders (of the residual stream, attention or MLP outputs) or transcoders,
            `saelens:<release>/<id>`; empty for a planted or bundled model's own.
        layer: whose coder; -1 for the first that there is.
        top: how many features to show, those that write most, 1 or more.
        draws: random errors of the same length to compare with, 1 or more.
        skip_first: leave the first position as it is and out of the scores.
        seed: seed of the random errors.

    Returns:
        Result with `activations` (feature, pos), `l0`, `error`, `kl` and `kl_random` (pos) on the first prompt,
        `cross_entropy` and `kl_mean` (component), and the tables `features`, `tokens` and `losses`.
    """
    if top < 1 or draws < 1:
        raise ValueError(f"top and draws are 1 or more, found {top} and {draws}")
    fitted = fitted_coders(model, coders)
    chosen = next(iter(fitted)) if layer == -1 else layer
    if chosen not in fitted:
        raise ValueError(f"coders {fitted.name} have no layer {chosen}: they have {', '.join(map(str, fitted))}")
    plan = Plan(fitted, chosen, int(skip_first), draws, seed)
    return tell(model, plan, substitute(model, prompts, plan), top)


def cost(model: Model, prompts: Prompts, *, draws: int, **_others: object) -> Cost:
    """Each text plain, with the coder kept and put in place, without the place, and with every random error."""
    lengths = model.tokens(prompts).lengths
    return Cost(
        passes=len(lengths) * (6 + draws),
        tokens=sum(lengths) * (6 + draws),
        bytes=16 * max(lengths) * model.shape.d_vocab,
    )
