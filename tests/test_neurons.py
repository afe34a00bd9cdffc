"""Directions of neurons are the weights, taken through the gains that stand in the checkpoint."""

import pytest
import torch
from architectures import SERVED
from small_models import plain_twin, prompt_ids, small_model

from workbench.neurons import FOLDS, Norms, mixtures, neuron_rows, usual_fold
from workbench.tracer import trace
from workbench.weights import has_gates, neuron_gates, neuron_inputs

NEURONS = [one.name for one in SERVED if "mlp_post" not in one.lacks]


def of_length_one(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows.double(), dim=-1)


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_multiply_their_rows_with_the_normed_stream(name):
    model = small_model(name)
    traced = trace(model, model.tokens_of([prompt_ids()]), ["L1.mlp_in", "L1.mlp_pre"])
    rows = neuron_gates(model, 1) if has_gates(model) else neuron_inputs(model, 1)
    made = traced["L1.mlp_in"][0] @ rows.T.detach()
    biases = traced["L1.mlp_pre"][0] - made
    assert torch.allclose(biases, biases[:1].expand_as(biases), atol=1e-5), "only a bias is missing"


def test_a_gated_neuron_is_its_gate_times_its_reading():
    model = small_model("Qwen2")
    traced = trace(model, model.tokens_of([prompt_ids()]), ["L1.mlp_in", "L1.mlp_pre", "L1.mlp_post"])
    up = traced["L1.mlp_in"] @ neuron_inputs(model, 1).T.detach()
    made = torch.nn.functional.silu(traced["L1.mlp_pre"]) * up
    assert torch.allclose(made, traced["L1.mlp_post"], atol=1e-5)


@pytest.mark.parametrize("name", NEURONS)
def test_every_norm_that_a_direction_meets_is_found(name):
    norms = Norms.of(small_model(name))
    assert max(norm.gap for norm in (*norms.before, *norms.behind, norms.final)) < 1e-5


def centred(rows: torch.Tensor) -> torch.Tensor:
    return rows - rows.mean(-1, keepdim=True)


def by_hand(name: str) -> dict[str, torch.Tensor]:
    """The fully folded directions of layer 1, from the gains in the plain model."""
    twin = plain_twin(name)
    if name == "GPT2":
        block, final = twin.transformer.h[1], twin.transformer.ln_f.weight
        read = final * centred(centred(block.ln_2.weight * block.mlp.c_fc.weight.T))
        return {"read": read, "write": final * centred(block.mlp.c_proj.weight)}
    block, final = twin.model.layers[1], twin.model.norm.weight
    up, down = block.mlp.up_proj.weight, block.mlp.down_proj.weight.T
    if name == "Gemma3":
        before, behind = block.pre_feedforward_layernorm.weight, block.post_feedforward_layernorm.weight
        return {"read": (1 + final) * (1 + before) * up, "write": (1 + final) * (1 + behind) * down}
    if name == "OLMo2":
        return {"read": final * up, "write": final * block.post_feedforward_layernorm.weight * down}
    return {"read": final * block.post_attention_layernorm.weight * up, "write": final * down}


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Gemma3", "OLMo2"])
def test_folding_multiplies_by_the_gains_of_the_checkpoint(name):
    model = small_model(name)
    for direction, expected in by_hand(name).items():
        rows = neuron_rows(model, 1, direction, "all")
        assert torch.allclose(of_length_one(rows), of_length_one(expected), atol=1e-5), direction


def test_the_final_fold_leaves_the_norm_of_the_mlp_out():
    model = small_model("Llama")
    twin = plain_twin("Llama")
    rows = neuron_rows(model, 0, "gate", "final")
    expected = twin.model.norm.weight * twin.model.layers[0].mlp.gate_proj.weight
    assert torch.allclose(of_length_one(rows), of_length_one(expected), atol=1e-5)
    assert torch.equal(neuron_rows(model, 0, "gate", "none"), twin.model.layers[0].mlp.gate_proj.weight)


def test_mixtures_have_the_covariance_of_the_rows():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    rows = torch.cat([rows, torch.zeros(10, 6)])  # neurons that do nothing
    drawn = mixtures(rows, 40_000, generator)
    expected = rows.T @ rows / 50
    assert torch.allclose(drawn.T @ drawn / 40_000, expected, atol=0.05 * float(expected.abs().max()))
    assert mixtures(torch.zeros(5, 6), 10, generator).shape == (0, 6)


def test_what_is_usual():
    assert [usual_fold(direction) for direction in ("read", "gate", "write")] == ["none", "none", "all"]
    assert set(FOLDS) >= {"none", "all"}


def test_refuses_what_is_not_there():
    with pytest.raises(ValueError, match="has no gates: each of its neurons has one row"):
        neuron_rows(small_model("GPT2"), 0, "gate", "none")
    with pytest.raises(ValueError, match=r"found sideways, none"):
        neuron_rows(small_model("GPT2"), 0, "sideways", "none")
    with pytest.raises(ValueError, match="site L0.mlp_post"):
        neuron_rows(small_model("Mixtral"), 0, "read", "none")
