"""Named: an array whose axes have words, labels and a unit.

Axis words come from `workbench.words.AXES`. Where one word is needed twice, as in a map from layer to
layer, the axes take a role: `source_layer` and `target_layer`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from workbench.words import AXES

ROLES = ("source", "target")
_DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
)


@dataclass(frozen=True, eq=False)
class Named:
    """An array with a word for each axis.

    The values are kept read-only and in C order. Two of them are equal if everything is equal, dtype
    included; NaN equals NaN.

    Args:
        values: the numbers, of any shape; bool, integers, float32 or float64.
        axes: one axis word per dimension, all different.
        unit: what the numbers are measured in, such as "nats" or "probability".
        labels: for some axes, a text for each index (the tokens of `pos`, for instance).

    Raises:
        TypeError: the dtype cannot be kept.
        ValueError: axes or labels do not fit the values.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    unit: str = ""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.array(self.values, order="C")
        if values.dtype.name not in _DTYPES:
            raise TypeError(f"an array of dtype {values.dtype.name} cannot be kept: allowed are {', '.join(_DTYPES)}")
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "axes", tuple(self.axes))
        object.__setattr__(self, "labels", {axis: tuple(texts) for axis, texts in self.labels.items()})
        self._check_axes()
        self._check_labels()

    def _check_axes(self) -> None:
        if len(self.axes) != self.values.ndim:
            raise ValueError(
                f"{len(self.axes)} axes {self.axes} were given for an array of shape {self.values.shape}: "
                "name each dimension once"
            )
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes {self.axes} repeat a word: write, say, source_layer and target_layer")
        for axis in self.axes:
            if not is_axis(axis):
                raise ValueError(
                    f"axis {axis!r} is unknown: allowed are {', '.join(AXES)}, each also with "
                    f"{' or '.join(f'{role}_' for role in ROLES)} in front"
                )

    def _check_labels(self) -> None:
        for axis, texts in self.labels.items():
            if axis not in self.axes:
                raise ValueError(f"labels were given for axis {axis!r}, but the axes are {self.axes}")
            if len(texts) != self.size(axis):
                raise ValueError(f"axis {axis!r} has {self.size(axis)} entries but {len(texts)} labels")
            for text in texts:
                if not isinstance(text, str):
                    raise TypeError(f"axis {axis!r} has the label {text!r}: labels are str")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Named):
            return NotImplemented
        return (
            (self.axes, self.unit, self.labels) == (other.axes, other.unit, other.labels)
            and self.values.dtype == other.values.dtype
            and np.array_equal(self.values, other.values, equal_nan=self.values.dtype.kind == "f")
        )

    __hash__ = None

    def size(self, axis: str) -> int:
        """How many entries the axis has."""
        return self.values.shape[self.axes.index(axis)]

    def names(self, axis: str) -> tuple[str, ...]:
        """The labels of the axis, or its indices as text where it has none."""
        return self.labels.get(axis) or tuple(str(index) for index in range(self.size(axis)))

    def columns(self, name: str) -> Iterator[tuple[str, np.ndarray]]:
        """The columns of a tidy table with one row per element; `name` is that of the value column.

        Each axis has a column with its indices; where it has labels, the column holds those, and a
        further one, such as `pos_index`, the indices.
        """
        grid = np.indices(self.values.shape).reshape(self.values.ndim, -1)
        for axis, indices in zip(self.axes, grid, strict=True):
            if axis in self.labels:
                yield axis, np.array(self.labels[axis], dtype=object)[indices]
                yield f"{axis}_index", indices
            else:
                yield axis, indices
        yield name, self.values.reshape(-1)


def is_axis(word: str) -> bool:
    """Whether this is an axis word, with or without a role in front."""
    role, _, rest = word.partition("_")
    return word in AXES or (role in ROLES and rest in AXES)
