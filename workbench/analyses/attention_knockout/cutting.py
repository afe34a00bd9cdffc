"""One question under all its cuts: every window of layers, every set of tokens, in one sweep."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.edit import edited, scale
from workbench.model import Model
from workbench.questions import Case, first_tokens
from workbench.rewiring import cut
from workbench.sweep import sweep
from workbench.tracer import trace
from workbench.variants import Row
from workbench.words import Site

READ = ("said", "bridge", "answer")
"""Whose probability is read: of the token that the model says, and of the first tokens of both names."""
KEYS = ("entity", "name", "others")
"""What is cut: the last token of the part that describes the bridge, all tokens of the entity, or others."""

_LOOPED = 4


@dataclass(frozen=True)
class Cutting:
    """What one question's cuts do.

    Attributes:
        case: the question.
        said: the token that the model says without a cut.
        plain: probabilities without a cut; NaN for a name that is no word of the vocabulary.
        probability: probabilities under each cut, a mean over the draws for `others`; NaN where there
            are too few other tokens.
        turned: whether another token comes first then (a share of the draws for `others`).
        cuts: how many tokens are cut off under each of `KEYS`.
        identity_gap: the largest difference that a row without any change makes.
        loop_gap: the same between the sweep and the plain loop, over `looped` rows.
    """

    case: Case
    said: int
    plain: Float[np.ndarray, " component"]
    probability: Float[np.ndarray, "component key layer"]
    turned: Float[np.ndarray, "key layer"]
    cuts: tuple[int, ...]
    identity_gap: float
    loop_gap: float
    looped: int


def window(layers: int, middle: int, reach: int) -> range:
    """The layers around a middle that the model has."""
    return range(max(0, middle - reach), min(layers, middle + reach + 1))


def cut_question(
    model: Model, case: Case, reach: int, draws: int, looped: bool, generator: np.random.Generator
) -> Cutting:
    """Read the probabilities of one question under every cut.

    Args:
        model: a loaded model.
        case: the question.
        reach: layers on each side of the middle of a window.
        draws: random sets of other tokens.
        looped: whether some rows are run by the plain loop as well.
        generator: draws the other tokens and the rows of the loop.
    """
    layers, last = model.shape.n_layers, case.places["last"]
    name = case.name_span
    sets = [[case.places["entity"]], list(name), *_other_tokens(case, len(name), draws, generator)]
    places = [(number, middle) for number in range(len(sets)) for middle in range(layers)]
    rows = {place: _row(model, sets[place[0]], window(layers, place[1], reach), last) for place in places}
    rows = {place: row for place, row in rows.items() if row}
    same = Site("resid_post", 0, pos=last)
    plain = trace(model, case.tokens, "logits@-1")["logits@-1"][0].float().softmax(-1)
    said = int(plain.argmax())
    ids = [(said,), first_tokens(model, case.hop.bridge), first_tokens(model, case.hop.answer)]
    without = _probabilities(plain, ids)
    found = np.tile(without[:, None, None], (1, len(sets), layers))
    turned, identity = np.zeros((len(sets), layers)), without
    numbers = list(rows)
    for outcome in sweep(model, case.tokens, [*rows.values(), [(same, scale(1.0))]]):
        logits = outcome.logits
        assert logits is not None, "the sweep was not told to leave them out"
        read = _probabilities(logits.softmax(-1), ids)
        if outcome.row == len(rows):
            identity = read
            continue
        place = numbers[outcome.row]
        found[:, *place] = read
        turned[place] = float(int(logits.argmax()) != said)
    sample = generator.choice(len(rows), min(_LOOPED, len(rows)), replace=False).tolist() if looped else []
    loops = [
        _gap(found[:, *numbers[row]], _probabilities(_looped(model, case, rows[numbers[row]]), ids)) for row in sample
    ]
    return Cutting(
        case=case,
        said=said,
        plain=without,
        probability=_by_keys(found),
        turned=_by_keys(turned),
        cuts=(1, len(name), len(name) if len(sets) > 2 else 0),
        identity_gap=_gap(identity, without),
        loop_gap=max(loops, default=0.0),
        looped=len(sample),
    )


def _row(model: Model, keys: list[int], layers: range, last: int) -> Row:
    """The cuts of one window, in the layers whose attention has any effect; no row without one."""
    effective = model.capabilities.writable.get("scores", ())
    return [cut(layer, query=last, key=key) for layer in layers if layer in effective for key in keys]


def _other_tokens(case: Case, count: int, draws: int, generator: np.random.Generator) -> list[list[int]]:
    """Random sets of tokens between the first and the last that do not belong to the entity; none if too few."""
    taken = {*case.name_span, case.places["entity"]}
    free = [place for place in range(1, case.places["last"]) if place not in taken]
    if len(free) < count:
        return []
    return [generator.choice(free, count, replace=False).tolist() for _ in range(draws)]


def _probabilities(probability: Float[Tensor, " vocab"], ids: list[tuple[int, ...]]) -> Float[np.ndarray, " component"]:
    """For each set of tokens their probability; NaN for an empty set."""
    return np.array([float(probability[list(some)].sum()) if some else np.nan for some in ids])


def _by_keys(values: Float[np.ndarray, "*component set layer"]) -> Float[np.ndarray, "*component key layer"]:
    """The draws of other tokens as their mean; NaN without any."""
    others = values[..., 2:, :]
    missing = np.full((*values.shape[:-2], 1, values.shape[-1]), np.nan)
    mean = others.mean(-2, keepdims=True) if others.shape[-2] else missing
    return np.concatenate([values[..., :2, :], mean], axis=-2)


def _looped(model: Model, case: Case, row: Row) -> Float[Tensor, " vocab"]:
    """The plain loop: one cut, one whole pass."""
    with edited(model, row):
        return trace(model, case.tokens, "logits@-1")["logits@-1"][0].float().softmax(-1)


def _gap(found: Float[np.ndarray, " component"], wanted: Float[np.ndarray, " component"]) -> float:
    return float(np.nanmax(np.abs(found - wanted)))
