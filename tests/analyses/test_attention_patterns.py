"""Attention patterns finds each planted head in its role, and sees what transformers' own maps show."""

import math

import numpy as np
import pytest
import torch
from small_models import plain_twin, small_model
from torch import Tensor

from workbench.analyses.attention_patterns import attention_patterns, reading, wall
from workbench.analyses.attention_patterns.roles import ROLES, role_keys, value_weighted
from workbench.analyses.attention_patterns.wall import pool_rows, tile
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Prompts
from workbench.result import Result

PREVIOUS, FIRST, SELF, DUPLICATE, INDUCTION = range(5)
NAMES = ("GPT2", "Llama", "Gemma2", "Gemma3", "GPTNeoX parallel", "Mistral")
TEXT = "w5 w6 w7 w5 w6 w9 w9 w5 w6 w30"
QUICK = {"repeated": 8, "repeats": 1, "draws": 1}


def at(values: np.ndarray, heads: list[list[int]]) -> np.ndarray:
    """The last two axes at some [layer, head]."""
    layers, numbers = zip(*heads, strict=True)
    return values[..., layers, numbers]


@pytest.fixture(scope="module")
def induction() -> Model:
    return load("planted:induction")


@pytest.fixture(scope="module")
def seen(induction: Model) -> Result:
    words = induction.tokenizer.convert_ids_to_tokens(range(5, 25))
    return attention_patterns(induction, Prompts.of(" ".join([*words, *words[:12]])), repeated=25, repeats=2)


def test_every_planted_head_plays_its_role_and_no_other(seen: Result) -> None:
    truth = plant("induction").truth
    role, even = seen.arrays["role"].values, seen.arrays["even"].values
    for place, name in ((PREVIOUS, "previous"), (FIRST, "sink"), (SELF, "self"), (INDUCTION, "induction")):
        np.testing.assert_allclose(at(role[place], truth[name]), 1, atol=1e-5)
    np.testing.assert_allclose(at(role, truth["uniform"]), even[:, [0, 0]], atol=1e-6)
    played = {row["head"]: row["plays"] for row in seen.tables["heads"]}
    assert played["L0.H2"] == played["L1.H2"] == "", "even attention, and two words back, are none of the roles"
    assert (played["L0.H0"], played["L1.H3"]) == ("previous token", "self")
    assert seen.passed


def test_on_repeated_tokens_only_the_induction_head_is_found_and_its_control_is_nothing(seen: Result) -> None:
    ((layer, head),) = plant("induction").truth["induction"]
    score, control = (seen.arrays[name].values[1] for name in ("repeated", "repeated_control"))
    assert score[layer, head] == pytest.approx(1, abs=1e-5)
    assert control[layer, head] < 1e-5
    others = np.delete(score.ravel(), layer * score.shape[1] + head)
    assert others.max() < 0.05
    assert seen.scalars["shown"] == f"L{layer}.H{head}"
    assert f"induction on the repeated tokens: L{layer}.H{head} (1.00" in seen.finding


def test_roles_by_position_stay_on_random_tokens_and_roles_by_content_go(seen: Result) -> None:
    role, random = seen.arrays["role"].values, seen.arrays["random"].values
    assert random[PREVIOUS, 0, 0] == pytest.approx(role[PREVIOUS, 0, 0], abs=1e-5)
    assert role[INDUCTION, 1, 1] == pytest.approx(1, abs=1e-5)
    assert random[INDUCTION, 1, 1] < 1e-5


def test_entropy_is_nothing_for_one_key_and_the_most_for_even_attention(seen: Result) -> None:
    entropy, even = seen.arrays["entropy"].values, seen.arrays["even_entropy"].values
    length = seen.scalars["tokens"]
    assert even[0] == pytest.approx(np.mean([math.log(query + 1) for query in range(1, length)]), rel=1e-5)
    assert entropy[0, 0] == pytest.approx(0, abs=1e-5)
    assert at(entropy, plant("induction").truth["uniform"]) == pytest.approx(even[0], rel=1e-5)


def test_a_head_that_rests_is_seen_to_write_nothing() -> None:
    """The head of `planted:sink` copies on names; on numbers it attends to <bos>, whose value is zero."""
    model, truth = load("planted:sink"), plant("sink").truth
    ((layer, head),) = truth["active_dormant"]
    for domain, place, written in (("names", PREVIOUS, 1.0), ("numbers", FIRST, 0.0)):
        found = attention_patterns(model, Prompts.of(*truth["domains"][domain]), **QUICK)
        share = found.arrays["role"].values[place, layer, head]
        weighted = found.arrays["weighted_role"].values[place, layer, head]
        assert share > 0.95, domain
        assert weighted == pytest.approx(written, abs=0.05), domain
    assert found.arrays["weighted_role"].values[:, 0, truth["always"][0][1]].max() == 0


def test_the_copying_model_has_its_heads_in_their_places() -> None:
    truth = plant("copy").truth
    found = attention_patterns(load("planted:copy"), Prompts.of("the bread was baked in the oven"), repeated=20)
    role = found.arrays["role"].values
    for place, name in ((PREVIOUS, "previous"), (FIRST, "sink"), (SELF, "self")):
        assert at(role[place], truth[name]).min() > 0.999
    control = found.arrays["repeated_control"].values[1]
    ((layer, head),) = truth["copy"]
    score = found.arrays["repeated"].values[1, layer, head]
    assert score == pytest.approx(17 / 20, abs=0.01), "it needs four words: the first three of the second half are lost"
    assert control[layer, head] < 0.01


@torch.no_grad()
def slow_roles(name: str, ids: list[int]) -> Tensor:
    """[role, layer, head] from transformers' own maps, query by query."""
    maps = torch.stack([one[0] for one in plain_twin(name)(torch.tensor([ids]), output_attentions=True).attentions])
    kept: list[list[Tensor]] = [[] for _ in ROLES]
    for query in range(1, len(ids)):
        alike = [key for key in range(query) if ids[key] == ids[query]]
        behind = [key + 1 for key in alike if key + 1 < query]
        for place, keys in enumerate(([query - 1], [0], [query], alike, behind)):
            if keys:
                kept[place].append(maps[:, :, query, keys].sum(-1).where((maps[:, :, query, keys] > 0).any(-1), np.nan))
    return torch.stack([torch.stack(rows).nanmean(0) for rows in kept])


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_maps_of_transformers(name: str) -> None:
    """Also in sliding windows, where a query counts only if a key of the role lies inside."""
    model = small_model(name)
    found = attention_patterns(model, Prompts.of(TEXT), layer=1, head=2, **QUICK)
    ids = model.tokens(TEXT).ids[0].tolist()
    np.testing.assert_allclose(found.arrays["role"].values, slow_roles(name, ids), atol=1e-5)
    with torch.no_grad():
        plain = plain_twin(name)(torch.tensor([ids]), output_attentions=True).attentions[1][0, 2].numpy()
    shown = found.arrays["pattern"].values
    np.testing.assert_allclose(np.nan_to_num(shown), plain, atol=1e-6)
    assert (np.isnan(shown) == (plain == 0)).all(), "what cannot be seen is blank"
    order = np.argsort(-plain, axis=1, kind="stable")[:, :3]
    keys = found.arrays["top_key"].values
    assert (keys == np.where(np.take_along_axis(plain, order, 1) > 0, order, -1)).all()
    assert found.passed


@torch.no_grad()
def slow_weighted(name: str, ids: list[int], layer: int, head: int) -> Tensor:
    """[query, key] by writing every value through the output projection and the gain of the norm behind it."""
    twin = plain_twin(name)
    block = twin.model.layers[layer]
    kept: list[Tensor] = []
    handle = block.self_attn.v_proj.register_forward_hook(lambda _module, _inputs, out: kept.append(out[0]))
    pattern = twin(torch.tensor([ids]), output_attentions=True).attentions[layer][0, head]
    handle.remove()
    size = twin.config.head_dim
    group = head // (twin.config.num_attention_heads // twin.config.num_key_value_heads)
    values = kept[0][:, group * size : (group + 1) * size]
    written = values @ block.self_attn.o_proj.weight[:, head * size : (head + 1) * size].T
    if "Gemma" in name:
        written = written * (1 + block.post_attention_layernorm.weight)
    product = pattern * written.norm(dim=-1)
    return product / product.sum(-1, keepdim=True)


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Gemma3"])
def test_value_weighting_is_that_of_every_value_written_out(name: str) -> None:
    model = small_model(name)
    found = attention_patterns(model, Prompts.of(TEXT), layer=1, head=3, **QUICK).arrays
    expected = slow_weighted(name, model.tokens(TEXT).ids[0].tolist(), 1, 3)
    np.testing.assert_allclose(np.nan_to_num(found["weighted_pattern"].values), expected, atol=1e-5)
    assert not np.allclose(found["weighted_pattern"].values, found["pattern"].values, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("name", ["GPT2", "Gemma3"])
def test_the_size_of_the_pieces_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attention_patterns(small_model(name), Prompts.of(TEXT), pool="mean", cells=4, **QUICK)
    monkeypatch.setattr(reading, "CHUNK", 4)
    monkeypatch.setattr(wall, "CHUNK", 3)
    pieces = attention_patterns(small_model(name), Prompts.of(TEXT), pool="mean", cells=4, **QUICK)
    for array in whole.arrays:
        np.testing.assert_allclose(pieces.arrays[array].values, whole.arrays[array].values, atol=1e-5, err_msg=array)


def test_several_prompts_are_the_mean_of_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = small_model("Llama"), (TEXT, "w8 w8 w8", "w40 w41 w42 w41 w40")
    alone = [attention_patterns(model, Prompts.of(text), **QUICK).arrays["role"].values for text in texts]
    for budget in (1, 10**9):
        monkeypatch.setattr(reading, "_BUDGET", budget)
        together = attention_patterns(model, Prompts.of(*texts), **QUICK).arrays["role"].values
        np.testing.assert_allclose(together, np.nanmean(alone, axis=0), atol=1e-5)


def test_role_keys_of_a_sentence_that_can_be_checked_by_eye() -> None:
    keys = role_keys(torch.tensor([[0, 5, 6, 5, 6, 6]]), 3, 6)[0].int().tolist()
    assert keys[PREVIOUS] == [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    assert keys[DUPLICATE] == [[0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 1, 0]]
    assert keys[INDUCTION] == [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0]]


def test_value_weighted_rows_sum_to_one_or_rest() -> None:
    pattern = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    weighted = value_weighted(pattern, torch.tensor([3.0, 1.0, 0.0]))
    assert weighted.tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("how", ["max", "mean"])
def test_pooling_is_that_of_blocks(how: str) -> None:
    length, cells = 11, 4
    rows = torch.rand(2, length, length, generator=torch.Generator().manual_seed(0)).tril()
    cell = [place * cells // length for place in range(length)]
    found = pool_rows(rows, 0, length, cells, how)
    for down in range(cells):
        for across in range(cells):
            queries = [place for place in range(length) if cell[place] == down]
            block = rows[:, queries][:, :, [place for place in range(length) if cell[place] == across]]
            expected = block.amax((1, 2)) if how == "max" else block.sum(2).mean(1)
            torch.testing.assert_close(found[:, down, across], expected)


def test_a_wall_holds_every_thumbnail_at_its_label() -> None:
    small = np.arange(2 * 3, dtype=np.float32).reshape(2, 3, 1, 1)
    shown = tile(small)
    assert shown[::2, ::2].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.isnan(shown[1]).all() and np.isnan(shown[:, 1]).all()
    arrays = attention_patterns(small_model("Llama"), Prompts.of(TEXT), cells=3, **QUICK).arrays
    wall, thumbnails = arrays["wall"], arrays["thumbnail"].values
    for layer in range(2):
        for head in range(4):
            row, column = (
                wall.labels[axis].index(f"{at} from 0") for axis, at in (("query", f"L{layer}"), ("key", f"H{head}"))
            )
            assert (wall.values[row : row + 3, column : column + 3] == thumbnails[layer, head]).all()


def test_a_long_prompt_is_pooled_and_keeps_every_query_in_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall, "LONGEST", 6)
    found = attention_patterns(small_model("Llama"), Prompts.of(TEXT), **QUICK)
    assert found.arrays["pattern"].values.shape == (6, 6)
    assert found.arrays["top_key"].values.shape == (found.scalars["tokens"], 3)
    assert any("pooled" in note for note in found.notes)


def test_where_values_cannot_be_read_the_roles_are_there_and_a_note_says_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object) -> None:
        raise ValueError("changed in an unknown way")

    whole = attention_patterns(small_model("Llama"), Prompts.of(TEXT), **QUICK)
    monkeypatch.setattr(reading, "norm_behind", unknown)
    found = attention_patterns(small_model("Llama"), Prompts.of(TEXT), **QUICK)
    np.testing.assert_array_equal(found.arrays["role"].values, whole.arrays["role"].values)
    assert "weighted_role" not in found.arrays and "weighted_pattern" not in found.arrays
    assert any("Not value-weighted" in note for note in found.notes)


def test_a_window_that_never_reaches_back_gives_no_induction_score_and_says_so() -> None:
    found = attention_patterns(small_model("Mistral"), Prompts.of("w5 w6 w7"), **QUICK)
    assert np.isnan(found.arrays["repeated"].values).all()
    assert found.scalars["induction"] is None
    assert "no layer reaches the keys of the induction role" in found.finding


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layer": 1}, "layer and head are given together"),
        ({"layer": 1, "head": 9}, "there are 4 heads"),
        ({"example": 1}, r"example 1: there are 1 prompts \(0-0\)"),
        ({"cells": 1}, "cells must be 2 or more, found 1"),
        ({"repeated": 40}, "repeated must be 31 or less for a context of 64 tokens"),
    ],
)
def test_refuses_what_it_cannot_do(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_patterns(small_model("Llama"), Prompts.of(TEXT), **{**QUICK, **options})


@pytest.mark.real
def test_a_real_model_has_induction_heads_and_rests_on_its_first_token(real_model: Model) -> None:
    text = "When Mary and John went to the store, John gave a drink to Mary. Then Mary and John went home."
    found = attention_patterns(real_model, Prompts.of(text), repeated=40, repeats=2)
    score, control = (found.arrays[name].values[1] for name in ("repeated", "repeated_control"))
    assert score.max() > 0.3
    assert control[np.unravel_index(score.argmax(), score.shape)] < 0.1
    assert found.arrays["role"].values[FIRST].mean() > 0.2
    assert found.passed
