"""Neuron search: which neurons read a word, are opened by it, or write it.

Idea. Instead of asking a neuron for its words, ask a word for its neurons: its row of the unembedding is
compared with every reading row, gate row and column of the model. That takes one look at the weights.
Score. z of the word for a neuron, in standard deviations over the vocabulary, any sign; for several words
the mean of their z. `rank` is how many other tokens are farther out on the same side of that neuron, 0 up.
Differs from the paper. It takes the neuron with the highest probability of the word; here all directions are
searched at both ends, and random directions with the covariance of each layer's rows say how far out is far.
Beware. The best of so many neurons is far out by chance too: compare `expected`, how many of as many random
directions would be at least as far out. A neuron may have the word on top and do more for others.
Reference: Flash Interpretability, arXiv 2501.02688; authors' code: not published.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.catalog import Cost, analysis
from workbench.lens import reads_out
from workbench.model import Model
from workbench.neurons import DIRECTIONS, Norms, neuron_rows, usual_fold
from workbench.progress import track
from workbench.result import Check, Named, Result
from workbench.views import Lines, Table
from workbench.vocabulary import Vocabulary
from workbench.weights import has_gates

NEEDS = ("mlp_post",)

_SHOWN = 5
_CHECKED = 4


@analysis(title="Neuron search", family="neurons", reference="arXiv:2501.02688")
def neuron_search(model: Model, *, token: str = "", listed: int = 30, unused: bool = False) -> Result:
    """Search every neuron of the model for a word.

    Args:
        model: a loaded model.
        token: the word, exactly one token, such as " dog"; or several between bars, such as " dog| dogs".
        listed: how many neurons to list, farthest first, 1 or more.
        unused: count tokens that no text leads to as well (special, unused, padding rows).

    Returns:
        Result with `z` ([component, layer, neuron]: the direction, where), `best` and `null` ([component, layer]:
        the farthest z of each layer, and what one of as many random directions would reach), and the table
        `neurons`.

    Example:
        >>> neuron_search(model, token="tangerine").scalars["top_neuron"]
        'L3.N0'
    """
    if not token:
        raise ValueError("token is empty: name the token to search for, such as ' dog', or ' dog| dogs' for several")
    if listed < 1:
        raise ValueError(f"listed must be 1 or more, found {listed}")
    texts = [text for text in token.split("|") if text] or [token]
    ids = torch.tensor([model.token(text) for text in texts], device=model.device)
    vocabulary = Vocabulary.of(model, unused)
    if not bool(torch.isin(ids, vocabulary.ids).all()):
        raise ValueError(f"{_words(texts)} has a token that no text leads to: set unused to search for it")
    found = _search(model, vocabulary, ids)
    rows = _rows(model, found, ids, listed)
    return Result(
        arrays=_arrays(found),
        tables={"neurons": rows},
        scalars={
            "top_neuron": rows[0]["neuron"],
            "direction": rows[0]["direction"],
            "z": rows[0]["z"],
            "expected": rows[0]["expected"],
            "on_top": sum(row["rank"] == 0 for row in rows),
        },
        views=(
            Table("neurons", title=f"The neurons farthest along {_words(texts)}"),
            Lines("best", x="layer", series="component", title="Farthest z of each layer, by direction"),
            Lines("null", x="layer", series="component", title="What one of as many random directions would reach"),
        ),
        finding=_finding(texts, rows),
        notes=_notes(model, found),
        checks=_checks(found, ids, rows),
    )


def cost(model: Model, **_others: object) -> Cost:
    """The covariance of the vocabulary, the deviation of every row, and the listed neurons in full."""
    shape = model.shape
    operations = shape.d_model**2 * (shape.d_vocab + 3 * shape.n_layers * shape.d_mlp)
    return Cost(
        passes=1,
        tokens=operations // model.parameters + 1,
        bytes=16 * shape.d_model**2 + 16 * shape.d_mlp * shape.d_model + 100_000_000,
    )


@dataclass(frozen=True)
class _Found:
    """The z of the word for every neuron, and its spread over random directions like those of each layer.

    A random direction with the covariance of the rows scores the word by a normal number, whose variance is the
    mean square of the scores of the rows themselves; so the null needs no draws.
    """

    model: Model
    vocabulary: Vocabulary
    norms: Norms | None
    directions: tuple[str, ...]
    layers: tuple[int, ...]
    z: Float[Tensor, "direction layer neuron"]
    spread: Float[Tensor, "direction layer"]

    def beyond(self, direction: int, z: float) -> Float[np.ndarray, " layer"]:
        """For each layer, how likely a random direction lies at least as far out, either way."""
        spread = self.spread[direction].double().clamp_min(torch.finfo(torch.float32).tiny)
        return torch.special.erfc(abs(z) / (spread * 2**0.5)).numpy()

    def rows(self, direction: str, layer: int) -> Float[Tensor, "neuron d_model"]:
        """The rows of a layer in the usual folding, or as they stand in a model without a final norm."""
        fold = usual_fold(direction) if self.norms is not None else "none"
        return neuron_rows(self.model, layer, direction, fold, self.norms)


@torch.no_grad()
def _search(model: Model, vocabulary: Vocabulary, ids: Int[Tensor, " word"]) -> _Found:
    directions = tuple(one for one in DIRECTIONS if one != "gate" or has_gates(model))
    layers = model.capabilities.served["mlp_post"]
    norms = Norms.of(model) if reads_out(model.bridge) else None
    z = torch.zeros(len(directions), len(layers), model.shape.d_mlp)
    found = _Found(model, vocabulary, norms, directions, layers, z, torch.zeros(len(directions), len(layers)))
    for place, layer in track(list(enumerate(layers)), "layers searched"):
        for number, direction in enumerate(directions):
            rows = found.rows(direction, layer)
            own = vocabulary.z(rows, ids).mean(1)
            deviation = vocabulary.moments(rows)[1]
            whole = deviation.square().sum().clamp_min(torch.finfo(torch.float64).tiny)
            found.z[number, place] = own.float().cpu()
            found.spread[number, place] = float(((own * deviation).square().sum() / whole).sqrt())
    return found


def _rows(model: Model, found: _Found, ids: Int[Tensor, " word"], listed: int) -> list[dict]:
    """The farthest neurons, with the word's rank among all tokens and the tokens around it."""
    sizes = found.z.abs()
    order = sizes.flatten().argsort(descending=True, stable=True)[:listed].tolist()
    places = [np.unravel_index(one, found.z.shape) for one in order]
    rows = [found.rows(found.directions[a], found.layers[b])[c][None] for a, b, c in places]
    stacked = torch.cat([row.to(torch.promote_types(row.dtype, torch.float32)) for row in rows])
    ends = found.vocabulary.extremes(stacked, _SHOWN)
    z = [float(found.z[place]) for place in places]
    ranks = _ranks(found.vocabulary, stacked, ids, z)
    table = []
    for number, (a, b, c) in enumerate(places):
        beyond = found.beyond(int(a), z[number])
        tokens = ends.suppressed[number] if z[number] < 0 else ends.promoted[number]
        table.append(
            {
                "neuron": f"L{found.layers[b]}.N{c}",
                "direction": found.directions[a],
                "z": z[number],
                "rank": ranks[number],
                "p_value": float(beyond[b]),
                "expected": float(beyond.sum()) * found.z.shape[-1],
                "tokens": _words([model.tokenizer.decode([one]) for one in tokens.tolist()]),
                "layer": found.layers[b],
                "number": int(c),
            }
        )
    return table


def _ranks(
    vocabulary: Vocabulary, rows: Float[Tensor, "row d_model"], ids: Int[Tensor, " word"], z: list[float]
) -> list[int]:
    """How many tokens lie farther out than the best of the words, on the side of their mean."""
    above = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    signs = torch.tensor([-1.0 if one < 0 else 1.0 for one in z], device=rows.device).to(rows.dtype)[:, None]
    signed = rows * signs
    own = (signed @ vocabulary.weight[ids].to(rows.dtype).T).amax(1)
    slack = 1e-6 * signed.norm(dim=1) * vocabulary.weight[ids].float().norm(dim=1).max()  # rounding of another order
    for start, _, scores in vocabulary.tiles(signed):
        part = slice(start, start + len(scores))
        above[part] += (scores > (own + slack)[part, None]).sum(1)
    return above.tolist()


def _arrays(found: _Found) -> dict[str, Named]:
    labels = {"component": found.directions, "layer": tuple(map(str, found.layers))}
    best = found.z.abs().amax(-1)
    one_of_all = torch.tensor(1 - 1 / found.z.shape[-1], dtype=torch.float64)
    null = found.spread * float(2**0.5 * torch.special.erfinv(one_of_all))
    axes = ("component", "layer")
    return {
        "z": Named(found.z.numpy(), (*axes, "neuron"), "z", labels),
        "best": Named(best.numpy(), axes, "z", labels),
        "null": Named(null.numpy(), axes, "z", labels),
    }


def _words(texts: list[str]) -> str:
    return " ".join(map(repr, texts))


def _finding(texts: list[str], rows: list[dict]) -> str:
    best = rows[0]
    verb = {"read": "reads", "gate": "is opened by", "write": "writes"}[best["direction"]]
    against = " against" if best["z"] < 0 else ""
    return (
        f"{best['neuron']} {verb}{against} {_words(texts)} most of all neurons (z {best['z']:.1f}, "
        f"{best['rank']} tokens farther out; {best['expected']:.2g} random directions of as many would be as far); "
        f"the word is on top of {sum(row['rank'] == 0 for row in rows)} of the {len(rows)} listed."
    )


def _notes(model: Model, found: _Found) -> tuple[str, ...]:
    notes = [
        "Readings and gates are taken as the weights stand, writings through the norms behind them.",
        "Null: normal directions with the covariance of the rows of each layer; `p_value` is that of its layer, "
        "`expected` adds up all neurons of the same direction.",
    ]
    if found.norms is None:
        notes.append(f"{model.name} has no final norm, so writings are taken as they stand too.")
    return tuple(notes)


def _checks(found: _Found, ids: Int[Tensor, " word"], rows: list[dict]) -> tuple[Check, ...]:
    """The closed form against all scores in 64 bits."""
    few = rows[:_CHECKED]
    stacked = torch.cat([found.rows(row["direction"], row["layer"])[row["number"]][None].double() for row in few])
    whole = found.vocabulary.all_z(stacked)
    places = torch.searchsorted(found.vocabulary.ids, ids)
    slow = whole[:, places].mean(1).cpu()
    gap = float((slow - torch.tensor([row["z"] for row in few])).abs().max())
    return (Check(f"z of {len(few)} neurons against the slow definition, largest error", gap, 1e-3),)
