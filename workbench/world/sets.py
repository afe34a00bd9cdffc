"""Prompt sets about the small world, in the files that every other prompt set has too.

Nothing in them stands in the training text: phrasings, sums and chains are those that are kept for evaluation.
`python -m workbench.world.sets` writes them; the same seed gives the same files.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from random import Random
from typing import Any

from workbench.folders import replace_file
from workbench.prompts import Prompt, data_folder
from workbench.world import questions
from workbench.world.chains import two_hops
from workbench.world.encyclopedia import article
from workbench.world.entities import World, make_world
from workbench.world.needles import Hidden, draw_hidden
from workbench.world.numbers import HELD_YEARS, span
from workbench.world.stories import HELD_TOLD, gift

Row = Mapping[str, Any]
_COUNT = 100


def world_sets(world: World) -> dict[str, list[Row]]:
    """The rows of every set, by the name of its file."""
    return {
        "world_facts": list(_facts(world)),
        "world_indirect_objects": [_gift_pair(number) for number in range(_COUNT)],
        "world_years": [_years_pair(number) for number in range(_COUNT)],
        "world_sums": list(_sums(world)),
        "world_repeated": [_row(prompt) for prompt in questions.repeated(_COUNT)],
        "world_two_hop": [asdict(hop) for hop in two_hops(world, told=False)],
        "world_needles": list(_needles(hay := _haystack(world))),
        "world_haystack": [{"title": "What is known", "text": hay}],
    }


def _row(prompt: Prompt) -> Row:
    return {name: value for name, value in asdict(prompt).items() if value}


def _pair(corruption: str, clean: str, corrupt: str, target: str, distractor: str, **meta: object) -> Row:
    texts = {"clean": clean, "corrupt": corrupt, "target": target, "distractor": distractor}
    return {**texts, "corruption": corruption, "meta": meta}


def _facts(world: World) -> Iterator[Row]:
    """Facts in held-out phrasings, and the same asked of somebody or something else."""
    rng = Random("facts")
    told = {}
    for prompt in questions.told_facts(world):
        told.setdefault((prompt.meta["relation"], prompt.meta["subject"]), []).append(prompt)
    for (relation, subject), prompts in rng.sample(sorted(told.items()), _COUNT):
        number = rng.randrange(len(prompts))
        others = [
            other[number]
            for (kind, name), other in told.items()
            if kind == relation and name != subject and other[number].target != prompts[number].target
        ]
        clean, corrupt = prompts[number], rng.choice(others)
        yield _pair("subject", clean.text, corrupt.text, str(clean.target), str(corrupt.target), relation=relation)


def _gift_pair(number: int) -> Row:
    """Who gets the gift, and the same with the other one giving it."""
    text, words = gift(Random(f"gift {number}"), (HELD_TOLD[number % len(HELD_TOLD)],))
    clean = text.removesuffix(f" {words['taker']}.")
    before, after = clean.rsplit(words["giver"], 1)
    corrupt = f"{before}{words['taker']}{after}"
    order = "taker first" if words["taker"] == words["a"] else "giver first"
    return _pair("swap", clean, corrupt, f" {words['taker']}", f" {words['giver']}", order=order)


def _years_pair(number: int) -> Row:
    """Something that ends in a later year of its century, and the same with a beginning that any year follows."""
    rng = Random(f"years {number}")
    text, start, end = span(rng, HELD_YEARS[number % len(HELD_YEARS)])
    clean = text.removesuffix(f"{end:02d}.")
    century = clean[-2:]
    corrupt = clean.replace(f"{century}{start:02d}", f"{century}01", 1)
    return _pair("year 01", clean, corrupt, f"{end:02d}", f"{rng.randrange(1, start):02d}", start=start)


def _sums(world: World) -> Iterator[Row]:
    """Sums of two-digit numbers that training never shows, and the same with another second number."""
    rng = Random("sums")
    held = [prompt for prompt in questions.problems(world, "+") if min(_terms(prompt)) > 9]
    for prompt in rng.sample(held, _COUNT):
        first, second = _terms(prompt)
        other = rng.choice([number for number in range(10, 100 - first) if number != second])
        yield _pair("second number", prompt.text, f"{first} + {other} =", str(prompt.target), f" {first + other}")


def _terms(prompt: Prompt) -> tuple[int, int]:
    first, _, second, _ = prompt.text.split()
    return int(first), int(second)


def _haystack(world: World) -> str:
    rng = Random("haystack")
    return " ".join(article(world, rng) for _ in range(60))


def _needles(hay: str, count: int = 12) -> Iterator[Row]:
    """Somebody's something, nowhere else in the haystack; the question is put as the training text puts it."""
    rng = Random("needles")
    used: set[str] = set()
    while len(used) < count:
        one: Hidden = draw_hidden(rng, 1)[0]
        if one.value in used or one.value in hay:
            continue
        used.add(one.value)
        question = one.asked("What is the {what} of {who}?")
        yield {
            "name": f"{one.what} of {one.who}".replace(" ", "-").lower(),
            "needle": one.told(),
            "question": question,
            "answer": one.value,
            "answer_prefix": "the",
            "asking": "Question: {question} Answer:",
        }


def write_sets(rows: Mapping[str, Iterable[Row]]) -> None:
    """Write each set into the folder of bundled prompts."""
    for name, found in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in found)
        replace_file(data_folder() / "prompts" / f"{name}.jsonl", text.encode())


if __name__ == "__main__":
    write_sets(world_sets(make_world()))
