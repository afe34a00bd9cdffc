"""Result: what every analysis returns. It tabulates, draws and saves itself.

A saved result is a folder with `result.json` (strict JSON, see `workbench.strict_json`) and
`arrays.safetensors`; it is read back without importing the analysis that made it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.folders import write_folder
from workbench.named import Named
from workbench.strict_json import canonical, dumps, loads, plain, plain_rows
from workbench.views import View, check_view, figure, markup, view_from_json, view_to_json

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects  # noqa: TID251

__all__ = ["Check", "Named", "Result"]

SCHEMA_VERSION = 1
RESULT_FILE = "result.json"
ARRAYS_FILE = "arrays.safetensors"


@dataclass(frozen=True)
class Check:
    """A numeric self-check: it passes if the value is at most the tolerance. NaN fails."""

    name: str
    value: float | int
    tolerance: float | int

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "tolerance", float(self.tolerance))

    @property
    def passed(self) -> bool:
        """Whether the value is at most the tolerance."""
        return self.value <= self.tolerance


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of one analysis: numbers, pictures, caveats, and how it was made.

    An analysis fills what it found (arrays, tables, scalars, views, finding, notes, checks); the catalogue
    adds the rest. All values are numpy arrays or plain JSON types. Two results are equal if everything is
    equal; NaN equals NaN.

    Raises:
        TypeError: a value is neither an array nor a plain JSON type.
        ValueError: a name is used for an array and a table, or the rows of a table differ in columns.
        KeyError: a view names something that the result does not have.
    """

    analysis: str = ""
    """Name in the catalogue."""
    title: str = ""
    """Title in plain English."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Identity of the model: name, revision, fingerprint, architecture, dtype, device, ..."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What it ran on: each input described by itself, texts included."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Every knob and its value."""
    arrays: Mapping[str, Named] = field(default_factory=dict)
    """Numbers with named axes."""
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Tables as lists of rows; a row maps columns to plain values."""
    scalars: Mapping[str, Any] = field(default_factory=dict)
    """Single numbers, words and truths."""
    views: tuple[View, ...] = ()
    """The pictures, most telling first."""
    finding: str = ""
    """The outcome in one sentence of plain English, with its numbers."""
    notes: tuple[str, ...] = ()
    """Caveats in words."""
    checks: tuple[Check, ...] = ()
    """Numeric self-checks."""
    reference: str = ""
    """The source of the method."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """Versions, seed, seconds, peak memory, time of making."""

    def __post_init__(self) -> None:
        for name in ("model", "inputs", "params", "scalars", "made"):
            object.__setattr__(self, name, plain(getattr(self, name), name))
        for name in ("views", "notes", "checks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "arrays", dict(self.arrays))
        object.__setattr__(
            self, "tables", {name: plain_rows(rows, f"table {name!r}") for name, rows in self.tables.items()}
        )
        if both := sorted(set(self.arrays) & set(self.tables)):
            raise ValueError(f"{', '.join(both)} names both an array and a table: choose two names")
        for name, array in self.arrays.items():
            if not isinstance(array, Named):
                raise TypeError(f"array {name!r} is a {type(array).__name__}: wrap it as Named(values, axes)")
        for view in self.views:
            check_view(view, self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        return canonical(self.to_json()) == canonical(other.to_json()) and self.arrays == other.arrays

    __hash__ = None

    @property
    def passed(self) -> bool:
        """Whether all self-checks passed."""
        return all(check.passed for check in self.checks)

    def named(self, name: str) -> Named:
        """The array of this name.

        Raises:
            KeyError: there is none.
        """
        if name not in self.arrays:
            raise KeyError(f"there is no array {name!r}: the arrays are {', '.join(self.arrays) or 'none'}")
        return self.arrays[name]

    def table(self, name: str | None = None) -> "pandas.DataFrame":
        """A table by name, or an array as a tidy table with one row per element.

        A tidy table has a column for each axis and one, named after the array, for the value. Where an axis
        has labels its column holds them, and a further column, such as `pos_index`, the index.

        Args:
            name: a table or an array; without it the first table, else the first array.

        Raises:
            KeyError: there is no such table or array.
        """
        import pandas

        available = [*self.tables, *self.arrays]
        name = name or next(iter(available), "")
        if name in self.tables:
            return pandas.DataFrame(self.tables[name])
        if name in self.arrays:
            return pandas.DataFrame(dict(self.arrays[name].columns(name)))
        raise KeyError(f"there is no table or array {name!r}: allowed are {', '.join(available) or 'none'}")

    def figure(
        self, view: int = 0, select: Mapping[str, int] | None = None, dark: bool = False
    ) -> "plotly.graph_objects.Figure":
        """Draw one of the views with plotly.

        Args:
            view: index of the view.
            select: indices of further axes, over the view's own.
            dark: colours for a dark page.

        Raises:
            IndexError: there is no such view.
        """
        if not -len(self.views) <= view < len(self.views):
            raise IndexError(f"view {view} was asked of a result with {len(self.views)} views")
        return figure(self.views[view], self, select, dark)

    def to_json(self) -> dict[str, Any]:
        """All of the result but the values of the arrays, as plain JSON values."""
        arrays = {
            name: {
                "axes": list(array.axes),
                "unit": array.unit,
                "labels": {axis: list(texts) for axis, texts in array.labels.items()},
                "dtype": array.values.dtype.name,
                "shape": list(array.values.shape),
            }
            for name, array in self.arrays.items()
        }
        checks = [{**dataclasses.asdict(check), "passed": check.passed} for check in self.checks]
        kept = (
            "analysis",
            "title",
            "model",
            "inputs",
            "params",
            "scalars",
            "tables",
            "finding",
            "reference",
            "made",
        )
        return {
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(self, name) for name in kept},
            "arrays": arrays,
            "checks": checks,
            "notes": list(self.notes),
            "views": [view_to_json(view) for view in self.views],
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> "Result":
        """The result that `to_json` wrote, with the values of its arrays.

        Raises:
            ValueError: the schema is newer, something is missing, or the values do not fit.
        """
        version = written.get("schema_version")
        if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
            raise ValueError(f"schema version {version} cannot be read: this workbench reads 1 to {SCHEMA_VERSION}")
        fields = {name: value for name, value in written.items() if name != "schema_version"}
        if set(values) != set(written["arrays"]):
            raise ValueError(f"arrays {sorted(written['arrays'])} are described, but {sorted(values)} were found")
        fields["arrays"] = {name: _array(name, about, values[name]) for name, about in written["arrays"].items()}
        fields["notes"] = tuple(written["notes"])
        fields["views"] = tuple(view_from_json(view) for view in written["views"])
        fields["checks"] = tuple(
            Check(check["name"], check["value"], check["tolerance"]) for check in written["checks"]
        )
        return cls(**fields)

    def files(self) -> dict[str, bytes]:
        """The files of a saved result."""
        from safetensors.numpy import save

        values = {name: array.values for name, array in self.arrays.items()}
        return {RESULT_FILE: dumps(self.to_json(), indent=1).encode(), ARRAYS_FILE: save(values)}

    def save(self, folder: str | Path) -> Path:
        """Write the result into a folder, atomically; a result that is already there is replaced.

        Raises:
            ValueError: the folder holds something else.
            OSError: the disk is full or cannot be written; nothing is left behind.
        """
        write_folder(Path(folder), self.files())
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read a saved result; equal to the one that was saved.

        Raises:
            ValueError: a file is missing, damaged, or from a newer workbench.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        file = Path(folder) / RESULT_FILE
        try:
            written = loads(file.read_text(encoding="utf-8"))
            file = Path(folder) / ARRAYS_FILE
            values = load(file.read_bytes())
            file = Path(folder) / RESULT_FILE
            return cls.from_json(written, values)
        except FileNotFoundError as error:
            raise ValueError(f"{file} is missing: {folder} holds no whole result") from error
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from error

    def _repr_html_(self) -> str:
        pictures = "".join(markup(view, self) for view in self.views)
        return f"<h3>{escape(self.title or self.analysis)}</h3><p>{escape(self.finding)}</p>{pictures}"


def _array(name: str, about: Mapping[str, Any], values: np.ndarray) -> Named:
    """An array put together from its description and its values."""
    if list(values.shape) != about["shape"] or values.dtype.name != about["dtype"]:
        raise ValueError(
            f"array {name!r} is described as {about['dtype']} {about['shape']}, "
            f"but found as {values.dtype.name} {list(values.shape)}"
        )
    labels = {axis: tuple(texts) for axis, texts in about["labels"].items()}
    return Named(values, tuple(about["axes"]), about["unit"], labels)
