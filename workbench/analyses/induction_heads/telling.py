"""What the analysis says: scores of all heads, losses with and without the best of them, and the finding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.analyses.induction_heads.ablating import INDUCTION, PLAIN, PREVIOUS, RANDOM, Head, Losses
from workbench.analyses.induction_heads.matching import Matches, Repeated
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Heatmap, Lines, Scatter, Table, View

CLEAR = 0.1
"""A head that puts less of its attention somewhere looks there no more than by the way."""

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Found:
    """The scores of all heads.

    Attributes:
        twice: on the sequences that are said twice.
        once: on the same keys, where the second half is other tokens.
        copying: the copying scores, None where they cannot be had.
        refused: why not.
    """

    twice: Matches
    once: Matches
    copying: Float[Tensor, "layer head"] | None
    refused: str

    @property
    def offset(self) -> Int[Tensor, "layer head"]:
        """How many places behind the copy each head looks, 1 or more: where its lift is largest."""
        return (self.twice.behind - self.once.behind)[1:].argmax(0) + 1

    @property
    def match(self) -> Float[Tensor, "layer head"]:
        """The attention there."""
        return self.twice.behind.gather(0, self.offset[None])[0]

    @property
    def control(self) -> Float[Tensor, "layer head"]:
        """The attention there where nothing repeats."""
        return self.once.behind.gather(0, self.offset[None])[0]

    @property
    def lift(self) -> Float[Tensor, "layer head"]:
        """By how much the repetition draws the head there."""
        return self.match - self.control

    @property
    def previous(self) -> Float[Tensor, "layer head"]:
        """The attention to the best number of places before the query."""
        return self.twice.before.amax(0)

    def best(self, scores: Float[Tensor, "layer head"], most: int) -> list[Head]:
        """Up to so many heads with a clear score, the best first; the best of all where none is clear."""
        order = [head for head in self.ranked(scores)[:most] if scores[self.place(head)] >= CLEAR]
        return order or self.ranked(scores)[:1]

    def ranked(self, scores: Float[Tensor, "layer head"]) -> list[Head]:
        """All heads, those with the highest scores first."""
        heads = scores.shape[1]
        order = scores.flatten().argsort(descending=True, stable=True).tolist()
        return [(self.twice.layers[place // heads], place % heads) for place in order]

    def place(self, head: Head) -> tuple[int, int]:
        """Where a head stands in the arrays."""
        return self.twice.layers.index(head[0]), head[1]


def tell(model: Model, said: Repeated, found: Found, lost: Losses, drawn: str) -> Result:
    """The result; `drawn` says where the tokens come from."""
    rows = _head_rows(said, found, lost)
    first, second = (_mean_loss(lost.plain, said, half) for half in ("first", "second"))
    views = _views(found)
    return Result(
        arrays=_arrays(said, found, lost),
        tables={"heads": rows, "sets": _set_rows(said, lost)},
        scalars={
            "best": rows[0]["head"],
            "lift": rows[0]["lift"],
            "heads with a clear lift": int((found.lift >= CLEAR).sum()),
            "loss in the first half": first,
            "loss in the second half": second,
            "gained by repetition": first - second,
        },
        views=views,
        finding=_finding(rows[0], first, second, _set_rows(said, lost)),
        notes=(drawn, *_notes(model, said, found, lost)),
        checks=(
            Check("rows of attention sum to one, largest error", max(found.twice.gap, found.once.gap), 1e-2),
            Check(
                "loss when the best head says what it says anyway, largest change",
                lost.gap,
                _TOLERANCE[model.dtype],
            ),
        ),
    )


def _arrays(said: Repeated, found: Found, lost: Losses) -> dict[str, Named]:
    every = {"layer": tuple(map(str, found.twice.layers))}
    labels = {} if found.twice.layers == tuple(range(len(found.twice.layers))) else every
    blank = torch.full_like(found.match, torch.nan)
    change = blank.clone()
    plain = _mean_loss(lost.plain, said, "second")
    for (layer, head), loss in lost.single.items():
        change[found.place((layer, head))] = _mean_loss(loss, said, "second") - plain
    grids = {
        "match": (found.match, "attention"),
        "control": (found.control, "attention"),
        "lift": (found.lift, "attention"),
        "prefix_matching": (found.twice.behind[1], "attention"),
        "previous": (found.previous, "attention"),
        "copying": (blank if found.copying is None else found.copying, "share of eigenvalues"),
        "loss_change": (change, "nats"),
    }
    arrays = {name: _named(values, ("layer", "head"), unit, labels) for name, (values, unit) in grids.items()}
    stacks = {
        "behind": (found.twice.behind, [f"{place} behind the copy" for place in range(len(found.twice.behind))]),
        "behind_control": (found.once.behind, [f"{place} behind the copy" for place in range(len(found.once.behind))]),
        "before": (found.twice.before, [f"{place + 1} before" for place in range(len(found.twice.before))]),
    }
    for name, (values, texts) in stacks.items():
        arrays[name] = _named(values, ("component", "layer", "head"), "attention", labels | {"component": tuple(texts)})
    curves = {PLAIN: lost.plain, **{name: draws.mean(0) for name, draws in lost.set_losses.items()}}
    places = tuple(str(place) for place in range(1, len(lost.plain) + 1))
    arrays["loss"] = _named(
        torch.stack([*curves.values()]), ("component", "pos"), "nats", {"component": tuple(curves), "pos": places}
    )
    return arrays


def _named(values: Tensor, axes: tuple[str, ...], unit: str, labels: dict[str, tuple[str, ...]]) -> Named:
    return Named(values.float().numpy(), axes, unit, labels)


def _mean_loss(loss: Float[Tensor, " pos"], said: Repeated, half: str) -> float:
    """Over the tokens of a half but its first; the loss at index i is that of token i + 1."""
    span = said.first if half == "first" else said.second
    return float(loss[span.start : span.stop - 1].mean())


def _head_rows(said: Repeated, found: Found, lost: Losses) -> list[dict[str, Any]]:
    """The heads that were taken out, and how they score; the best induction head first."""
    plain = _mean_loss(lost.plain, said, "second")
    rows: list[dict[str, Any]] = []
    for layer, head in found.ranked(found.lift):
        if (layer, head) not in lost.single:
            continue
        place = found.place((layer, head))
        before = found.twice.before[(slice(None), *place)]
        loss = lost.single[layer, head]
        rows.append(
            {
                "head": f"L{layer}.H{head}",
                "lift": float(found.lift[place]),
                "match": float(found.match[place]),
                "places behind": int(found.offset[place]),
                "control": float(found.control[place]),
                "previous": float(before.max()),
                "places before": int(before.argmax()) + 1,
                "copying": None if found.copying is None else float(found.copying[place]),
                "loss change": _mean_loss(loss, said, "second") - plain,
                "loss change in the first half": _mean_loss(loss - lost.plain, said, "first"),
            }
        )
    return rows


def _set_rows(said: Repeated, lost: Losses) -> list[dict[str, Any]]:
    """What sets of heads cost together."""
    return [
        {
            "set": name,
            "draw": draw,
            "loss": _mean_loss(loss, said, "second"),
            "loss change": _mean_loss(loss - lost.plain, said, "second"),
            "loss change in the first half": _mean_loss(loss - lost.plain, said, "first"),
            "heads": " ".join(f"L{layer}.H{head}" for layer, head in heads),
        }
        for name, sets in lost.sets.items()
        for draw, (heads, loss) in enumerate(zip(sets, lost.set_losses[name], strict=True))
    ]


def _finding(best: dict[str, Any], first: float, second: float, sets: list[dict[str, Any]]) -> str:
    loss = {name: np.mean([row["loss"] for row in sets if row["set"] == name]) for name in (INDUCTION, PREVIOUS)}
    heads = {name: next(row["heads"] for row in sets if row["set"] == name) for name in loss}
    drawn = [row["loss"] for row in sets if row["set"] == RANDOM]
    random = f", {np.mean(drawn):.2f} without as many random heads" if drawn else ""
    places = "place" if best["places behind"] == 1 else "places"
    looks = f"{best['match']:.2f} of its attention {best['places behind']} {places} behind the earlier copy"
    clear = "looks where the answer stands" if best["lift"] >= CLEAR else "comes nearest to an induction head"
    return (
        f"{best['head']} {clear}: {looks} ({best['control']:.2f} where nothing repeats). A token costs {first:.2f} "
        f"nats the first time and {second:.2f} the second; {loss[INDUCTION]:.2f} without {heads[INDUCTION]}, "
        f"{loss[PREVIOUS]:.2f} without the previous-token heads {heads[PREVIOUS]}{random}."
    )


def _notes(model: Model, said: Repeated, found: Found, lost: Losses) -> tuple[str, ...]:
    notes = ["loss_change is NaN for heads that were not taken out."]
    if found.copying is None:
        notes.append(f"copying is NaN: {found.refused}.")
    else:
        notes.append("copying is 0 also for a head that writes nothing.")
    blind = [layer for place, layer in enumerate(found.twice.layers) if not found.twice.behind[:, place].any()]
    if blind:
        notes.append(
            f"The layers {', '.join(map(str, blind))} cannot see {said.length} tokens back: a window hides it."
        )
    if RANDOM not in lost.sets:
        notes.append("There are too few other heads for a random set.")
    if found.twice.layers != tuple(range(model.shape.n_layers)):
        notes.append(f"Only the layers {', '.join(map(str, found.twice.layers))} attend.")
    return tuple(notes)


def _views(found: Found) -> tuple[View, ...]:
    views: list[View] = [
        Heatmap(
            "lift", x="head", y="layer", title="Attention behind the earlier copy, over that where nothing repeats"
        ),
        Lines("loss", x="pos", series="component", title="Loss of each token, with and without heads"),
        Table("heads", title="The best heads, and the loss without each"),
        Heatmap("previous", x="head", y="layer", title="Attention a fixed number of places back"),
    ]
    if found.copying is not None:
        views += [
            Heatmap("copying", x="head", y="layer", title="Copying score of the weights", diverging=True),
            Scatter("match", "copying", colour="lift", title="Looking behind the copy, and copying"),
        ]
    return (*views, Table("sets", title="Loss without several heads"))
