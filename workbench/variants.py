"""The rows of a sweep, read: what each edits, and where it first differs from the plain prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.edit import Function, SiteEdit, refuse_read_only
from workbench.model import Model
from workbench.rewiring import Cut
from workbench.sites import read_site
from workbench.tracer import resolve_position
from workbench.words import Site

_READ_BY_LATER_TOKENS = ("resid_pre", "k", "v")
"""Sites from which the keys and values of their own layer are made."""

Row = Sequence[tuple[Site | str, Function] | SiteEdit | Cut]


@dataclass(frozen=True)
class Variant:
    """One row, read.

    Attributes:
        row: its number.
        edits: what it changes.
        position: the first position of the prompt that they change.
        layer: the first layer in which they change the prompt.
        later: the first layer in which generated tokens differ for it, as far as these are the same.
    """

    row: int
    edits: tuple[SiteEdit | Cut, ...]
    position: int
    layer: int
    later: int


def read_row(model: Model, number: int, row: Row, length: int) -> Variant:
    """Read the edits of one row.

    Args:
        model: a loaded model.
        number: which row it is, for messages.
        row: (site, function) pairs, `onward` edits or cuts.
        length: how many tokens the prompt has.

    Raises:
        ValueError: no edit, a site that cannot be written, or a position outside the prompt.
        TypeError: something that is no edit of a sweep.
    """
    if not row:
        raise ValueError(f"row {number} of the sweep has no edits")
    try:
        edits = tuple(_read_edit(model, given) for given in row)
        position = min(_first_position(edit, length) for edit in edits)
    except (TypeError, ValueError) as error:
        raise type(error)(f"row {number} of the sweep: {error}") from error
    layer, later = min(edit.site.block for edit in edits), min(_later_layer(edit) for edit in edits)
    return Variant(number, edits, position, layer, later)


def _later_layer(edit: SiteEdit | Cut) -> int:
    """The first layer in which an edit reaches generated tokens: by itself, or by keys and values of the prompt."""
    place = edit.query if isinstance(edit, Cut) else edit.site.pos
    in_the_prompt = place is not None and edit.site.kind not in _READ_BY_LATER_TOKENS
    return edit.site.block + int(in_the_prompt)


def _read_edit(model: Model, given: object) -> SiteEdit | Cut:
    if isinstance(given, tuple) and len(given) == 2:
        site, function = given
        given = SiteEdit(read_site(site) if isinstance(site, str) else site, function)
    if not isinstance(given, SiteEdit | Cut):
        raise TypeError(f"edits are (site, function) pairs and cuts, found {type(given).__name__}")
    refuse_read_only(model, given.site)
    if given.site.layer is None:
        raise ValueError(f"edits are made inside layers, not at {given.site}")
    return replace(given, count=0)


def _first_position(edit: SiteEdit | Cut, length: int) -> int:
    """The first position of the prompt that an edit can change."""
    if isinstance(edit, Cut):
        place = edit.key if edit.query is None else edit.query  # queries before a key never see it
        return resolve_position(replace(edit.site, pos=place), length)
    if edit.since is not None and edit.since >= length:
        return length - 1  # generated tokens only
    fixed = edit.site.pos if edit.since is None else edit.since
    return 0 if fixed is None else resolve_position(replace(edit.site, pos=fixed), length)
