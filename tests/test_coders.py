"""Coders compute what their definition says, and attached to a model they change exactly what they should."""

from dataclasses import replace

import pytest
import torch
from coding import D_MODEL, WIDTH, crossing_coders, random_coder, random_coders
from small_models import small_model

from workbench import edited, greedy, load, trace
from workbench.coders import Transcoders, attach, fit, load_coders
from workbench.edit import add, clamp, scale, zero
from workbench.model import Model
from workbench.planted import plant

TEXTS = ["w20 w31 w9 w55 w7", "w5 w6 w90 w11"]
X = torch.randn(5, D_MODEL, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


def by_hand(coder, x: torch.Tensor) -> list[float]:
    """The feature values of one row, number by number."""
    pre = [float(coder.w_enc[feature] @ x + coder.b_enc[feature]) for feature in range(coder.width)]
    values = [max(value, 0.0) if coder.rectified else value for value in pre]
    if coder.activation == "topk":
        kept = sorted(range(coder.width), key=lambda feature: -values[feature])[: coder.k]
        return [values[feature] if feature in kept else 0.0 for feature in range(coder.width)]
    if coder.activation == "jumprelu":
        return [
            value if before > float(cut) else 0.0
            for value, before, cut in zip(values, pre, coder.threshold, strict=True)
        ]
    return values


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"activation": "topk", "k": 5},
        {"activation": "topk", "k": 40},
        {"activation": "topk", "k": 40, "rectified": False},
        {"activation": "jumprelu", "threshold": True},
        {"w_skip": True},
    ],
    ids=str,
)
def test_features_and_prediction_are_the_definition(parts):
    coder = random_coder(**parts)
    z = coder.encode(X)
    for row in range(len(X)):
        torch.testing.assert_close(z[row], torch.tensor(by_hand(coder, X[row])))
    skip = 0 if coder.w_skip is None else X @ coder.w_skip.T
    torch.testing.assert_close(coder.predict(X), z @ coder.w_dec + coder.b_dec + skip)


def test_topk_with_relu_keeps_fewer_where_fewer_are_positive_and_without_it_goes_below_zero():
    low = {"b_enc": torch.full((WIDTH,), -2.0), "activation": "topk", "k": 20}
    assert int((random_coder(**low).encode(X) != 0).sum(-1).max()) < 20
    below = random_coder(**low, rectified=False).encode(X)
    assert bool(((below != 0).sum(-1) == 20).all())
    assert float(below.min()) < 0


@pytest.mark.parametrize("parts", [{}, {"activation": "jumprelu", "threshold": True}], ids=str)
def test_a_coder_does_not_depend_on_the_scale_of_its_features(parts):
    coder = random_coder(**parts)
    factors = torch.linspace(0.5, 3, WIDTH)
    twin = coder.rescaled(factors)
    torch.testing.assert_close(twin.predict(X), coder.predict(X))
    torch.testing.assert_close(twin.encode(X), coder.encode(X) * factors)


def test_wrong_coders_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match=r"needs k in 1-48: None"):
        random_coder(activation="topk")
    with pytest.raises(ValueError, match="jumprelu needs thresholds"):
        random_coder(activation="jumprelu")
    with pytest.raises(ValueError, match="1 holds layer 0"):
        Transcoders("odd", {1: random_coder(0)})
    with pytest.raises(KeyError, match="have no layer 7: they have 0, 1, 2"):
        random_coders()[7]


def test_the_fingerprint_sees_every_number_and_every_setting():
    coders = random_coders(activation="topk", k=4)
    other = coders[1].b_dec.clone()
    other[3] += 1e-6
    twins = [
        replace(coders, layers=coders.layers | {1: replace(coders[1], b_dec=other)}),
        replace(coders, layers=coders.layers | {1: replace(coders[1], rectified=False)}),
    ]
    assert random_coders(activation="topk", k=4).fingerprint == coders.fingerprint
    assert len({coders.fingerprint, *(twin.fingerprint for twin in twins)}) == 3


def test_the_planted_coders_have_the_stated_features(sparse: Model):
    coders = fit(load_coders("planted:sparse_mlp"), sparse)
    names = coders.card["features"]
    for example in plant("sparse_mlp").truth["examples"]:
        traced = trace(sparse, example["prompt"], ["mlp_in", "mlp_out"])
        found = {}
        for layer, one in coders.items():
            x, y = traced[f"L{layer}.mlp_in"], traced[f"L{layer}.mlp_out"]
            torch.testing.assert_close(one.predict(x), y, atol=1e-6, rtol=0)
            values = one.encode(x)[0, -1]
            found |= {name: float(values[place]) for place, name in enumerate(names[layer]) if values[place] > 1e-3}
        assert found == pytest.approx(example["values"], abs=1e-3)


@pytest.mark.parametrize("make", [random_coders, crossing_coders])
@pytest.mark.parametrize("parts", [{}, {"w_skip": True}, {"activation": "jumprelu", "threshold": True}], ids=str)
def test_attached_with_its_error_a_run_is_the_plain_run_bit_for_bit(tiny_model: Model, make, parts):
    coders = fit(make(**parts), tiny_model)
    plain = trace(tiny_model, TEXTS, "logits").logits
    for changes in ([], [("L1.F3.mlp_out", scale(1.0))]):
        attached = attach(coders, changes=changes)
        with edited(tiny_model, [attached]):
            assert torch.equal(trace(tiny_model, TEXTS, "logits").logits.nan_to_num(), plain.nan_to_num())
        assert attached.values[0].shape == (2, 6, WIDTH)


@pytest.mark.parametrize("make", [random_coders, crossing_coders])
def test_without_its_error_every_layer_writes_what_is_predicted_from_what_it_reads(tiny_model: Model, make):
    coders = fit(make(w_skip=True), tiny_model)
    with edited(tiny_model, [attach(coders, keep_error=False)]):
        traced = trace(tiny_model, TEXTS[0], ["mlp_in", "mlp_out"])
    z = {layer: one.encode(traced[f"L{layer}.mlp_in"]) for layer, one in coders.items()}
    for layer, one in coders.items():
        expected = z[layer] @ one.w_dec + one.b_dec + traced[f"L{layer}.mlp_in"] @ one.w_skip.T
        for source in range(layer):
            if coders.crosses:
                expected = expected + z[source] @ coders[source].w_across[layer - source - 1]
        torch.testing.assert_close(traced[f"L{layer}.mlp_out"], expected)


def test_since_leaves_the_first_positions_as_they_are(tiny_model: Model):
    coders = fit(random_coders(), tiny_model, layers=(0,))
    plain = trace(tiny_model, TEXTS[0], "L0.mlp_out")["L0.mlp_out"]
    with edited(tiny_model, [attach(coders, keep_error=False, since=2)]):
        replaced = trace(tiny_model, TEXTS[0], "L0.mlp_out")["L0.mlp_out"]
    assert torch.equal(replaced[:, :2], plain[:, :2])
    assert float((replaced[:, 2:] - plain[:, 2:]).abs().min(dim=-1).values.max()) > 0


@pytest.mark.parametrize("make", [random_coders, crossing_coders])
@pytest.mark.parametrize("function", [zero(), scale(3.0), clamp(2.5), add(torch.tensor(1.0))])
def test_a_feature_edit_adds_the_change_times_the_decoder(tiny_model: Model, make, function):
    coders = fit(make(), tiny_model)
    plain = trace(tiny_model, TEXTS[0], ["mlp_in", "mlp_out"])
    x = plain["L0.mlp_in"]
    value = coders[0].encode(x)[0, 3]
    feature = int(value.argmax())
    change = float(function(value[feature].clone()) - value[feature])
    with edited(tiny_model, [attach(coders, changes=[(f"L0.F{feature}.mlp_out@3", function)])]):
        changed = trace(tiny_model, TEXTS[0], ["mlp_out", "mlp_in"])
    expected = plain["L0.mlp_out"].clone()
    expected[0, 3] += change * coders[0].w_dec[feature]
    torch.testing.assert_close(changed["L0.mlp_out"], expected)
    later = coders[1].predict(changed["L1.mlp_in"]) - coders[1].predict(plain["L1.mlp_in"])
    assert float(later[0, 3].abs().max()) > 0, "the change goes on to later layers"
    if coders.crosses:
        with edited(tiny_model, [("L0.mlp_out", lambda y: expected), ("L0.mlp_in", lambda x: x)]):
            alone = trace(tiny_model, TEXTS[0], "L1.mlp_out")["L1.mlp_out"]
        jump = changed["L1.mlp_out"] - alone
        torch.testing.assert_close(jump[0, 3], change * coders[0].w_across[0, feature], atol=1e-5, rtol=1e-4)


def test_coders_compose_with_other_edits_in_order(tiny_model: Model):
    coders = fit(random_coders(), tiny_model, layers=(1,))
    with edited(tiny_model, [("L1.mlp_in", zero()), attach(coders, keep_error=False), ("L1.mlp_out", scale(2.0))]):
        out = trace(tiny_model, TEXTS[0], "L1.mlp_out")["L1.mlp_out"]
    one = coders[1]
    torch.testing.assert_close(out, 2 * one.predict(torch.zeros_like(out)))


def test_an_autoencoder_reads_what_it_writes(tiny_model: Model):
    coders = fit(random_coders(1, read="resid_post", write="resid_post"), tiny_model)
    plain = trace(tiny_model, TEXTS[0], "L0.resid_post")["L0.resid_post"]
    with edited(tiny_model, [attach(coders, keep_error=False)]):
        replaced = trace(tiny_model, TEXTS[0], "L0.resid_post")["L0.resid_post"]
    torch.testing.assert_close(replaced, coders[0].predict(plain))


def test_changes_that_cannot_be_made_are_refused(tiny_model: Model):
    coders = fit(random_coders(), tiny_model)
    for change, sentence in {
        "L7.F0.mlp_out": "have the layers 0, 1, 2",
        "L1.F99.mlp_out": r"layer 1 has 48 features \(0-47\)",
        "L1.F3.mlp_in": r"is named L1\.F0\.mlp_out",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            attach(coders, changes=[(change, zero())])
    with (
        pytest.raises(ValueError, match="never took effect"),
        edited(tiny_model, [attach(coders, changes=[("L1.F3.mlp_out@0", zero())])]),
    ):
        trace(tiny_model, TEXTS[0], "L0.mlp_out")


def test_coders_that_do_not_belong_to_a_model_are_refused(tiny_model: Model, sparse: Model):
    with pytest.raises(ValueError, match=r"read 32 numbers at L0\.mlp_in, but planted:sparse_mlp has"):
        fit(random_coders(1), sparse)
    with pytest.raises(ValueError, match="are for layer 3"):
        fit(random_coders(4), tiny_model)
    with pytest.raises(ValueError, match="all of them are needed"):
        fit(crossing_coders(), tiny_model, layers=(1,))


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Gemma3"])
def test_a_coder_in_front_of_the_gain_reads_the_same_behind_it(name: str):
    model = small_model(name)
    width = model.shape.d_model
    generator = torch.Generator().manual_seed(5)
    norm = model.bridge.blocks[0].ln2.original_component
    kept = {key: value.clone() for key, value in norm.state_dict().items()}
    try:
        for value in norm.state_dict().values():
            value += 0.3 * torch.randn(value.shape, generator=generator)
        coder = replace(
            random_coder(),
            w_enc=torch.randn(9, width, generator=generator),
            b_enc=torch.randn(9, generator=generator),
            w_dec=torch.randn(9, width, generator=generator),
            b_dec=torch.zeros(width),
            w_skip=torch.randn(width, width, generator=generator),
            read="normed",
        )
        fitted = fit(Transcoders("normed", {0: coder}), model)[0]
        traced = trace(model, TEXTS[0], ["L0.mlp_in", "L0.resid_mid"])
        stream = traced["L0.resid_mid"]
        stream = stream - stream.mean(-1, keepdim=True) if name == "GPT2" else stream
        eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", None)
        normed = stream / (stream.square().mean(-1, keepdim=True) + eps).sqrt()
        torch.testing.assert_close(fitted.encode(traced["L0.mlp_in"]), coder.encode(normed), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fitted.predict(traced["L0.mlp_in"]), coder.predict(normed), atol=1e-4, rtol=1e-4)
    finally:
        norm.load_state_dict(kept)


def test_generation_runs_on_the_coders_from_the_cache_too(sparse: Model):
    coders = fit(load_coders("planted:sparse_mlp"), sparse)
    ids = sparse.tokens("stone red cat").ids[0].tolist()
    said = []
    for keep_error in (True, False):
        with edited(sparse, [attach(coders, keep_error=keep_error, since=1)]):
            said.append(greedy(sparse, ids, new_tokens=3))
    assert said[0] == said[1] == greedy(sparse, ids, new_tokens=3)
    with edited(sparse, [attach(coders, changes=[("L1.F0.mlp_out", zero())])]):
        silenced = greedy(sparse, ids, new_tokens=1)
    assert silenced != greedy(sparse, ids, new_tokens=1), "without `a coloured animal` nothing says runs"
