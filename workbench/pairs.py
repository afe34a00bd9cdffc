"""Pairs: a clean and a corrupt prompt that differ in what decides the answer, to carry activations between."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.prompts import Prompt, find_file, read_rows

_NEEDED = ("clean", "corrupt", "target")


@dataclass(frozen=True)
class Pair:
    """Two prompts, token for token as long as each other, and the token that tells their runs apart.

    Attributes:
        clean: the prompt that leads to the target.
        corrupt: the same prompt with what decides the answer changed.
        target: the token that should follow the clean prompt.
        distractor: the token to compare it with; empty when there is none.
        corruption: what was changed, in words; pairs of one corruption can be taken by themselves.
        meta: anything else, for the record.
    """

    clean: str
    corrupt: str
    target: str
    distractor: str = ""
    corruption: str = ""
    meta: dict = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for text in (self.clean, self.corrupt):
            Prompt(text)  # refuses what is no text
        if self.clean == self.corrupt:
            raise ValueError(f"pair {self.clean!r}: clean and corrupt are the same text, so there is nothing to patch")
        if not self.target:
            raise ValueError(f"pair {self.clean!r}: no target was given: name the token that should follow clean")
        if self.target == self.distractor:
            raise ValueError(f"pair {self.clean!r}: target and distractor are both {self.target!r}: choose two tokens")

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Pair":
        """A pair from plain JSON; fields that a pair has not are left out.

        Raises:
            ValueError: the distractor or the corruption is no text.
        """
        for name in ("distractor", "corruption"):
            if not isinstance(row.get(name, ""), str):
                raise ValueError(f"pair {row['clean']!r}: {name} is a text, found {row[name]!r}")
        return cls(**{name: row[name] for name in cls.__dataclass_fields__ if name in row})


class Pairs(tuple[Pair, ...]):
    """Some clean and corrupt prompts in order.

    Example:
        >>> Pairs.of(Pair("2 + 2 =", "2 + 3 =", " 4", " 5", "number")).corruptions
        ('number',)
    """

    @classmethod
    def of(cls, *pairs: Pair) -> "Pairs":
        """Pairs as one input. Raises ValueError when there is none."""
        if not pairs:
            raise ValueError("no pair was given: give at least one clean and one corrupt prompt")
        return cls(pairs)

    @classmethod
    def read(cls, path: str | Path) -> "Pairs":
        """Read a JSONL file or a bundled set with the fields of `Pair`; distractor, corruption, meta are optional."""
        return cls(map(Pair.from_row, read_rows(find_file(path), needed=_NEEDED)))

    @classmethod
    def bundled(cls) -> "Pairs":
        """The indirect-object pairs that ship with the workbench (our own text); others are read by their name."""
        return cls.read("indirect_objects")

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The kinds of corruption, in the order in which they first appear."""
        return tuple(dict.fromkeys(pair.corruption for pair in self))

    def of_corruption(self, corruption: str) -> "Pairs":
        """The pairs of one kind of corruption. Raises ValueError when there is none."""
        if corruption not in self.corruptions:
            known = ", ".join(map(repr, self.corruptions))
            raise ValueError(f"no pair has the corruption {corruption!r}: there are {known}")
        return Pairs(pair for pair in self if pair.corruption == corruption)

    def describe(self) -> dict:
        """The pairs as plain JSON, without empty fields."""
        rows = [{name: value for name, value in asdict(pair).items() if value} for pair in self]
        return {"type": "pairs", "pairs": rows}
