"""Feature search: which features stand out on a text, and which read, write or fire on a token.

Idea. A text is searched with: features that are active on it more often than on a corpus stand out. A token is
searched with in three ways: which features are active where it is read, which read its embedding, and which write its
row of the unembedding.
Score. Surprise: the signed root of the log-likelihood ratio (Dunning's keyness) of active tokens in the text against
the corpus, any sign, about a standard deviation for large counts. z: the token's score in standard deviations over the
vocabulary. Chance: what as many tokens of the corpus itself reach, and what random mixtures of the layer's directions
reach.
Differs from the paper. Dashboards list features by their activation on the text; here a feature must be rarer
elsewhere, and draws from the corpus say how large the largest of so many scores is anyway.
Beware. The corpus decides what is surprising. Tokens of a text are not independent, so read the scores against chance
and not as probabilities. A feature that reads a token's embedding in a late layer may never see it there.
Reference: Bricken et al. 2023, "Towards Monosemanticity"; Dunning 1993 for the score; authors' code: not consulted.
"""

from typing import Literal

from workbench.analyses.feature_search.reading import search_token
from workbench.analyses.feature_search.standing_out import search_text
from workbench.analyses.feature_search.telling import tell
from workbench.catalog import Cost, analysis
from workbench.features import fitted_coders, index_for
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out", "v", "pattern")


@analysis(title="Feature search", family="features", reference="Bricken et al. 2023, Towards Monosemanticity")
def feature_search(
    model: Model,
    prompts: Prompts,
    *,
    coders: str = "",
    token: str = "",
    layers: tuple[int, ...] = (),
    index: str = "",
    corpus: str = "",
    by: Literal["surprise", "excess"] = "surprise",
    listed: int = 20,
    draws: int = 20,
    seed: int = 0,
) -> Result:
    """Find the features that stand out on a text against a corpus, and those that belong to a token.

    Args:
        model: a loaded model.
        prompts: the text to search with; several are taken together.
        coders: a folder of transcoders or sparse autoencoders, `saelens:<release>/<id>`; empty for a planted
            model's own.
        token: a token to search with as well (exactly one token); empty for none.
        layers: search these layers; all that the coders have by default.
        index: the folder of a feature index, which `workbench index-features` writes; empty to read a corpus now.
        corpus: a text file (an empty line ends a document) or a bundled set that the text is compared with; empty
            for that of the index, or else the bundled haystack.
        by: rank features by their surprise, or by how much more they write on the text than on the corpus.
        listed: how many features to list, 1 or more.
        draws: pieces of the corpus, as long as the text, that say what chance gives, 5 or more.
        seed: seed of the draws.

    Returns:
        Result with `activations` (feature, pos) of the features that stand out on the first prompt, `standing_out`
        and `chance` (layer), and the tables `text_features` and, with a token, `firing`, `reading` and `writing`.
    """
    for name, value, least in (("listed", listed, 1), ("draws", draws, 5)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, found {value}")
    fitted = fitted_coders(model, coders)
    if missing := [layer for layer in layers if layer not in fitted]:
        raise ValueError(f"coders {fitted.name} have no layer {missing[0]}: they have {', '.join(map(str, fitted))}")
    wanted = model.token(token) if token else None
    held = index_for(model, fitted, prompts, corpus or ("" if index else "haystack"), index)
    chosen = layers or tuple(fitted)
    text = search_text(model, fitted, held, prompts, chosen, by, draws, seed)
    found = None if wanted is None else search_token(model, fitted, held, wanted, chosen, draws, seed)
    return tell(model, held, text, found, listed)


def cost(model: Model, prompts: Prompts, *, draws: int, **_others: object) -> Cost:
    """The text once for itself and once for every draw; the corpus once where there is no index yet."""
    tokens = sum(model.tokens(prompts).lengths)
    return Cost(passes=1 + draws, tokens=tokens * (2 + draws), bytes=100_000_000)
