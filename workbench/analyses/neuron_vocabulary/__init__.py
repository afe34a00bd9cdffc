"""Neuron vocabulary: which tokens each neuron reads or writes, judged against random directions.

Idea. A neuron reads the residual stream along one row of weights, is opened along another, and writes along a
column. Put through the unembedding such a direction scores every token; a few neurons stand for a word.
Score. z, a token's score in standard deviations over the vocabulary, with no unit; `peak` is the farthest z
of either sign. A neuron is specialised when its peak lies above a quantile (99.9%) of those of random
directions with the same covariance; it stands for a family of tokens when the unembedding rows of its top
tokens are also more alike (mean cosine, -1 to 1) than for 95% of random directions, and for a word if not.
Differs from the paper. Its probabilities of raw rows are nearly flat, so tokens are ranked by z, which gives
the same order; both ends are shown, since a neuron's reading can be negative; the threshold is the null's.
`fold` decides through which norms a direction passes; the paper does not say. `read` as it stands is closest.
Beware. The median reading row is no more special than a random direction. Foldings disagree: in Gemma the
final gain is so uneven that hardly a token stays on top. What a neuron reads says little about what clamping
it does: see `neuron_clamp`. Rare tokens with long or odd rows can be on top of many neurons: see `hubs`.
Reference: Flash Interpretability, arXiv 2501.02688; authors' code: not published.
"""

from typing import Literal

from workbench.analyses.neuron_vocabulary.reading import Plan, decode
from workbench.analyses.neuron_vocabulary.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.neurons import usual_fold
from workbench.result import Result

NEEDS = ("mlp_post",)
TOUR = {"direction": "write"}


@analysis(title="Neuron vocabulary", family="neurons", reference="arXiv:2501.02688")
def neuron_vocabulary(
    model: Model,
    *,
    direction: Literal["read", "gate", "write"] = "read",
    fold: Literal["usual", "none", "final", "all"] = "usual",
    layers: tuple[int, ...] = (),
    neurons: tuple[int, ...] = (),
    top: int = 10,
    listed: int = 30,
    draws: int = 2000,
    quantile: float = 0.999,
    unused: bool = False,
    seed: int = 0,
) -> Result:
    """Decode neurons into the tokens that they point at, and find those that beat the null.

    Args:
        model: a loaded model.
        direction: what each neuron reads (the up row), what opens it (the gate row), or what it writes.
        fold: the norms between the direction and the unembedding: none, the final one, or all (also the
            MLP's own); usual is none for read and gate, and all for write.
        layers: the layers to decode, such as 0-5; empty for all.
        neurons: the neurons of each of these layers; empty for all.
        top: how many tokens at each end, 2 or more.
        listed: how many neurons to list with their tokens, farthest first, 1 or more.
        draws: random directions of the null, over all layers together, 100 or more.
        quantile: share of the null below the threshold, between 0 and 1.
        unused: count tokens that no text leads to as well (special, unused, padding rows).
        seed: seed of the null.

    Returns:
        Result with token ids `promoted` and `suppressed` and their z `promoted_z` and `suppressed_z` ([layer,
        neuron, rank]), `peak`, `p_value` (at least 1 / (draws + 1)), `coherence` and `specialised` ([layer,
        neuron]), `share` and `chance` ([layer]), `null_peak` ([example]), quantiles of both ([step]), and the
        tables `neurons`, `layers` and `hubs`.

    Example:
        >>> neuron_vocabulary(model, layers=(3,), draws=200).table("neurons").neuron[0][:4]
        'L3.N'
    """
    plan = Plan.of(model, direction, usual_fold(direction) if fold == "usual" else fold, layers, neurons)
    for name, value, least in (("top", top, 2), ("listed", listed, 1), ("draws", draws, 100)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, found {value}")
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1, found {quantile}")
    return tell(model, decode(model, plan, top, draws, unused, seed), listed, quantile)


def cost(
    model: Model, *, layers: tuple[int, ...], neurons: tuple[int, ...], top: int, draws: int, **_others: object
) -> Cost:
    """The products of all rows with the unembedding, told in tokens through the model that take as long.

    For Llama 3.1 8B (458,752 neurons, 128,256 tokens, 4,096 numbers a row) they are 4.8e14 operations:
    80 to 160 minutes of two CPU cores, 7 seconds of an H200 in 32 bits. Beside the weights that takes one
    layer's rows (235 MB in 32 bits), the covariance (134 MB), a tile and 80 MB of results.
    """
    shape = model.shape
    count = (len(layers) or shape.n_layers) * (len(neurons) or shape.d_mlp)
    products = (count + draws) * shape.d_vocab * shape.d_model
    held = 4 * shape.d_mlp * shape.d_model + 16 * shape.d_model**2 + 24 * count * top
    return Cost(passes=1, tokens=products // model.parameters, bytes=held + 50_000_000)
