"""Weights multiply to what the model computes."""

import pytest
import torch
from architectures import SERVED

from workbench.edit import edited, zero
from workbench.lens import unembedding
from workbench.model import load
from workbench.tracer import trace
from workbench.weights import head_outputs, neuron_outputs

WITHOUT_POST_NORM = ("GPT2", "Llama", "GPTNeoX parallel", "Bloom", "Falcon new layout", "Phi3", "OPT", "Qwen2")


@pytest.fixture(scope="module", params=WITHOUT_POST_NORM)
def model(request, tmp_path_factory):
    architecture = next(one for one in SERVED if one.name == request.param)
    return load(str(architecture.save(tmp_path_factory.mktemp("weights") / "model")))


def test_heads_times_their_weights_are_the_attention_output(model):
    ids = model.tokens_of([[5, 17, 40, 9, 77]])
    plain = trace(model, ids, ["L1.z", "L1.attn_out"])
    with edited(model, [("L1.z", zero())]):
        bias = trace(model, ids, "L1.attn_out")["L1.attn_out"]
    made = torch.einsum("bphd,hdm->bpm", plain["L1.z"], head_outputs(model, 1))
    assert torch.allclose(made + bias, plain["L1.attn_out"], atol=1e-5)


def test_neurons_times_their_weights_are_the_mlp_output(model):
    ids = model.tokens_of([[5, 17, 40, 9, 77]])
    plain = trace(model, ids, ["L1.mlp_post", "L1.mlp_out"])
    with edited(model, [("L1.mlp_post", zero())]):
        bias = trace(model, ids, "L1.mlp_out")["L1.mlp_out"]
    made = plain["L1.mlp_post"] @ neuron_outputs(model, 1)
    assert torch.allclose(made + bias, plain["L1.mlp_out"], atol=1e-5)


def test_the_normed_stream_times_the_unembedding_are_the_logits(model):
    ids = model.tokens_of([[5, 17, 40, 9, 77]])
    last = f"L{model.shape.n_layers - 1}.resid_post"
    plain = trace(model, ids, [last, "logits"])
    weight, bias = unembedding(model.bridge)
    with torch.no_grad():
        made = model.bridge.ln_final(plain[last]) @ weight.T + (0 if bias is None else bias)
    assert torch.allclose(made, plain.logits, atol=1e-5)
