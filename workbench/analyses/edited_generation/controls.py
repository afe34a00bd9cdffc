"""Controls: the same edits at other places of the same kind."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workbench.edit_words import WrittenEdit
from workbench.model import Model

_TRIES = 10
"""Draws for each control that is wanted: of few places most draws have been made before."""

Edits = tuple[WrittenEdit, ...]


def draw_controls(model: Model, written: Sequence[WrittenEdit], count: int, seed: int) -> list[Edits]:
    """The edits moved to places drawn at random, every time to others; fewer where there are not so many.

    A head or a neuron moves within its layer; what has neither moves to another layer.
    """
    generator = np.random.default_rng(seed)
    found: dict[Edits, None] = {}
    for _ in range(_TRIES * count):
        moved = _move(model, written, generator)
        if moved is None:
            return []
        found[moved] = None
        if len(found) == count:
            break
    return list(found)


def _move(model: Model, written: Sequence[WrittenEdit], generator: np.random.Generator) -> Edits | None:
    """All edits at once, each place always to the same other one; None where one has nowhere else to go."""
    moves: dict[tuple[object, ...], dict[int, int]] = {}
    for group in dict.fromkeys(map(_group, written)):
        members = [edit for edit in written if _group(edit) == group]
        drawn = _draw(sorted({_index(edit) for edit in members}), _room(model, members[0]), generator)
        if drawn is None:
            return None
        moves[group] = drawn
    return tuple(_moved(edit, moves[_group(edit)]) for edit in written)


def _group(edit: WrittenEdit) -> tuple[object, ...]:
    """What stays the same: the kind of site, and for a head or a neuron its layer."""
    site = edit.site
    if site.head is not None:
        return site.kind, "head", site.layer
    return (site.kind, "neuron", site.layer) if site.neuron is not None else (site.kind, "layer")


def _index(edit: WrittenEdit) -> int:
    """What moves: the head, the neuron, or the layer; -1 at the embedding, which has no other place."""
    site = edit.site
    places = (site.head, site.neuron, site.layer)
    return next((place for place in places if place is not None), -1)


def _room(model: Model, edit: WrittenEdit) -> list[int]:
    """The places to which an edit could go."""
    site = edit.site
    if site.head is not None:
        return list(range(model.heads_at(site.kind)))
    if site.neuron is not None:
        return list(range(model.shape.d_mlp))
    return list(model.capabilities.writable.get(site.kind, ())) if site.layer is not None else []


def _draw(used: list[int], room: list[int], generator: np.random.Generator) -> dict[int, int] | None:
    """Other places for those that are used: none of them, or where there are too few at least not the same."""
    others = [place for place in room if place not in used]
    if not others:
        return None
    pool = others if len(others) >= len(used) else room
    while True:
        drawn = [int(place) for place in generator.choice(pool, len(used), replace=False)]
        if set(drawn) != set(used):
            return dict(zip(used, drawn, strict=True))


def _moved(edit: WrittenEdit, places: dict[int, int]) -> WrittenEdit:
    site, place = edit.site, places[_index(edit)]
    unit = "head" if site.head is not None else "neuron" if site.neuron is not None else "layer"
    return replace(edit, site=replace(site, **{unit: place}))
