"""Induction heads finds the planted pair, sees what transformers' own maps show, and scores copying as defined."""

import numpy as np
import pytest
import torch
from small_models import plain_twin, small_model

from workbench.analyses.induction_heads import induction_heads
from workbench.analyses.induction_heads.ablating import INDUCTION, PREVIOUS, RANDOM, losses
from workbench.analyses.induction_heads.copying import copying_scores
from workbench.analyses.induction_heads.matching import Pool, Repeated, mean_at, read_matches
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.vocabulary import usable_tokens

FEW = Prompts.of("the first words")
NAMES = ("GPT2", "Llama", "Gemma2", "Gemma3", "GPTNeoX parallel")


@pytest.fixture(scope="module")
def induction() -> Model:
    return load("planted:induction")


@pytest.fixture(scope="module")
def seen(induction: Model) -> Result:
    return induction_heads(induction, FEW, length=25, repeats=2)


def test_the_planted_pair_is_found_and_nothing_else(seen: Result) -> None:
    ((layer, head),) = plant("induction").truth["induction"]
    lift, previous = seen.arrays["lift"].values, seen.arrays["previous"].values
    assert lift[layer, head] == pytest.approx(1, abs=1e-5)
    assert np.delete(lift.ravel(), layer * lift.shape[1] + head).max() < 0.05
    assert previous[0, 0] == pytest.approx(1, abs=1e-5)
    assert seen.scalars["best"] == "L1.H1"
    assert seen.scalars["heads with a clear lift"] == 1
    assert seen.arrays["copying"].values[layer, head] == pytest.approx(1, abs=1e-3)
    assert seen.passed


def test_either_head_of_the_pair_is_needed_for_the_second_copy_and_others_are_not(seen: Result) -> None:
    change = seen.arrays["loss_change"].values
    first, second = seen.scalars["loss in the first half"], seen.scalars["loss in the second half"]
    assert second < 0.01 and first > 10
    assert min(change[0, 0], change[1, 1]) > 5
    sets = {row["set"]: row for row in seen.tables["sets"]}
    assert min(sets[INDUCTION]["loss change"], sets[PREVIOUS]["loss change"]) > 5
    assert abs(sets[RANDOM]["loss change"]) < 1e-3
    assert sets[INDUCTION]["heads"] == "L1.H1"
    assert seen.finding.startswith("L1.H1 looks where the answer stands: 1.00 of its attention 1 place behind")


def test_a_head_that_looks_two_back_is_a_previous_token_head_of_two_places(seen: Result) -> None:
    before = seen.arrays["before"].values[:, 1, 2]
    assert before[1] == pytest.approx(1, abs=1e-5) and before[0] < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_attention_maps_of_transformers_position_by_position(name: str) -> None:
    model, twin = small_model(name), plain_twin(name)
    said = Repeated.of(model, usable_tokens(model), length=9, repeats=3, seed=1)
    found = read_matches(model, said.twice, said, reach=3)
    with torch.no_grad():
        maps = twin(said.twice.ids, use_cache=False, output_attentions=True).attentions
    for layer, pattern in enumerate(maps):
        for offset in range(4):
            slow = [pattern[:, :, said.start + 9 + j, said.start + j + offset] for j in range(9)]
            torch.testing.assert_close(found.behind[offset, layer], torch.stack(slow).mean(dim=(0, 1)))
        for distance in range(1, 4):
            slow = [pattern[:, :, said.start + j, said.start + j - distance] for j in range(3, 9)]
            torch.testing.assert_close(found.before[distance - 1, layer], torch.stack(slow).mean(dim=(0, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_those_of_transformers(name: str) -> None:
    model, twin = small_model(name), plain_twin(name)
    said = Repeated.of(model, usable_tokens(model), length=6, repeats=3, seed=0)
    with torch.no_grad():
        log_probs = twin(said.twice.ids, use_cache=False).logits.double().log_softmax(-1)
    slow = [[-log_probs[row, at - 1, ids[at]] for at in range(1, len(ids))] for row, ids in enumerate(said.twice.ids)]
    torch.testing.assert_close(losses(model, said.twice).double(), torch.tensor(slow).double(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def whole_matrix_share(name: str, layer: int, head: int) -> float:
    """The copying score of a Llama from its plain weights, by the matrix of the whole vocabulary."""
    model, weights = small_model(name), dict(plain_twin(name).named_parameters())
    ids, size = usable_tokens(model), model.shape.d_head
    group = head // (model.shape.n_heads // model.shape.n_kv_heads)
    values = weights[f"model.layers.{layer}.self_attn.v_proj.weight"][group * size : (group + 1) * size]
    outputs = weights[f"model.layers.{layer}.self_attn.o_proj.weight"][:, head * size : (head + 1) * size]
    read = weights["model.embed_tokens.weight"][ids] * weights[f"model.layers.{layer}.input_layernorm.weight"]
    out = weights["lm_head.weight"][ids] * weights["model.norm.weight"]
    whole = read @ values.T @ outputs.T @ (out - out.mean(0)).T
    eigenvalues = torch.linalg.eigvals(whole.double())
    return float(eigenvalues.real.sum() / eigenvalues.abs().sum())


def test_copying_is_the_share_of_the_eigenvalues_of_the_whole_vocabulary() -> None:
    model = small_model("Llama")
    said = Repeated.of(model, usable_tokens(model), length=6, repeats=1, seed=0)
    scores, refused = copying_scores(model, said.twice)
    assert scores is not None and refused == ""
    for layer, head in ((0, 0), (1, 1), (1, model.shape.n_heads - 1)):
        assert float(scores[layer, head]) == pytest.approx(whole_matrix_share("Llama", layer, head), abs=1e-3)


def test_tokens_are_drawn_from_prompts_that_hold_enough_of_them(induction: Model) -> None:
    words = induction.tokenizer.convert_ids_to_tokens(range(5, 45))
    prompts = Prompts.of(" ".join(words[:30]), " ".join(words[20:]))
    pool = Pool.of(induction, prompts, 40)
    assert pool.ids.tolist() == list(range(5, 45))
    assert len(Pool.of(induction, prompts, 41).ids) == len(usable_tokens(induction))
    assert (
        induction_heads(induction, prompts, length=20, repeats=1).notes[0].endswith("40 different ones of the prompts.")
    )
    assert "the prompts hold 40 different ones, and 60 are needed" in induction_heads(induction, prompts).notes[0]


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_copy_nothing_and_look_nowhere(name: str) -> None:
    found = induction_heads(small_model(name), FEW, length=8, repeats=2, reach=2, draws=1)
    assert found.scalars["heads with a clear lift"] == 0
    assert "comes nearest to an induction head" in found.finding
    assert np.abs(found.arrays["copying"].values).mean() < 0.6
    assert found.passed


def test_mean_at_of_a_hand_made_pattern() -> None:
    pattern = torch.tensor([[1.0, 0, 0, 0], [0.4, 0.6, 0, 0], [0.1, 0.2, 0.7, 0], [0.3, 0.3, 0.3, 0.1]])
    assert mean_at(pattern[None, None], range(2, 4), -1).item() == pytest.approx((0.2 + 0.3) / 2)
    assert mean_at(pattern[None, None], range(2, 4), -2).item() == pytest.approx((0.1 + 0.3) / 2)


def test_sequences_repeat_and_their_controls_do_not(induction: Model) -> None:
    said = Repeated.of(induction, usable_tokens(induction), length=7, repeats=3, seed=2)
    for row, other in zip(said.twice.ids.tolist(), said.once.ids.tolist(), strict=True):
        assert row[: said.start] == [induction.tokenizer.bos_token_id]
        assert [row[place] for place in said.first] == [row[place] for place in said.second]
        assert row[: said.second.start] == other[: said.second.start]
        assert len({*other}) == len(other)


def test_runs_repeat_and_survive_saving(induction: Model, seen: Result, tmp_path) -> None:
    again = induction_heads(induction, FEW, length=25, repeats=2)
    assert again.arrays == seen.arrays and again.tables == seen.tables
    assert Result.load(seen.save(tmp_path / "run")) == seen


@pytest.mark.parametrize(
    "options, message",
    [
        ({"length": 1}, "length must be 2 or more, found 1"),
        ({"length": 5000}, "length must be 300 or less for a context"),
        ({"reach": 30}, "reach lies between 1 and length - 1, here 29: found 30"),
        ({"draws": 0}, "draws must be 1 or more, found 0"),
    ],
)
def test_refuses_what_it_cannot_measure(options: dict, message: str, induction: Model) -> None:
    with pytest.raises(ValueError, match=message):
        induction_heads(induction, FEW, **options)


@pytest.mark.real
def test_a_real_model_has_induction_heads_that_it_needs_for_repetition(real_model: Model) -> None:
    found = induction_heads(real_model, FEW, length=30, repeats=4, ablated=3, draws=2)
    assert found.scalars["lift"] > 0.3
    assert found.scalars["gained by repetition"] > 3
    change = {
        name: [row["loss change"] for row in found.tables["sets"] if row["set"] == name] for name in (INDUCTION, RANDOM)
    }
    assert change[INDUCTION][0] > 2 * max(change[RANDOM])
    assert found.passed
