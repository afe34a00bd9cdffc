"""Two-hop prompts as one model sees them: where their entity and their end stand, and what it says to them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.generate import end_tokens, greedy
from workbench.hops import TwoHop, TwoHops, mentions
from workbench.model import Model
from workbench.progress import track
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.words import Site

Streams = dict[str, Float[Tensor, "layer d_model"]]
"""The residual stream behind every layer of a prompt, at each of its named positions."""
Names = Literal["entity", "bridge", "answer"]
Match = Literal["words", "paper"]
Tested = Literal["incorrect", "correct", "all"]

PARTS = ("prompt", "first_hop", "second_hop", "entity_shortcut", "relation_shortcut")
"""What is asked of the model for one two-hop prompt, in this order."""
POSITIONS = {"both": ("entity", "last"), "entity": ("entity",), "last": ("last",)}
"""The positions that a knob of this name stands for."""
SHORTCUTS = ("entity_shortcut", "relation_shortcut")
"""The parts that must not lead to the answer."""


@dataclass(frozen=True)
class Case:
    """One two-hop prompt, its tokens, and where its entity and its end stand.

    Attributes:
        hop: the question.
        tokens: its tokens.
        places: `entity` is the last token of the part that describes the bridge, `last` that of the prompt;
            those of them that were asked for.
    """

    hop: TwoHop
    tokens: Tokens
    places: dict[str, int]

    @property
    def ids(self) -> list[int]:
        """The prompt's token ids."""
        return self.tokens.ids[0].tolist()

    @property
    def name_span(self) -> range:
        """The tokens of the entity's name. Raises ValueError when the name does not end where a token ends."""
        return _span(self.hop, self.tokens, self.hop.entity)


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
    places = {"entity": _span(hop, tokens, hop.first)[-1], "last": tokens.lengths[0] - 1}
    return Case(hop, tokens, {position: places[position] for position in positions})


def _span(hop: TwoHop, tokens: Tokens, part: str) -> range:
    """The tokens of `first`, or of the entity within it."""
    start = hop.prompt.index(hop.first) + hop.first.index(part)
    try:
        return tokens.between(0, start, start + len(part))
    except ValueError as error:
        raise ValueError(f"two-hop prompt {hop.name!r}, {part!r}: {error}") from error


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


def first_tokens(model: Model, names: Iterable[str]) -> tuple[int, ...]:
    """The tokens with which some names may begin: with or without a space in front, as written or in lower case."""
    spelt = [lead + form for name in names for form in (name, name.lower()) for lead in ("", " ")]
    found = {}
    for ids in model.tokenizer(spelt, add_special_tokens=False)["input_ids"]:
        said = [index for index in ids if model.tokenizer.decode([index]).strip()]  # some write the space by itself
        found |= dict.fromkeys(said[:1])
    unknown = model.tokenizer.unk_token_id
    return tuple(index for index in found if index != unknown)


def other_names(hop: TwoHop, pool: Iterable[TwoHop], kind: Names) -> list[tuple[str, ...]]:
    """The names of one kind in other questions, each once, that share none with anything in this question."""
    own = {name.lower() for name in (hop.entity, *hop.bridge, *hop.answer)}
    found = dict.fromkeys(names_of(other, kind) for other in pool)
    return [names for names in found if not own & {name.lower() for name in names}]


def names_of(hop: TwoHop, kind: Names) -> tuple[str, ...]:
    """The names of a question's entity, bridge or answer."""
    return (hop.entity,) if kind == "entity" else getattr(hop, kind)


def read_streams(model: Model, case: Case) -> Streams:
    """The residual stream of a prompt behind every layer, at its places."""
    sites = {
        position: [Site("resid_post", layer, pos=place) for layer in range(model.shape.n_layers)]
        for position, place in case.places.items()
    }
    traced = trace(model, case.tokens, [site for some in sites.values() for site in some])
    return {position: torch.stack([traced[site][0] for site in some]) for position, some in sites.items()}


def random_like(streams: Streams, generator: np.random.Generator) -> Streams:
    """Vectors of random directions, each as long as the one it stands for."""
    return {position: _turned(stream, generator) for position, stream in streams.items()}


def _turned(stream: Float[Tensor, "layer d_model"], generator: np.random.Generator) -> Float[Tensor, "layer d_model"]:
    drawn = torch.from_numpy(generator.standard_normal(tuple(stream.shape))).to(stream.device, torch.float32)
    norms = stream.float().norm(dim=-1, keepdim=True)
    return (drawn / drawn.norm(dim=-1, keepdim=True) * norms).to(stream.dtype)
