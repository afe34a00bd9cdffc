"""Feature card: all that is known of one feature of a sparse coder, from a corpus and from the weights.

Idea. A feature is read from both sides: the texts on which it is active, the strongest and an even sample of the
weaker ones, and what its weights say whatever the input: which tokens it reads, directly or through heads, which it
writes, and which earlier and later features it is connected to.
Score. Density: share of tokens on which it is active, 0 to 1. z: a token's score in standard deviations over the
vocabulary, no unit. An edge is what one unit of the source, as the length that it writes, adds to the target's
pre-activation, any sign; `usual effect` is that times the source's mean activation where it is active, and `mean
effect` times its density as well. Cosine of decoders, -1 to 1.
Differs from the paper. Norms are affine maps with their usual size instead of being ignored, decoders have length 1
before anything is compared, both ends and both signs are shown, and random mixtures of the layer's directions say
what chance gives. Examples are exact over the whole corpus; the lower bands are an even sample of all activations.
Beware. Top examples flatter: look at the lower bands. Edges leave out where attention looks and which features are
on together, so the strongest edges need not be those that matter on a text. Tokens of a late layer's reading say
little. A dead feature may live on another corpus.
Reference: Dunefsky, Chlenski, Nanda 2024, arXiv:2406.11944, section 4; authors' code: consulted for its definitions.
"""

from workbench.analyses.feature_card.looking import look_at_weights
from workbench.analyses.feature_card.seeing import see
from workbench.analyses.feature_card.telling import tell
from workbench.catalog import Cost, analysis
from workbench.features import fitted_coders, index_for, refuse_other_feature
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.words import Site

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out", "v", "pattern")


@analysis(title="Feature card", family="features", reference="arXiv:2406.11944")
def feature_card(
    model: Model,
    prompts: Prompts,
    *,
    coders: str = "",
    layer: int = 0,
    feature: int = 0,
    index: str = "",
    corpus: str = "",
    heads: list[Site] = [],  # noqa: B006 - read as text, never changed
    examples: int = 3,
    top: int = 10,
    draws: int = 100,
    seed: int = 0,
) -> Result:
    """Show where one feature is active, what it reads and writes, and which features it is connected to.

    Args:
        model: a loaded model.
        prompts: texts on which the feature is shown token by token; without a corpus or an index the corpus too.
        coders: a folder of transcoders or sparse autoencoders, `saelens:<release>/<id>`; empty for a planted
            model's own.
        layer: the layer of the feature.
        feature: its number.
        index: the folder of a feature index, which `workbench index-features` writes; empty to read a corpus now.
        corpus: a text file (an empty line ends a document) or a bundled set such as haystack, to take examples from.
        heads: heads to look through, such as L9.H1.z; empty for the three that pass on most of what it reads.
        examples: how many strips of tokens to show for the top, and for the lower bands together, 1 or more.
        top: how many tokens and features to list at each end, 2 or more.
        draws: random directions that say what chance gives, 20 or more.
        seed: seed of the random directions.

    Returns:
        Result with a strip (pos) for each example shown, `histogram` and `quantiles` (step), `reach` and
        `reach_random` (layer, head), `strongest_edge` and `chance_edge` (layer), and the tables `examples`,
        `tokens`, `features_before`, `features_through_heads`, `features_after`, `similar` and `heads`.
    """
    for name, value, least in (("examples", examples, 1), ("top", top, 2), ("draws", draws, 20)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, found {value}")
    fitted = fitted_coders(model, coders)
    refuse_other_feature(fitted, layer, feature)
    found = index_for(model, fitted, prompts, corpus, index)
    own = prompts if corpus or index else None
    seen = see(model, fitted, found, (layer, feature), own, examples)
    wires = look_at_weights(model, fitted, found, (layer, feature), heads, top, draws, seed)
    return tell(model, seen, wires)


def cost(model: Model, prompts: Prompts, *, index: str, corpus: str, draws: int, **_others: object) -> Cost:
    """The corpus once where there is no index yet, the passages of the examples, and the vocabulary."""
    del index, corpus
    tokens = sum(model.tokens(prompts).lengths)
    shape = model.shape
    decoding = 12 * draws * shape.d_vocab * shape.d_model // max(model.parameters, 1)
    return Cost(passes=len(prompts) + 12, tokens=tokens + 60 * 128 + decoding, bytes=100_000_000)
