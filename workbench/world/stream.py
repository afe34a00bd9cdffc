"""The training text: rows of tokens, each a mix of genres, and each a function of its place alone.

Because a row depends on nothing but the seed, the step and its number, training can stop and go on anywhere.
"""

from collections.abc import Callable
from functools import partial
from random import Random

from workbench.world.chains import chain_text
from workbench.world.code import code_text
from workbench.world.encyclopedia import article, questions
from workbench.world.entities import World
from workbench.world.needles import needle_text
from workbench.world.numbers import counting_text, sums_text, years_text
from workbench.world.recall import list_text, repeated_text
from workbench.world.stories import story

Encode = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, without special tokens."""


def short_needles(world: World, rng: Random) -> str:
    """Needles in a text of at most two paragraphs."""
    return needle_text(world, rng, fillers=rng.randint(0, 2))


GENRES: dict[str, Callable[[World, Random], str]] = {
    "encyclopedia": article,
    "questions": questions,
    "two hops": chain_text,
    "stories": story,
    "needles": short_needles,
    "years": years_text,
    "sums": sums_text,
    "counting": counting_text,
    "repeated spans": repeated_text,
    "lists": list_text,
    "code": code_text,
    "other words": partial(article, reading=2),
    "free words": partial(article, reading=3),
}
"""What writes a document of each genre."""

MIXES = {
    "first": dict(zip(GENRES, (24, 12, 14, 16, 5, 5, 14, 3, 8, 6, 4, 0, 0), strict=True)),
    "second": dict(zip(GENRES, (12, 8, 12, 20, 6, 5, 30, 5, 6, 14, 3, 16, 0), strict=True)),
    "third": dict(zip(GENRES, (8, 6, 12, 14, 6, 14, 14, 3, 8, 10, 3, 0, 32), strict=True)),
}
"""How often each genre is asked for a document. The second mix has more of what is learned late: sums, lists, stories
with pronouns, and facts in other words; the third more years, and facts in still more words."""

_LONG_ROW = 192
_TOKENS_PER_FILLER = 36


def document(world: World, rng: Random, mix: str = "first", spans: float = 0.0) -> str:
    """One short document of any genre; a repeated span with the probability `spans`, before the genre is drawn."""
    if rng.random() < spans:
        return repeated_text(world, rng)
    (genre,) = rng.choices(list(GENRES), list(MIXES[mix].values()))
    return GENRES[genre](world, rng)


def sample_texts(world: World, seed: int, count: int) -> list[str]:
    """Documents of all genres, as a tokenizer is trained on."""
    rng = Random(f"sample {seed}")
    return [document(world, rng) for _ in range(count)]


def row(
    world: World, encode: Encode, start: int, place: str, length: int, mix: str = "first", spans: float = 0.0
) -> list[int]:
    """One training row: documents one after another, each behind a start token; the last one is cut.

    Half of the long rows begin with a text whose needles may lie anywhere in it.

    Args:
        world: whose text.
        encode: the tokenizer.
        start: id of the token that begins every document.
        place: seed, step and number of the row: the same place gives the same row.
        length: tokens in the row.
        mix: how often each genre writes: a key of `MIXES`.
        spans: share of short documents that are repeated spans, besides those of the mix.
    """
    rng = Random(place)
    ids: list[int] = []
    if length >= _LONG_ROW and rng.random() < 0.5:
        ids += _long_document(world, encode, start, rng, length)
    while len(ids) < length:
        for found in encode([document(world, rng, mix, spans) for _ in range(1 + (length - len(ids)) // 40)]):
            ids += [start, *found]
    return ids[:length]


def _long_document(world: World, encode: Encode, start: int, rng: Random, length: int) -> list[int]:
    fillers = rng.randint(length // 2, length - 100) // _TOKENS_PER_FILLER
    while True:
        ids = [start, *encode([needle_text(world, rng, fillers)])[0]]
        if len(ids) <= length:
            return ids
        fillers -= 1
