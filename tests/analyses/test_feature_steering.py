"""A planted feature says its word when it is held; every number is that of hooks on the plain transformers model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coding import WIDTH, crossing_coders, random_coders

from workbench.analyses.feature_steering import feature_steering
from workbench.analyses.feature_steering.doses import draw_directions
from workbench.coders import fit, load_coders, save_circuit_tracer, save_saelens
from workbench.features import build_index
from workbench.model import Model, load
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.tracer import trace

PLANTED = Prompts.of("stone red cat", "red stone cat", "blue river")
TEXTS = Prompts.of("w20 w31 w9 w55 w7 w8 w70", "w5 w6 w90 w12")


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_circuit_tracer(random_coders(3), tmp_path_factory.mktemp("coders") / "set")


def said(result: Result, run: str) -> list[str]:
    return [row["text"].split()[0] for row in result.tables["continuations"] if row["run"] == run]


def test_the_planted_feature_says_runs_when_held_and_is_missed_when_taken_away(sparse):
    held = feature_steering(sparse, PLANTED, layer=1, feature=0, controls=2, new_tokens=1)
    assert held.passed
    assert held.scalars["token"] == "runs"
    assert said(held, "plain") == ["runs", "sleeps", "flows"]
    assert said(held, "clamp 400 %") == ["runs"] * 3
    gone = feature_steering(sparse, PLANTED, layer=1, feature=0, way="ablate", doses=(0, 100), controls=2, new_tokens=1)
    assert said(gone, "ablate 0 %") == said(gone, "plain")
    assert said(gone, "ablate 100 %") == ["sleeps", "sleeps", "flows"], "only the coloured animal needs it"
    np.testing.assert_allclose(gone.arrays["by_prompt"].values[1:], 0, atol=1e-4)
    # nothing stands behind the last MLP but the final norm, whose size a push hardly changes
    curve = held.arrays["logit"].values
    np.testing.assert_allclose(curve, held.arrays["predicted"].values, rtol=2e-3)
    assert (np.abs(curve) > held.arrays["logit_others"].values).all()
    assert "100 % is an activation of 1.249" in " ".join(held.notes)


@torch.no_grad()
def slow_logits(model: Model, text: str, layer: int, vectors: torch.Tensor, since: int) -> torch.Tensor:
    """The last logits of the plain model with vectors added to one MLP's output."""
    ids = model.tokens(text).ids

    def push(_module, _inputs, output):
        return torch.cat([output[:, :since], output[:, since:] + vectors[since:]], dim=1)

    handle = model.plain.transformer.h[layer].mlp.register_forward_hook(push)
    logits = model.plain(ids).logits[0, -1]
    handle.remove()
    return logits


@torch.no_grad()
@pytest.mark.parametrize("way", ["clamp", "add", "ablate"])
@pytest.mark.parametrize("positions", ["all", "last"])
def test_every_number_is_that_of_the_slow_road(tiny_model, folder, way, positions):
    doses = (0, 50, 100)
    result = feature_steering(
        tiny_model,
        TEXTS,
        **{"coders": str(folder), "layer": 1, "feature": 8, "way": way, "doses": doses, "positions": positions},
        **{"unit": 2.0, "token": "w33", "controls": 3, "new_tokens": 0, "seed": 4},
    )
    assert result.passed
    coders = fit(load_coders(folder), tiny_model)
    directions = draw_directions(coders, (1, 8), 3, 4)[1]
    token = tiny_model.token("w33")
    change = np.zeros((2, 3, 7))
    kl = np.zeros((2, 3, 7))
    for row, text in enumerate(TEXTS):
        z = coders[1].encode(trace(tiny_model, text, "L1.mlp_in")["L1.mlp_in"][0])[:, 8]
        since = 1 if positions == "all" else len(z) - 1
        plain = tiny_model.plain(tiny_model.tokens(text).ids).logits[0, -1]
        for column, dose in enumerate(doses):
            new = {"clamp": torch.full_like(z, dose / 50), "add": z + dose / 50, "ablate": z * (1 - dose / 100)}[way]
            for at in range(7):
                vectors = (new - z)[:, None] * directions[at]
                logits = slow_logits(tiny_model, text.text, 1, vectors, since)
                change[row, column, at] = (logits - logits.mean())[token] - (plain - plain.mean())[token]
                own, other = plain.double().log_softmax(-1), logits.double().log_softmax(-1)
                kl[row, column, at] = (own.exp() * (own - other)).sum()
    arrays = result.arrays
    np.testing.assert_allclose(arrays["by_prompt"].values, change[..., 0], atol=1e-4)
    np.testing.assert_allclose(arrays["logit"].values, change[..., 0].mean(0), atol=1e-4)
    np.testing.assert_allclose(arrays["logit_random"].values, np.sqrt((change[..., 1:4] ** 2).mean((0, 2))), atol=1e-4)
    np.testing.assert_allclose(arrays["logit_others"].values, np.sqrt((change[..., 4:] ** 2).mean((0, 2))), atol=1e-4)
    for name, part in (("kl", slice(0, 1)), ("kl_random", slice(1, 4)), ("kl_others", slice(4, 7))):
        np.testing.assert_allclose(arrays[name].values, kl[..., part].mean((0, 2)), atol=1e-5)


def test_controls_write_as_much_as_the_feature(tiny_model, folder):
    coders = fit(load_coders(folder), tiny_model)
    directions = draw_directions(coders, (1, 8), 5, 0)[1]
    assert directions.shape == (11, 32)
    torch.testing.assert_close(directions.norm(dim=1), coders[1].w_dec[8].norm().expand(11))
    unit = coders[1].w_dec / coders[1].w_dec.norm(dim=1, keepdim=True)
    nearest = (directions[6:] / directions[6:].norm(dim=1, keepdim=True) @ unit.T).max(dim=1)
    torch.testing.assert_close(nearest.values, torch.ones(5))
    assert 8 not in nearest.indices.tolist()
    assert not torch.equal(directions[1:6], draw_directions(coders, (1, 8), 5, 1)[1][1:6])


def test_a_cross_layer_feature_pushes_every_layer_it_writes_to(tiny_model, tmp_path):
    folder = save_circuit_tracer(crossing_coders(3), tmp_path / "clt")
    result = feature_steering(
        tiny_model, TEXTS, coders=str(folder), layer=0, feature=8, unit=1.0, controls=2, new_tokens=2
    )
    assert result.passed, "steering in the coder is pushing the stream in all three layers"
    assert result.checks[1].value > 0


def test_the_index_gives_the_unit_and_a_stream_coder_is_steered_too(tiny_model, tmp_path):
    coders = random_coders(3, read="resid_post", write="resid_post")
    folder = save_saelens(coders, tmp_path / "coders")
    fitted = fit(load_coders(folder), tiny_model)
    index = build_index(tiny_model, fitted, Prompts.of("w40 w41 w42 w43 w44 w45 w46 w47"), folder=tmp_path / "index")
    feature = int(index[1].count.argmax())
    knobs = {"coders": str(folder), "layer": 1, "feature": feature, "controls": 2, "new_tokens": 0}
    result = feature_steering(tiny_model, TEXTS, index=str(tmp_path / "index"), **knobs)
    assert result.scalars["unit"] == pytest.approx(float(index[1].top.values[feature, 0]))
    assert result.passed
    assert "continuations" not in result.tables


def test_a_run_repeats_itself_and_survives_the_disk(sparse, tmp_path):
    first, second = (feature_steering(sparse, PLANTED, layer=1, feature=0, controls=2) for _ in range(2))
    assert (first.arrays, first.tables) == (second.arrays, second.tables)
    loaded = Result.load(first.save(tmp_path / "run"))
    assert loaded == first
    for number in range(len(first.views)):
        assert loaded.figure(number).to_json() == first.figure(number).to_json()


def test_what_cannot_be_steered_is_refused(sparse, tiny_model, tmp_path):
    with pytest.raises(ValueError, match="is active nowhere on these prompts"):
        feature_steering(sparse, Prompts.of("stone cat"), layer=1, feature=2, controls=1)
    with pytest.raises(ValueError, match="writes nothing: its decoder is zero"):
        feature_steering(sparse, PLANTED, layer=1, feature=9, unit=1.0, controls=1)
    with pytest.raises(ValueError, match="2 other features that write anything, 8 controls"):
        feature_steering(sparse, PLANTED, layer=1, feature=0)
    with pytest.raises(ValueError, match="0-100 % of an activation"):
        feature_steering(sparse, PLANTED, layer=1, feature=0, way="ablate", doses=(200,), controls=1)
    with pytest.raises(ValueError, match="doses are different whole numbers"):
        feature_steering(sparse, PLANTED, layer=1, feature=0, doses=(), controls=1)
    with pytest.raises(ValueError, match="controls is 1 or more"):
        feature_steering(sparse, PLANTED, layer=1, feature=0, controls=0)
    bent = {0: replace(random_coders(1)[0], w_dec=torch.zeros(WIDTH, 32))}
    folder = save_circuit_tracer(replace(random_coders(1), layers=bent), tmp_path / "zero")
    with pytest.raises(ValueError, match="writes nothing"):
        feature_steering(tiny_model, TEXTS, coders=str(folder), unit=1.0)


@pytest.mark.real
def test_pushing_along_a_words_own_row_makes_the_real_model_say_it(real_model, tmp_path):
    from workbench.lens import unembedding

    coders = random_coders(1)
    row = unembedding(real_model.bridge)[0][real_model.token(" Paris")].detach().float()
    width = real_model.shape.d_model
    last = real_model.shape.n_layers - 1
    others = torch.randn(20, width, generator=torch.Generator().manual_seed(0))
    gain = 1 + real_model.bridge.ln_final.original_component.weight.detach().float()
    rows = torch.cat([(row * gain)[None], others])
    coder = replace(
        coders[0],
        **{"layer": last, "w_enc": rows, "b_enc": torch.zeros(21), "w_dec": rows, "b_dec": torch.zeros(width)},
        **{"read": "resid_post", "write": "resid_post"},
    )
    folder = save_saelens(replace(coders, layers={last: coder}), tmp_path / "word")
    result = feature_steering(
        real_model,
        Prompts.of("My favourite fruit is the"),
        **{"coders": str(folder), "layer": last, "token": " Paris", "unit": 500.0, "doses": (0, 100, 1000)},
        **{"way": "add", "controls": 4, "new_tokens": 3},
    )
    curve = result.arrays["logit"].values
    assert abs(curve[0]) < 1e-3
    assert curve[2] > curve[1] > 0
    assert curve[2] > result.arrays["logit_random"].values[2]
    assert result.tables["doses"][2]["controls that it beats"] == 1
    assert result.passed
