"""Edits in words: "zero L5.H1; scale L3.mlp_out 0.5; clamp L4.N123 5; skip L7.attn; cut L2.H0 query 7 key 0".

One edit is a verb, a place and, for some verbs, a number; several are parted by semicolons or line breaks. A
place is a site (`L3.H2.z@5`), or short for one: a head stands for its z, a neuron for its mlp_post, `attn` and
`mlp` for the branch's output. What is read here runs in `edited`, and its text form is read back exactly.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from workbench.edit import Edit, SiteEdit, clamp, scale, zero
from workbench.rewiring import Repeat, cut, repeat, skip
from workbench.words import Site

_SHORT = re.compile(r"^(?P<layer>L\d+)\.(?P<part>H\d+|N\d+|attn|mlp)(?P<pos>@-?\d+)?$")
_KINDS = {"H": "{part}.z", "N": "{part}.mlp_post", "a": "attn_out", "m": "mlp_out"}
_PART = re.compile(r"^L(?P<layer>\d+)(?:\.(?P<part>attn|mlp))?$")
_EDGES = re.compile(r"^L(?P<layer>\d+)(?:\.H(?P<head>\d+))?$")


@dataclass(frozen=True)
class WrittenEdit:
    """One edit as it is written.

    Attributes:
        verb: zero, scale, clamp, skip, repeat or cut.
        site: where; for skip and repeat what leaves the branch or the block, for cut the scores.
        number: the factor of scale, the value of clamp, how often repeat runs the block.
        since: for zero, scale and clamp the first position on which they act, up to the last generated token.
        query: for cut, the query of the edge.
        key: for cut, the key of the edge.
    """

    verb: str
    site: Site
    number: float | None = None
    since: int | None = None
    query: int | None = None
    key: int | None = None

    def __str__(self) -> str:
        layer, part = f"L{self.site.layer}", {"attn_out": ".attn", "mlp_out": ".mlp"}.get(self.site.kind, "")
        if self.verb in ("skip", "repeat"):
            return f"{self.verb} {layer}{part}{_number(self.number)}"
        if self.verb == "cut":
            head = "" if self.site.head is None else f".H{self.site.head}"
            return f"cut {layer}{head}{_named('query', self.query)}{_named('key', self.key)}"
        return f"{self.verb} {self.site}{_number(self.number)}{_named('from', self.since)}"

    def made(self) -> Edit:
        """The edit itself, fresh."""
        number = self.number or 0.0
        match self.verb:
            case "skip":
                return skip({"attn_out": "attn", "mlp_out": "mlp"}.get(self.site.kind, "block"), self.site.block)
            case "repeat":
                return repeat(self.site.block, int(number))
            case "cut":
                return cut(self.site.block, query=self.query, key=self.key, head=self.site.head)
        makers = {"zero": zero, "scale": lambda: scale(number), "clamp": lambda: clamp(number)}
        return SiteEdit(self.site, makers[self.verb](), self.since)

    def idle(self) -> Edit:
        """An edit at the same place that changes nothing, bit for bit."""
        return repeat(self.site.block, 1) if self.verb == "repeat" else SiteEdit(self.site, scale(1.0), self.since)

    @property
    def cacheable(self) -> bool:
        """Whether it can run over a key-value cache."""
        return not isinstance(self.made(), Repeat)


def edits(text: str) -> list[Edit]:
    """Edits from words, to be put into `edited`.

    Args:
        text: such as "zero L5.H1; scale L3.mlp_out 0.5". The verbs: `zero PLACE`, `scale PLACE NUMBER` and
            `clamp PLACE NUMBER`, each also with `from POSITION`; `skip L7`, `skip L7.attn` or `skip L7.mlp`;
            `repeat L7 2`; `cut L5.H1 query 7 key 0`, with a query, a key or both, of one head or of all.

    Raises:
        ValueError: says which edit cannot be read, and how it is written.

    Example:
        >>> [str(edit) for edit in edits("skip L7.attn; repeat L2 3")]
        ['skip attn 7', 'repeat block 2 x3']
    """
    return [written.made() for written in read_edits(text)]


def read_edits(text: str) -> list[WrittenEdit]:
    """The edits of a text as they are written. Raises ValueError as `edits` does."""
    parts = [part.strip() for part in re.split(r"[;\n]", text) if part.strip()]
    if not parts:
        raise ValueError("no edit was given: write one such as 'zero L5.H1', or several with ; between them")
    return [_read(part) for part in parts]


def _read(text: str) -> WrittenEdit:
    verb, *rest = text.split()
    if verb not in _FORMS:
        near = get_close_matches(verb, _FORMS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"edit {text!r}: the verb {verb!r} is unknown: {hint}allowed are {', '.join(_FORMS)}")
    form, read = _FORMS[verb]
    try:
        return read(verb, rest)
    except ValueError as error:
        why = f": {error}" if str(error) else ""
        raise ValueError(f"edit {text!r} cannot be read{why}; write {form}") from error


def _read_change(verb: str, rest: list[str]) -> WrittenEdit:
    """A verb that puts something else at a site."""
    options = _options(rest, ("from",))
    place, *numbers = rest or [""]
    if len(numbers) != (verb != "zero"):
        raise ValueError
    site = _site(place)
    if site.pos is not None and "from" in options:
        raise ValueError("the position is named twice")
    number = None
    if numbers:
        number = float(numbers[0])
        if not math.isfinite(number):
            raise ValueError("the number is not finite")
    return WrittenEdit(verb, site, number, since=options.get("from"))


def _read_skip(verb: str, rest: list[str]) -> WrittenEdit:
    kinds = {"attn": "attn_out", "mlp": "mlp_out", None: "resid_post"}
    if len(rest) != 1 or (match := _PART.match(rest[0])) is None:
        raise ValueError
    return WrittenEdit(verb, Site(kinds[match["part"]], int(match["layer"])))


def _read_repeat(verb: str, rest: list[str]) -> WrittenEdit:
    if len(rest) != 2 or (match := _PART.match(rest[0])) is None or match["part"] is not None:
        raise ValueError
    if int(rest[1]) < 1:
        raise ValueError("a block runs at least once")
    return WrittenEdit(verb, Site("resid_post", int(match["layer"])), float(int(rest[1])))


def _read_cut(verb: str, rest: list[str]) -> WrittenEdit:
    options = _options(rest, ("query", "key"))
    if len(rest) != 1 or not options or (match := _EDGES.match(rest[0])) is None:
        raise ValueError
    if min(options.values()) < 0:
        raise ValueError("queries and keys count from the front, from 0")
    head = None if match["head"] is None else int(match["head"])
    return WrittenEdit(verb, Site("scores", int(match["layer"]), head=head), **options)


def _options(rest: list[str], names: tuple[str, ...]) -> dict[str, int]:
    """Take the pairs of a name and a whole number off the end of the words."""
    found: dict[str, int] = {}
    while len(rest) >= 2 and rest[-2] in names:
        name, value = rest[-2:]
        if name in found:
            raise ValueError(f"{name} is named twice")
        found[name] = int(value)
        del rest[-2:]
    return found


def _site(text: str) -> Site:
    """A site, or what is short for one."""
    if match := _SHORT.match(text):
        kind = _KINDS[match["part"][0]].format(part=match["part"])
        return Site.parse(f"{match['layer']}.{kind}{match['pos'] or ''}")
    return Site.parse(text)


def _number(number: float | None) -> str:
    return "" if number is None else f" {str(number).removesuffix('.0')}"


def _named(name: str, value: int | None) -> str:
    return "" if value is None else f" {name} {value}"


_Reader = Callable[[str, list[str]], WrittenEdit]
_FORMS: dict[str, tuple[str, _Reader]] = {
    "zero": ("zero PLACE, as in 'zero L5.H1' or 'zero L5.H1 from 12'", _read_change),
    "scale": ("scale PLACE NUMBER, as in 'scale L3.mlp_out 0.5'", _read_change),
    "clamp": ("clamp PLACE NUMBER, as in 'clamp L4.N123 5'", _read_change),
    "skip": ("skip LAYER, LAYER.attn or LAYER.mlp, as in 'skip L7.attn'", _read_skip),
    "repeat": ("repeat LAYER TIMES, as in 'repeat L7 2'", _read_repeat),
    "cut": ("cut LAYER or LAYER.HEAD with a query, a key or both, as in 'cut L5.H1 query 7 key 0'", _read_cut),
}
"""How each verb is written, and what reads it."""
