"""Sparse coders in the files of Gemma Scope (npz) and Gemma Scope 2 (safetensors), cross-layer ones too.

Gemma Scope's transcoders read the norm in front of the MLP without its gain, those of Gemma Scope 2 with it.
"""

import re
from pathlib import Path

from torch import Tensor

from workbench.coders.coder import Transcoder
from workbench.coders.files import named, read_json, read_tensors
from workbench.coders.hooks import NORMED

_FILES = re.compile(r"^params(?:_layer_(\d+))?\.(npz|safetensors)$")
_LAYER = re.compile(r"layer_(\d+)")
_PLACES = {
    "transcoder": ("", "mlp_out"),
    "clt": ("", "mlp_out"),
    "resid_post": ("resid_post", "resid_post"),
    "mlp_out": ("mlp_out", "mlp_out"),
    **dict.fromkeys(("pt-res", "it-res"), ("resid_post", "resid_post")),
    **dict.fromkeys(("pt-mlp", "it-mlp"), ("mlp_out", "mlp_out")),
}
"""What a coder reads and writes, by a word in the name of one of its folders; empty for the input of the MLP."""

_NEAR = 5
"""How many folders up the words are looked for."""


def is_gemma_scope(folder: Path) -> bool:
    """Whether a folder holds a file of parameters of either release."""
    return any(_FILES.match(file.name) for file in folder.iterdir())


def read_gemma_scope(folder: Path) -> tuple[dict[int, Transcoder], str]:
    """The coders of a folder by layer, and the model's name.

    Raises:
        ValueError: the path tells neither which layer nor which place the coder belongs to.
    """
    config = folder / "config.json"
    model = str(read_json(config).get("model_name", "")) if config.is_file() else ""
    files = {file: match[1] for file in sorted(folder.iterdir()) if (match := _FILES.match(file.name))}
    if any(files.values()):
        layers = {int(layer): file for file, layer in files.items() if layer is not None}
        return {layer: _read_file(file, layer, len(layers)) for layer, file in layers.items()}, model
    file = next(iter(files))
    found = _LAYER.search(folder.name) or _LAYER.search(str(folder.absolute()))
    if found is None:
        raise ValueError(f"{folder}: its path names no layer, such as layer_5")
    return {int(found[1]): _read_file(file, int(found[1]), 0)}, model


def _read_file(file: Path, layer: int, crossed: int) -> Transcoder:
    """One layer; of a cross-layer transcoder over `crossed` layers, or 0."""
    tensors = {name.lower(): value for name, value in read_tensors(file).items()}
    w_enc, b_enc, w_dec, b_dec, threshold = named(file, tensors, "w_enc", "b_enc", "w_dec", "b_dec", "threshold")
    skip = tensors.get("affine_skip_connection")
    read, write = _place(file)
    across: Tensor | None = None
    if w_dec.ndim == 3:
        across = w_dec[:, layer + 1 : crossed].transpose(0, 1).contiguous()
        w_dec = w_dec[:, layer].contiguous()
    return Transcoder(
        layer=layer,
        w_enc=w_enc.T.contiguous(),
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=b_dec,
        activation="jumprelu",
        threshold=threshold,
        w_skip=None if skip is None else skip.T.contiguous(),
        read=read,
        write=write,
        w_across=across,
    )


def _place(file: Path) -> tuple[str, str]:
    """What the coder of a file reads and writes, from the names of its folders."""
    for folder in list(file.absolute().parents)[:_NEAR]:
        for word, (read, write) in _PLACES.items():
            if word in folder.name.lower():
                return read or (NORMED if file.suffix == ".npz" else "mlp_in"), write
    raise ValueError(f"{file}: its path must say where the coder stands, with one of {', '.join(_PLACES)}")
