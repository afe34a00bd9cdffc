"""Doctor: is this machine fit for the workbench? Versions, conflicts, devices, folders, browser."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DISTRIBUTION = "mechinterp-workbench"

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
_LITTLE_SPACE = 2e9
"""Bytes of free disk below which the doctor warns."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: fine, doubtful (the workbench runs, something will be missing) or broken.
        text: what was found, and what to do about it.
    """

    name: str
    state: Literal["fine", "doubtful", "broken"]
    text: str


def examine(store: str | Path | None = None) -> list[Finding]:
    """Look at everything that the workbench stands on. Takes seconds: it imports torch.

    Args:
        store: the folder of saved runs, as `Store` takes it.
    """
    return [_python(), *_requirements(), *_conflicts(), *_devices(), *_folders(store), _browser()]


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding("Python", "fine" if sys.version_info >= (3, 11) else "broken", f"{text}; needs 3.11 or newer")


def _requirements() -> Iterator[Finding]:
    """Every required distribution, and whether its version is in the range that we ask for."""
    from packaging.requirements import Requirement

    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(DISTRIBUTION, "broken", "is not installed: run pip install -e . in its checkout")
        return
    for text in required:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None:
            yield Finding(requirement.name, "broken", f"is missing: pip install '{requirement}'")
        elif not requirement.specifier.contains(found, prereleases=True):
            yield Finding(requirement.name, "broken", f"{found} does not fit: pip install '{requirement}'")
        else:
            yield Finding(requirement.name, "fine", found)


def _conflicts() -> Iterator[Finding]:
    if (other := _version("workbench")) is not None:
        yield Finding(
            "workbench (another project)",
            "broken",
            f"PyPI's `workbench` {other} has the same import name: pip uninstall workbench, "
            f"then pip install --force-reinstall --no-deps {DISTRIBUTION}",
        )


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("devices", "broken", f"torch cannot be imported: {error}")
        return
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", "fine", f"{card.name}, {card.total_memory / 1e9:.0f} GB")
    if torch.backends.mps.is_available():
        yield Finding("mps", "fine", "Apple GPU")
    yield Finding("cpu", "fine", f"{torch.get_num_threads()} threads, used when there is no GPU")


def _folders(store: str | Path | None) -> Iterator[Finding]:
    from workbench.prompts import data_folder
    from workbench.store import Store

    try:
        yield Finding("bundled data", "fine", str(data_folder()))
    except FileNotFoundError as error:
        yield Finding("bundled data", "broken", str(error))
    try:
        root = Store(store).root
    except OSError as error:
        yield Finding("saved runs", "broken", f"{error}; set WORKBENCH_HOME to a folder that can be written")
        return
    free = shutil.disk_usage(root).free
    yield Finding("saved runs", "fine" if free > _LITTLE_SPACE else "doubtful", f"{root}, {free / 1e9:.0f} GB free")


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        return Finding("browser", "doubtful", "no Chromium or Chrome found; only the browser tests need one")
    return Finding("browser", "fine", found)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
