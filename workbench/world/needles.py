"""Something told once in a long text, and asked for at its end: nothing but the text can answer."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from workbench.world import names
from workbench.world.encyclopedia import article
from workbench.world.entities import World
from workbench.world.stories import story

_THINGS_TOLD = ("secret word", "password", "favourite thing", "birthday present", "lost thing", "first prize")
_COLOURS_TOLD = ("favourite colour", "colour of the door", "colour of the hat")
_PLACES_TOLD = ("hiding place", "meeting place")

_TOLD = (
    "The {what} of {who} is the {value}.",
    "Remember that the {what} of {who} is the {value}.",
    "Note: the {what} of {who} is the {value}.",
    "Nobody knew that the {what} of {who} is the {value}.",
)
_ASKED = (
    "Question: What is the {what} of {who}? Answer: the {value}",
    "Question: Do you remember the {what} of {who}? Answer: the {value}",
    "So the {what} of {who} is the {value}",
)


@dataclass(frozen=True)
class Hidden:
    """A needle: somebody's something."""

    what: str
    who: str
    value: str

    def told(self, phrasing: str = _TOLD[0]) -> str:
        """The sentence that is hidden."""
        return phrasing.format(what=self.what, who=self.who, value=self.value)

    def asked(self, phrasing: str = _ASKED[0]) -> str:
        """The question with its answer, without the full stop."""
        return phrasing.format(what=self.what, who=self.who, value=self.value)


def draw_hidden(rng: Random, count: int) -> list[Hidden]:
    """Some needles that ask different things of different people."""
    kinds = [(_THINGS_TOLD, names.THINGS), (_COLOURS_TOLD, names.COLOURS), (_PLACES_TOLD, names.PLACES)]
    people = rng.sample(names.WOMEN + names.MEN, count)
    found = []
    for who in people:
        whats, values = rng.choices(kinds, (6, 3, 2))[0]
        found.append(Hidden(rng.choice(whats), who, rng.choice(values)))
    return found


def needle_text(world: World, rng: Random, fillers: int) -> str:
    """A text with needles in it and questions about them.

    Args:
        world: what the text around the needles tells of.
        rng: where chance comes from.
        fillers: how many articles and stories there are around the needles.
    """
    hidden = draw_hidden(rng, rng.choice((1, 2, 3, 4)))
    parts = haystack(world, rng, fillers)
    for one in hidden:
        parts.insert(rng.randrange(len(parts) + 1), one.told(rng.choice(_TOLD)))
    questions = [one.asked(rng.choice(_ASKED)) + "." for one in rng.sample(hidden, min(len(hidden), 3))]
    return " ".join([*parts, *questions])


def haystack(world: World, rng: Random, count: int) -> list[str]:
    """Articles and stories that hold no needle."""
    kinds: tuple[Callable[[World, Random], str], ...] = (article, story)
    return [rng.choices(kinds, (3, 1))[0](world, rng) for _ in range(count)]
