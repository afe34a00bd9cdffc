"""Two-hop prompts: questions whose answer takes two facts, with the single facts asked beside them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.prompts import find_file, read_rows

_TEXTS = ("name", "prompt", "entity", "first", "first_hop", "second_hop")
_SHORTCUTS = ("entity_shortcut", "relation_shortcut")
_LISTS = ("bridge", "answer")


@dataclass(frozen=True)
class TwoHop:
    """One question of two hops: "The mother of the singer of Imagine is".

    Attributes:
        name: what tables call it.
        prompt: the whole question, to be continued by the answer.
        entity: what the question starts from ("Imagine").
        first: the part of the prompt that describes the bridge ("the singer of Imagine"); it stands there
            once, and its last token is the entity position.
        bridge: names of what the first hop leads to ("John Lennon", "Lennon").
        answer: names of what the second hop leads to.
        first_hop: the first hop asked by itself ("The singer of Imagine is").
        second_hop: the second hop asked of the bridge ("The mother of John Lennon is").
        entity_shortcut: the second hop asked of the entity; a model that answers it needs no bridge. Empty
            when there is no such question.
        relation_shortcut: the question without the entity; empty when there is none.
        relations: names of the two relations, for the record.
    """

    name: str
    prompt: str
    entity: str
    first: str
    bridge: tuple[str, ...]
    answer: tuple[str, ...]
    first_hop: str
    second_hop: str
    entity_shortcut: str = ""
    relation_shortcut: str = ""
    relations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in _TEXTS:
            if not getattr(self, field).strip():
                raise ValueError(f"two-hop prompt {self.name!r}: {field} is empty")
        count = self.prompt.count(self.first)
        if count != 1:
            raise ValueError(
                f"two-hop prompt {self.name!r}: {self.first!r} must stand exactly once in {self.prompt!r}, "
                f"found {count} times"
            )
        if self.entity not in self.first:
            raise ValueError(
                f"two-hop prompt {self.name!r}: the entity {self.entity!r} must stand in the part that describes the "
                f"bridge, found {self.first!r}"
            )
        for field in _LISTS:
            aliases = getattr(self, field)
            short = [alias for alias in aliases if len(alias.strip()) < 2]
            if short or not aliases:
                found = repr(short[0]) if short else "none"
                raise ValueError(
                    f"two-hop prompt {self.name!r}: every alias of the {field} has two characters or more, "
                    f"found {found}"
                )
        if mentions(self.prompt, self.answer):
            raise ValueError(
                f"two-hop prompt {self.name!r}: the answer {' / '.join(self.answer)!r} stands in the prompt "
                f"{self.prompt!r} already, so that saying it would prove nothing"
            )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "TwoHop":
        """A question from plain JSON. Raises ValueError when the aliases are no list of texts."""
        fields: dict[str, Any] = {field: row[field] for field in _TEXTS}
        fields |= {field: row.get(field) or "" for field in _SHORTCUTS}
        fields |= {field: _texts(row["name"], field, row.get(field, [])) for field in (*_LISTS, "relations")}
        return cls(**fields)


class TwoHops(tuple[TwoHop, ...]):
    """Some two-hop prompts in order."""

    @classmethod
    def of(cls, *questions: TwoHop) -> "TwoHops":
        """Questions as one input. Raises ValueError when there is none."""
        if not questions:
            raise ValueError("no two-hop prompt was given: give at least one")
        return cls(questions)

    @classmethod
    def read(cls, path: str | Path) -> "TwoHops":
        """Read a JSONL file or a bundled set with the fields of `TwoHop`; shortcuts and relations are optional."""
        return cls(map(TwoHop.from_row, read_rows(find_file(path), needed=_TEXTS)))

    @classmethod
    def bundled(cls) -> "TwoHops":
        """The two-hop prompts that ship with the workbench (our own text)."""
        return cls.read("two_hop")

    def describe(self) -> dict:
        """The questions as plain JSON, without empty fields."""
        rows = [{field: _plain(value) for field, value in asdict(hop).items() if value} for hop in self]
        return {"type": "two_hops", "two_hops": rows}


def mentions(text: str, aliases: Iterable[str], *, whole_words: bool = True) -> bool:
    """Whether a text holds one of some names, in upper or lower case.

    Args:
        text: what was said.
        aliases: names of the same thing.
        whole_words: a name must not be part of a longer word.

    Example:
        >>> mentions("He lives in Rome.", ["rome"]), mentions("an aroma", ["roma"])
        (True, False)
        >>> mentions("an aroma", ["roma"], whole_words=False)
        True
    """
    lower = text.lower()
    if not whole_words:
        return any(alias.lower() in lower for alias in aliases)
    return any(re.search(rf"(?<!\w){re.escape(alias.lower())}(?!\w)", lower) for alias in aliases)


def _texts(name: str, field: str, value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"two-hop prompt {name!r}: {field} is a list of texts, found {value!r}")
    return tuple(texts)


def _plain(value: str | tuple[str, ...]) -> str | list[str]:
    return list(value) if isinstance(value, tuple) else value
