"""Coders that are the MLP lose nothing, and every number is that of a slow road through transformers alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coding import D_MODEL, WIDTH, crossing_coders, random_coders
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from workbench.analyses.transcoder_quality import transcoder_quality
from workbench.analyses.transcoder_quality.pareto import fronts
from workbench.coders import Transcoder, Transcoders, load_coders, save_circuit_tracer, save_saelens
from workbench.model import Model, load
from workbench.prompts import Prompts
from workbench.tracer import trace

TEXTS = ("w20 w31 w9 w55 w7 w8 w70", "w5 w6 w90 w12", "w3 w4 w5 w6 w7 w31 w9 w44")
PLANTED = Prompts.of("stone red cat runs", "red stone cat sleeps", "blue river flows", "green owl runs")


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


def test_the_planted_transcoders_are_exact(sparse: Model) -> None:
    result = transcoder_quality(sparse, PLANTED)
    np.testing.assert_allclose(result.arrays["explained_variance"].values, 1, atol=1e-6)
    np.testing.assert_allclose(result.arrays["loss_recovered"].values[1], 1, atol=1e-5)
    np.testing.assert_allclose(result.arrays["kl"].values[3], 0, atol=1e-6)
    loss = result.arrays["cross_entropy"].values
    np.testing.assert_allclose(loss[3], loss[0], atol=1e-6)
    assert bool((loss[1] > loss[0]).all()), "without its MLPs the model does not know what is said"
    assert result.passed
    assert "100.0 % of the loss recovered" in result.finding
    # layer 0: stone, red, cat, ... fire one feature for the word, and some share one for a kind or a colour before
    words = [text.text.split() for text in PLANTED]
    colours, animals = {"red", "green", "blue"}, {"cat", "dog", "owl"}
    active = sum(
        1 + (word in animals) + (word == "river") + (place > 0 and text[place - 1] in colours)
        for text in words
        for place, word in enumerate(text)
    )
    assert result.arrays["l0"].values[0, 0] == pytest.approx(active / sum(map(len, words)))
    dead = result.arrays["dead"].values[0, 1]
    assert dead == pytest.approx(1 - 3 / 14), "the second layer has three features and eleven that are zero"


def slow_loss(model: Model, layers: tuple[int, ...], put, since: int) -> tuple[float, float]:
    """Mean cross-entropy and KL of the plain transformers model with its MLPs replaced by a function."""
    plain = model.plain
    losses, gaps = [], []

    def replaced(layer):
        def hook(_module, inputs, output):
            new = put(layer, inputs[0], output)
            return torch.cat([output[:, :since], new[:, since:]], dim=1)

        return hook

    for text in TEXTS:
        ids = model.tokens(text).ids
        before = plain(ids).logits[0]
        handles = [plain.transformer.h[layer].mlp.register_forward_hook(replaced(layer)) for layer in layers]
        after = plain(ids).logits[0]
        for handle in handles:
            handle.remove()
        here = slice(since, -1)
        losses.append(cross_entropy(after[here], ids[0, since + 1 :], reduction="none"))
        said, other = before[here].softmax(-1), after[here].log_softmax(-1)
        gaps.append((said * (said.log() - other)).sum(-1))
    return float(torch.cat(losses).mean()), float(torch.cat(gaps).mean())


@torch.no_grad()
@pytest.mark.parametrize("skip_first", [True, False])
def test_every_number_is_that_of_the_slow_road(tiny_model: Model, tmp_path, skip_first: bool) -> None:
    coders = random_coders(2, activation="jumprelu", threshold=True, w_skip=True)
    folder = save_saelens(coders, tmp_path / "coders")
    result = transcoder_quality(tiny_model, Prompts.of(*TEXTS), coders=str(folder), skip_first=skip_first)
    since = int(skip_first)
    seen = [trace(tiny_model, text, ["mlp_in", "mlp_out"]) for text in TEXTS]
    for layer, one in coders.items():
        x = torch.cat([traced[f"L{layer}.mlp_in"][0, since:] for traced in seen])
        y = torch.cat([traced[f"L{layer}.mlp_out"][0, since:] for traced in seen]).numpy()
        z, gap = one.encode(x).numpy(), y - one.predict(x).numpy()
        assert result.arrays["l0"].values[0, layer] == pytest.approx((z != 0).sum(1).mean())
        assert result.arrays["dead"].values[0, layer] == pytest.approx((z == 0).all(0).mean())
        share = (gap**2).sum() / ((y - y.mean(0)) ** 2).sum()
        assert result.arrays["unexplained"].values[0, layer] == pytest.approx(share, rel=1e-5)
        density = np.percentile((z != 0).mean(0), range(101))
        np.testing.assert_allclose(result.arrays["density"].values[0, layer], density, atol=1e-9)
    means = {layer: torch.cat([traced[f"L{layer}.mlp_out"][0, since:] for traced in seen]).mean(0) for layer in coders}
    ways = [
        lambda layer, x, y: y,
        lambda layer, x, y: torch.zeros_like(y),
        lambda layer, x, y: means[layer].expand_as(y),
        lambda layer, x, y: coders[layer].predict(x),
    ]
    loss, kl = result.arrays["cross_entropy"].values, result.arrays["kl"].values
    for row, put in enumerate(ways):
        for column, layers in enumerate([(0,), (1,), (0, 1)]):
            expected = slow_loss(tiny_model, layers, put, since)
            assert (loss[row, column], kl[row, column]) == pytest.approx(expected, abs=1e-5)
    recovered = (loss[1] - loss[3]) / (loss[1] - loss[0])
    np.testing.assert_allclose(
        result.arrays["loss_recovered"].values[1], np.where(loss[1] - loss[0] > 1e-3, recovered, np.nan)
    )
    assert result.passed


def test_a_coder_that_says_the_mean_is_mean_ablation(tiny_model: Model, tmp_path) -> None:
    seen = torch.cat([trace(tiny_model, text, "L0.mlp_out")["L0.mlp_out"][0, 1:] for text in TEXTS])
    coders = random_coders(1)
    dull = replace(coders[0], w_dec=torch.zeros(WIDTH, D_MODEL), b_dec=seen.mean(0))
    folder = save_circuit_tracer(Transcoders("dull", {0: dull}), tmp_path / "dull")
    result = transcoder_quality(tiny_model, Prompts.of(*TEXTS), coders=str(folder))
    assert result.arrays["unexplained"].values[0, 0] == pytest.approx(1, abs=1e-5)
    loss = result.arrays["cross_entropy"].values
    assert loss[3, 0] == pytest.approx(loss[2, 0], abs=1e-6)


def test_sets_are_compared_and_neither_scale_nor_format_matters(tiny_model: Model, tmp_path) -> None:
    coders = random_coders(2)
    twin = replace(coders, layers={layer: one.rescaled(torch.linspace(0.5, 2, WIDTH)) for layer, one in coders.items()})
    folders = save_saelens(coders, tmp_path / "one"), save_circuit_tracer(twin, tmp_path / "two")
    result = transcoder_quality(tiny_model, Prompts.of(*TEXTS), coders=",".join(map(str, folders)))
    for name in ("l0", "unexplained"):
        first, second = result.arrays[name].values
        np.testing.assert_allclose(first, second, rtol=1e-5)
    np.testing.assert_allclose(*result.arrays["cross_entropy"].values[3:], atol=1e-5)
    assert [(row["coders"], row["layer"]) for row in result.tables["quality"]] == [
        (str(folder), layer) for folder in folders for layer in ("0", "1", "all")
    ]


def test_the_front_holds_the_sets_that_no_other_beats(sparse: Model, tmp_path) -> None:
    """The exact coders; the same with every feature twice at half its strength; and the same with few features left."""
    exact = load_coders("planted:sparse_mlp")
    twice = {
        layer: replace(
            one,
            w_enc=one.w_enc.repeat(2, 1),
            b_enc=one.b_enc.repeat(2),
            w_dec=one.w_dec.repeat(2, 1) / 2,
        )
        for layer, one in exact.items()
    }
    few = {
        layer: replace(one, w_enc=one.w_enc[:2], b_enc=one.b_enc[:2], w_dec=one.w_dec[:2])
        for layer, one in exact.items()
    }
    folders = [
        str(save_saelens(Transcoders(name, layers), tmp_path / name))
        for name, layers in (("twice", twice), ("exact", exact.layers), ("few", few))
    ]
    result = transcoder_quality(sparse, PLANTED, coders=",".join(folders))
    points = {(row["coders"], row["layer"]): row for row in result.tables["pareto"]}
    l0 = [points[folder, "all"]["l0"] for folder in folders]
    assert l0[0] == pytest.approx(2 * l0[1]), "by construction"
    for column in ("on_variance_front", "on_loss_front"):
        assert [points[folder, "all"][column] for folder in folders] == [0, 1, 1]
    assert f"on L0 and explained variance {folders[2]}, {folders[1]};" in result.finding
    (drawn, _) = (view for view in result.views if getattr(view, "table", "") == "pareto")
    cloud = result.figure(result.views.index(drawn)).data[0]
    assert list(cloud.marker.color) == [row["on_variance_front"] for row in result.tables["pareto"]]
    alone = transcoder_quality(sparse, PLANTED)
    assert "pareto" not in alone.tables, "one set has no rival"


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_a_set_is_beaten_by_no_worse_and_somewhere_better(points: list[tuple[int, int]]) -> None:
    rows = [
        {"coders": str(place), "layer": "3", "l0": float(l0), "explained_variance": float(gain), "loss_recovered": None}
        for place, (l0, gain) in enumerate(points)
    ]
    found = fronts(rows)
    for (l0, gain), row in zip(points, found, strict=True):
        better = [(a, b) for a, b in points if (a < l0 and b >= gain) or (a <= l0 and b > gain)]
        assert row["on_variance_front"] == (not better)
        assert row["on_loss_front"] == 0, "where there is nothing to recover, nobody wins"


def test_cross_layer_coders_are_scored_with_what_earlier_layers_write(tiny_model: Model, tmp_path) -> None:
    coders = crossing_coders(3)
    folder = save_circuit_tracer(coders, tmp_path / "clt")
    result = transcoder_quality(tiny_model, Prompts.of(TEXTS[0]), coders=str(folder), layers=(2,))
    traced = trace(tiny_model, TEXTS[0], ["mlp_in", "mlp_out"])
    z = {layer: one.encode(traced[f"L{layer}.mlp_in"][0, 1:]) for layer, one in coders.items()}
    said = z[2] @ coders[2].w_dec + z[1] @ coders[1].w_across[0] + z[0] @ coders[0].w_across[1] + coders[2].b_dec
    y = traced["L2.mlp_out"][0, 1:]
    share = (y - said).square().sum() / (y - y.mean(0)).square().sum()
    assert result.arrays["unexplained"].values[0, 0] == pytest.approx(float(share), rel=1e-4)
    assert result.arrays["cross_entropy"].labels["layer"] == ("2",)


def test_what_cannot_be_measured_is_refused(tiny_model: Model, sparse: Model, tmp_path) -> None:
    with pytest.raises(ValueError, match="no coders were named"):
        transcoder_quality(tiny_model, Prompts.of(TEXTS[0]))
    with pytest.raises(ValueError, match="no token can be scored"):
        transcoder_quality(sparse, Prompts.of("red"))
    with pytest.raises(KeyError, match="have no layer 9"):
        transcoder_quality(sparse, PLANTED, layers=(9,))
    with pytest.raises(ValueError, match="named twice"):
        transcoder_quality(sparse, PLANTED, coders="planted:sparse_mlp,planted:sparse_mlp")


@pytest.mark.real
def test_a_coder_that_copies_is_exact_on_the_real_model(real_model: Model, tmp_path) -> None:
    """Every number of the MLP's output once as it is and once negated, through ReLU: nothing is lost."""
    width = real_model.shape.d_model
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    copy = Transcoder(
        layer=4,
        w_enc=both,
        b_enc=torch.zeros(2 * width),
        w_dec=both,
        b_dec=torch.zeros(width),
        read="mlp_out",
        write="mlp_out",
    )
    folder = save_saelens(Transcoders("copy", {4: copy}), tmp_path / "copy")
    text = "The Eiffel Tower stands in Paris, and the Colosseum stands in Rome."
    result = transcoder_quality(real_model, Prompts.of(text), coders=str(folder))
    loss = result.arrays["cross_entropy"].values
    assert result.arrays["explained_variance"].values[0, 0] == pytest.approx(1, abs=1e-6)
    assert loss[3, 0] == pytest.approx(loss[0, 0], abs=1e-4)
    assert loss[1, 0] != pytest.approx(loss[0, 0], abs=1e-3)
    assert result.passed
