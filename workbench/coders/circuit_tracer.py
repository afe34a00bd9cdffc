"""Transcoders in the files of circuit-tracer: one for each layer, or cross-layer; read and written."""

import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from workbench.coders.coder import Activation, Transcoder, Transcoders
from workbench.coders.files import named, read_tensors, tensor_bytes
from workbench.coders.hooks import hook_of, kind_of
from workbench.folders import write_folder

_CONFIG = "config.yaml"
_THRESHOLD = "activation_function.threshold"
_LAYER_FILE = re.compile(r"layer_(\d+)\.safetensors$")
_CROSS_FILE = re.compile(r"W_enc_(\d+)\.safetensors$")


def is_circuit_tracer(folder: Path) -> bool:
    """Whether a folder is one of circuit-tracer's."""
    names = [file.name for file in folder.iterdir()]
    return _CONFIG in names or any(_LAYER_FILE.match(name) or _CROSS_FILE.match(name) for name in names)


def read_circuit_tracer(folder: Path) -> Transcoders:
    """All layers of a folder; without config.yaml the MLP's input and output are read and written.

    Raises:
        ValueError: the files are not what config.yaml says, or damaged.
    """
    config = _read_config(folder)
    cross = {int(match[1]): file for file in folder.iterdir() if (match := _CROSS_FILE.match(file.name))}
    files = {} if cross else _layer_files(folder, config)
    if not cross and not files:
        raise ValueError(f"{folder} holds neither layer_0.safetensors nor W_enc_0.safetensors")
    read, write = config.get("feature_input_hook", "mlp.hook_in"), config.get("feature_output_hook", "hook_mlp_out")
    ends = kind_of(str(read)), kind_of(str(write))
    if cross:
        layers = {layer: _read_cross(folder, file, layer, ends) for layer, file in cross.items()}
    else:
        layers = {layer: _read_layer(file, layer, config, ends) for layer, file in files.items()}
    card = {"layout": "circuit-tracer", "model": config.get("model_name", ""), "scan": config.get("scan", "")}
    return Transcoders(str(folder), layers, card)


def save_circuit_tracer(coders: Transcoders, folder: str | Path) -> Path:
    """Write transcoders as circuit-tracer reads them.

    circuit-tracer keeps values below 0 in "topk". Where ReLU stands in front, config.yaml says so in
    `relu_before_topk`, which only the workbench reads.

    Raises:
        ValueError: layers are missing or of unequal width; a kind of coder for which the format has no place.
    """
    folder = Path(folder)
    _refuse(coders)
    files = {_CONFIG: yaml.safe_dump(_config(coders), sort_keys=False).encode()}
    for layer, one in coders.items():
        if coders.crosses:
            files |= _cross_files(one)
        else:
            files[f"layer_{layer}.safetensors"] = tensor_bytes(_layer_tensors(one))
    write_folder(folder, files)
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    if not file.is_file():
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} cannot be read as YAML: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds {type(found).__name__} where names and values belong")
    return found


def _layer_files(folder: Path, config: dict[str, Any]) -> dict[int, Path]:
    """The file of each layer, as config.yaml lists them or by their names."""
    listed = config.get("transcoders")
    if not listed:
        return {int(match[1]): file for file in folder.iterdir() if (match := _LAYER_FILE.match(file.name))}
    far = [str(name) for name in listed if "://" in str(name)]
    if far:
        raise ValueError(f"{folder / _CONFIG} points to {far[0]}: download its files and list their local paths")
    files = {layer: folder / name for layer, name in enumerate(listed)}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise ValueError(f"{folder / _CONFIG} lists {missing[0]}, which does not exist")
    return files


def _read_layer(file: Path, layer: int, config: dict[str, Any], ends: tuple[str, str]) -> Transcoder:
    tensors = read_tensors(file)
    w_enc, b_enc, w_dec, b_dec = named(file, tensors, "W_enc", "b_enc", "W_dec", "b_dec")
    threshold = tensors.get(_THRESHOLD)
    k = int(tensors["k"]) if "k" in tensors else config.get("k")
    activation: Activation = "relu" if threshold is None else "jumprelu"
    if config.get("activation") == "topk" or "k" in tensors:
        activation = "topk"
    return Transcoder(
        layer=layer,
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=b_dec,
        activation=activation,
        k=k if activation == "topk" else None,
        threshold=threshold if activation == "jumprelu" else None,
        rectified=_is_rectified(activation, threshold, config),
        w_skip=tensors.get("W_skip"),
        read=ends[0],
        write=ends[1],
    )


def _is_rectified(activation: str, threshold: Tensor | None, config: dict[str, Any]) -> bool:
    """Whether no value can be below 0: circuit-tracer itself puts no ReLU in front of a gate."""
    if activation == "topk":
        return bool(config.get("relu_before_topk", False))
    return threshold is None or bool((threshold >= 0).all())


def _read_cross(folder: Path, file: Path, layer: int, ends: tuple[str, str]) -> Transcoder:
    decoders = folder / f"W_dec_{layer}.safetensors"
    tensors = read_tensors(file) | read_tensors(decoders)
    names = [f"{name}_{layer}" for name in ("W_enc", "b_enc", "W_dec", "b_dec")]
    w_enc, b_enc, w_dec, b_dec = named(file, tensors, *names)
    threshold = tensors.get(f"threshold_{layer}")
    return Transcoder(
        layer=layer,
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec[:, 0].contiguous(),
        b_dec=b_dec,
        activation="relu" if threshold is None else "jumprelu",
        threshold=threshold,
        rectified=threshold is None or bool((threshold >= 0).all()),
        w_across=w_dec[:, 1:].transpose(0, 1).contiguous(),
        read=ends[0],
        write=ends[1],
    )


def _refuse(coders: Transcoders) -> None:
    """Raise ValueError for what the format cannot hold."""
    if tuple(coders) != tuple(range(len(coders))) or len({one.width for one in coders.values()}) > 1:
        widths = ", ".join(f"layer {layer}: {one.width}" for layer, one in coders.items())
        raise ValueError(f"circuit-tracer needs every layer from 0 on, all equally wide; there are {widths}")
    kinds = {(one.read, one.write, one.activation, one.k, one.rectified) for one in coders.values()}
    if len(kinds) > 1:
        found = ", ".join(map(str, sorted(kinds, key=str)))
        raise ValueError(f"circuit-tracer needs the same kind of coder in every layer; there are {found}")
    first = next(iter(coders.values()))
    if coders.crosses and (first.activation == "topk" or first.w_skip is not None):
        raise ValueError("circuit-tracer's files of cross-layer transcoders have no place for top-k or a skip")
    if any(one.rectified and bool((one.threshold < 0).any()) for one in coders.values() if one.threshold is not None):
        raise ValueError("circuit-tracer puts no ReLU before a threshold: thresholds below 0 would change the values")


def _config(coders: Transcoders) -> dict[str, Any]:
    first = next(iter(coders.values()))
    config: dict[str, Any] = {
        "model_name": str(coders.card.get("model", "")),
        "model_kind": "cross_layer_transcoder" if coders.crosses else "transcoder_set",
        "feature_input_hook": hook_of(first.read),
        "feature_output_hook": hook_of(first.write),
        "scan": str(coders.card.get("scan", "") or coders.name),
    }
    if not coders.crosses:
        config["transcoders"] = [f"layer_{layer}.safetensors" for layer in coders]
    if first.activation == "topk":
        config |= {"activation": "topk", "k": first.k, "relu_before_topk": first.rectified}
    return config


def _layer_tensors(one: Transcoder) -> dict[str, Tensor]:
    tensors = {"W_enc": one.w_enc, "b_enc": one.b_enc, "W_dec": one.w_dec, "b_dec": one.b_dec}
    if one.threshold is not None:
        tensors[_THRESHOLD] = one.threshold
    if one.w_skip is not None:
        tensors["W_skip"] = one.w_skip
    return tensors


def _cross_files(one: Transcoder) -> dict[str, bytes]:
    layer = one.layer
    encoder = {f"W_enc_{layer}": one.w_enc, f"b_enc_{layer}": one.b_enc, f"b_dec_{layer}": one.b_dec}
    if one.threshold is not None:
        encoder[f"threshold_{layer}"] = one.threshold
    across = one.w_dec[None][:0] if one.w_across is None else one.w_across
    decoder = {f"W_dec_{layer}": torch.cat([one.w_dec[None], across]).transpose(0, 1)}
    return {
        f"W_enc_{layer}.safetensors": tensor_bytes(encoder),
        f"W_dec_{layer}.safetensors": tensor_bytes(decoder),
    }
