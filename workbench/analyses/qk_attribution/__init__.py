"""Why a head looked there: which things at the query and at the key make an attention score.

Idea. A score is the product of a query and a key. With the sizes of all norms held, both are sums: of features,
tokens, positions, errors and biases that earlier layers brought there, or, without transcoders, of what each head
and MLP below wrote at the place. So the score is a sum over pairs, one part of the query with one part of the key.
Score. The term of a pair is what the two add to the raw score (before any soft cap and before the softmax), any
sign; all terms add up to it. `elsewhere` is what a part of the query adds on average at the other keys: the softmax
sees differences between keys alone, so `advantage`, total less elsewhere, is why this key rather than another.
Differs from the paper. Rotary embeddings are applied at the actual positions, the norms of queries and keys are
held like all others, and positions, biases and what the transcoders miss have terms too, so that the sum is exact.
Beware. A large term that is alike at every key decides nothing: read the advantage. Attention patterns below are
held, so why those heads looked where they did is not part of it. Linear position biases (ALiBi) and rotations of
neighbouring numbers are refused. Where scores are soft-capped, the raw score is split, not the capped one.
Reference: Kamath et al. 2025, "Tracing Attention Computation Through Feature Interactions"
(transformer-circuits.pub); authors' code: not consulted.
"""

from jaxtyping import Float
from torch import Tensor

from workbench.analyses.qk_attribution.telling import Found, tell
from workbench.catalog import Cost, analysis
from workbench.circuits.frozen import FrozenRun, freeze_run, place_of
from workbench.circuits.looking import Look, freeze_look
from workbench.circuits.scores import split_score
from workbench.coders.fitting import fit
from workbench.coders.loading import load_coders
from workbench.model import Model
from workbench.prompts import Prompts
from workbench.result import Result

NEEDS = ("resid_pre", "resid_post", "attn_out", "mlp_in", "mlp_out", "q", "k", "v", "pattern", "scores")
TOUR = {"top": 8}


@analysis(title="Why a head looked there", family="circuits", reference="transformer-circuits.pub/2025/attention-qk")
def qk_attribution(
    model: Model,
    prompts: Prompts,
    *,
    layer: int = -1,
    head: int = -1,
    query: int = -1,
    key: str = "",
    coders: str = "",
    top: int = 20,
    keep_first: bool = True,
) -> Result:
    """Split one attention score over pairs of things: one at the query, one at the key.

    Args:
        model: a loaded model.
        prompts: one prompt.
        layer: the head's layer; with -1 the head is chosen that looks hardest at one token, neither the first
            nor its own.
        head: the head; with -1 chosen likewise, within the layer if that is given.
        query: the position that looks; negative counts from the end.
        key: the position that is looked at; empty for the one, first and own left out, that the head looks at most.
        coders: transcoders, to split over their features: a folder, `saelens:<release>/<id>`, `planted:sparse_mlp`;
            empty to split over the heads and MLPs below.
        top: how many pairs and parts to list, 1 or more.
        keep_first: keep the MLPs' outputs at the first position whole, where activations are huge and say little.

    Returns:
        Result with `score` and `pattern` ([key], NaN where the head cannot look) and `by_kind` ([target_component,
        source_component], of the query and of the key), and the tables `pairs`, `query_parts` and `key_parts`.
    """
    if top < 1:
        raise ValueError(f"top must be 1 or more, found {top}")
    if len(prompts) != 1:
        raise ValueError(f"one prompt is split at a time, found {len(prompts)}: choose one of them")
    run = freeze_run(model, model.tokens(prompts))
    place = place_of(run, query)
    chosen_layer, chosen_head = _choose_head(run, place, layer, head)
    look = freeze_look(model, run, chosen_layer, chosen_head)
    target = place_of(run, _number(key)) if key else _choose_key(look, place)
    held = fit(load_coders(coders), model).to(dtype=run.stream.dtype) if coders else None
    split = split_score(run, look, place, target, held, keep_first=keep_first)
    return tell(model, Found(run, look, split, place, target, coders), top)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"key {text!r} is no position: write a number, such as 3 or -2, or leave it empty") from error


def _choose_head(run: FrozenRun, query: int, layer: int, head: int) -> tuple[int, int]:
    """The head that is asked for, or the one that looks hardest at a token that is neither first nor its own."""
    layers = [layer] if layer >= 0 else range(len(run.layers))
    if layer >= len(run.layers) or layer < -1:
        raise ValueError(f"layer {layer}: the model has {len(run.layers)} layers (0-{len(run.layers) - 1})")
    if layer >= 0 and head >= 0:
        return layer, head
    found = []
    for place in layers:
        rows = run.layers[place].pattern[:, query]
        heads = [head] if head >= 0 else range(len(rows))
        if head >= len(rows) or head < -1:
            raise ValueError(f"head {head}: layer {place} has {len(rows)} heads (0-{len(rows) - 1})")
        found += [(float(_others(rows[one], query).max()), place, one) for one in heads]
    _, best_layer, best_head = max(found, key=lambda one: (round(one[0], 3), one[1], -one[2]))
    return best_layer, best_head


def _others(row: Float[Tensor, " key"], query: int) -> Float[Tensor, " some"]:
    """A row of attention without the first token and its own, where there are others."""
    return row[1:query] if query > 1 else row[: query + 1]


def _choose_key(look: Look, query: int) -> int:
    """The key that the head looks at most, first and own left out."""
    return int(_others(look.pattern[query], query).argmax()) + (1 if query > 1 else 0)


def cost(model: Model, prompts: Prompts, **_others: object) -> Cost:
    """Two passes and one for the positions; patterns and streams of every layer are held."""
    length, shape = max(model.tokens(prompts).lengths), model.shape
    patterns = shape.n_layers * shape.n_heads * length**2
    streams = 7 * shape.n_layers * shape.d_model * length
    return Cost(passes=3, tokens=3 * length, bytes=4 * (patterns + streams) + 100_000_000)
