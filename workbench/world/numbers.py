"""Text about numbers: years that must come later, sums and differences up to 99, and counting.

Two digits are one token (see `training.vocabulary`): a year is its century and the year in it.
"""

from random import Random

from workbench.world import names
from workbench.world.entities import World

HELD_SHARE = 0.1
"""The share of sums, and of differences, that the training text never shows."""

TOLD_YEARS = (
    "The {event} lasted from {century}{start} to {century}{end}.",
    "The {event} lasted from the year {century}{start} to the year {century}{end}.",
    "The {event} began in {century}{start} and ended in {century}{end}.",
    "From {century}{start} to {century}{end} there was a {event}.",
    "A {event} went on from {century}{start} until {century}{end}.",
    "The {event} of {century}{start} was over in {century}{end}.",
)
"""How a span of years is told in training."""

HELD_YEARS = (
    "The {event} went on from {century}{start} to {century}{end}.",
    "The {event} began in the year {century}{start} and ended in the year {century}{end}.",
    "A {event} lasted from {century}{start} until {century}{end}.",
)
"""How a span of years is told in the evaluation only."""


def years_text(_world: World, rng: Random) -> str:
    """One to three spans of years."""
    return " ".join(span(rng, rng.choice(TOLD_YEARS))[0] for _ in range(rng.choice((1, 2, 3))))


def span(rng: Random, phrasing: str) -> tuple[str, int, int]:
    """Something that lasted for some years of one century, and the years in it when it began and ended."""
    start = rng.randint(2, 97)
    end = rng.randint(start + 1, 99)
    words = {"event": rng.choice(names.EVENTS), "century": rng.randint(11, 19)}
    return phrasing.format(start=f"{start:02d}", end=f"{end:02d}", **words), start, end


def is_held_out(world: World, first: int, sign: str, second: int) -> bool:
    """Whether a problem is kept for evaluation: a sum with both its orders and both its differences."""
    low, high = sorted((first, second) if sign == "+" else (first - second, second))
    return world.chance("sum", low, high) < HELD_SHARE


def solve(first: int, sign: str, second: int) -> int:
    """The answer of a problem."""
    return first + second if sign == "+" else first - second


def draw_problem(rng: Random) -> tuple[int, str, int]:
    """A sum or a difference of numbers from 0 to 99 whose answer lies there too."""
    high = rng.randint(1, 99)
    low = rng.randint(0, high)
    return (low, "+", high - low) if rng.random() < 0.6 else (high, "-", low)


def training_problem(world: World, rng: Random) -> tuple[int, str, int]:
    """A problem that is not held out."""
    while True:
        problem = draw_problem(rng)
        if not is_held_out(world, *problem):
            return problem


def sums_text(world: World, rng: Random) -> str:
    """A few problems with their answers, a line each."""
    problems = (training_problem(world, rng) for _ in range(6))
    return "\n".join(f"{first} {sign} {second} = {solve(first, sign, second)}" for first, sign, second in problems)


def counting_text(_world: World, rng: Random) -> str:
    """Numbers in steps, upwards or downwards."""
    step = rng.choice((1, 1, 2, 3, 5, 10))
    found = list(range(rng.randint(0, 99 - 4 * step), 100, step))[: rng.randint(5, 12)]
    if rng.random() < 0.3:
        found.reverse()
    return "Count: " + " ".join(str(number) for number in found)
