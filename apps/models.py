"""The models that this process has loaded. Torch is imported when the first one is asked for."""

import logging
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workbench.planted import PLANTED
from workbench.progress import track
from workbench.prompts import data_folder
from workbench.tour import tour_model

if TYPE_CHECKING:
    from workbench.model import Model

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
_SHARE = 0.4
"""The share of the machine's memory that the weights of all kept models may take."""
_UNTOLD = 4e9
"""Bytes that they may take where the machine does not tell its memory."""


class Models:
    """Loaded models by name and dtype, shared by all tabs."""

    def __init__(self) -> None:
        self._loaded: list[Model] = []
        self._lock = threading.Lock()

    def find(self, name: str, dtype: str) -> "Model | None":
        """The model if it is loaded; `dtype` may be auto, which takes any."""
        with self._lock:
            return next((one for one in reversed(self._loaded) if _fits(one, name, dtype)), None)

    def load(self, name: str, dtype: str) -> "Model":
        """The model, loaded if need be. What it costs is told as progress before its weights are read.

        Raises:
            ValueError: it cannot be served, with the reason.
            FileNotFoundError: there is no such folder or file.
        """
        if (found := self.find(name, dtype)) is None:
            _tell(f"preparing {name}")
            from workbench.model import load

            with _telling_log():
                found = load(name, dtype=None if dtype == "auto" else dtype)
        with self._lock:
            others = [one for one in self._loaded if one is not found]
            self._loaded = _affordable([*others, found], _budget())
        return found


def offline_names() -> list[str]:
    """Names of models that load without a network, the one to begin with first."""
    bundled = sorted(file.parent.name for file in (data_folder() / "models").glob("*/config.json"))
    names = [*bundled, *(f"planted:{name}" for name in PLANTED), "gemma-3-270m"]
    return sorted(names, key=lambda name: name != tour_model())


def _affordable(models: "list[Model]", budget: float) -> "list[Model]":
    """The newest models whose weights fit into so many bytes together, and the newest one in any case."""
    kept: list[Model] = []
    for one in reversed(models):
        budget -= one.parameters * one.dtype.itemsize
        if kept and budget < 0:
            break
        kept.insert(0, one)
    return kept


def _budget() -> float:
    """Bytes for the weights of all kept models."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):  # Windows does not tell
        return _UNTOLD
    return _SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _fits(model: "Model", name: str, dtype: str) -> bool:
    return model.name == name and dtype in ("auto", str(model.dtype).removeprefix("torch."))


def _tell(text: str) -> None:
    """Show a text as the label of the progress."""
    next(track([text], text))


class _Teller(logging.Handler):
    """Passes what the library logs in this thread on as progress."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            _tell(record.getMessage())


@contextmanager
def _telling_log() -> Generator[None]:
    log, teller = logging.getLogger("workbench"), _Teller()
    log.setLevel(logging.INFO)
    log.addHandler(teller)
    try:
        yield
    finally:
        log.removeHandler(teller)
