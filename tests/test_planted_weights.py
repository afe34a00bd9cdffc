"""The planted models of weights, `concepts`, `redundant` and `sparse_mlp`, are as stated."""

from itertools import product

import pytest
import torch
from planting import changed, ids_of, next_word, outputs_of, planted, run, without_head, without_layer
from torch import Tensor


def decoded(rows: Tensor, unembedding: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the top token and its z-score over the vocabulary."""
    logits = rows @ unembedding.T
    top = logits.max(dim=1)
    return top.indices, (top.values - logits.mean(dim=1)) / logits.std(dim=1)


@pytest.mark.parametrize(("kind", "part"), [("reads", "up_proj"), ("writes", "down_proj")])
def test_concept_neurons_stand_out_and_no_other_does(kind: str, part: str) -> None:
    model = planted("concepts")
    words = model.model.lm_head.weight.data[4:]
    for layer, block in enumerate(model.model.model.layers):
        rows = getattr(block.mlp, part).weight.data
        tokens, scores = decoded(rows if kind == "reads" else rows.T, words)
        truth = {row["neuron"]: row["token"] for row in model.truth[kind] if row["layer"] == layer}
        assert len(truth) == 4
        for neuron, token in truth.items():
            assert model.tokenizer.decode(tokens[neuron] + 4) == token
            assert scores[neuron] > 8
        faces = [row["neuron"] for row in model.truth["two_faced"] if row["layer"] == layer]
        scores[[*truth, *(faces if kind == "reads" else [])]] = 0
        assert scores.max() < 6


def test_two_faced_neurons_change_their_word_with_the_final_gain() -> None:
    model = planted("concepts")
    words, gain = model.model.lm_head.weight.data[4:], model.model.model.norm.weight.data
    for row in model.truth["two_faced"]:
        neuron = model.model.model.layers[row["layer"]].mlp.up_proj.weight.data[row["neuron"]]
        tokens, scores = decoded(torch.stack([neuron, gain * neuron]), words)
        assert model.tokenizer.convert_ids_to_tokens((tokens + 4).tolist()) == [row["raw"], row["folded"]]
        assert scores.min() > 7


def divergence(logits: Tensor, other: Tensor) -> float:
    """Mean KL divergence in nats."""
    first, second = logits.double().log_softmax(-1), other.double().log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1).mean().item()


def test_layers_that_write_nothing_can_be_skipped_and_others_cannot() -> None:
    model = planted("redundant")
    ids = torch.randint(4, 64, (1, 40), generator=torch.Generator().manual_seed(0))
    plain = run(model, ids).logits
    for layer in range(8):
        with without_layer(model, layer):
            other = run(model, ids).logits
        if layer in model.truth["droppable"]:
            assert torch.equal(other, plain)
        elif layer in model.truth["faint"]:
            assert 0 < divergence(plain, other) < 1e-3
        else:
            assert layer in model.truth["matter"]
            assert divergence(plain, other) > 2e-2


def test_parts_that_write_nothing_or_the_same_are_as_stated() -> None:
    model = planted("redundant")
    ids = torch.randint(4, 64, (1, 40), generator=torch.Generator().manual_seed(1))
    layers, plain = model.model.model.layers, run(model, ids, output_attentions=True)
    silent = {"self_attn": model.truth["zero_attention"], "mlp": model.truth["zero_mlp"]}
    for part, layer in product(silent, range(8)):
        with changed(getattr(layers[layer], part), torch.zeros_like):
            assert torch.equal(run(model, ids).logits, plain.logits) == (layer in silent[part])
    for layer, head in product(range(8), range(4)):
        with without_head(model, layer, head):
            unchanged = torch.equal(run(model, ids).logits, plain.logits)
        assert unchanged == ([layer, head] in model.truth["dead"] or layer in model.truth["zero_attention"])
    [[first, second]] = model.truth["same"]
    assert all(torch.equal(a, b) for a, b in zip(layers[first].parameters(), layers[second].parameters(), strict=True))
    [[first, second]] = model.truth["same_pattern"]
    assert torch.equal(plain.patterns[first], plain.patterns[second])
    assert not torch.allclose(plain.patterns[first], plain.patterns[first - 1], atol=0.1)


def test_sparse_mlp_features_have_the_stated_values() -> None:
    model = planted("sparse_mlp")
    for example in model.truth["examples"]:
        assert next_word(model, example["prompt"]) == example["next"]
        activations = [block.mlp.act for block in model.model.transformer.h]
        for features, values in zip(
            model.truth["features"],
            outputs_of(model, ids_of(model, example["prompt"]), activations),
            strict=True,
        ):
            expected = torch.tensor([example["values"].get(feature["name"], 0.0) for feature in features])
            assert torch.allclose(values[-1, : len(features)], expected, atol=1e-3)
            assert (values[-1, len(features) :] == 0).all()


def test_the_listed_features_are_the_whole_of_each_mlp() -> None:
    model = planted("sparse_mlp")
    ids = ids_of(model, "the red cat stone blue river dog owl green")
    half = model.model.config.n_embd // 2

    def direction(name: str) -> Tensor:
        place = torch.eye(half)[model.truth["directions"][name]]
        return torch.cat([place, -place]) / 2**0.5

    for block, features in zip(model.model.transformer.h, model.truth["features"], strict=True):
        into, out = outputs_of(model, ids, [block.ln_2, block.mlp])
        total = torch.zeros_like(out)
        for feature in features:
            read = sum(strength * direction(name) for name, strength in feature["reads"].items())
            total += (into @ read + feature["bias"]).relu()[:, None] * direction(feature["writes"])
        assert torch.allclose(total, out, atol=1e-4)
        assert out.abs().max() > 0.1


def test_sparse_mlp_keeps_the_previous_word_and_centres_nothing() -> None:
    model = planted("sparse_mlp")
    prompt = " ".join(["red", "cat", "stone", "river"] * 12)
    seen = run(model, ids_of(model, prompt), output_attentions=True, output_hidden_states=True)
    assert seen.patterns[0, 0].diagonal(-1).min() > 0.9999
    assert max(stream.mean(dim=-1).abs().max() for stream in seen.streams) < 1e-4
