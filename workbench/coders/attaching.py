"""Attach coders to a running model, through its one intervention engine, with or without what they miss.

With the error kept, a run with coders is the plain run bit for bit until a feature is changed; a change then adds
what the changed feature values write. Without it the coders' predictions stand in the place of what they predict.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from workbench.coders.coder import Transcoders
from workbench.edit import Function, SiteEdit, refuse_read_only
from workbench.model import Model
from workbench.sites import read_site
from workbench.words import Site


@dataclass
class FeatureEdit(SiteEdit):
    """A plain function at the value of one feature, or of all features of a layer."""

    def _unit(self) -> tuple[int, int] | None:
        return None if self.site.feature is None else (2, self.site.feature)


@dataclass
class Attached:
    """Coders in a running model; an edit for `edited`, made by `attach`.

    Attributes:
        coders: coders that were fitted to the model.
        keep_error: whether what the coders miss is added to what they predict.
        changes: changes of features.
        since: positions before this one are left as they are.
        written: the layers whose outputs are touched.
        values: the feature values of the latest pass by layer, as they were after the changes.
        count: how often a prediction was put in place or a change was written.
    """

    coders: Transcoders
    keep_error: bool
    changes: tuple[FeatureEdit, ...]
    since: int
    written: tuple[int, ...]
    values: dict[int, Float[Tensor, "batch pos feature"]] = field(default_factory=dict)
    count: int = 0
    _inputs: dict[int, Float[Tensor, "batch pos d_in"]] = field(default_factory=dict, init=False)
    _shifts: dict[int, Float[Tensor, "batch pos feature"]] = field(default_factory=dict, init=False)

    def __str__(self) -> str:
        silent = [str(change.site) for change in self.changes if not change.fired]
        return f"{self.coders!r}" + (f" with changes at {', '.join(silent)}" if silent else "")

    @property
    def fired(self) -> bool:
        """Whether the coders ran, and every change took effect."""
        return self.count > 0 and all(change.fired for change in self.changes)

    def attach(self, model: Model) -> list[RemovableHandle]:
        """Hook every coder in at the site that it reads, and at the one that it predicts."""
        handles: list[RemovableHandle] = []
        for layer, one in self.coders.items():
            if any(one.decoder_to(target) is not None for target in self.written):
                model.check_site(Site(one.read, layer))
                handles += model.places.attach(Site(one.read, layer), self._reader(model, layer))
            if layer in self.written:
                refuse_read_only(model, Site(one.write, layer))
                handles += model.places.attach(Site(one.write, layer), self._writer(model, layer))
        return handles

    def _reader(self, model: Model, layer: int) -> Callable[[Tensor], None]:
        def read(value: Float[Tensor, "batch pos d_in"]) -> None:
            z = self.coders[layer].encode(value)
            changed = self._changed(model, layer, z)
            self._inputs[layer] = value
            self.values[layer] = changed
            self._shifts.pop(layer, None)
            if changed is not z:
                self._shifts[layer] = (changed - z) * self._acted(model, z)[..., None]

        return read

    def _changed(self, model: Model, layer: int, z: Float[Tensor, "batch pos feature"]) -> Tensor:
        """The feature values after every change of this layer."""
        for change in self.changes:
            if change.site.block == layer:
                new = change.changed(model.current_pass, z)
                z = z if new is None else new
        return z

    def _writer(self, model: Model, layer: int) -> Callable[[Tensor], Tensor | None]:
        def write(value: Float[Tensor, "batch pos d_out"]) -> Tensor | None:
            self.count += 1
            if self.keep_error:
                shift = self._written_shift(layer)
                return None if shift is None else value + shift.to(value.dtype)
            predicted = self.coders.predict(layer, self.values, self._inputs[layer]).to(value.dtype)
            acted = self._acted(model, value)
            return predicted if bool(acted.all()) else torch.where(acted[..., None], predicted, value)

        return write

    def _written_shift(self, layer: int) -> Float[Tensor, "batch pos d_out"] | None:
        """What the changes of this layer's features, and of those of earlier ones that reach it, add here."""
        found = None
        for source, shift in self._shifts.items():
            decoder = self.coders[source].decoder_to(layer)
            if decoder is not None:
                found = shift @ decoder if found is None else found + shift @ decoder
        return found

    def _acted(self, model: Model, value: Float[Tensor, "batch pos width"]) -> Bool[Tensor, "1 pos"]:
        """The positions of this pass that are not left as they are."""
        offset = model.current_pass.offset if model.current_pass else 0
        return (torch.arange(value.shape[1], device=value.device) + offset >= self.since)[None]


def attach(
    coders: Transcoders,
    *,
    keep_error: bool = True,
    changes: Iterable[tuple[Site | str, Function]] = (),
    since: int = 0,
    layers: Iterable[int] = (),
) -> Attached:
    """Coders as an edit: `with edited(model, [attach(coders)])`, beside any other edits.

    Other edits at the sites that coders read act on what they read when they are given before them.

    Args:
        coders: what `fit` returned for the model.
        keep_error: keep what the coders miss, so that nothing changes but for `changes`; without it the model
            runs on their predictions.
        changes: pairs of a feature of a layer and a function (`zero()`, `scale(2)`, `clamp(5.0)`, ...), such as
            ("L3.F120.mlp_out@-1", zero()); with no feature named, all of the layer.
        since: leave the positions before this one as they are (1 spares a beginning-of-sequence token).
        layers: touch the outputs of these layers alone; all by default.

    Raises:
        ValueError: a change at a layer, a feature or a place that the coders have not.
    """
    made = tuple(_as_change(coders, *pair) for pair in changes)
    written = tuple(layers) or tuple(coders)
    if missing := [layer for layer in written if layer not in coders]:
        raise ValueError(f"coders {coders.name} have no layer {missing[0]}: they have {', '.join(map(str, coders))}")
    return Attached(coders, keep_error, made, since, written)


def _as_change(coders: Transcoders, site: Site | str, function: Function) -> FeatureEdit:
    named = read_site(site) if isinstance(site, str) else site
    if named.layer is None or named.layer not in coders:
        raise ValueError(f"feature {named}: coders {coders.name} have the layers {', '.join(map(str, coders))}")
    one = coders[named.layer]
    if named.kind != one.write or named.head is not None or named.neuron is not None:
        raise ValueError(f"feature {named}: a feature of layer {named.layer} is named L{named.layer}.F0.{one.write}")
    if named.feature is not None and named.feature >= one.width:
        raise ValueError(f"feature {named}: layer {named.layer} has {one.width} features (0-{one.width - 1})")
    return FeatureEdit(named, function)
