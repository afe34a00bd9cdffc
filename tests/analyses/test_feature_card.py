"""The planted features are shown as they were built, and every number of a card is found again by hand."""

import numpy as np
import pytest
import torch
from coding import D_MODEL, WIDTH, random_coders

from workbench.analyses.feature_card import feature_card
from workbench.coders import Transcoder, Transcoders, fit, load_coders, save_circuit_tracer, save_saelens
from workbench.features import Wiring, build_index
from workbench.model import Model, load
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.tracer import trace
from workbench.words import Site

PLANTED = Prompts.of("stone red cat runs", "red stone cat sleeps", "blue river flows", "green owl runs")
TEXTS = Prompts.of("w20 w31 w9 w55 w7 w8 w70", "w5 w6 w90 w12", "w3 w4 w6 w7 w31 w9 w44 w13 w14")

OWN = 8
"""A feature of the random coders that is active on some tokens, not on all."""


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


def rows_of(result: Result, table: str, **wanted: object) -> list[dict]:
    return [row for row in result.tables[table] if all(row[name] == value for name, value in wanted.items())]


def test_the_planted_feature_reads_and_writes_what_it_was_built_for(sparse):
    result = feature_card(sparse, PLANTED, layer=1, feature=0)  # "a coloured animal": 3 colour + 2 animal, says runs
    assert result.passed
    assert result.scalars["active on"] == 2, "red cat and green owl"
    assert result.scalars["density"] == pytest.approx(2 / 14)
    assert result.scalars["largest activation"] == pytest.approx(1.25, abs=1e-3)
    assert [row["token"] for row in rows_of(result, "examples", band="top")] == ["owl", "cat"]
    assert "«cat»" in result.tables["examples"][1]["text"]
    before = {row["feature"]: row["weight"] for row in result.tables["features_before"]}
    assert before == {"L0.F0": pytest.approx(3, abs=1e-3), "L0.F1": pytest.approx(2, abs=1e-3)}
    writes = rows_of(result, "tokens", path="writes", end="up")
    assert (writes[0]["token"], writes[0]["beyond chance"]) == ("'runs'", True)
    assert "writes 'runs'" in result.finding
    assert result.scalars["dead features of the layer"] == 11
    animals = rows_of(result, "tokens", path="reads through features of layer 0", end="up")[:3]
    assert {row["token"] for row in animals} == {"'cat'", "'dog'", "'owl'"}


def test_the_planted_edges_keep_their_sign_and_go_through_the_planted_head(sparse):
    result = feature_card(sparse, PLANTED, layer=0, feature=0)  # "a colour before", which head 0.0 brings
    after = {row["feature"]: row["weight"] for row in result.tables["features_after"]}
    assert after == {
        "L1.F0": pytest.approx(3, abs=1e-3),
        "L1.F1": pytest.approx(-1.5, abs=1e-3),
        "L1.F2": pytest.approx(3, abs=1e-3),
    }
    reach = result.arrays["reach"].values
    np.testing.assert_allclose(reach, [[3**0.5, 0]], atol=1e-3)
    colours = rows_of(result, "tokens", path="reads through L0.H0", end="up")[:3]
    assert {row["token"] for row in colours} == {"'red'", "'green'", "'blue'"}
    direct = rows_of(result, "tokens", path="reads", end="up")
    assert all(abs(row["z"]) < 1e-3 for row in direct), "without the head it reads no word"
    assert result.arrays["strip_0"].labels["pos"][0] == "<bos>"


def test_a_feature_for_a_word_and_a_dead_one_say_so(sparse):
    cat = feature_card(sparse, PLANTED, layer=0, feature=6)  # "cat now"
    assert "reads 'cat'" in cat.finding
    assert cat.scalars["usual activation"] == pytest.approx(0.5, abs=1e-3)
    dog = feature_card(sparse, PLANTED, layer=0, feature=7)  # no dog in these texts
    assert dog.scalars["dead"]
    assert "active on 0 of 14 tokens" in dog.finding
    assert "histogram" not in dog.arrays
    assert any("dead on this corpus" in note for note in dog.notes)
    assert dog.passed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_circuit_tracer(random_coders(3), tmp_path_factory.mktemp("coders") / "set")


def test_every_number_is_that_of_a_slow_road(tiny_model, folder):
    result = feature_card(tiny_model, TEXTS, coders=str(folder), layer=1, feature=OWN, heads=[Site("z", 1, head=2)])
    assert result.passed
    coders = fit(load_coders(folder), tiny_model)
    traced = [trace(tiny_model, text, "mlp_in") for text in TEXTS]
    z = {layer: torch.cat([one[f"L{layer}.mlp_in"][0, 1:] for one in traced]) for layer in coders}
    z = {layer: coders[layer].encode(x) for layer, x in z.items()}
    own = z[1][:, OWN]
    assert 0 < int((own != 0).sum()) < len(own)
    assert result.scalars["density"] == pytest.approx(float((own != 0).float().mean()))
    assert result.scalars["usual activation"] == pytest.approx(float(own[own != 0].mean()), rel=1e-5)
    assert result.scalars["largest activation"] == pytest.approx(float(own.max()), rel=1e-5)
    assert int(result.arrays["histogram"].values.sum()) == int((own != 0).sum())
    wiring = Wiring.of(tiny_model, coders, tiny_model.tokens(TEXTS[0]).ids[0].tolist())
    unit = {layer: one.w_dec / one.w_dec.norm(dim=1, keepdim=True) for layer, one in coders.items()}
    reading = wiring.layers[1].before_mlp.pulled_at(0, coders[1].w_enc[OWN, None] * coders[1].w_dec[OWN].norm())[0]
    for row in result.tables["features_before"]:
        number = row["number"]
        weight = float(unit[0][number] @ reading)
        active = z[0][:, number]
        usual = float(active.sum() / (active != 0).sum().clamp_min(1)) * float(coders[0].w_dec[number].norm())
        assert row["weight"] == pytest.approx(weight, abs=1e-5)
        assert row["usual effect"] == pytest.approx(weight * usual, abs=1e-5)
        assert row["mean effect"] == pytest.approx(weight * usual * float((active != 0).float().mean()), abs=1e-5)
    strongest = sorted((abs(float(weight)) for weight in unit[0] @ reading), reverse=True)
    assert [abs(row["weight"]) for row in result.tables["features_before"]][:10] == pytest.approx(strongest[:10])
    # a decoder moves the logits by what its direct way through the frozen final norm gives
    row = rows_of(result, "tokens", path="writes", end="up")[0]
    head = tiny_model.plain.lm_head.weight
    moved = wiring.final.moved(coders[1].w_dec[OWN, None])[0] * result.scalars["largest activation"]
    usable = torch.arange(4, len(head))
    logits = head[usable] @ moved
    assert row["logits"] == pytest.approx(float((logits - logits.mean()).max()), rel=1e-3)
    cosines = {f"L{layer}.F{at}": float(rows[at] @ unit[1][OWN]) for layer, rows in unit.items() for at in range(WIDTH)}
    del cosines[f"L1.F{OWN}"]
    expected = sorted(cosines.items(), key=lambda one: -abs(one[1]))[:10]
    assert [(one["feature"], one["cosine"]) for one in result.tables["similar"]] == [
        (name, pytest.approx(value, abs=1e-5)) for name, value in expected
    ]
    fetched = wiring.through_head(1, 2, reading[None])[0]
    check_heads(tiny_model, result, coders, wiring, fetched, unit[0])
    through = rows_of(result, "tokens", path="reads through L1.H2", end="up")[0]
    words = tiny_model.plain.transformer.wte.weight[usable] @ wiring.through_head(1, 2, reading[None])[0]
    assert through["z"] == pytest.approx(float((words.max() - words.mean()) / words.std(correction=0)), rel=1e-3)


def check_heads(model, result: Result, coders, wiring: Wiring, fetched: torch.Tensor, unit: torch.Tensor) -> None:
    """Edges through a head, and the tokens of the layer-0 features that it fetches most, each times its strength."""
    strengths = unit @ fetched
    for row in result.tables["features_through_heads"]:
        assert row["through"] == "L1.H2"
        assert row["weight"] == pytest.approx(float(strengths[row["number"]]), abs=1e-6)
    words = model.plain.transformer.wte.weight[4:]
    total = torch.zeros(len(words))
    for feature in strengths.argsort(descending=True)[:20].tolist():
        if strengths[feature] > 0:
            row = coders[0].w_enc[feature] * coders[0].w_dec[feature].norm()
            total += strengths[feature] * (words @ wiring.layers[0].before_mlp.pulled_at(0, row[None])[0])
    best = rows_of(result, "tokens", path="reads through L1.H2 and features of layer 0", end="up")[0]
    assert best["z"] == pytest.approx(float((total.max() - total.mean()) / total.std(correction=0)), rel=1e-3)


def test_an_index_in_a_folder_is_read_and_own_texts_stand_beside_it(tiny_model, folder, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(text.text for text in TEXTS), encoding="utf-8")
    place = build_index(tiny_model, fit(load_coders(folder), tiny_model), corpus).save(tmp_path / "index")
    knobs = {"coders": str(folder), "layer": 2, "feature": 3}
    first = feature_card(tiny_model, Prompts.of("w20 w31 w9"), corpus=str(corpus), **knobs)
    again = feature_card(tiny_model, Prompts.of("w20 w31 w9"), index=str(place), **knobs)
    assert first.arrays == again.arrays
    assert first.tables == again.tables
    with pytest.raises(ValueError, match="an index has its own corpus"):
        feature_card(tiny_model, TEXTS, index=str(place), corpus=str(corpus), **knobs)
    own = [view for view in first.views if view.title.startswith("Your text")]
    assert len(own) == 1
    strip = first.arrays[own[0].array]
    assert strip.labels["pos"] == ("<bos>", "w20", "w31", "w9")
    with torch.no_grad():
        x = trace(tiny_model, "w20 w31 w9", "L2.mlp_in")["L2.mlp_in"][0]
        values = fit(load_coders(folder), tiny_model)[2].encode(x)[:, 3]
    assert np.isnan(strip.values[0])
    np.testing.assert_allclose(strip.values[1:], values[1:].numpy(), atol=1e-5)


def test_an_autoencoder_of_the_stream_has_a_card_and_one_of_the_mlp_says_what_it_lacks(tiny_model, tmp_path):
    stream = save_saelens(random_coders(3, read="resid_post", write="resid_post"), tmp_path / "stream")
    result = feature_card(tiny_model, TEXTS, coders=str(stream), layer=1, feature=2)
    assert result.passed
    assert result.arrays["reach"].values.shape == (2, 4), "heads of both layers write in front of it"
    outputs = save_saelens(random_coders(3, read="mlp_out", write="mlp_out"), tmp_path / "outputs")
    other = feature_card(tiny_model, TEXTS, coders=str(outputs), layer=1, feature=2)
    assert {row["path"] for row in other.tables["tokens"]} == {"writes"}
    assert "features_before" not in other.tables


def test_a_card_repeats_itself_and_survives_the_disk(sparse, tmp_path):
    first, second = (feature_card(sparse, PLANTED, layer=0, feature=0) for _ in range(2))
    assert (first.arrays, first.tables) == (second.arrays, second.tables)
    loaded = Result.load(first.save(tmp_path / "card"))
    assert loaded == first
    for number in range(len(first.views)):
        assert loaded.figure(number).to_json() == first.figure(number).to_json()


def test_what_has_no_card_is_refused(sparse, tiny_model):
    with pytest.raises(ValueError, match="layer 1 has 14 features"):
        feature_card(sparse, PLANTED, layer=1, feature=14)
    with pytest.raises(ValueError, match="layer 5: coders planted:sparse_mlp have the layers 0, 1"):
        feature_card(sparse, PLANTED, layer=5)
    with pytest.raises(ValueError, match="writes behind what the coder of layer 0 reads"):
        feature_card(sparse, PLANTED, heads=[Site("z", 1, head=0)])
    with pytest.raises(ValueError, match="no coders were named"):
        feature_card(tiny_model, TEXTS)
    with pytest.raises(ValueError, match="top must be 2 or more"):
        feature_card(sparse, PLANTED, top=1)


@pytest.mark.real
def test_a_neuron_of_the_real_model_for_a_word_says_so(real_model, tmp_path):
    """A feature that reads the embedding of Paris in layer 0's stream is active on Paris, and reads it."""
    embedding = real_model.bridge.original_model.get_input_embeddings().weight
    rows = embedding[[real_model.token(" Paris"), *range(5000, 5060)]].detach().float()
    coder = Transcoder(
        layer=0,
        w_enc=rows / rows.norm(dim=1, keepdim=True) ** 2 / real_model.shape.d_model**0.5,
        b_enc=torch.full((len(rows),), -0.9),
        w_dec=rows,
        b_dec=torch.zeros(rows.shape[1]),
        read="resid_pre",
        write="resid_pre",
    )
    folder = save_saelens(Transcoders("word", {0: coder}), tmp_path / "word")
    text = "The Eiffel Tower stands in Paris, and the Colosseum stands in Rome. She moved from Rome to Paris."
    result = feature_card(real_model, Prompts.of(text), coders=str(folder), draws=20)
    assert result.scalars["active on"] == 2
    assert "reads ' Paris'" in result.finding
    assert result.passed


def test_the_corpus_is_what_the_index_was_built_from(sparse):
    coders = fit(load_coders("planted:sparse_mlp"), sparse)
    index = build_index(sparse, coders, PLANTED)
    result = feature_card(sparse, PLANTED, layer=0, feature=1)
    assert result.scalars["fingerprint of corpus"] == index.card["corpus"]["fingerprint"]
    assert result.scalars["fingerprint of coders"] == coders.fingerprint
    assert coders[0].d_in != D_MODEL
