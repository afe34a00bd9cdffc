"""Transcoder quality: how well sparse coders stand in for what they predict, and what that costs the model.

Idea. A transcoder is trusted as far as the model still works when it replaces the MLP. Each layer is replaced
alone, then all at once; zero and mean ablation show how much there was to lose.
Score. L0: features active on a token. Explained variance = 1 - FVU, the share of the output's variance about its
mean; 1 is exact, 0 is what the mean gets. Loss recovered = (CE zero - CE coder) / (CE zero - CE original); 1 is
no harm, 0 is no better than nothing. KL(original || replaced) in nats. Density: share of tokens on which a
feature is active; dead: active on none of these tokens. Of several sets, one is on the Pareto front of a layer where
no other has as low an L0 and as much explained variance (or loss recovered).
Differs from the paper. The first position, a sink in most models, is spared and not scored unless asked for;
explained variance is over all tokens together, not a mean of ratios.
Beware. Dead features of a short text may live on another text. With all layers replaced, each coder reads a stream
that it was not trained on. Loss recovered is unstable where zero ablation hardly hurts.
Reference: Dunefsky, Chlenski, Nanda 2024, arXiv:2406.11944; authors' code: consulted for the axes alone.
"""

from workbench.analyses.transcoder_quality.measuring import Conditions, measure, scored_tokens
from workbench.analyses.transcoder_quality.telling import tell
from workbench.catalog import Cost, analysis
from workbench.coders import fit, load_named_or_own
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result


@analysis(title="Transcoder quality", family="features", reference="arXiv:2406.11944")
def transcoder_quality(
    model: Model,
    prompts: Prompts,
    *,
    coders: str = "",
    layers: tuple[int, ...] = (),
    skip_first: bool = True,
    top: int = 20,
) -> Result:
    """Measure sparsity, explained variance and the loss with the coders in place, layer by layer and all at once.

    Args:
        model: a loaded model.
        prompts: texts such as those on which the coders were trained, the more the better.
        coders: a folder of SAELens, circuit-tracer, sparsify or Gemma Scope; `saelens:<release>/<id>`; or
            `planted:sparse_mlp`. Several sets with commas between them (such as one for each k) are compared.
            Empty for those that come with a planted model.
        layers: which layers to replace; all that the coders have by default.
        skip_first: leave the first position as it is and out of the scores.
        top: how many of the densest features of each layer to list, 0 or more.

    Returns:
        Result with `l0`, `explained_variance`, `unexplained` and `dead` (component, layer), `cross_entropy` and
        `kl` (component, layer) where the last layer stands for all at once, `loss_recovered` beside them,
        `density` (component, layer, rank), and the tables `quality`, `densest_features` and, of several sets,
        `pareto`.
    """
    if top < 0:
        raise ValueError(f"top must be 0 or more, found {top}")
    since = int(skip_first)
    sets = []
    for name in _names(coders):
        loaded = load_named_or_own(name, model.name)
        sets.append(fit(loaded, model, () if loaded.crosses else layers))
    conditions = Conditions(tuple(sets), layers or tuple(sets[0]), since)
    return tell(model, measure(model, prompts, conditions), top)


def cost(
    model: Model,
    prompts: Prompts,
    *,
    coders: str = "",
    layers: tuple[int, ...] = (),
    skip_first: bool = True,
    top: int = 20,
) -> Cost:
    """Two plain passes, and one for each layer and for all at once with every set of coders and both ablations."""
    del top
    chosen = len(layers) or model.shape.n_layers
    ways = len(_names(coders)) + 2
    passes = 2 + ways * (chosen + (chosen > 1))
    tokens = model.tokens(prompts)
    logits = 12 * max(tokens.lengths) * model.shape.d_vocab
    return Cost(
        passes=passes * len(prompts),
        tokens=passes * scored_tokens(tokens.lengths, int(skip_first)),
        bytes=logits + 8 * chosen * max(tokens.lengths) * model.shape.d_model,
    )


def _names(coders: str) -> list[str]:
    """The names of the sets; an empty one for those that come with the model."""
    names = [name.strip() for name in coders.split(",") if name.strip()]
    if len(set(names)) < len(names):
        raise ValueError(f"the same coders are named twice in {coders!r}")
    return names or [""]
