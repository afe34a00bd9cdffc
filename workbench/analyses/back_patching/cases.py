"""Two-hop prompts as one model sees them, what it says to them, and which of them are worth patching."""

from dataclasses import dataclass
from typing import Literal

from workbench.generate import end_tokens, greedy
from workbench.hops import TwoHop, TwoHops, mentions
from workbench.model import Model
from workbench.progress import track
from workbench.tokens import Tokens

Match = Literal["words", "paper"]
Tested = Literal["incorrect", "correct", "all"]

PARTS = ("prompt", "first_hop", "second_hop", "entity_shortcut", "relation_shortcut")
"""What is asked of the model for one two-hop prompt, in this order."""
SHORTCUTS = ("entity_shortcut", "relation_shortcut")
"""The parts that must not lead to the answer."""


@dataclass(frozen=True)
class Case:
    """One two-hop prompt, its tokens, and where its entity and its end stand."""

    hop: TwoHop
    tokens: Tokens
    places: dict[str, int]

    @property
    def ids(self) -> list[int]:
        """The prompt's token ids."""
        return self.tokens.ids[0].tolist()


@dataclass(frozen=True)
class Asked:
    """What a model said to a two-hop prompt and to its parts, and which of that held what was wanted.

    Attributes:
        case: the prompt.
        plain: token ids of the plain continuation.
        said: the continuation of each part that was asked; shortcuts are only where both hops are known.
        right: whether it names the bridge (first hop) or the answer (all others).
    """

    case: Case
    plain: tuple[int, ...]
    said: dict[str, str]
    right: dict[str, bool]

    @property
    def hops_known(self) -> bool:
        """Whether both hops are answered right by themselves."""
        return self.right["first_hop"] and self.right["second_hop"]

    @property
    def known(self) -> bool:
        """Whether both hops are known and no shortcut leads to the answer."""
        return self.hops_known and not any(self.right.get(part) for part in SHORTCUTS)

    def is_tested(self, tested: Tested) -> bool:
        """Whether the prompt is of the wanted kind."""
        return tested == "all" or (self.known and self.right["prompt"] == (tested == "correct"))


def build_cases(model: Model, hops: TwoHops, positions: tuple[str, ...]) -> list[Case]:
    """The prompts with the positions that are patched.

    Raises:
        ValueError: the part that describes the bridge does not end where a token ends.
    """
    return [_case(model, hop, positions) for hop in hops]


def _case(model: Model, hop: TwoHop, positions: tuple[str, ...]) -> Case:
    tokens = model.tokens(hop.prompt)
    start = hop.prompt.index(hop.first)
    try:
        span = tokens.between(0, start, start + len(hop.first))
    except ValueError as error:
        raise ValueError(f"two-hop prompt {hop.name!r}, {hop.first!r}: {error}") from error
    places = {"entity": span[-1], "last": tokens.lengths[0] - 1}
    return Case(hop, tokens, {position: places[position] for position in positions})


def ask_all(model: Model, cases: list[Case], new_tokens: int, match: Match) -> list[Asked]:
    """Ask the model every prompt and all its parts."""
    return [_ask(model, case, new_tokens, match) for case in track(cases, "two-hop questions")]


def _ask(model: Model, case: Case, new_tokens: int, match: Match) -> Asked:
    plain: list[int] = []
    said: dict[str, str] = {}
    right: dict[str, bool] = {}
    for part in PARTS:
        text = getattr(case.hop, part)
        if not text or (part in SHORTCUTS and not (right["first_hop"] and right["second_hop"])):
            continue
        ids = greedy(model, model.tokens(text).ids[0].tolist(), new_tokens, stop=end_tokens(model))
        plain = ids if part == "prompt" else plain
        said[part] = spoken(model, ids)
        right[part] = is_said(said[part], case.hop.bridge if part == "first_hop" else case.hop.answer, match)
    return Asked(case, tuple(plain), said, right)


def spoken(model: Model, ids: list[int] | tuple[int, ...]) -> str:
    """A continuation as text, without the token that ends it."""
    return model.tokenizer.decode(list(ids), skip_special_tokens=True)


def is_said(said: str, aliases: tuple[str, ...], match: Match) -> bool:
    """Whether an answer names what is wanted, as whole words or by the paper's rule (anywhere)."""
    return mentions(said, aliases, whole_words=match == "words")
