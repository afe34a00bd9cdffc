"""The models that ship are small, load quickly, and score what their card says."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.catalog import run
from workbench.coders import load_coders, load_named_or_own
from workbench.examples import example, example_runs
from workbench.model import load
from workbench.prompts import Needles, Prompt, Prompts, data_folder
from workbench.sources import BUNDLED, checkpoints, known_names
from workbench.tour import itinerary
from workbench.training.card import CARD, EVALUATION, HISTORY, write_card
from workbench.training.evaluation import evaluate
from workbench.training.history import attention_scores
from workbench.training.recipe import RECIPES
from workbench.training.rehearsal import rehearse
from workbench.world.recall import repeated_text

MODELS = data_folder() / "models"
LARGEST = {"world": 25e6, "world-history": 15e6}
SHIPPED = [name for name in BUNDLED if (MODELS / name / "config.json").is_file()]

each_shipped = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in SHIPPED else pytest.mark.skip(f"{n} is not trained")) for n in BUNDLED]
)
with_world = pytest.mark.skipif("world" not in SHIPPED, reason="world is not trained")
with_history = pytest.mark.skipif("world-history" not in SHIPPED, reason="world-history is not trained")


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


@each_shipped
def test_it_is_small_and_loads_whole(name, record_property):
    assert name in known_names()
    assert sum(file.stat().st_size for file in (MODELS / name).rglob("*") if file.is_file()) < LARGEST[name]
    load(name)  # imports
    begun = time.process_time()
    model = load(name)
    record_property(f"seconds of work to load {name}", round(time.process_time() - begun, 2))
    assert model.shape.n_layers == RECIPES[name].layers


@each_shipped
def test_a_part_of_its_evaluation_comes_out_again(name):
    model = load(name)
    written = {row["task"]: row for row in read(MODELS / name / EVALUATION)}
    for score in evaluate(model, ["indirect objects", "pronouns", "years: probability on later years", "who has what"]):
        row = written[score.task]
        assert score.examples == row["examples"]
        assert score.score == pytest.approx(row["score"], abs=0.015)


@with_world
def test_a_few_heads_of_the_world_retrieve_and_nothing_is_retrieved_without_them():
    found = run("retrieval_heads", load("world"), Needles.read("world_needles"), lengths=(250,), needles_used=3)
    assert found.passed
    assert found.scalars["answered"] == found.scalars["cases"]
    assert 1 <= found.scalars["retrieval_heads"] <= 8
    recall = {row["masked"]: row["recall"] for row in found.tables["masking"] if row["heads"] == 5}
    assert recall.pop("top") < 0.3, recall
    assert min(recall.values()) > 0.8, recall


@with_world
def test_the_world_copies_with_induction_heads_and_rests_on_its_first_token():
    repeated = Prompts.read("world_repeated")
    found = run("induction_heads", load("world"), repeated, repeats=4)
    assert found.scalars["lift"] > 0.8
    assert found.scalars["gained by repetition"] > 3
    assert run("attention_sinks", load("world"), Prompts(repeated[:4]), texts=4).scalars["heads that rest"] >= 3


@with_world
def test_the_circuit_of_a_year_matters_more_than_random_features_that_write_as_much():
    prompts = Prompts.of(Prompt("The war went on from 1785 to 17", "95", "40"))
    found = run("transcoder_circuit", load("world"), prompts, coders="world", draws=3)
    assert found.passed
    ablated, random = found.named("ablated").values, found.named("ablated_random").values
    assert ablated[-1] < 0.6 * ablated[0] < 0.9 * ablated[0] < random[-1]


@with_world
def test_the_transcoders_of_the_world_lose_little():
    coders, model = load_coders("world"), load("world")
    assert list(coders) == list(range(model.shape.n_layers))
    card = read(data_folder() / "transcoders" / "world" / "card.json")
    assert card["weights"] == model.fingerprint, "the transcoders were trained on another model"
    assert card["fingerprint"] == coders.fingerprint == load_named_or_own("", "world").fingerprint
    told = Prompts.read("world_facts")
    (row,) = run("transcoder_quality", model, Prompts(told[:20]), coders="world", layers=(5,)).tables["quality"]
    assert row["explained_variance"] > 0.9
    assert row["cross_entropy"] - row["original"] < 0.2


@with_world
def test_the_examples_ablate_the_heads_and_show_the_neuron_that_they_found():
    found = {run.analysis: example(run.id) for run in example_runs()}
    visits = {visit.analysis: visit for visit in itinerary(load("world"))}
    assert set(found) == set(visits)
    for name in ("edited_generation", "neuron_activity"):
        knobs = visits[name].knobs_after(found)
        assert {knob: found[name].params[knob] for knob in knobs} == knobs
    assert found["edited_generation"].params["edits"].startswith("zero L")


@pytest.mark.skipif(not SHIPPED, reason="no model is trained")
def test_the_card_holds_the_numbers_beside_the_weights():
    assert (MODELS / CARD).read_text(encoding="utf-8") == write_card(MODELS)


@with_history
def test_a_training_from_scratch_takes_the_way_of_the_shipped_one(record_property):
    found = rehearse("world-history", 50, torch.device("cpu"))
    record_property("largest gap of the first 50 losses, nats per token", round(found.largest_gap, 4))
    assert found.reproduced
    assert 0 < found.losses[50][1] < 8
    with pytest.raises(ValueError, match=r"a rehearsal of 70 steps was asked for: allowed is a multiple of 50"):
        rehearse("world-history", 70, torch.device("cpu"))


@with_history
def test_induction_is_born_between_the_first_and_the_last_checkpoint():
    from random import Random

    from workbench.world import make_world

    steps = checkpoints("world-history")
    assert len(steps) >= 12
    assert (steps[0], steps[-1]) == (0, RECIPES["world-history"].steps)
    words = list(dict.fromkeys(repeated_text(make_world(0), Random(1)).split()))
    first, last = (
        attention_scores(load("world-history", checkpoint=step), words)[0].max() for step in steps[:: len(steps) - 1]
    )
    assert last > first + 0.2
    told = {row["step"]: row["copied"] for row in read(MODELS / "world-history" / HISTORY)}
    assert list(told) == list(steps)
    assert told[steps[-1]] > told[0] + 0.3
