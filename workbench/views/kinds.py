"""The seven kinds of view: frozen descriptions of a picture, written and read as JSON.

A view names arrays and tables of the result it belongs to and holds no numbers of its own, so that a
notebook, the dashboard, a report and a reloaded file all draw the same picture.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from workbench.named import Named


@runtime_checkable
class Source(Protocol):
    """Where a view finds its numbers: any object with arrays and tables, in practice a Result."""

    @property
    def arrays(self) -> Mapping[str, Named]:
        """Arrays by name."""
        ...

    @property
    def tables(self) -> Mapping[str, list[dict[str, Any]]]:
        """Tables by name, each a list of rows."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """What every kind of view can say.

    `select` fixes other axes at an index, such as {"pos": -1}; an axis that is neither drawn nor fixed
    is shown at index 0, and the picture says so. `caption` is a sentence for below the picture.
    """

    title: str = ""
    caption: str = ""
    select: Mapping[str, int] | None = None

    @property
    def read_arrays(self) -> tuple[str, ...]:
        """The names of the arrays that this view draws."""
        return ()

    @property
    def read_axes(self) -> tuple[str, ...]:
        """The axes that each of those arrays must have."""
        return ()

    @property
    def read_columns(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the tables that this view draws, with the columns each must have."""
        return {}


@dataclass(frozen=True)
class Heatmap(_Picture):
    """A grid of coloured cells; a layer axis has layer 0 at the bottom.

    `diverging` centres the colours at zero: use it for effects, and leave it off for scores and
    probabilities.
    """

    array: str
    x: str
    y: str
    diverging: bool = False

    @property
    def read_arrays(self) -> tuple[str, ...]:
        """The one array."""
        return (self.array,)

    @property
    def read_axes(self) -> tuple[str, ...]:
        """The horizontal and the vertical axis."""
        return (self.x, self.y)


@dataclass(frozen=True)
class _Curves(_Picture):
    arrays: str | tuple[str, ...]
    x: str
    series: str = ""
    lower: str | tuple[str, ...] = ()
    upper: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("arrays", "lower", "upper"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        for name in ("lower", "upper"):
            if len(getattr(self, name)) not in (0, len(self.arrays)):
                raise ValueError(f"{name} names {getattr(self, name)}: give one for each of {self.arrays}, or none")
        if len(self.lower) != len(self.upper):
            raise ValueError("lower and upper belong together: give both or none")

    @property
    def read_arrays(self) -> tuple[str, ...]:
        """The arrays and the limits around them."""
        return (*self.arrays, *self.lower, *self.upper)

    @property
    def read_axes(self) -> tuple[str, ...]:
        """The horizontal axis, and the one that gives a series per index."""
        return (self.x, self.series) if self.series else (self.x,)


@dataclass(frozen=True)
class Lines(_Curves):
    """Curves over the axis `x`: one for each array, and for each index of the axis `series`, if given.

    `lower` and `upper` name arrays that bound a band around each curve; `log` makes the vertical axis
    logarithmic.
    """

    log: bool = False


@dataclass(frozen=True)
class Bars(_Curves):
    """Bars over the axis `x`, grouped by array and by the axis `series`, if given.

    `lower` and `upper` name arrays that hold the ends of the error bars.
    """


@dataclass(frozen=True)
class Scatter(_Picture):
    """One point for each element of two arrays with the same axes, or for each row of a table.

    Args:
        x: an array, or a column if a table is given.
        y: the same, for the vertical axis.
        colour: a third array or column to colour the points by, or nothing.
        table: the table whose columns are meant; empty for arrays.
        label: with a table, the column that names each point on hover.
        diverging: centre the colours at zero.
    """

    x: str
    y: str
    colour: str = ""
    table: str = ""
    label: str = ""
    diverging: bool = False

    @property
    def read_arrays(self) -> tuple[str, ...]:
        """Two or three arrays, or none if the points are rows of a table."""
        return () if self.table else tuple(filter(None, (self.x, self.y, self.colour)))

    @property
    def read_columns(self) -> Mapping[str, tuple[str, ...]]:
        """The columns, if the points are rows of a table."""
        columns = tuple(filter(None, (self.x, self.y, self.colour, self.label)))
        return {self.table: columns} if self.table else {}


@dataclass(frozen=True)
class Tokens(_Picture):
    """A strip of tokens, each coloured by an array over `axis`; the labels of that axis are the tokens."""

    array: str
    axis: str = "pos"
    diverging: bool = False

    @property
    def read_arrays(self) -> tuple[str, ...]:
        """The one array."""
        return (self.array,)

    @property
    def read_axes(self) -> tuple[str, ...]:
        """The axis of the tokens."""
        return (self.axis,)


@dataclass(frozen=True)
class Table(_Picture):
    """Chosen columns of a table of the result (all of them if none is named), and its first rows."""

    table: str
    columns: tuple[str, ...] = ()
    rows: int = 20

    @property
    def read_columns(self) -> Mapping[str, tuple[str, ...]]:
        """The table and its columns."""
        return {self.table: tuple(self.columns)}


@dataclass(frozen=True)
class Graph(_Picture):
    """Nodes at given places, joined by weighted edges.

    The table `nodes` has the columns id, x, y, label. It may have value (colours and ranks the nodes), kind
    (feature, error, token or target: the shape), and column and row: the names of where a node stands, which then
    are the axes, with the nodes of one place side by side. `edges` has source, target (ids), weight, and may have
    share (ranks the edges, else their weight does).

    Args:
        nodes: a table.
        edges: a table.
        diverging: centre the colours at zero.
        x_title: what the columns are.
        y_title: what the rows are.
        value_title: what the value is.
        details: further columns of `nodes` to tell of each node.
    """

    nodes: str
    edges: str
    diverging: bool = True
    x_title: str = ""
    y_title: str = ""
    value_title: str = "value"
    details: tuple[str, ...] = ()

    @property
    def read_columns(self) -> Mapping[str, tuple[str, ...]]:
        """The two tables."""
        return {self.nodes: ("id", "x", "y", "label", *self.details), self.edges: ("source", "target", "weight")}


View = Heatmap | Lines | Bars | Scatter | Tokens | Table | Graph
KINDS: dict[str, type[View]] = {kind.__name__: kind for kind in (Heatmap, Lines, Bars, Scatter, Tokens, Table, Graph)}


def check_view(view: View, source: Source) -> None:
    """Make sure that everything the view names is there.

    Raises:
        KeyError: an array, an axis, a table or a column is missing.
    """
    kind = type(view).__name__
    for name in view.read_arrays:
        if name not in source.arrays:
            raise KeyError(f"{kind} names the array {name!r}: the arrays are {list(source.arrays)}")
        for axis in (*view.read_axes, *(view.select or {})):
            if axis not in source.arrays[name].axes:
                raise KeyError(f"{kind} wants axis {axis!r} of {name!r}: its axes are {source.arrays[name].axes}")
    for name, columns in view.read_columns.items():
        if name not in source.tables:
            raise KeyError(f"{kind} names the table {name!r}: the tables are {list(source.tables)}")
        for row in source.tables[name]:
            if missing := [column for column in columns if column not in row]:
                raise KeyError(f"{kind} wants columns {missing} of table {name!r}: a row has {list(row)}")


def view_to_json(view: View) -> dict[str, Any]:
    """The view as plain JSON values."""
    fields = {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    listed["select"] = None if view.select is None else dict(view.select)
    return {"kind": type(view).__name__, **listed}


def view_from_json(written: Mapping[str, Any]) -> View:
    """The view that `view_to_json` wrote.

    Raises:
        ValueError: the kind or a field is unknown, or a field is missing.
    """
    fields = dict(written)
    kind = KINDS.get(str(fields.pop("kind", None)))
    if kind is None:
        raise ValueError(f"view kind {written.get('kind')!r} is unknown: allowed are {', '.join(KINDS)}")
    known = [field.name for field in dataclasses.fields(kind)]
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(f"a {kind.__name__} has no {', '.join(unknown)}: its fields are {', '.join(known)}")
    listed: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    try:
        return kind(**listed)
    except TypeError as error:
        raise ValueError(f"a {kind.__name__} cannot be read from {dict(written)}: {error}") from error
