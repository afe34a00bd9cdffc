"""Text that repeats itself: random spans that come again, and lists whose items are asked for."""

from random import Random

from workbench.world import names
from workbench.world.entities import World

_ORDER = ("first", "second", "third", "fourth", "fifth")
_WORDS = (
    *names.THINGS,
    *names.PLACES,
    *names.COLOURS,
    *names.JOBS,
    *names.EVENTS,
    *names.TOWNS,
    *names.COUNTRIES,
    *names.COMPANIES,
    *names.WOMEN,
    *names.MEN,
)


def random_words(rng: Random, count: int) -> list[str]:
    """Words of the world without any order."""
    return rng.choices(_WORDS, k=count)


def repeated_text(_world: World, rng: Random) -> str:
    """A few spans of random words, again and again in any order: what followed a word before follows it again.

    A word comes back after another number of words each time. Otherwise a head that looks a fixed number of places
    back would do, and no word need be recognised. The text begins with a space, so that a word is the same token
    wherever it stands.
    """
    spans = [random_words(rng, rng.randint(2, 6)) for _ in range(rng.randint(2, 5))]
    words = [word for _ in range(rng.randint(6, 14)) for word in rng.choice(spans)]
    return " " + " ".join(words)


def list_text(_world: World, rng: Random) -> str:
    """Things in a row, asked for by number; or who has what, asked for by name."""
    return _by_number(rng) if rng.random() < 0.4 else owners_text(rng)[0]


def _by_number(rng: Random) -> str:
    things = rng.sample(names.THINGS, rng.randint(3, 5))
    asked = rng.sample(range(len(things)), 2)
    answers = " ".join(f"The {_ORDER[place]} is the {things[place]}." for place in asked)
    return f"List: {', '.join(things)}. {answers} Again: {', '.join(things)}."


def owners_text(rng: Random) -> tuple[str, str]:
    """Who has what, and two questions; and the last answer."""
    owners = rng.sample(names.WOMEN + names.MEN, rng.randint(3, 6))
    things = rng.sample(names.THINGS, len(owners))
    told = " ".join(f"{owner} has the {thing}." for owner, thing in zip(owners, things, strict=True))
    asked = rng.sample(range(len(owners)), 2)
    questions = " ".join(f"Who has the {things[place]}? {owners[place]}." for place in asked)
    return f"{told} {questions}", owners[asked[-1]]
