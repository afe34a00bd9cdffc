"""Four ways to split a reading of the final stream, exact in every architecture that is served."""

import pytest
import torch
from architectures import SERVED
from small_models import prompt_ids, small_model

from workbench.attribution import Directions, attribute, logit_scale, part_sites, read_uncapped, token_directions
from workbench.edit import edited, zero
from workbench.tracer import trace
from workbench.weights import attention_bias, mlp_bias
from workbench.words import Site

WITHOUT_NEURONS = ("Mixtral", "OLMoE", "Qwen3-MoE")
WITHOUT_SOURCES = ("OLMo clipped",)
EXACT = 1e-5


def split(name, pos=-1, targets=(5, 7), others=(6, 8)):
    """The attribution of a small random model, and its logits before any soft cap."""
    model = small_model(name)
    traced = trace(model, model.tokens_of([prompt_ids()]), part_sites(model, pos))
    sides = [None if ids is None else torch.tensor(ids) for ids in (targets, others)]
    parts = attribute(model, traced, pos, token_directions(model, *sides))
    return parts, read_uncapped(model, traced[Site("resid_post", model.shape.n_layers - 1, pos=pos)][0]).double()


@pytest.mark.parametrize("name", [one.name for one in SERVED])
def test_every_split_adds_up_to_the_logit_difference(name):
    parts, logits = split(name)
    difference = float(logits[5] - logits[6])
    size = max(abs(difference), float(parts.components[:, 0].abs().max()))
    totals = parts.totals()
    assert {way: total for way, total in totals.items() if abs(total - difference) > EXACT * size} == {}
    assert parts.norm_gap < EXACT
    assert ("neurons" in totals) == (name not in WITHOUT_NEURONS)
    assert ("source tokens" in totals) == (name not in WITHOUT_SOURCES)


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Gemma2", "Gemma3", "GPTNeoX parallel", "Granite"])
def test_the_parts_of_one_branch_make_that_branch_along_every_direction(name):
    parts, _ = split(name)
    assert parts.neurons is not None
    assert parts.sources is not None
    for whole, branch in ((parts.attention, parts.heads), (parts.mlp, parts.neurons)):
        assert torch.allclose(branch.units.sum(1) + branch.biases, whole, atol=1e-5)
    assert torch.allclose(parts.sources.sum(-1), parts.heads.units[..., 0], atol=1e-5)


@pytest.mark.parametrize("name", ["GPT2", "Gemma2", "Bloom"])
def test_a_token_by_itself_is_compared_with_the_mean_of_the_vocabulary(name):
    parts, logits = split(name, others=None)
    assert parts.totals()["components"] == pytest.approx(float(logits[5] - logits.mean()), rel=1e-5)


@pytest.mark.parametrize("name", ["GPT2", "Gemma3"])
def test_a_position_in_the_middle_reads_nothing_behind_it(name):
    parts, logits = split(name, pos=4)
    assert parts.totals()["source tokens"] == pytest.approx(float(logits[5] - logits[6]), rel=1e-4)
    assert parts.sources is not None
    assert not parts.sources[..., 5:].any()
    assert parts.sources[..., 4].any()


def test_any_direction_can_be_read_as_well():
    model = small_model("Gemma2")
    traced = trace(model, model.tokens_of([prompt_ids()]), part_sites(model, -1))
    row = torch.randn(1, model.shape.d_model, generator=torch.Generator().manual_seed(3))
    parts = attribute(model, traced, -1, Directions(row, torch.tensor([2.5])))
    with torch.no_grad():
        normed = model.bridge.ln_final(traced[f"L{model.shape.n_layers - 1}.resid_post@-1"][0])
    expected = float(row[0] @ normed) + 2.5
    assert parts.totals() == pytest.approx(dict.fromkeys(parts.totals(), expected), rel=1e-5)


def test_the_logit_scale_is_the_model_s_own():
    assert logit_scale(small_model("Granite")) == pytest.approx(0.5)  # logits_scaling 2 divides
    assert logit_scale(small_model("Gemma2")) == pytest.approx(1.0)  # a soft cap does nothing to small logits


@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX parallel", "Qwen2"])
def test_biases_are_what_is_left_when_heads_and_neurons_are_silent(name):
    model = small_model(name)
    ids = model.tokens_of([prompt_ids()])
    with edited(model, [("L1.z", zero()), ("L1.mlp_post", zero())]):
        left = trace(model, ids, ["L1.attn_out@-1", "L1.mlp_out@-1"])
    assert torch.allclose(left["L1.attn_out@-1"][0], attention_bias(model, 1), atol=1e-6)
    assert torch.allclose(left["L1.mlp_out@-1"][0], mlp_bias(model, 1), atol=1e-6)


def test_a_branch_that_is_changed_in_an_unknown_way_is_refused(monkeypatch):
    model = small_model("Gemma3")
    traced = trace(model, model.tokens_of([prompt_ids()]), part_sites(model, -1))
    monkeypatch.setattr("workbench.attribution.attention_bias", lambda model, _: torch.ones(model.shape.d_model))
    directions = token_directions(model, torch.tensor([5]), torch.tensor([6]))
    with pytest.raises(ValueError, match=r"L0.attn_out: .* so it cannot be split"):
        attribute(model, traced, -1, directions)
