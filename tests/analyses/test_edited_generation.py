"""Edited generation shows what a planted edit breaks, and compares what transformers would compare."""

import numpy as np
import pytest
import torch
from small_models import plain_twin, small_model
from torch import Tensor
from torch.distributions import Categorical
from torch.distributions.kl import kl_divergence

from workbench.analyses.edited_generation import edited_generation
from workbench.analyses.edited_generation.comparing import first_difference
from workbench.analyses.edited_generation.controls import draw_controls
from workbench.edit_words import read_edits
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Needles, Prompts
from workbench.result import Result

TEXTS = ("w20 w31 w9 w55 w7", "w5 w6 w90", "w40 w41 w42 w43 w44")
NEW = 5


@pytest.fixture(scope="module")
def induction() -> Model:
    return load("planted:induction")


@pytest.fixture(scope="module")
def tour() -> Model:
    return load("planted:tour")


def needle_prompt() -> Prompts:
    needle = Needles.bundled()[0]
    return Prompts.of(f"{needle.needle} {needle.answer_prefix}")


def test_only_the_edits_that_break_the_planted_pair_change_what_is_said(induction: Model) -> None:
    words = induction.tokenizer.convert_ids_to_tokens(range(5, 17))
    prompts, truth = Prompts.of(" ".join([*words, *words[:4]])), plant("induction").truth
    for layer in range(2):
        for head in range(4):
            found = edited_generation(induction, prompts, edits=f"zero L{layer}.H{head}", new_tokens=4, controls=0)
            line = found.tables["continuations"][0]
            assert line["plain"] == " ".join(words[4:8])
            if [layer, head] in truth["pair"]:
                assert line["parts at"] == 0
                assert (found.arrays["lead_plain"].values > 1).all()
                assert (found.arrays["lead_edited"].values < 0).all()
            else:
                assert line["edited"] == line["plain"]
                assert found.scalars["kl"] == pytest.approx(0, abs=1e-6)
            assert found.passed


def test_the_controls_of_the_planted_head_break_nothing(induction: Model) -> None:
    words = induction.tokenizer.convert_ids_to_tokens(range(5, 17))
    found = edited_generation(induction, Prompts.of(" ".join([*words, *words[:4]])), edits="zero L1.H1", new_tokens=4)
    moved = sorted(row["edits"] for row in found.tables["controls"])
    assert moved == [f"zero L1.H{head}.z" for head in (0, 2, 3)], "a layer of four heads has three others"
    assert all(row["parted"] == 0 for row in found.tables["controls"])
    assert found.scalars["controls at or above"] == 0
    assert found.scalars["kl of controls"] < 1e-3 < found.scalars["kl"]
    assert "(0 of 3 controls reach it)" in found.finding


def test_a_neuron_held_open_says_its_word_and_a_layer_that_does_nothing_can_go(tour: Model) -> None:
    truth = plant("tour").truth
    one = truth["neurons"][1]
    words = f"clamp L{one['layer']}.N{one['neuron']} 100"
    found = edited_generation(tour, needle_prompt(), edits=words, new_tokens=3, controls=2)
    assert found.tables["continuations"][0]["edited"] == " ".join([one["token"]] * 3)
    skipped = edited_generation(tour, needle_prompt(), edits=f"skip L{truth['inert'][0]}", new_tokens=3, controls=0)
    assert skipped.scalars["parted"] == 0
    assert skipped.scalars["kl"] == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def slow_logits(twin: torch.nn.Module, ids: list[int], without: tuple[int, int] | None) -> Tensor:
    """[pos, vocab] of transformers alone, one head's input to the output projection set to nothing."""
    handles = []
    if without is not None:
        projection, size = twin.model.layers[without[0]].self_attn.o_proj, twin.config.head_dim
        place = torch.arange(projection.in_features) // size == without[1]
        handles.append(projection.register_forward_pre_hook(lambda _, inputs: (inputs[0].masked_fill(place, 0),)))
    logits = twin(torch.tensor([ids]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.parametrize("name", ["Llama", "Gemma3"])
def test_agrees_with_transformers_word_by_word(name: str) -> None:
    model, twin, head = small_model(name), plain_twin(name), (0, 2)
    found = edited_generation(model, Prompts.of(*TEXTS), edits="zero L0.H2", new_tokens=NEW, controls=0)
    for place, text in enumerate(TEXTS):
        ids = model.tokens(text).ids[0].tolist()
        said: dict[tuple[int, int] | None, list[int]] = {None: [], head: []}
        for without, made in said.items():
            for _ in range(NEW):
                made.append(int(slow_logits(twin, [*ids, *made], without)[-1].argmax()))
        row = found.tables["continuations"][place]
        assert row["plain"] == model.tokenizer.decode(said[None])
        assert row["edited"] == model.tokenizer.decode(said[head])
        assert row["parts at"] == first_difference(said[None], said[head])
        runs = {line["run"]: line["text"] for line in found.tables["runs"] if line["example"] == place}
        assert runs == {"prompt": text, "plain": row["plain"], "edited": row["edited"]}
        plain, other = (slow_logits(twin, [*ids, *said[None][:-1]], without)[len(ids) - 1 :] for without in said)
        expected = kl_divergence(Categorical(logits=plain.double()), Categorical(logits=other.double()))
        np.testing.assert_allclose(found.arrays["kl"].values[place], expected, atol=1e-6)
        for step, token in enumerate(said[None]):
            rest = torch.cat([other[step, :token], other[step, token + 1 :]])
            lead = float(other[step, token] - rest.max())
            assert found.arrays["lead_edited"].values[place, step] == pytest.approx(lead, abs=1e-5)
    assert found.passed


@pytest.mark.parametrize("edits", ["zero L0.H1@2", "scale L1.mlp 3 from -1", "repeat L0 2", "cut L1.H0 query 3 key 0"])
def test_what_is_said_step_by_step_is_what_one_pass_says(edits: str) -> None:
    """Positions are those of the prompt in both; blocks that repeat run without a cache."""
    found = edited_generation(small_model("Llama"), Prompts.of(*TEXTS), edits=edits, new_tokens=NEW, controls=2)
    assert found.passed, found.checks
    assert found.scalars["kl"] > 0


def test_drawn_words_part_only_where_the_edit_changes_something() -> None:
    model = small_model("Llama")
    options = {"temperature": 1.0, "new_tokens": 12, "controls": 0}
    same = edited_generation(model, Prompts.of(*TEXTS), edits="scale L0.H1 1", **options)
    assert same.scalars["parted"] == 0 and same.scalars["kl"] == 0
    greedy = edited_generation(model, Prompts.of(*TEXTS), edits="scale L0.H1 1", new_tokens=12, controls=0)
    drawn = [row["plain"] for row in same.tables["continuations"]]
    assert drawn != [row["plain"] for row in greedy.tables["continuations"]]
    strong = edited_generation(model, Prompts.of(*TEXTS), edits="scale L1.resid_post -1", **options)
    assert [row["plain"] for row in strong.tables["continuations"]] == drawn
    assert strong.scalars["parted"] > 0
    other = edited_generation(model, Prompts.of(*TEXTS), edits="scale L0.H1 1", seed=1, **options)
    assert [row["plain"] for row in other.tables["continuations"]] != drawn


@pytest.mark.parametrize(
    "edits, count",
    [("zero L0.H1", 3), ("zero L0.H1; zero L0.H2", 1), ("zero L1.v", 1), ("skip L0.attn", 1), ("clamp L0.N3 2", 8)],
)
def test_controls_are_other_places_of_the_same_kind(edits: str, count: int) -> None:
    model, written = small_model("Llama"), read_edits(edits)
    drawn = draw_controls(model, written, 8, seed=0)
    assert len(drawn) == len(set(drawn)) >= count
    for moved in drawn:
        for before, after in zip(written, moved, strict=True):
            assert (before.verb, before.number, before.site.kind) == (after.verb, after.number, after.site.kind)
            assert after.site not in [one.site for one in written]
            if before.site.head is not None or before.site.neuron is not None:
                assert after.site.layer == before.site.layer


def test_where_there_is_no_other_place_there_is_no_control() -> None:
    found = edited_generation(small_model("Llama"), Prompts.of(TEXTS[0]), edits="scale embed 2", new_tokens=2)
    assert found.tables["controls"] == []
    assert any("No control" in note for note in found.notes)


def test_the_first_difference_is_where_lists_part_or_one_ends() -> None:
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == 2


def test_runs_repeat_and_survive_saving(tmp_path) -> None:
    model = small_model("Llama")
    first, second = (edited_generation(model, Prompts.of(*TEXTS), new_tokens=3, temperature=1.0) for _ in range(2))
    assert first.arrays == second.arrays and first.tables == second.tables
    assert Result.load(first.save(tmp_path / "run")) == first


@pytest.mark.parametrize(
    "options, message",
    [
        ({"edits": "zap L0.H1"}, "the verb 'zap' is unknown"),
        ({"edits": "zero L7.H1"}, r"the model has 2 layers \(0-1\)"),
        ({"edits": "zero L0.H9"}, "there are 4 heads"),
        ({"edits": "zero L0.H1@40"}, "the prompt has"),
        ({"new_tokens": 0}, "new_tokens is 1 or more"),
    ],
)
def test_refuses_what_it_cannot_do(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edited_generation(small_model("Llama"), Prompts.of(TEXTS[0]), **{"new_tokens": 2, **options})


@pytest.mark.real
def test_a_real_model_loses_the_thread_when_its_stream_is_turned_round(real_model: Model) -> None:
    prompts = Prompts.of("Monday, Tuesday, Wednesday,", "One, two, three, four,")
    found = edited_generation(real_model, prompts, edits="scale L9.resid_post -1", new_tokens=6, controls=2)
    said = [row["plain"] for row in found.tables["continuations"]]
    assert "Thursday" in said[0] and "five" in said[1]
    assert found.scalars["parted"] == 2
    assert found.scalars["kl"] > 1
    assert found.passed
