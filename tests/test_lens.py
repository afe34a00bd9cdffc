"""Reading the residual stream is what transformers' own final norm and head make of its hidden states."""

from typing import Any

import pytest
import torch
from small_models import plain_twin, prompt_ids, small_model
from torch import Tensor
from torch.distributions import Categorical
from torch.distributions.kl import kl_divergence

from workbench import lens
from workbench.lens import Readings, caps_logits, read_layers, read_out, read_tokens
from workbench.tracer import trace
from workbench.words import Site

FINAL_NORMS = {
    "GPT2": "transformer.ln_f",
    "Llama": "model.norm",
    "Gemma2": "model.norm",
    "Gemma3": "model.norm",
    "Granite": "model.norm",
    "GPTNeoX parallel": "gpt_neox.final_layer_norm",
    "Phi": "model.final_layernorm",
    "GPT-J": "transformer.ln_f",
}
"""The last two have a bias in the unembedding; Gemma 2 caps its logits, Granite divides them."""


@torch.no_grad()
def plain_readings(name: str) -> Tensor:
    """[layer, pos, vocab]: the slow road, from hidden states of transformers and modules of its model."""
    twin = plain_twin(name)
    output = twin(torch.tensor([prompt_ids()]), output_hidden_states=True, use_cache=False)
    norm, head, config = twin.get_submodule(FINAL_NORMS[name]), twin.get_output_embeddings(), twin.config
    layers = [scaled(config, head(norm(hidden[0]))) for hidden in output.hidden_states[1:-1]]
    normed = scaled(config, head(output.hidden_states[-1][0]))  # transformers norms the last one already
    torch.testing.assert_close(normed, output.logits[0], atol=1e-6, rtol=1e-6)
    return torch.stack([*layers, output.logits[0]])


def scaled(config: Any, logits: Tensor) -> Tensor:
    """The scale and the cap that the model puts on its logits."""
    logits = logits / getattr(config, "logits_scaling", 1.0)
    bound = getattr(config, "final_logit_softcapping", None)
    return logits if bound is None else bound * torch.tanh(logits / bound)


def streams_of(name: str) -> Tensor:
    """[layer, pos, d_model] after every block."""
    model = small_model(name)
    traced = trace(model, model.tokens_of([prompt_ids()]), "resid_post")
    return torch.stack([traced[Site("resid_post", layer)][0] for layer in range(model.shape.n_layers)])


@pytest.mark.parametrize("name", FINAL_NORMS)
def test_reads_every_layer_as_transformers_would(name: str) -> None:
    with torch.no_grad():
        found = read_out(small_model(name).bridge, streams_of(name))
    torch.testing.assert_close(found, plain_readings(name), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FINAL_NORMS)
def test_some_tokens_read_alone_are_those_of_the_whole_vocabulary(name: str) -> None:
    ids = torch.tensor([7, 127, 7, 0])
    with torch.no_grad():
        found = read_tokens(small_model(name).bridge, streams_of(name), ids)
    torch.testing.assert_close(found, plain_readings(name)[..., ids], atol=1e-5, rtol=1e-5)


def agree(found: Readings, table: Tensor, ids: Tensor) -> None:
    """The streamed numbers against those of torch.distributions on the whole table."""
    said = Categorical(logits=table)
    places = ids.expand(len(table), -1)[..., None]
    expected = {
        "target_probability": said.probs.gather(-1, places)[..., 0],
        "target_rank": (table > table.gather(-1, places)).sum(-1).float(),
        "entropy": said.entropy(),
        "kl": kl_divergence(Categorical(logits=table[-1:]), said),
    }
    for quantity, values in expected.items():
        torch.testing.assert_close(getattr(found, quantity), values, atol=2e-6, rtol=1e-5)
    assert found.kl[-1].abs().max() < 1e-6


@pytest.mark.parametrize("name", FINAL_NORMS)
def test_the_streamed_numbers_are_those_of_the_whole_table(name: str) -> None:
    table = plain_readings(name)
    ids = torch.randint(128, (table.shape[1],), generator=torch.Generator().manual_seed(1))
    agree(read_layers(small_model(name).bridge, streams_of(name), ids), table, ids)


@pytest.mark.parametrize("numbers", [1, 8_000_000])
def test_the_size_of_the_slices_of_the_vocabulary_changes_nothing(
    numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest logits stand in different slices in different layers and at different positions."""
    monkeypatch.setattr(lens, "_NUMBERS", numbers)
    bridge = small_model("Llama").bridge
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(1000, 32, generator=generator)
    monkeypatch.setattr(lens, "unembedding", lambda _bridge: (weight, None))
    streams = 3 * torch.randn(5, 7, 32, generator=generator)
    ids = torch.randint(1000, (7,), generator=generator)
    with torch.no_grad():
        table = bridge.ln_final(streams) @ weight.T
    found = read_layers(bridge, streams, ids, top=4, first=2)
    agree(found, table, ids)
    best = table.log_softmax(-1).exp()[:, 2:].topk(4)
    torch.testing.assert_close(found.best, best.values, atol=2e-6, rtol=1e-5)
    assert torch.equal(found.best_ids, best.indices)


def test_the_top_token_has_rank_0() -> None:
    table = plain_readings("Llama")
    found = read_layers(small_model("Llama").bridge, streams_of("Llama"), table[-1].argmax(-1))
    assert torch.equal(found.target_rank[-1], torch.zeros(table.shape[1]))


def test_only_gemma_2_bends_its_logits() -> None:
    assert [name for name in FINAL_NORMS if caps_logits(small_model(name).bridge)] == ["Gemma2"]
    assert read_out(small_model("Gemma2").bridge, 100 * streams_of("Gemma2")).abs().max() <= 1.5
