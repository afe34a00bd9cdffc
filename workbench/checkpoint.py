"""Reading the files of a model: configuration, tokenizer and weights, whole and undamaged, or refused.

transformers fills a missing tensor with random numbers, runs a model's own code when asked to, and names
no file in many of its errors; here every fault becomes one sentence that names the model and what is wrong.
"""

import json
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.sources import Source, known_names, quietly

_LOG = logging.getLogger("workbench")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True)
class Cost:
    """What loading a model takes."""

    parameters: int
    bytes: int
    dtype: str
    architecture: str

    def __str__(self) -> str:
        return (
            f"{self.architecture}: {self.parameters / 1e6:,.1f} million parameters, "
            f"{self.bytes / 1e9:.2f} GB as {self.dtype}"
        )


def read_config(source: Source, trust_remote_code: bool) -> Any:
    """The model's configuration, refused when it is no decoder that can be served.

    Raises:
        ValueError: damaged, unknown, remote code, encoder or encoder-decoder.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        with quietly():
            config = transformers.AutoConfig.from_pretrained(
                source.place, trust_remote_code=trust_remote_code, **source.where
            )
    except Exception as error:  # transformers lets errors of many libraries through here
        raise ValueError(_why_no_config(source, error)) from error
    named = (config.architectures or [""])[0]
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"model {source.name} is an encoder-decoder ({config.model_type}): only decoders can be served"
        )
    decoders = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    if named and named not in decoders and not trust_remote_code:
        raise ValueError(
            f"model {source.name} is a {named}, which is no causal language model: only decoders can be served"
        )
    return config


def _why_no_config(source: Source, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return f"model {source.name} wants to run code of its own: load it with trust_remote_code to allow that"
    if source.gguf_file:
        return f"the GGUF file {source.name} cannot be read: {_brief(error)}"
    if source.local:
        return f"the config.json of {source.name} cannot be read: {_brief(error)}"
    hub = "the hub cannot be reached" if source.offline else f"the hub says: {_brief(error)}"
    return (
        f"model {source.name!r} is not on this machine, and {hub}; "
        f"without a network these load: {', '.join(known_names())}, or a local folder"
    )


def count_cost(source: Source, config: Any, dtype: torch.dtype, trust_remote_code: bool) -> Cost:
    """Parameters and bytes, from the configuration alone.

    Raises:
        ValueError: no model can be built from the configuration.
    """
    import transformers

    try:
        with torch.device("meta"), quietly():
            empty = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # each architecture checks its numbers in its own way
        raise ValueError(f"the config.json of {source.name} describes no model: {_brief(error)}") from error
    parameters = sum(parameter.numel() for parameter in empty.parameters())
    word = str(dtype).removeprefix("torch.")
    return Cost(parameters, parameters * dtype.itemsize, word, type(empty).__name__)


def refuse_too_large(cost: Cost, device: torch.device) -> None:
    """Raise ValueError when the weights do not fit into the free memory of the device."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        free += _reclaimable()
    else:
        return
    if cost.bytes > free:
        raise ValueError(
            f"{cost}, but only {free / 1e9:.1f} GB are free on {device}: use a smaller dtype or device_map"
        )


def _reclaimable() -> int:
    """Memory that Linux would give back from its file cache, in bytes."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return 0
    fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    return int(fields.get("Cached", "0 kB").split()[0]) * 1024


def check_weight_files(source: Source) -> None:
    """Open every local weight file before anything is loaded.

    Raises:
        ValueError: there are only pickle files, a file is missing, cut or damaged.
        FileNotFoundError: there are no weights at all.
    """
    from safetensors import SafetensorError, safe_open

    if not source.local or source.gguf_file:
        return
    folder = Path(source.place)
    files = _indexed_files(source) or sorted(folder.glob("*.safetensors"))
    if not files:
        if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
            raise ValueError(
                f"model {source.name} comes only as a pickle checkpoint, which could run code when opened: "
                "convert it to safetensors first"
            )
        raise FileNotFoundError(f"folder {source.name} holds no weights: expected model.safetensors")
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            size = file.stat().st_size
            raise ValueError(
                f"weight file {file.name} of {source.name} is cut or damaged ({size:,} bytes): {_brief(error)}"
            ) from error


def _indexed_files(source: Source) -> list[Path]:
    """The files that a model in several parts consists of; empty for a model in one file."""
    folder = Path(source.place)
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index.name} of {source.name} cannot be read: {_brief(error)}") from error
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"model {source.name} is not complete: weight files are missing: {', '.join(missing)}")
    return [folder / name for name in named]


def read_tokenizer(source: Source, trust_remote_code: bool) -> Any:
    """The tokenizer beside the weights. Raises ValueError when there is none, or it is damaged."""
    import transformers

    own = trust_remote_code or any((Path(source.place) / name).is_file() for name in _TOKENIZERS)
    if source.local and not source.gguf_file and not own:
        raise ValueError(f"folder {source.name} holds no tokenizer: expected tokenizer.json beside the weights")
    try:
        with quietly():
            found: Any = transformers.AutoTokenizer.from_pretrained(
                source.place, trust_remote_code=trust_remote_code, **source.where
            )
    except Exception as error:  # transformers lets errors of many libraries through here
        raise ValueError(
            f"the tokenizer of {source.name} cannot be read: {type(error).__name__} {_brief(error)}"
        ) from error
    if not trust_remote_code:
        _keep_words_once(found)
    return found


def _keep_words_once(tokenizer: Any) -> None:
    """Drop the Python objects that a fast tokenizer was built of: it holds them itself (140 MB for Gemma)."""
    if getattr(tokenizer, "is_fast", False):
        for name in ("_vocab", "_merges"):
            vars(tokenizer).pop(name, None)


def read_weights(source: Source, config: Any, dtype: torch.dtype, trust_remote_code: bool, device_map: Any) -> Any:
    """The Hugging Face model, complete or refused.

    Raises:
        ValueError: tensors are missing, left over, or of another shape than the configuration says.
    """
    import transformers

    extra: dict[str, Any] = {} if source.gguf_file else {"use_safetensors": True}
    if device_map is not None:
        extra["device_map"] = device_map
    if source.variant is not None:
        extra["variant"] = source.variant
    try:
        with quietly():
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                source.place,
                config=config,
                dtype=dtype,
                attn_implementation="eager",
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, with both shapes
                **source.where,
                **extra,
            )
    except Exception as error:  # transformers lets errors of many libraries through here
        raise ValueError(f"the weights of {source.name} cannot be loaded: {_brief(error)}") from error
    model, info = loaded
    _refuse_incomplete(source, info, (name for name, _ in model.named_parameters()))
    return model


def _refuse_incomplete(source: Source, info: dict[str, Any], names: Iterable[str]) -> None:
    for name, found, expected in sorted(info.get("mismatched_keys") or []):
        raise ValueError(
            f"the weights of {source.name} do not fit its config.json: {name} has the shape {tuple(found)}, "
            f"where {tuple(expected)} belongs"
        )
    if missing := sorted(info.get("missing_keys") or []):
        raise ValueError(
            f"the weights of {source.name} are not complete: {len(missing)} tensors are missing, "
            f"first {missing[0]}; transformers would fill them with random numbers"
        )
    patterns = {_without_numbers(name) for name in names}
    for name in sorted(info.get("unexpected_keys") or []):
        if _without_numbers(name) in patterns:
            raise ValueError(
                f"the weights of {source.name} do not fit its config.json: the file holds {name}, "
                "for which the configuration has no place"
            )
        _LOG.warning("%s: the weight %s is in the file, but not in the model", source.name, name)


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _brief(error: Exception) -> str:
    """The first sentence of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.split(r"\.\s", (lines or [type(error).__name__])[0])[0].rstrip(".")[:240]
