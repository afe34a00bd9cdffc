"""The one intervention engine: change activations while the model runs, and always put it back.

An edit is a pair (site, plain function): the function gets the activation at the site (the head,
neuron and position that the site names are selected, their axes gone) and returns what stands there
instead. The makers below return such functions; `workbench.rewiring` makes whole edits (cut, skip, repeat).
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workbench.model import Model, Pass
from workbench.sites import MASKED, finite, read_site
from workbench.tracer import Trace, resolve_position
from workbench.words import Site

Function = Callable[[Tensor], Tensor]


@runtime_checkable
class Edit(Protocol):
    """Something that can be put into a model, and says whether it took effect."""

    def attach(self, model: Model) -> list[RemovableHandle]:
        """Hook the edit in."""
        ...

    @property
    def fired(self) -> bool:
        """Whether it has changed a pass since it was attached."""
        ...


@dataclass
class SiteEdit:
    """A plain function at a site; with `since`, at every position from there on, generated ones too."""

    site: Site
    function: Function
    since: int | None = None
    count: int = 0

    def __str__(self) -> str:
        made_by = getattr(self.function, "__qualname__", "function").split(".")[0]
        return f"{self.site} {made_by}"

    @property
    def fired(self) -> bool:
        """Whether the function was called."""
        return self.count > 0

    def attach(self, model: Model) -> list[RemovableHandle]:
        """Hook the function in at its site."""
        refuse_read_only(model, self.site)
        return model.places.attach(self.site, lambda value: self.changed(model.current_pass, value))

    def changed(self, current: Pass | None, value: Tensor) -> Tensor | None:
        """The whole activation after the edit; None when this pass does not compute the position."""
        if self.site.pos is None and self.since is None:
            self.count += 1
            return self._written(value, ())
        length_here = value.shape[self._pos_axis()]
        lengths = current.lengths if current else (length_here,) * value.shape[0]
        offset = current.offset if current else 0
        rows, places = self._here(lengths, offset, length_here)
        if not rows:
            return None
        self.count += 1
        return self._written(
            value, (torch.tensor(rows, device=value.device), torch.tensor(places, device=value.device))
        )

    def _here(self, lengths: tuple[int, ...], offset: int, length_here: int) -> tuple[list[int], list[int]]:
        """The rows, and the positions in this pass, on which the edit acts."""
        rows: list[int] = []
        places: list[int] = []
        for row, length in enumerate(lengths):
            if self.since is not None:
                start = self.since if self.since >= 0 else length + self.since
                acted = range(max(start - offset, 0), length_here)
            else:
                place = self._position(length, offset) - offset
                acted = range(place, place + 1) if 0 <= place < length_here else range(0)
            rows += [row] * len(acted)
            places += acted
        return rows, places

    def _position(self, length: int, offset: int) -> int:
        """The position from the prompt's start; behind a cached prompt it may lie outside of it."""
        fixed = self.site.pos
        return fixed if offset and fixed is not None and fixed >= 0 else resolve_position(self.site, length)

    def _pos_axis(self) -> int:
        axes = self.site.axes
        return axes.index("query") if "query" in axes else axes.index("pos")

    def _written(self, value: Tensor, index: tuple[Any, ...]) -> Tensor:
        """The whole activation with the chosen part replaced by what the function gives.

        Args:
            value: the whole activation.
            index: rows and their positions, or nothing for all of them.
        """
        axis, unit = self._pos_axis(), self._unit()
        moved = value.movedim(axis, 1) if index else value
        if unit is not None:
            place, number = unit
            place += 1 if index and place < axis else 0  # the position axis moved in front of it
            index = (*index, *[slice(None)] * (place - len(index)), number)
        part = moved[index]
        new = self.function(part.clone())  # a function may work in place; the model's own tensor stays as it was
        self._check(part, new)
        new = _keep_masked(part, new) if self.site.kind == "scores" else new
        if not new.requires_grad and torch.equal(new, part):
            return value
        changed = moved.clone()
        changed[index] = new.to(changed.dtype)
        return changed if moved is value else changed.movedim(1, axis)

    def _unit(self) -> tuple[int, int] | None:
        for number, words in ((self.site.head, ("head", "kv_head")), (self.site.neuron, ("d_mlp",))):
            if number is not None:
                return next(self.site.axes.index(word) for word in words if word in self.site.axes), number
        return None

    def _check(self, part: Tensor, new: object) -> None:
        if not isinstance(new, Tensor):
            raise TypeError(f"the edit at {self.site} must return a tensor, it returned {type(new).__name__}")
        if new.shape != part.shape:
            raise ValueError(
                f"the edit at {self.site} must keep the shape {tuple(part.shape)}, it returned {tuple(new.shape)}"
            )
        if self.site.kind != "scores" and not finite(new.float()):
            raise ValueError(f"the edit at {self.site} returned numbers that are not finite")


def refuse_read_only(model: Model, site: Site) -> None:
    """Raise ValueError when the model has no such site, or a change there would have no effect."""
    model.check_site(site)
    if site.kind == "logits":
        raise ValueError("site logits can be read only: edit the last resid_post instead")
    layers = model.capabilities.writable.get(site.kind)
    if layers is not None and site.layer not in layers:
        raise ValueError(f"site {site} is read-only in {model.name}: a change there has no effect on its output")


def _keep_masked(before: Float[Tensor, "..."], after: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Put the causal mask back: an edit of scores must not let a query see the future."""
    return torch.where(before < MASKED, before, after)


Given = Edit | tuple[Site | str, Function]


@contextmanager
def edited(model: Model, edits: Iterable[Given]) -> Generator[Model]:
    """Run the model with edits inside the block; outside it is exactly the model it was.

    Edits act in the given order; blocks nest. The model's lock is held for the whole block.

    Args:
        model: a loaded model.
        edits: pairs of a site (or its text) and a function, or whole edits from `cut`, `skip`, `repeat`.

    Raises:
        ValueError: a site that the model has not or that is read-only; an edit that changes the shape;
            an edit that never took effect although the model ran.
    """
    made = [_as_edit(given) for given in edits]
    with ExitStack() as stack:
        stack.enter_context(model.lock)
        for edit in made:
            for handle in edit.attach(model):
                stack.callback(handle.remove)
        passes = model.passes
        yield model
        silent = [str(edit) for edit in made if not edit.fired]
        if silent and model.passes > passes:
            raise ValueError(f"edits that never took effect in any pass: {', '.join(silent)}")


def _as_edit(given: Given) -> Edit:
    if isinstance(given, Edit):
        return given
    site, function = given
    return SiteEdit(read_site(site) if isinstance(site, str) else site, function)


def onward(site: Site | str, function: Function, since: int) -> SiteEdit:
    """An edit at every position from `since` on (negative counts from the prompt's end), and at generated tokens."""
    named = read_site(site) if isinstance(site, str) else site
    if named.pos is not None:
        raise ValueError(f"site {named}: name the position once, as `since`")
    return SiteEdit(named, function, since)


def zero() -> Function:
    """Nothing stands there: every number becomes 0."""
    return torch.zeros_like


def patch(value: Tensor) -> Function:
    """What another run had there (a tensor of the selected shape, or one that broadcasts to it)."""

    def put(activation: Tensor) -> Tensor:
        try:
            return value.to(activation).expand_as(activation)
        except RuntimeError as error:
            raise ValueError(
                f"a patch of the shape {tuple(value.shape)} does not fit an activation of {tuple(activation.shape)}"
            ) from error

    return put


def mean(traced: Trace, site: Site | str) -> Function:
    """The mean of a traced activation over all its real tokens and prompts."""
    values = traced[site]
    named = read_site(site) if isinstance(site, str) else site
    if "query" in named.axes:
        raise ValueError(f"site {named}: a mean over prompts is not defined for attention maps")
    rows = values[traced.mask] if named.pos is None else values
    return patch(rows.mean(0))


def resample(traced: Trace, site: Site | str, seed: int) -> Function:
    """For every prompt, the activation of a randomly drawn prompt of a traced batch."""
    values = traced[site]
    if not finite(values.float()):
        raise ValueError(f"resample at {site}: the traced prompts differ in length, so name a position")
    generator = torch.Generator().manual_seed(seed)

    def draw(activation: Tensor) -> Tensor:
        rows = torch.randint(values.shape[0], (activation.shape[0],), generator=generator)
        return patch(values[rows.to(values.device)])(activation)

    return draw


def add(vector: Float[Tensor, "..."], scale: float = 1.0) -> Function:
    """A vector added, times a factor."""
    return lambda activation: activation + scale * vector.to(activation)


def scale(factor: float) -> Function:
    """Everything times a factor; 1 changes nothing, bit for bit."""
    return lambda activation: activation if factor == 1 else activation * factor


def clamp(value: float) -> Function:
    """Every number set to one value (for neurons: hold it there)."""
    return lambda activation: torch.full_like(activation, value)
