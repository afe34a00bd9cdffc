"""The tour: every headline analysis on a model that is already here, one line of finding each, one report."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.catalog import CATALOG, Entry, Subject, run
from workbench.hops import TwoHops
from workbench.pairs import Pair, Pairs
from workbench.prompts import Needles, Prompt, Prompts, data_folder
from workbench.reports import report
from workbench.result import Result
from workbench.store import Store

BUNDLED_MODEL = "world"
PLANTED_MODEL = "planted:tour"
REPORT_FILE = "tour.html"


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: what ran, what it found, and how many seconds it took."""

    title: str
    finding: str
    seconds: float
    result: Result


Found = Mapping[str, Result]
"""What the analyses before have found, by their name."""


@dataclass(frozen=True)
class Visit:
    """Where the tour goes: an analysis, what it is given, its knobs, and those that follow from what was found."""

    analysis: str
    inputs: tuple[Any, ...]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    follow: Callable[[Found], Mapping[str, Any]] | None = None

    def knobs_after(self, found: Found) -> dict[str, Any]:
        """All its knobs, once the analyses before it have found something."""
        return {**self.knobs, **(self.follow(found) if self.follow else {})}


def tour_model() -> str:
    """The model that the tour looks at: the bundled trained one if it is there, else a planted one."""
    bundled = data_folder() / "models" / BUNDLED_MODEL / "config.json"
    return BUNDLED_MODEL if bundled.is_file() else PLANTED_MODEL


def tour(model: Subject, folder: Path, store: Store, fresh: bool = False) -> Iterator[Stop]:
    """Run the analyses of the itinerary, save the runs, and write the report at the end.

    Args:
        model: what `load` returned, for instance of `tour_model()`.
        folder: where `tour.html` is written.
        store: where the runs are saved.
        fresh: compute again even when the store holds the same runs.

    Yields:
        A stop after each analysis, so that whoever shows the tour can speak at once.
    """
    found: dict[str, Result] = {}
    for visit in itinerary(model):
        begun = time.perf_counter()
        result = run(visit.analysis, model, *visit.inputs, store=store, fresh=fresh, **visit.knobs_after(found))
        found[visit.analysis] = result
        yield Stop(result.title, result.finding, time.perf_counter() - begun, result)
    report([*found.values()], folder / REPORT_FILE)


def itinerary(model: Subject) -> list[Visit]:
    """Where the tour goes with a model.

    The small world has tasks of its own, on which the bundled model shows what it learned; any other model is shown
    by every analysis that has tour knobs, on text that a copying head can go on with.
    """
    if model.identity()["name"] == BUNDLED_MODEL:
        return _around_the_world()
    chosen = [entry for entry in CATALOG.values() if entry.tour is not None]
    return [Visit(entry.name, tuple(tour_inputs(entry)), entry.tour or {}) for entry in chosen]


def _around_the_world() -> list[Visit]:
    """From a fact to the heads that copy, the facts that two hops join, and the circuit of a year."""
    facts, gifts = Prompts.read("world_facts"), Pairs.read("world_indirect_objects")
    fact, gift = Prompts(facts[:1]), Prompts(_clean(gifts)[:1])
    year = Prompts.of(Prompt("The war went on from 1741 to 17", "75", "10"))
    needles, hops, repeated = (
        Needles.read("world_needles"),
        TwoHops.read("world_two_hop"),
        Prompts.read("world_repeated"),
    )
    asked = Prompts.of(f"{needles.haystack[0][:300]} {needles[0].needle} {needles[0].ask(prefixed=True)}")
    return [
        Visit("logit_lens", (fact,)),
        Visit("task_accuracy", (_clean(gifts),)),
        Visit("direct_logit_attribution", (gift,)),
        Visit("activation_patching", (gifts,), {"where": "heads", "pairs_used": 10, "steps": 2}),
        Visit("attention_patterns", (Prompts(repeated[:1]),), {"repeated": 30, "repeats": 2}),
        Visit("induction_heads", (repeated,)),
        Visit("attention_sinks", (Prompts(repeated[:8]),)),
        Visit("retrieval_heads", (needles,), {"lengths": (200, 400), "depths": (0, 33, 67, 100), "needles_used": 6}),
        Visit("edited_generation", (asked,), {"new_tokens": 6}, _without_retrieval),
        Visit("back_patching", (hops,), {"hops_used": 0, "new_tokens": 3}),
        Visit("attention_knockout", (hops,), {"hops_used": 12}),
        Visit("sublayer_projections", (hops,)),
        Visit("neuron_clamp", (fact,), {"count": 3, "factors": (1, 10)}),
        Visit("neuron_activity", (fact,), follow=_at_the_strongest_neuron),
        Visit("transcoder_circuit", (year,), {"coders": BUNDLED_MODEL}),
        Visit("circuit_check", (year,), {"coders": BUNDLED_MODEL, "draws": 5}),
    ]


def _without_retrieval(found: Found, heads: int = 5) -> dict[str, str]:
    """The edit that silences the heads that retrieve most."""
    rows = sorted(found["retrieval_heads"].tables["heads"], key=lambda row: -float(row["score"]))
    return {"edits": "; ".join(f"zero {row['head']}" for row in rows[:heads])}


def _at_the_strongest_neuron(found: Found) -> dict[str, int]:
    """The neuron that was clamped first."""
    layer, neuron = str(found["neuron_clamp"].tables["neurons"][0]["neuron"]).split(".")
    return {"layer": int(layer.removeprefix("L")), "neuron": int(neuron.removeprefix("N"))}


def _clean(pairs: Pairs) -> Prompts:
    return Prompts.of(*(Prompt(pair.clean, pair.target, pair.distractor) for pair in pairs))


def tour_inputs(entry: Entry) -> list[Any]:
    """The bundled inputs of the types that an analysis takes.

    Raises:
        ValueError: no bundled input has one of the types.
    """
    bundled = {"Prompts": tour_prompts, "Pairs": tour_pairs, "Needles": Needles.bundled}
    missing = [one.type for one in entry.inputs if one.type not in bundled]
    if missing:
        raise ValueError(f"the tour has no {', '.join(missing)} for {entry.name}: remove its TOUR")
    return [bundled[one.type]() for one in entry.inputs]


def first_prompts() -> Prompts:
    """Something that `tour_model()` knows: what to show before anything was asked."""
    return Prompts(Prompts.read("world_facts")[:1]) if tour_model() == BUNDLED_MODEL else tour_prompts()


def tour_prompts() -> Prompts:
    """A prompt that any model with a copying head can go on with: a needle, then its first half again."""
    needle = Needles.bundled()[0]
    return Prompts.of(f"{needle.needle} {needle.answer_prefix}")


def tour_pairs() -> Pairs:
    """The prompt of the tour, and the same with another word in the place of what is to be copied."""
    text = tour_prompts()[0].text
    return Pairs.of(Pair(text, text.replace("smoked", "green"), " smoked", " green", "the secret"))
