"""The words of the workbench: axis names, and Site, a place in a decoder.

The axis words are used in jaxtyping strings, einops patterns, result axes, table columns and
widget labels alike. A Site names one place where an activation can be read or changed; which
sites a given model really has is the business of `workbench.sites`.
"""

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches

AXES = (
    *("batch", "pos", "query", "key", "layer", "head", "kv_head", "d_model", "d_head", "d_mlp"),
    *("neuron", "feature", "vocab", "component", "step", "rank", "example", "length", "depth", "sublayer", "run"),
)

KINDS: dict[str, str] = {
    "embed": "batch pos d_model",
    "resid_pre": "batch pos d_model",
    "resid_mid": "batch pos d_model",
    "resid_post": "batch pos d_model",
    "attn_out": "batch pos d_model",
    "q": "batch pos head d_head",
    "k": "batch pos kv_head d_head",
    "v": "batch pos kv_head d_head",
    "z": "batch pos head d_head",
    "scores": "batch head query key",
    "pattern": "batch head query key",
    "mlp_in": "batch pos d_model",
    "mlp_pre": "batch pos d_mlp",
    "mlp_post": "batch pos d_mlp",
    "mlp_out": "batch pos d_model",
    "logits": "batch pos vocab",
}
"""Every kind of site and the axes of its activation. `feature` joins with the coders."""

_WITHOUT_LAYER = ("embed", "logits")
_UNITS = {"head": "H", "neuron": "N", "feature": "F"}
_TEXT = re.compile(r"^(?:L(?P<layer>\d+)\.)?(?:(?P<unit>[HNF])(?P<index>\d+)\.)?(?P<kind>[a-z_]+)(?:@(?P<pos>-?\d+))?$")


@dataclass(frozen=True, order=True)
class Site:
    """A place in the model: what kind, in which layer, and optionally which head, position, unit.

    The text form is `L3.H2.z@5` (layer 3, head 2, kind z, position 5); `Site.parse` reads it back
    exactly. A negative position counts from the end of each prompt. For `scores` and `pattern` the
    position is the query's. For `k` and `v` the head is the key-value head.
    """

    kind: str
    layer: int | None = None
    head: int | None = None
    pos: int | None = None
    neuron: int | None = None
    feature: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = get_close_matches(self.kind, KINDS, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"site kind {self.kind!r} is unknown: {hint}allowed are {', '.join(KINDS)}")
        if (self.layer is None) != (self.kind in _WITHOUT_LAYER):
            rule = "takes no layer" if self.kind in _WITHOUT_LAYER else "needs a layer"
            raise ValueError(f"site {self.kind} {rule}, as in {example_of(self.kind)}")
        numbers = (self.layer, self.head, self.neuron, self.feature)
        if any(number is not None and number < 0 for number in numbers):
            raise ValueError(f"site {self.kind}: layers, heads, neurons and features count from 0, found {numbers}")
        if sum(unit is not None for unit in (self.head, self.neuron, self.feature)) > 1:
            raise ValueError(f"site {self.kind}: name a head, a neuron or a feature, only one of them")
        axes = KINDS[self.kind]
        if self.head is not None and "head" not in axes:
            raise ValueError(f"site {self.kind} has no heads: its axes are {axes}")
        if self.neuron is not None and "d_mlp" not in axes:
            raise ValueError(f"site {self.kind} has no neurons: its axes are {axes}")

    def __str__(self) -> str:
        parts = [] if self.layer is None else [f"L{self.layer}"]
        for unit, letter in _UNITS.items():
            if (index := getattr(self, unit)) is not None:
                parts.append(f"{letter}{index}")
        text = ".".join([*parts, self.kind])
        return text if self.pos is None else f"{text}@{self.pos}"

    @property
    def whole(self) -> "Site":
        """The same place with no head, position, neuron or feature chosen."""
        return replace(self, head=None, pos=None, neuron=None, feature=None)

    @property
    def block(self) -> int:
        """The layer. Raises ValueError for a site that lies in none."""
        if self.layer is None:
            raise ValueError(f"site {self} lies in no layer")
        return self.layer

    @property
    def axes(self) -> tuple[str, ...]:
        """The axis words of the whole activation at this site."""
        return tuple(KINDS[self.kind].split())

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Read the text form back.

        Raises:
            ValueError: the text is not of the form, or names an unknown kind.

        Example:
            >>> str(Site.parse("L3.H2.z@5"))
            'L3.H2.z@5'
        """
        match = _TEXT.match(text.strip())
        if match is None:
            raise ValueError(
                f"site {text!r} cannot be read: write layer, unit, kind and position as in "
                "L9.resid_post, L3.H2.z@5 or L4.N120.mlp_post@-1"
            )
        unit = {letter: name for name, letter in _UNITS.items()}.get(match["unit"] or "")
        numbers = {} if unit is None else {unit: int(match["index"])}
        for word in ("layer", "pos"):
            if match[word] is not None:
                numbers[word] = int(match[word])
        return cls(match["kind"], **numbers)


def example_of(kind: str) -> str:
    """A readable example of a site of this kind, for error messages."""
    return kind if kind in _WITHOUT_LAYER else f"L3.{kind}"
