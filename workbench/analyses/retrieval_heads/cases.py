"""Needle prompts: a needle hidden at a depth of a haystack, with the exact tokens of its answer."""

from dataclasses import dataclass

from workbench.model import Model
from workbench.prompts import Needle, Needles
from workbench.tokens import Tokens, encode

_CHARACTERS_PER_TOKEN = 10
"""More text than any token stands for on average, so that enough of the haystack is read."""


@dataclass(frozen=True)
class Case:
    """One prompt of the grid."""

    needle: Needle
    length: int
    depth: int
    tokens: Tokens
    span: range

    @property
    def ids(self) -> list[int]:
        """The prompt's token ids."""
        return self.tokens.ids[0].tolist()

    @property
    def answer_ids(self) -> list[int]:
        """The ids of the answer where it stands in the context."""
        return self.ids[self.span.start : self.span.stop]


def build_cases(
    model: Model,
    needles: Needles,
    lengths: tuple[int, ...],
    depths: tuple[int, ...],
    prefixed: bool,
    new_tokens: int,
) -> tuple[list[Case], list[int]]:
    """All prompts of the grid, and the haystack's own tokens that they begin with.

    Raises:
        ValueError: a length that does not fit into the model's context with its answer, or is too short
            for a needle; a haystack that is too short, has no sentence end, or holds the answer as well;
            an answer that does not end where a token ends.
    """
    _refuse_grid(model, lengths, depths, new_tokens)
    if not model.tokenizer.is_fast:
        raise ValueError(f"the tokenizer of {model.name} does not tell which characters a token stands for")
    hay = "\n".join(needles.haystack)[: max(lengths) * _CHARACTERS_PER_TOKEN]
    tokens = encode(model.tokenizer, hay, prepend_bos=model.prepend_bos, vocabulary=model.shape.d_vocab)
    cases = [
        _case(model, needle, hay, tokens, length, depth, prefixed)
        for depth in depths
        for length in lengths
        for needle in needles
    ]
    return cases, tokens.ids[0].tolist()


def _refuse_grid(model: Model, lengths: tuple[int, ...], depths: tuple[int, ...], new_tokens: int) -> None:
    if not lengths or not depths:
        raise ValueError("the grid is empty: give at least one length and one depth")
    if new_tokens < 1:
        raise ValueError(f"an answer has 1 token or more, {new_tokens} were asked for")
    if max(lengths) + new_tokens > model.shape.n_ctx:
        raise ValueError(
            f"length {max(lengths)} and an answer of {new_tokens} tokens do not fit: {model.name} reads "
            f"{model.shape.n_ctx} tokens"
        )
    if not all(0 <= depth <= 100 for depth in depths):
        raise ValueError(f"depths are percentages of the context (0-100), found {depths}")


def _case(model: Model, needle: Needle, hay: str, tokens: Tokens, length: int, depth: int, prefixed: bool) -> Case:
    question = needle.ask(prefixed)
    around = model.tokens(f"{needle.needle} {question}").lengths[0]
    room = length - around
    if room < 1:
        raise ValueError(f"length {length} is too short for needle {needle.name!r} and its question ({around} tokens)")
    if room > tokens.lengths[0]:
        raise ValueError(f"the haystack has {tokens.lengths[0]} tokens, length {length} needs {room}")
    end = _sentence_end(hay, tokens.spans[0][room - 1][1])
    if end == 0:
        raise ValueError(f"the haystack has no sentence end in the {room} tokens that length {length} leaves it")
    place = end if depth == 100 else _sentence_end(hay, tokens.spans[0][room * depth // 100][0]) if depth else 0
    text = f"{hay[:place]}{needle.needle} {hay[place:end]}{question}"
    if text.count(needle.answer) != 1:
        raise ValueError(
            f"the answer of needle {needle.name!r} stands in the haystack or the question as well: {needle.answer!r}"
        )
    start = place + needle.needle.index(needle.answer)
    prompt = model.tokens(text)
    return Case(needle, length, depth, prompt, prompt.between(0, start, start + len(needle.answer)))


def _sentence_end(text: str, place: int) -> int:
    """The last end of a sentence (with the space behind it) at or before a place."""
    ends = [text.rfind(mark, 0, place + 1) + len(mark) for mark in (". ", ".\n") if text.rfind(mark, 0, place + 1) >= 0]
    if not ends:
        return 0
    return min(max(ends), len(text))
