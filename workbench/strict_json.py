"""JSON that keeps every number: strict text in, the same plain values out.

Strict JSON has no NaN and no infinities, but results do. They are written as
`{"$float": "nan"}`, `{"$float": "inf"}` and `{"$float": "-inf"}`; keys that begin with a dollar sign
are therefore reserved. Everything else is ordinary JSON that any tool can read.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

ALLOWED = "str, int, float, bool, None, and lists and dicts of them"


def plain(value: object, where: str) -> Any:
    """A copy of the value in which tuples have become lists.

    Args:
        value: what shall be stored as JSON.
        where: how an error names the value, such as "table 'top', row 3, column 'token'".

    Raises:
        TypeError: something in the value is no plain JSON type (a numpy number, a tensor, a path).
        ValueError: a key begins with a dollar sign.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r} of type {type(key).__name__}: keys are str")
            if key.startswith("$"):
                raise ValueError(f"{where} has the key {key!r}: keys must not begin with a dollar sign")
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    raise TypeError(f"{where} is a {kind}: allowed are {ALLOWED}")


def plain_rows(rows: Sequence[Mapping[str, object]], where: str) -> list[dict[str, Any]]:
    """The rows of a table as plain values.

    Raises:
        TypeError: a row is no mapping, or a cell is no plain JSON type; the message names row and column.
        ValueError: the rows differ in columns.
    """
    copied = []
    for number, row in enumerate(rows):
        place = f"{where}, row {number}"
        if not isinstance(row, Mapping):
            raise TypeError(f"{place} is a {type(row).__name__}: a row is a dict")
        if set(row) != set(rows[0]):
            raise ValueError(f"{place} has columns {list(row)}, the first row {list(rows[0])}")
        copied.append({column: plain(cell, f"{place}, column {column!r}") for column, cell in row.items()})
    return copied


def dumps(value: object, indent: int | None = None) -> str:
    """Strict JSON text of a plain value, in the order of its keys."""
    return json.dumps(_encode(value), allow_nan=False, indent=indent)


def canonical(value: object) -> str:
    """The one strict JSON text that stands for a plain value: keys sorted, no spaces."""
    return json.dumps(_encode(value), allow_nan=False, sort_keys=True, separators=(",", ":"))


def loads(text: str) -> Any:
    """The value that `dumps` wrote.

    Raises:
        ValueError: the text is not strict JSON.
    """
    return json.loads(text, object_hook=_decode, parse_constant=_refuse)


def _encode(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    return value


def _decode(found: dict[str, object]) -> object:
    return float(str(found["$float"])) if set(found) == {"$float"} else found


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not strict JSON")
