"""Load coders by name: a folder in any known layout, a release of SAELens, or a planted or bundled model's own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from workbench.coders import circuit_tracer, dunefsky, gemma_scope, planting, saelens, sparsify
from workbench.coders.coder import Transcoder, Transcoders
from workbench.coders.files import PICKLES, refuse_pickle
from workbench.coders.hooks import READABLE
from workbench.prompts import data_folder
from workbench.sources import BUNDLED

Found = tuple[dict[int, Transcoder], str]
"""Coders by layer, and the name of their model."""


def _one(read: Callable[[Path], tuple[Transcoder, str]]) -> Callable[[Path], Found]:
    """A reader of folders with a single layer."""

    def single(folder: Path) -> Found:
        coder, model = read(folder)
        return {coder.layer: coder}, model

    return single


_LAYOUTS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Found]], ...] = (
    ("SAELens", saelens.is_saelens, _one(saelens.read_saelens)),
    ("sparsify", sparsify.is_sparsify, _one(sparsify.read_sparsify)),
    ("Dunefsky et al.", dunefsky.is_dunefsky, _one(dunefsky.read_dunefsky)),
    ("Gemma Scope", gemma_scope.is_gemma_scope, gemma_scope.read_gemma_scope),
)


def load_coders(name: str | Path, *, read: str = "", write: str = "") -> Transcoders:
    """Load transcoders or sparse autoencoders.

    Args:
        name: a folder of SAELens, circuit-tracer, sparsify, Gemma Scope (1 or 2), or of Dunefsky's converted
            checkpoints, holding one layer or a folder for each; `world`, the transcoders that ship with the
            bundled model; `saelens:<release>/<id>`; or `planted:sparse_mlp`. Pickled checkpoints are never opened.
        read: the kind of site that they read, where the files say it wrong (`normed` for the norm in front of the
            MLP without its gain).
        write: the kind of site that they predict, likewise.

    Raises:
        ValueError: nothing is found under the name, or it cannot be read; the sentence says what to do.
    """
    wrong = [kind for kind in (read, write) if kind and kind not in READABLE]
    if wrong:
        raise ValueError(f"coders cannot stand at {wrong[0]!r}: allowed are {', '.join(READABLE)}")
    found = _find(str(name))
    if not read and not write:
        return found
    layers = {
        layer: replace(one, read=read or one.read, write=write or one.write) for layer, one in found.layers.items()
    }
    return replace(found, layers=layers)


def load_transcoders(name: str | Path) -> Transcoders:
    """Load coders as `load_coders` does, and only such as predict another site than the one that they read.

    Raises:
        ValueError: nothing is found under the name, or what is found are sparse autoencoders.
    """
    found = load_coders(name)
    same = [layer for layer, one in found.layers.items() if one.read == one.write]
    if same:
        raise ValueError(
            f"transcoders were asked for, but {name} reads and writes {found.layers[same[0]].read} at layer {same[0]}: "
            "load_coders loads sparse autoencoders"
        )
    return found


def has_own_coders(model: str) -> bool:
    """Whether coders come with a model of this name; they load under the same name."""
    return model.startswith(planting.PREFIX) or (model in BUNDLED and _bundled(model).is_dir())


def load_named_or_own(name: str, model: str) -> Transcoders:
    """Coders by name, or those that come with a model where no name is given.

    Raises:
        ValueError: no name is given and none come with it, or they cannot be loaded.
    """
    if not name and not has_own_coders(model):
        raise ValueError(
            f"no coders were named, and none come with {model}: give coders=<folder>, saelens:<release>/<id>, "
            "or planted:sparse_mlp"
        )
    return load_coders(name or model)


def _bundled(model: str) -> Path:
    return data_folder() / "transcoders" / model


def _find(name: str) -> Transcoders:
    if name.startswith(planting.PREFIX):
        return planting.planted_coders(name)
    if name.startswith(saelens.PREFIX):
        return saelens.read_release(name)
    if has_own_coders(name):
        return replace(_read_folders(_bundled(name)), name=name)
    place = Path(name).expanduser()
    if name and place.is_file():
        refuse_pickle(place)
        place = place.parent
    if not name or not place.is_dir():
        raise ValueError(
            f"coders {name!r} do not exist: give a folder (SAELens, circuit-tracer, sparsify, Gemma Scope), "
            f"{saelens.PREFIX}<release>/<id>, or planted:sparse_mlp"
        )
    if circuit_tracer.is_circuit_tracer(place):
        return circuit_tracer.read_circuit_tracer(place)
    return _read_folders(place)


def _read_folders(top: Path) -> Transcoders:
    """The coders of a folder, or of all the folders in it, one for each layer."""
    layers: dict[int, Transcoder] = {}
    origin: dict[int, Path] = {}
    layouts, models = set(), set()
    for folder in [top, *sorted(place for place in top.rglob("*") if place.is_dir())]:
        for layout, holds, read in _LAYOUTS:
            if not holds(folder):
                continue
            found, model = read(folder)
            for layer, coder in found.items():
                if layer in layers:
                    raise ValueError(
                        f"{top} holds two coders of layer {layer}, {origin[layer]} and {folder}: choose one"
                    )
                layers[layer], origin[layer] = coder, folder
            layouts.add(layout)
            models.add(model)
            break
    if not layers:
        _refuse_empty(top)
    return Transcoders(str(top), layers, {"layout": ", ".join(sorted(layouts)), "model": ", ".join(sorted(models))})


def _refuse_empty(top: Path) -> None:
    """Raise ValueError for a folder in which no coder was found; pickles in it get a sentence of their own."""
    for file in top.rglob("*"):
        if file.suffix in PICKLES:
            refuse_pickle(file)
    layouts = ", ".join(["circuit-tracer", *(layout for layout, *_ in _LAYOUTS)])
    raise ValueError(f"{top} holds no coder in a known layout: known are {layouts}")
