"""A word finds the neurons that were planted for it, in the right direction."""

from functools import cache

import numpy as np
import pytest
import torch
from planting import planted
from small_models import plain_twin, small_model

from workbench.analyses.neuron_search import neuron_search
from workbench.analyses.neuron_vocabulary import neuron_vocabulary
from workbench.model import Model, load
from workbench.neurons import mixtures, neuron_rows
from workbench.vocabulary import Vocabulary


@cache
def concepts() -> Model:
    return load("planted:concepts")


@pytest.mark.parametrize(("direction", "truth"), [("read", "reads"), ("write", "writes")])
def test_every_planted_word_finds_its_neuron_first(direction: str, truth: str):
    for one in planted("concepts").truth[truth]:
        result = neuron_search(concepts(), token=one["token"], listed=3)
        first = result.tables["neurons"][0]
        assert (first["layer"], first["number"], first["direction"]) == (one["layer"], one["neuron"], direction)
        assert first["z"] >= 8
        assert first["rank"] == 0
        assert first["tokens"].startswith(repr(one["token"]))
        assert result.passed


def test_agrees_with_decoding_every_neuron():
    """The other road: the stream over the vocabulary gives the same z where the word is on top."""
    decoded = neuron_vocabulary(concepts(), top=3)
    ids, z = decoded.named("promoted").values, decoded.named("promoted_z").values
    for layer, neuron in ((0, 7), (2, 33), (3, 399)):
        word = concepts().tokenizer.decode([int(ids[layer, neuron, 0])])
        result = neuron_search(concepts(), token=word, listed=1)
        assert result.named("z").values[0, layer, neuron] == pytest.approx(z[layer, neuron, 0], abs=1e-4)


def test_ranks_are_those_of_a_full_sort():
    twin, model = plain_twin("Llama"), small_model("Llama")
    result = neuron_search(model, token="w50", listed=20, unused=True)
    head = twin.lm_head.weight.double()
    gain = twin.model.norm.weight.double()
    for row in result.tables["neurons"]:
        mlp = twin.model.layers[row["layer"]].mlp
        weights = {
            "read": mlp.up_proj.weight.double(),
            "gate": mlp.gate_proj.weight.double(),
            "write": mlp.down_proj.weight.double().T * gain,
        }[row["direction"]]
        scores = head @ weights[row["number"]]
        z = (scores - scores.mean()) / scores.std(correction=0)
        assert row["z"] == pytest.approx(float(z[50]), abs=1e-4)
        signed = z * np.sign(row["z"])
        assert row["rank"] == int((signed > signed[50]).sum())


def test_several_words_are_searched_by_their_mean():
    alone = [neuron_search(concepts(), token=word).named("z").values for word in ("baba", "dudu")]
    both = neuron_search(concepts(), token="baba|dudu")
    np.testing.assert_allclose(both.named("z").values, np.mean(alone, axis=0), atol=1e-5)
    assert "'baba' 'dudu'" in both.finding


def free_words(count: int) -> list[str]:
    """Words that no neuron was planted for."""
    facts = planted("concepts").truth
    taken = {one[name] for key in facts for one in facts[key] for name in ("token", "raw", "folded") if name in one}
    words = [concepts().tokenizer.decode([index]) for index in range(4, 504)]
    return [word for word in words if word not in taken][:count]


def test_a_word_without_a_neuron_is_within_chance():
    results = [neuron_search(concepts(), token=word, listed=1) for word in free_words(12)]
    expected = [result.scalars["expected"] for result in results]
    assert 0.1 < np.median(expected) < 0.7  # the farthest of three directions: the smallest of three uniform numbers
    assert min(expected) > 0.001
    one = planted("concepts").truth["reads"][0]
    assert neuron_search(concepts(), token=one["token"]).scalars["expected"] < 1e-6


def test_the_null_is_that_of_random_directions():
    """The other road: draw them, and look at their z."""
    (word,) = free_words(1)
    result = neuron_search(concepts(), token=word)
    vocabulary, ids = Vocabulary.of(concepts()), torch.tensor([concepts().token(word)])
    generator = torch.Generator().manual_seed(0)
    drawn = mixtures(neuron_rows(concepts(), 1, "gate", "none"), 20_000, generator)
    z = vocabulary.z(drawn, ids)[:, 0].abs()
    reached = float(z.quantile(1 - 1 / 400))
    assert result.named("null").values[1, 1] == pytest.approx(reached, rel=0.06)


def test_a_neuron_against_the_word_has_its_sign():
    model = load("planted:concepts")
    one = planted("concepts").truth["writes"][0]
    with torch.no_grad():
        model.bridge.original_model.model.layers[one["layer"]].mlp.down_proj.weight[:, one["neuron"]] *= -1
    first = neuron_search(model, token=one["token"]).tables["neurons"][0]
    assert (first["layer"], first["number"]) == (one["layer"], one["neuron"])
    assert first["z"] < -8
    assert first["rank"] == 0


def test_a_model_without_gates_has_two_directions():
    result = neuron_search(small_model("GPT2"), token="w9")
    assert result.named("z").labels["component"] == ("read", "write")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({}, "token is empty: name the token to search for"),
        ({"token": "two words"}, "is 2 tokens"),
        ({"token": "<eos>"}, "'<eos>' has a token that no text leads to"),
        ({"token": "baba", "listed": 0}, "listed must be 1 or more"),
    ],
)
def test_refuses(knobs, message):
    with pytest.raises(ValueError, match=message):
        neuron_search(concepts(), **knobs)


@pytest.mark.real
def test_a_common_word_has_writers_on_a_real_model(real_model):
    result = neuron_search(real_model, token=" dog")
    assert result.passed
    best = next(row for row in result.tables["neurons"] if row["direction"] == "write")
    assert abs(best["z"]) > 8
    assert best["expected"] < 1e-3
    assert best["rank"] < 100  # of a quarter of a million
