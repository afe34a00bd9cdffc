"""The catalogue of analyses: what exists, how to run one, and what every result carries.

An analysis is a function decorated with `@analysis` in a file of its own name. The catalogue reads
those files as text, so that listing them imports no torch; running one imports it.
"""

import datetime
import functools
import hashlib
import importlib.metadata
import inspect
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, Protocol, runtime_checkable

import numpy as np

from workbench.entry import FAMILIES, PLACES, Cost, Entry, Family, Input
from workbench.folders import file_contents
from workbench.knobs import Knob, did_you_mean, plain
from workbench.result import Result
from workbench.signature import read_entry
from workbench.store import Store
from workbench.strict_json import canonical

__all__ = [
    "CATALOG",
    "Catalog",
    "Cost",
    "Entry",
    "Input",
    "Knob",
    "Subject",
    "analysis",
    "code_version",
    "run",
    "run_key",
]

Arguments = ParamSpec("Arguments")

_PACKAGE = Path(__file__).parent
_VERSIONS = ("mechinterp-workbench", "torch", "transformers", "transformer-lens", "numpy")


class Catalog(Mapping[str, Entry]):
    """The analyses of a folder by name, read from their sources at the first look.

    Args:
        folder: holds `<name>.py` or `<name>/__init__.py` for each analysis; names with a leading
            underscore are left out.
        home: the package that the analyses are imported from.
    """

    def __init__(self, folder: Path, home: str) -> None:
        self.folder = folder
        self.home = home

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        files = [*self.folder.glob("[!_]*.py"), *self.folder.glob("[!_]*/__init__.py")]
        entries = [read_entry(file, self.home) for file in files]
        return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name. Raises KeyError with the nearest names."""
        if name.replace("-", "_") not in self._entries:
            raise KeyError(f"analysis {name!r} does not exist: {did_you_mean(name, self._entries)}")
        return self._entries[name.replace("-", "_")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


CATALOG = Catalog(_PACKAGE / "analyses", "workbench.analyses")
"""Every analysis of the workbench."""


@runtime_checkable
class Subject(Protocol):
    """What the catalogue asks of a model: who it is."""

    def identity(self) -> dict[str, Any]:
        """Name, revision, fingerprint, architecture, dtype, device, parameters and checks."""
        ...


def analysis(
    *, title: str, family: Family, reference: str
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Declare a function `name(model, inputs, *, knobs) -> Result` an analysis.

    The body returns numbers, views, notes and checks; this wrapper adds what every result carries
    (analysis, title, model, inputs, params, reference, made) and refuses infinities, and NaN where
    no note of the result speaks of NaN.

    Args:
        title: plain English, shown as the heading.
        family: the tag that groups analyses.
        reference: arXiv or DOI of the source, or "folklore".
    """
    if family not in FAMILIES:
        raise ValueError(f"family {family!r}: {did_you_mean(family, FAMILIES)}")

    def declare(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(function)
        name, module = getattr(function, "__name__", ""), function.__module__

        @functools.wraps(function)
        def complete(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            call.arguments.update(_typed(name, module, call.kwargs))
            started = time.perf_counter()
            result = function(*call.args, **call.kwargs)
            seconds = time.perf_counter() - started
            _refuse_infinity(result, title)
            model, *inputs = call.args
            return replace(
                result,
                analysis=name,
                title=title,
                reference=reference,
                model=model.identity(),
                inputs=_described(dict(zip([*call.arguments][1:], inputs, strict=False))),
                params={knob: plain(value) for knob, value in call.kwargs.items()},
                made=_made(model, call.kwargs, seconds),
            )

        return complete

    return declare


def run(
    name: str,
    model: Subject,
    *inputs: object,
    store: Store | None = None,
    fresh: bool = False,
    **knobs: object,
) -> Result:
    """Run an analysis by name, or read the same run from the store.

    Args:
        name: a name of `CATALOG`.
        model: what `load` returned.
        inputs: what the analysis takes beside the model, such as `Prompts`.
        store: where runs are kept; without one nothing is read or saved, and a read-only one is
            only read.
        fresh: compute again even when the store holds the same run.
        knobs: settings of the analysis, as values or as texts.

    Returns:
        The result; its numbers are the same whether computed or read.

    Raises:
        KeyError: no analysis has this name.
        TypeError: the inputs are not what the analysis takes.
        ValueError: a knob is unknown or out of its type, or the model cannot serve the analysis.
    """
    entry = CATALOG[name]
    values = entry.parse_knobs(knobs)
    entry.check_inputs(inputs)
    if (refusal := entry.refusal(model)) is not None:
        raise ValueError(refusal)
    if store is None:
        return entry.function(model, *inputs, **values)
    key = run_key(entry, model, inputs, values)
    if not fresh and (found := store.find(key)) is not None:
        return store.get(found)
    result = entry.function(model, *inputs, **values)
    if not store.read_only:
        store.put(result, key)
    return result


def run_key(entry: Entry, model: Subject, inputs: tuple[object, ...], knobs: Mapping[str, object]) -> str:
    """The sha256 of everything that a run's numbers depend on; the store finds the run by it.

    Files that a knob names (coders, another model) count with what is in them, wherever they lie.
    """
    values = {name: plain(value) for name, value in entry.parse_knobs(knobs).items()}
    who = {name: value for name, value in model.identity().items() if name != "checks"}
    named = dict(zip((one.name for one in entry.inputs), inputs, strict=True))
    parts = {
        "analysis": entry.name,
        "model": who,
        "inputs": _described(named),
        "params": values,
        "files": {name: file_contents(str(values[name])) for name in PLACES if name in values},
        "code": code_version(),
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


@functools.cache
def code_version() -> str:
    """The sha256 of the sources of the workbench: another text may give other numbers."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        digest.update(f"{file.relative_to(_PACKAGE).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _typed(name: str, module: str, knobs: Mapping[str, object]) -> Mapping[str, object]:
    """The knobs checked against the catalogue; those of a function outside it pass as they are."""
    if not module.startswith(f"{CATALOG.home}."):
        return knobs
    return CATALOG[name].parse_knobs(knobs)


def _described(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs as plain JSON; a second model is described by its identity."""
    return {
        name: given.identity() if hasattr(given, "identity") else given.describe() for name, given in inputs.items()
    }


def _refuse_infinity(result: Result, title: str) -> None:
    """Raise ValueError on any infinity, and on NaN unless a note of the result speaks of NaN."""
    told = any("NaN" in note for note in result.notes)
    numbers = {name: named.values for name, named in result.arrays.items()}
    numbers |= {name: np.asarray(value) for name, value in result.scalars.items() if isinstance(value, float)}
    for name, values in numbers.items():
        if values.dtype.kind != "f":
            continue
        bad = np.isinf(values) if told else ~np.isfinite(values)
        if bad.any():
            place = ", ".join(map(str, np.argwhere(bad)[0])) or "the scalar itself"
            raise ValueError(
                f"{title}: {name} holds {bad.sum()} numbers that are not finite, first at {place}; "
                "float16 overflows on some models, so load the model with dtype float32 or bfloat16"
            )


def _made(model: Subject, knobs: Mapping[str, object], seconds: float) -> dict[str, Any]:
    """How the result came about: versions, seed, dtype, device, time and memory."""
    who = model.identity()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "code": code_version(),
        "seed": knobs.get("seed"),
        "dtype": who.get("dtype"),
        "device": who.get("device"),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": _peak_memory(),
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a checkout runs without being installed
            versions[name] = "not installed"
    return versions


def _peak_memory() -> int | None:
    """The most bytes that this process has ever held in memory; None where the system does not tell.

    On Linux getrusage would begin with the size of the process that started this one.
    """
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")
    if status.is_file():
        peak = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        return 1024 * int(peak[1]) if peak else None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
