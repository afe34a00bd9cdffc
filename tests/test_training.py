"""Training goes on where it stopped, and what it writes is a plain Hugging Face folder."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from workbench import sources
from workbench.generate import greedy
from workbench.model import load
from workbench.progress import Cancelled, listening
from workbench.sources import checkpoints, find_source
from workbench.training.card import save_evaluation, write_card
from workbench.training.curve import draw_losses
from workbench.training.evaluation import TASKS, Score, bridges_seen, evaluate, later_mass, right, score_row
from workbench.training.history import Moment, attention_scores, sink_scores, watch
from workbench.training.learner import Learner, new_model
from workbench.training.recipe import RECIPES, Reading, Recipe, recipe_of
from workbench.training.trainer import LOSSES, PLOT, STATE, train
from workbench.training.vocabulary import read_tokenizer
from workbench.world import make_world, names
from workbench.world.chains import two_hops
from workbench.world.questions import greater_than, indirect_objects
from workbench.world.stream import sample_texts

CPU = torch.device("cpu")
TINY = Recipe(
    "tiny",
    layers=2,
    width=16,
    mlp=24,
    heads=2,
    kv_heads=1,
    steps=6,
    step_tokens=64,
    stages=((16, 0.5), (64, 0.5)),
    warmup=2,
    history=(0, 4, 6),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A model of six steps: it knows nothing, but it is whole."""
    return train(TINY, tmp_path_factory.mktemp("models") / "tiny", device=CPU)


@pytest.fixture(scope="module")
def model(trained):
    return load(str(trained))


def stop_after(steps: int):
    def listen(done: int, total: int, label: str) -> None:
        if done == steps:
            raise Cancelled

    return listen


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a training, but for the seconds that it took."""
    found = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return found | {"training.json": re.sub(rb'"seconds": [0-9.]+', b"", found["training.json"])}


def test_a_stopped_training_ends_bit_for_bit_where_an_unbroken_one_ends(trained, tmp_path):
    out = tmp_path / "stopped"
    for _ in range(2):
        with pytest.raises(Cancelled), listening(stop_after(2)):
            train(TINY, out, device=CPU, save_every=0.0)
    assert load_step(out) == 4
    train(TINY, out, device=CPU, save_every=0.0)
    assert files_of(out) == files_of(trained)


def load_step(out: Path) -> int:
    learner = Learner(TINY, read_tokenizer(out).vocab_size, CPU)
    learner.restore(str(out / "progress" / STATE))
    return learner.step


def test_losses_of_unsaved_steps_are_taken_back(tmp_path):
    out = tmp_path / "stopped"
    with pytest.raises(Cancelled), listening(stop_after(3)):
        train(TINY, out, device=CPU, save_every=0.0)
    (out / "progress" / LOSSES).write_text('{"step": 0, "loss": 7.0}\n{"step": 3, "loss": 9.0}\n')
    train(TINY, out, device=CPU)
    steps = [json.loads(line)["step"] for line in (out / "progress" / LOSSES).read_text().splitlines()]
    assert steps == [0, 3, 4, 5]
    assert json.loads((out / "progress" / LOSSES).read_text().splitlines()[1])["loss"] != 9.0


def test_learning_lowers_the_loss_on_the_same_rows():
    learner = Learner(replace(TINY, steps=40, rate=1e-2), 100, CPU)
    rows = torch.arange(64).reshape(4, 16)
    losses = [learner.learn(rows) for _ in range(20)]
    assert losses[-1] < losses[0] - 0.5


def test_the_state_of_another_size_is_refused(trained, tmp_path):
    learner = Learner(replace(TINY, width=32), 2070, CPU)
    with pytest.raises(ValueError, match="another size"):
        learner.restore(str(trained / "progress" / STATE))


def test_the_first_weights_come_from_the_seed_and_leave_chance_alone():
    before = torch.random.get_rng_state()
    one, same, other = (new_model(replace(TINY, seed=seed), 50) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    weight = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.get_parameter(weight), same.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), other.get_parameter(weight))


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_in_every_reading_the_rate_rises_stays_and_falls_and_rows_get_longer(number):
    recipe = RECIPES["world"]
    readings = [Reading("first", recipe.steps, recipe.stages, recipe.rate, recipe.cooling), *recipe.later]
    reading, begun = readings[number], sum(one.steps for one in readings[:number])
    steps = range(begun, begun + reading.steps)
    rates = [recipe.rate_at(step) for step in steps]
    assert rates[0] < rates[recipe.warmup // 2] < reading.rate
    flat = rates[recipe.warmup : int(reading.steps * (1 - reading.cooling))]
    assert {round(rate, 12) for rate in flat} == {reading.rate}
    assert rates[-1] < reading.rate / 1000
    lengths = [recipe.row_length(step) for step in steps]
    assert lengths == sorted(lengths)
    assert set(lengths) == {length for length, _ in reading.stages}
    assert {recipe.mix_at(step) for step in steps} == {reading.mix}


def test_the_stages_of_a_recipe_are_the_whole_of_it():
    assert RECIPES["world"].context >= 512
    for one in RECIPES.values():
        for stages in (one.stages, *(reading.stages for reading in one.later)):
            assert sum(share for _, share in stages) == pytest.approx(1)


def test_fewer_steps_cut_the_last_reading_first():
    whole = RECIPES["world"]
    second, third, last = (reading.steps for reading in whole.later)
    for steps, left in (
        (7, (7,)),
        (whole.steps, (whole.steps,)),
        (whole.steps + 5, (whole.steps, 5)),
        (whole.total - 1, (whole.steps, second, third, last - 1)),
        (whole.total + 1, (whole.steps, second, third, last + 1)),
    ):
        cut = recipe_of("world", steps)
        assert cut.total == steps
        assert (cut.steps, *(reading.steps for reading in cut.later)) == left
    assert recipe_of("world-history", 4_000).steps == 4_000


def test_recipes_have_the_sizes_that_were_promised():
    count = {name: sum(p.numel() for p in new_model(recipe, 2070).parameters()) for name, recipe in RECIPES.items()}
    assert 4e6 < count["world"] < 8e6
    kept = RECIPES["world-history"].history
    assert len(kept) >= 12
    assert (kept[0], kept[-1]) == (0, RECIPES["world-history"].steps)
    assert (len(kept) + 1) * count["world-history"] * 2 < 15e6
    with pytest.raises(KeyError, match=r"recipe 'moon' is unknown: allowed are world, world-history"):
        recipe_of("moon")


def test_every_name_and_every_number_is_one_token(trained):
    tokenizer = read_tokenizer(trained)
    world = make_world(0)
    people = [half for person in world.people for half in (person.first, person.last)]
    words = [*people, *world.towns, *world.countries, *names.LANGUAGES, *names.JOBS, *names.COMPANIES, *names.THINGS]
    for word in [*words, *map(str, range(100))]:
        assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1, word
    for number in range(100):
        assert len(tokenizer(f"{number:02d}", add_special_tokens=False)["input_ids"]) == 1
    assert tokenizer.tokenize(" 1732 to 17") == ["\u012017", "32", "\u0120to", "\u012017"]


def test_the_tokenizer_gives_every_text_back(trained):
    tokenizer = read_tokenizer(trained)
    for text in [*sample_texts(make_world(0), 5, 200), "Zürich: naïve 東京 12345\n\tend  of"]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_folder_is_plain_for_transformers_4_and_5(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert json.loads((trained / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    weights = load_file(trained / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert json.loads((trained / "training.json").read_text())["steps_done"] == TINY.steps


def test_the_loss_is_drawn_without_a_network(trained, tmp_path):
    page = (trained / "progress" / PLOT).read_text()
    assert "<svg" in page
    assert "<script" not in page
    draw_losses(trained / "progress" / LOSSES, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_a_checkpoint_loads_by_its_step(trained, model):
    assert checkpoints(str(trained)) == (0, 4, 6)
    first = load(str(trained), checkpoint=0)
    fresh = new_model(TINY, first.shape.d_vocab)
    weight = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(first.plain.get_parameter(weight), fresh.get_parameter(weight).half().float())
    assert first.revision == "step-00000"
    assert load(str(trained), checkpoint=6).fingerprint == model.fingerprint != first.fingerprint
    with pytest.raises(ValueError, match=r"has no checkpoint step-00005: its checkpoints are step-00000, step-00004"):
        load(str(trained), checkpoint=5)


def test_a_model_without_a_history_has_no_checkpoints(tiny_folder):
    with pytest.raises(ValueError, match="has no checkpoint 3: it has one set of weights"):
        load(str(tiny_folder), checkpoint=3)
    with pytest.raises(ValueError, match="has no checkpoint 3: it was built by hand"):
        load("planted:tour", checkpoint=3)


def test_a_bundled_model_is_found_by_name_and_a_missing_one_says_so(trained, tmp_path, monkeypatch):
    (tmp_path / "prompts").mkdir()
    monkeypatch.setattr(sources, "data_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="model world is not part of this copy.*`workbench train-world world`"):
        find_source("world")
    shutil.copytree(trained, tmp_path / "models" / "world-history")
    assert find_source("world-history", "step-00004").variant == "step-00004"
    assert find_source("world-history").variant is None
    assert checkpoints("world-history") == (0, 4, 6)
    with pytest.raises(ValueError, match="no checkpoint main"):
        find_source("world-history", "main")


def test_right_agrees_with_greedy_decoding(model):
    prompts = list(indirect_objects(6))
    said = [model.tokenizer.decode(greedy(model, model.tokens(one.text).ids[0].tolist(), 2)) for one in prompts]
    asked = [replace(prompt, target=text) for prompt, text in zip(prompts, said, strict=True)]
    whole = [len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) == 2 for text in said]
    assert any(whole)
    assert all(hit == 1 for hit, two in zip(right(model, asked), whole, strict=True) if two)
    assert right(model, prompts) == [0.0] * 6


def test_the_mass_on_later_years_is_what_the_logits_say(model):
    prompts = greater_than(5)
    for prompt, mass in zip(prompts, later_mass(model, prompts), strict=True):
        chances = model.forward(model.tokens(prompt.text).ids)[0, -1].detach().softmax(-1)
        later = [chances[model.token(f"{year:02d}")] for year in range(prompt.meta["start"] + 1, 100)]
        assert mass == pytest.approx(float(sum(later)), abs=1e-5)


def test_a_bridge_is_seen_where_the_lens_of_some_layer_puts_it_before_its_kind(model):
    world = make_world(0)
    hops = two_hops(world, told=False)[::12]
    seen, other = bridges_seen(model, world, hops)
    for hop, yes, control in zip(hops, seen, other, strict=True):
        names = sorted(set(world.facts[hop.relations[0]].values()))
        tokens = list(
            dict.fromkeys(model.tokenizer(f" {name}", add_special_tokens=False)["input_ids"][0] for name in names)
        )
        place = tokens.index(model.tokenizer(f" {hop.bridge[0]}", add_special_tokens=False)["input_ids"][0])
        until = [hop.prompt[: hop.prompt.index(hop.first) + len(hop.first)], hop.prompt]
        best = [lens_of_the_first_layer(model, text)[tokens].argmax() for text in until]
        assert yes == any(one == place for one in best)
        assert control == any(one == (place + 1) % len(tokens) for one in best)


def lens_of_the_first_layer(model, text):
    """All that a model of two layers has before its last."""
    plain = model.plain
    states = plain(model.tokens(text).ids, output_hidden_states=True).hidden_states[1]
    return plain.lm_head(plain.model.norm(states[0, -1]))


def test_an_evaluation_scores_what_is_asked(model):
    (score,) = evaluate(model, ["pronouns"])
    assert (score.task, score.examples, score.reached) == ("pronouns", 200, None)
    assert 0 <= score.low <= score.score <= score.high <= 1
    with pytest.raises(KeyError, match="task 'moon' is unknown: allowed are facts in held-out phrasings"):
        evaluate(model, ["moon"])
    assert score_row(Score("a", 0.5, 0.4, 0.6, 10, 0.9)) == ["a", "0.500", "0.400 to 0.600", "10", ">= 0.90", "no"]
    assert sum(goal is not None for _, goal in TASKS.values()) == 5


def test_a_history_is_watched_at_every_checkpoint(trained):
    moments = watch(str(trained), examples=2)
    assert [moment.step for moment in moments] == [0, 4, 6]
    for moment in moments:
        assert all(0 <= value <= 1 for value in (moment.copied, moment.induction, moment.previous, moment.sink))
    with pytest.raises(ValueError, match="has no checkpoints to watch"):
        watch("planted:tour")


def test_attention_of_a_planted_induction_head_is_seen():
    planted = load("planted:induction")
    heads = planted.shape.n_layers * planted.shape.n_heads
    words = planted.tokenizer.convert_ids_to_tokens(list(range(10, 30)))
    scores = attention_scores(planted, words)
    assert scores.shape[1] * scores.shape[2] == heads
    for kind, truth in enumerate([(1, 1), (0, 0)]):
        assert scores[kind][truth] > 0.9
    assert sink_scores(planted, words)[0, 1] > 0.9


def test_the_card_is_written_from_the_files_beside_the_weights(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "world"))
    scores = [Score("easy", 0.97, 0.96, 0.98, 100, 0.95), Score("hard", 0.5, 0.4, 0.6, 50, 0.8)]
    card = save_evaluation(folder, scores, [Moment(0, 0.0, 0.01, 0.1, 0.2), Moment(6, 0.5, 0.9, 0.95, 0.3)])
    text = card.read_text()
    assert card == tmp_path / "README.md"
    assert "Goals that are missed: hard." in text
    assert "| easy | 0.970 | 0.960 to 0.980 | 100 | >= 0.95 | yes |" in text
    assert "| 6 | 0.500 | 0.900 | 0.950 | 0.300 |" in text
    assert "for 6 steps of 64 tokens, seed 0, " in text
    story = json.loads((folder / "training.json").read_text()) | {"steps_done": 3}
    (folder / "training.json").write_text(json.dumps(story))
    assert "3 steps of 64 tokens of 6 planned: the training was not finished" in write_card(tmp_path)
