"""Planted concept neurons are decoded to their words, noise is not, and every number has a second road."""

from functools import cache

import numpy as np
import pytest
import torch
from small_models import plain_twin, small_model

from workbench.analyses.neuron_vocabulary import cost, neuron_vocabulary
from workbench.model import Model, load
from workbench.planted import plant
from workbench.result import Result

QUANTILE = 0.999


@cache
def concepts() -> Model:
    return load("planted:concepts")


@cache
def decoded(direction: str, fold: str = "usual") -> Result:
    return neuron_vocabulary(concepts(), direction=direction, fold=fold, listed=60)


def found(result: Result) -> set[tuple[int, int]]:
    return {(int(layer), int(neuron)) for layer, neuron in np.argwhere(result.named("specialised").values)}


def word(result: Result, layer: int, neuron: int) -> str:
    return concepts().tokenizer.decode([int(result.named("promoted").values[layer, neuron, 0])])


def tail(draws: int, chance: float, share: float = 0.999) -> int:
    """So many or fewer of `draws` happen in `share` of cases (Poisson)."""
    term = total = np.exp(-draws * chance)
    count = 0
    while total < share:
        count += 1
        term *= draws * chance / count
        total += term
    return count


@pytest.mark.parametrize(("direction", "truth"), [("read", "reads"), ("write", "writes")])
def test_every_planted_neuron_decodes_to_its_word_far_above_the_null(direction, truth):
    result, planted = decoded(direction), plant("concepts").truth[truth]
    assert len(planted) == 16
    for one in planted:
        place = one["layer"], one["neuron"]
        assert word(result, *place) == one["token"]
        assert result.named("promoted_z").values[*place, 0] >= 8
        assert place in found(result)
    assert result.passed


@pytest.mark.parametrize(("direction", "truth"), [("read", "reads"), ("gate", None), ("write", "writes")])
def test_no_more_noise_is_called_special_than_the_null_allows(direction, truth):
    facts = plant("concepts").truth
    result = decoded(direction)
    planted = {(one["layer"], one["neuron"]) for one in [*facts.get(truth, []), *facts["two_faced"]]}
    false = found(result) - planted
    allowed = tail(1600, 1 - QUANTILE)
    assert len(false) <= allowed <= 8
    assert result.scalars["by_chance"] == pytest.approx(1.6)
    assert result.named("peak_quantile").values[2] == pytest.approx(result.named("null_quantile").values[2], abs=0.1)


def test_two_faced_neurons_turn_with_the_folding():
    for fold, face in (("none", "raw"), ("final", "folded"), ("all", "folded")):
        result = decoded("read", fold)
        for one in plant("concepts").truth["two_faced"]:
            assert word(result, one["layer"], one["neuron"]) == one[face], fold


def test_p_values_of_random_neurons_are_uniform():
    values = np.sort(decoded("gate").named("p_value").values.ravel())
    expected = (np.arange(len(values)) + 0.5) / len(values)
    assert abs(values - expected).max() < 0.05
    assert values.min() >= 1 / 2001


def test_agrees_with_the_slow_definition():
    """All logits of all neurons of a layer, by matrices out of the checkpoint."""
    twin = plain_twin("Gemma3")
    result = neuron_vocabulary(small_model("Gemma3"), direction="write", top=7, draws=100, unused=True)
    for layer, block in enumerate(twin.model.layers):
        gain = (1 + twin.model.norm.weight) * (1 + block.post_feedforward_layernorm.weight)
        scores = (block.mlp.down_proj.weight.T * gain).double() @ twin.lm_head.weight.double().T
        z = (scores - scores.mean(1, keepdim=True)) / scores.std(1, correction=0, keepdim=True)
        order = z.argsort(dim=1, descending=True).numpy()
        np.testing.assert_array_equal(result.named("promoted").values[layer], order[:, :7])
        np.testing.assert_array_equal(result.named("suppressed").values[layer], order[:, ::-1][:, :7])
        np.testing.assert_allclose(result.named("peak").values[layer], z.abs().amax(1).numpy(), atol=1e-4)
    assert result.passed


def test_chosen_neurons_are_those_of_the_whole():
    whole = decoded("read")
    some = neuron_vocabulary(concepts(), layers=(3, 1), neurons=(7, 300), draws=100)
    for name in ("promoted", "suppressed_z", "coherence"):
        expected = whole.named(name).values[[3, 1]][:, [7, 300]]
        np.testing.assert_allclose(some.named(name).values, expected, atol=1e-5)
    assert some.named("peak").labels == {"layer": ("3", "1"), "neuron": ("7", "300")}
    assert {row["neuron"] for row in some.tables["neurons"]} == {"L3.N7", "L3.N300", "L1.N7", "L1.N300"}


def test_a_neuron_that_points_away_from_its_word_is_told_by_its_sign():
    model = load("planted:concepts")
    one = plant("concepts").truth["writes"][0]
    with torch.no_grad():
        model.bridge.original_model.model.layers[one["layer"]].mlp.down_proj.weight[:, one["neuron"]] *= -1
    result = neuron_vocabulary(model, direction="write", layers=(one["layer"],), draws=200)
    row = next(row for row in result.tables["neurons"] if row["neuron"] == f"L{one['layer']}.N{one['neuron']}")
    assert row["z"] < -8
    assert row["token"] == repr(one["token"])
    assert row["specialised"] in ("word", "family")
    assert "writes against" in result.finding or result.scalars["top_neuron"] != row["neuron"]


def test_the_same_neuron_is_shown_in_every_direction():
    rows = {row["neuron"]: row for row in decoded("read").tables["neurons"]}
    for one in plant("concepts").truth["reads"]:
        row = rows[f"L{one['layer']}.N{one['neuron']}"]
        assert row["reads"].startswith(f"+ {one['token']!r}")
        assert not row["writes"].startswith(f"+ {one['token']!r}")


def test_alike_tokens_make_a_family():
    """A reading row along the mean of five words that were made alike."""
    planted = plant("concepts")
    alike = planted.tokenizer.convert_tokens_to_ids(["baba", "babe", "babi", "babo", "babu"])
    head = planted.model.lm_head.weight.data
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(head.shape[1], generator=generator)
    shared *= head.norm(dim=1).mean() / shared.norm()
    head[alike] = 0.4 * head[alike] + 0.9 * shared
    planted.model.model.layers[0].mlp.up_proj.weight.data[11] = shared
    result = neuron_vocabulary(load(planted.model, tokenizer=planted.tokenizer), layers=(0,), top=5, quantile=0.99)
    row = next(row for row in result.tables["neurons"] if row["neuron"] == "L0.N11")
    assert row["specialised"] == "family"
    assert set(result.named("promoted").values[0, 11]) == set(alike)
    assert row["coherence"] > max(0.6, result.scalars["coherence_threshold"])


def test_idle_neurons_are_told_and_never_special():
    model = load("planted:tour")
    truth = plant("tour").truth["neurons"]
    result = neuron_vocabulary(model, layers=(3,), draws=1000)
    assert found(result) == {(0, one["neuron"]) for one in truth}  # place 0 holds layer 3
    for one in truth:
        assert model.tokenizer.decode([int(result.named("promoted").values[0, one["neuron"], 0])]) == one["token"]
    result = neuron_vocabulary(model, direction="gate", layers=(3,), draws=1000)
    assert found(result) == set()  # the gates are all the same
    idle = model.shape.d_mlp - len(truth)
    assert any(note.startswith(f"{idle} neurons are rows of zeros") for note in result.notes)
    assert result.tables["layers"][0]["idle"] == idle
    assert (result.named("peak").values == 0).all()  # no token lies along the gates that there are
    with pytest.raises(ValueError, match=r"every gate row of the layers \[1\] is zero"):
        neuron_vocabulary(model, direction="gate", layers=(1,))


def test_a_hub_is_told():
    model = load("planted:concepts")
    with torch.no_grad():
        model.bridge.original_model.lm_head.weight[20] *= 10
    result = neuron_vocabulary(model, layers=(0,), draws=100)
    hub = result.tables["hubs"][0]
    assert hub["token"] == repr(model.tokenizer.decode([20]))
    assert hub["share"] > 0.5
    assert hub["neurons"] == round(400 * hub["share"])


def test_the_seed_draws_the_null_and_nothing_else():
    one, same, other = (neuron_vocabulary(concepts(), layers=(0,), draws=100, seed=seed) for seed in (1, 1, 2))
    assert one.arrays == same.arrays
    assert one.named("promoted") == other.named("promoted")
    assert one.named("null_peak") != other.named("null_peak")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"layers": (9,)}, "site L9.N0.mlp_post: the model has 4 layers"),
        ({"neurons": (400,)}, "site L0.N400.mlp_post: there are 400 neurons"),
        ({"neurons": (-1,)}, "neurons count from 0, found -1"),
        ({"layers": (1, 1)}, "layers names a number twice"),
        ({"top": 1}, "top must be 2 or more, found 1"),
        ({"top": 501}, "501 tokens were asked for at each end, but the vocabulary has 500"),
        ({"draws": 5}, "draws must be 100 or more"),
        ({"quantile": 1.0}, "quantile must lie between 0 and 1"),
    ],
)
def test_refuses(knobs, message):
    with pytest.raises(ValueError, match=message):
        neuron_vocabulary(concepts(), **knobs)


def test_refuses_gates_where_there_are_none():
    with pytest.raises(ValueError, match="has no gates"):
        neuron_vocabulary(small_model("GPT2"), direction="gate")
    shown = neuron_vocabulary(small_model("GPT2"), draws=100)
    assert "is_opened_by" not in shown.tables["neurons"][0]


def test_the_cost_grows_with_the_neurons():
    whole = cost(concepts(), layers=(), neurons=(), top=10, draws=0)
    one = cost(concepts(), layers=(2,), neurons=(), top=10, draws=0)
    assert whole.tokens == pytest.approx(4 * one.tokens, abs=4)


@pytest.mark.real
def test_a_real_layer_has_neurons_that_write_families_of_words(real_model):
    result = neuron_vocabulary(real_model, direction="write", layers=(12,), draws=1000)
    assert result.passed
    assert result.scalars["specialised"] > 20 * result.scalars["by_chance"]
    assert result.scalars["families"] > result.scalars["specialised"] / 4
    assert result.named("null_quantile").values[2] == pytest.approx(4.9, abs=0.4)
