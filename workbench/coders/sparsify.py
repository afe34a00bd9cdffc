"""Sparse coders in the files of EleutherAI's sparsify: one folder for each module of the model."""

import re
from pathlib import Path

from workbench.coders.coder import Transcoder, folded
from workbench.coders.files import named, read_json, read_tensors

WEIGHTS = "sae.safetensors"

_FOLDER = re.compile(r"(?:^|\.)(?:layers|h|blocks)[._](\d+)(?P<part>\.mlp)?$")


def is_sparsify(folder: Path) -> bool:
    """Whether a folder holds one coder of sparsify."""
    return (folder / WEIGHTS).is_file() and (folder / "cfg.json").is_file()


def read_sparsify(folder: Path) -> tuple[Transcoder, str]:
    """The coder of a folder whose name is the module's, such as `layers.5.mlp`, and the model's name.

    ReLU stands before top-k. A transcoder reads the module's input, an autoencoder its output, less b_dec.

    Raises:
        ValueError: a module other than a block or its MLP, or an activation other than top-k.
    """
    match = _FOLDER.search(folder.name)
    if match is None:
        raise ValueError(
            f"sparsify folder {folder.name!r} names no place that is known: expected layers.5 or layers.5.mlp"
        )
    settings = read_json(folder / "cfg.json")
    if settings.get("activation", "topk") != "topk" or settings.get("signed", False):
        said = "signed top-k" if settings.get("signed") else repr(settings["activation"])
        raise ValueError(f"{folder}: the activation {said} is not supported, only 'topk'")
    transcodes = bool(settings.get("transcode", False))
    write = "mlp_out" if match["part"] else "resid_post"
    if transcodes and write != "mlp_out":
        raise ValueError(f"{folder}: a transcoder of a whole block is not supported, only of its MLP (layers.5.mlp)")
    file = folder / WEIGHTS
    tensors = read_tensors(file)
    w_enc, b_enc, w_dec, b_dec = named(file, tensors, "encoder.weight", "encoder.bias", "W_dec", "b_dec")
    coder = Transcoder(
        layer=int(match[1]),
        w_enc=w_enc,
        b_enc=b_enc if transcodes else folded(b_enc, w_enc, b_dec),
        w_dec=w_dec,
        b_dec=b_dec,
        activation="topk",
        k=int(settings["k"]),
        w_skip=tensors.get("W_skip"),
        read="mlp_in" if transcodes else write,
        write=write,
    )
    config = folder.parent / "config.json"
    return coder, str(read_json(config).get("model", "")) if config.is_file() else ""
