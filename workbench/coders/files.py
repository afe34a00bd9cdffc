"""Weight files of coders: safetensors and npz are read, pickles are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or npz file, in the dtype in which they are stored.

    Raises:
        ValueError: the file is of another kind, or damaged.
    """
    refuse_pickle(file)
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}
        return load_file(file)
    except (OSError, ValueError, EOFError, RuntimeError) as error:
        raise ValueError(f"{file} cannot be read as weights: {error}") from error
    except Exception as error:  # safetensors has an error class of its own that is no ValueError
        if type(error).__name__ != "SafetensorError":
            raise
        raise ValueError(f"{file} cannot be read as weights: {error}") from error


def named(file: Path, tensors: dict[str, Tensor], *names: str) -> list[Tensor]:
    """Some tensors of a file, in this order.

    Raises:
        ValueError: one is missing.
    """
    missing = [name for name in names if name not in tensors]
    if missing:
        raise ValueError(f"{file} has no {', '.join(missing)}: it holds {', '.join(sorted(tensors))}")
    return [tensors[name] for name in names]


def tensor_bytes(tensors: dict[str, Tensor], notes: dict[str, str] | None = None) -> bytes:
    """Tensors as the content of a safetensors file, with notes in its head."""
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, notes)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ValueError when there is none in it."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds {type(found).__name__} where an object belongs")
    return found


def refuse_pickle(file: Path) -> None:
    """Raise ValueError for a pickled checkpoint: opening it could run any code, so it is never opened."""
    if file.suffix in PICKLES:
        raise ValueError(
            f"{file} is a pickled checkpoint, which could run any code when it is opened, so it is never opened here: "
            "where you trust it, write its state_dict with safetensors.torch.save_file as weights.safetensors and its "
            "settings (hook_point, hook_point_layer, out_hook_point, out_hook_point_layer) as cfg.json, and load "
            "the folder of these two"
        )
