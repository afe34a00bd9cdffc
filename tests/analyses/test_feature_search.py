"""The planted features of a word and of a text are found; every score is counted again by hand."""

import math

import numpy as np
import pytest
import torch
from coding import WIDTH, random_coders

from workbench.analyses.feature_search import feature_search
from workbench.analyses.feature_search.counting import surprise
from workbench.coders import fit, load_coders, save_circuit_tracer
from workbench.features import Wiring, build_index
from workbench.model import Model, load
from workbench.prompts import Prompts
from workbench.result import Result
from workbench.tracer import trace

CORPUS = (
    "stone river stone runs",
    "red stone flows",
    "river stone runs stone",
    "green stone river stone",
    "stone blue",
)
WORDS = [f"w{number}" for number in range(4, 124)]


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


@pytest.fixture(scope="module")
def stones(tmp_path_factory) -> str:
    """A corpus with much stone and no animal."""
    file = tmp_path_factory.mktemp("corpus") / "stones.txt"
    file.write_text("\n\n".join(CORPUS * 4), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_circuit_tracer(random_coders(3), tmp_path_factory.mktemp("coders") / "set")


def slow_surprise(count: int, tokens: int, usual: int, usual_tokens: int) -> float:
    """Dunning's G squared, cell by cell."""
    cells = [(count, tokens), (usual, usual_tokens)]
    share = (count + usual) / (tokens + usual_tokens)
    total = 0.0
    for seen, of in cells:
        for observed, expected in ((seen, of * share), (of - seen, of * (1 - share))):
            total += observed * math.log(observed / expected) if observed else 0.0
    return math.copysign(math.sqrt(max(2 * total, 0.0)), count / tokens - usual / usual_tokens)


def test_surprise_of_counts_by_hand():
    cases = [(0, 10, 0, 100), (10, 10, 100, 100), (5, 10, 5, 100), (0, 10, 50, 100), (1, 3, 1, 3)]
    for case in cases:
        found = surprise(torch.tensor([case[0]]), case[1], torch.tensor([case[2]]), case[3])
        assert float(found[0]) == pytest.approx(slow_surprise(*case), abs=1e-6)
    assert slow_surprise(5, 10, 5, 100) == pytest.approx(3.66, abs=0.01)
    assert slow_surprise(1, 3, 1, 3) == 0


def test_the_planted_features_of_animals_stand_out_on_a_text_about_them(sparse, stones):
    result = feature_search(sparse, Prompts.of("stone cat owl dog cat"), corpus=stones, token="cat")
    assert result.passed
    best = result.tables["text_features"][0]
    assert (best["feature"], best["active on"], best["of tokens"]) == ("L0.F1", 4, 5)  # "an animal now"
    assert best["beyond chance"]
    assert {row["feature"] for row in result.tables["text_features"] if row["beyond chance"]} <= {
        *("L0.F1", "L0.F6", "L0.F7", "L0.F8", "L1.F1")
    }
    reading = {row["feature"]: row["z"] for row in result.tables["reading"][:2]}
    assert set(reading) == {"L0.F1", "L0.F6"}, "an animal now, and cat now"
    assert max(reading, key=reading.get) == "L0.F6"
    assert "firing" not in result.tables
    assert any("not in the corpus" in note for note in result.notes)
    strip = result.arrays["activations"]
    assert strip.labels["pos"][-1] == "cat"
    np.testing.assert_allclose(strip.values[0, 1:], [0, 0.75, 0.75, 0.75, 0.75], atol=1e-3)


def test_the_planted_features_of_a_word_fire_on_it_and_write_what_they_say(sparse, stones):
    result = feature_search(sparse, Prompts.of("red river"), corpus=stones, token="river")
    fires = {row["feature"] for row in result.tables["firing"] if row["beyond chance"]}
    assert {"L0.F2", "L0.F10"} <= fires, "a river now, and river now"
    row = next(row for row in result.tables["firing"] if row["feature"] == "L0.F2")
    assert row["active on"] == row["of tokens"] == result.scalars["occurrences read"]
    runs = feature_search(sparse, Prompts.of("red river"), corpus=stones, token="runs")
    assert runs.tables["writing"][0]["feature"] == "L1.F0"
    assert runs.tables["writing"][0]["z"] > 3
    assert "L1.F0 writes farthest along it" in runs.finding


def test_every_number_is_counted_again(tiny_model, folder, tmp_path):
    generator = np.random.default_rng(0)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(" ".join(generator.choice(WORDS, 9)) for _ in range(30)), encoding="utf-8")
    texts = Prompts.of("w20 w31 w9 w55 w7 w8 w70", "w5 w6 w90 w12 w20")
    knobs = {"coders": str(folder), "token": "w20", "corpus": str(corpus), "listed": 3 * WIDTH, "draws": 5}
    result = feature_search(tiny_model, texts, **knobs)
    assert result.passed
    coders = fit(load_coders(folder), tiny_model)
    token = tiny_model.token("w20")

    def table(text: str) -> tuple[torch.Tensor, list[int]]:
        traced = trace(tiny_model, text, "mlp_in")
        rows = torch.cat([coders[layer].encode(traced[f"L{layer}.mlp_in"][0, 1:]) for layer in coders], dim=1)
        return rows, traced.tokens.ids[0, 1:].tolist()

    base = [table(line) for line in corpus.read_text(encoding="utf-8").split("\n\n")]
    usual, ids = torch.cat([rows for rows, _ in base]), [one for _, some in base for one in some]
    here = torch.cat([table(text.text)[0] for text in texts])
    there = usual[[at for at, one in enumerate(ids) if one == token]]
    sizes = torch.cat([coders[layer].w_dec.norm(dim=1) for layer in coders])
    assert len(result.tables["text_features"]) == 3 * WIDTH
    for name, some in (("text_features", here), ("firing", there)):
        for row in result.tables[name]:
            column = row["layer"] * WIDTH + row["number"]
            count, of = int((some[:, column] != 0).sum()), len(some)
            assert (row["active on"], row["of tokens"]) == (count, of)
            rest = int((usual[:, column] != 0).sum())
            assert row["density"] == pytest.approx(rest / len(usual))
            assert row["surprise"] == pytest.approx(slow_surprise(count, of, rest, len(usual)), abs=1e-5)
            assert row["mean activation"] == pytest.approx(float(some[:, column].sum()) / max(count, 1), rel=1e-4)
            if name == "text_features":
                more = float((some[:, column].mean() - usual[:, column].mean()) * sizes[column])
                assert row["excess"] == pytest.approx(more, abs=1e-4)
    scores = [row["surprise"] for row in result.tables["text_features"]]
    assert scores == sorted(scores, reverse=True)
    excesses = [
        row["excess"] for row in feature_search(tiny_model, texts, by="excess", **knobs).tables["text_features"]
    ]
    assert excesses == sorted(excesses, reverse=True)
    check_directions(tiny_model, result, coders, corpus, token)


def check_directions(model: Model, result: Result, coders, corpus, token: int) -> None:
    """z of the token for what features read and write, over all usable tokens, in 64 bits."""
    first = model.tokens(corpus.read_text(encoding="utf-8").split("\n\n")[0]).ids[0].tolist()
    wiring = Wiring.of(model, coders, first)
    plain = model.plain
    tables = {
        "reading": (plain.transformer.wte.weight, lambda layer: wiring.readings(layer, slice(None))),
        "writing": (plain.lm_head.weight, lambda layer: wiring.logit_rows(wiring.decoders(layer))),
    }
    for name, (weight, rows_of) in tables.items():
        for row in result.tables[name]:
            scores = weight[4:].double() @ rows_of(row["layer"])[row["number"]].double()
            expected = (scores[token - 4] - scores.mean()) / scores.std(correction=0)
            assert row["z"] == pytest.approx(float(expected), abs=1e-3)


def test_a_text_of_the_corpus_itself_does_not_stand_out(tiny_model, folder, tmp_path):
    generator = np.random.default_rng(1)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(" ".join(generator.choice(WORDS, 20)) for _ in range(60)), encoding="utf-8")
    alike = Prompts.of(" ".join(generator.choice(WORDS, 20)))
    result = feature_search(tiny_model, alike, coders=str(folder), corpus=str(corpus))
    assert result.scalars["above chance"] <= 1
    same = Prompts.of(" ".join(["w20"] * 20))
    assert feature_search(tiny_model, same, coders=str(folder), corpus=str(corpus)).scalars["above chance"] >= 3


def test_an_index_serves_and_layers_are_chosen(tiny_model, folder, tmp_path):
    coders = fit(load_coders(folder), tiny_model)
    place = tmp_path / "index"
    texts = Prompts.of(*(" ".join(WORDS[at : at + 8]) for at in range(0, 112, 8)))
    build_index(tiny_model, coders, texts, folder=place)
    text = Prompts.of("w20 w31 w9 w55 w7")
    result = feature_search(tiny_model, text, coders=str(folder), index=str(place), layers=(1,), token="w9")
    assert {row["layer"] for name in result.tables for row in result.tables[name]} == {1}
    again = feature_search(tiny_model, text, coders=str(folder), index=str(place), layers=(1,), token="w9")
    assert (result.arrays, result.tables) == (again.arrays, again.tables)
    loaded = Result.load(result.save(tmp_path / "run"))
    assert loaded == result
    for number in range(len(result.views)):
        assert loaded.figure(number).to_json() == result.figure(number).to_json()


def test_what_cannot_be_searched_is_refused(sparse, stones):
    with pytest.raises(ValueError, match="have no layer 7"):
        feature_search(sparse, Prompts.of("red cat"), corpus=stones, layers=(7,))
    with pytest.raises(ValueError, match="no token that counts"):
        feature_search(sparse, Prompts.of("<bos>"), corpus=stones)
    with pytest.raises(ValueError, match="is 2 tokens"):
        feature_search(sparse, Prompts.of("red cat"), corpus=stones, token="red cat")
    with pytest.raises(ValueError, match="draws must be 5 or more"):
        feature_search(sparse, Prompts.of("red cat"), corpus=stones, draws=1)


@pytest.mark.real
def test_a_feature_for_a_word_is_found_on_the_real_model(real_model, tmp_path):
    from workbench.coders import Transcoder, Transcoders, save_saelens

    rows = real_model.bridge.original_model.get_input_embeddings().weight
    words = [real_model.token(word) for word in (" Paris", " table", " water", " green")]
    units = torch.nn.functional.normalize(rows[words].detach().float(), dim=1)
    coder = Transcoder(
        layer=0,
        w_enc=units,
        b_enc=-0.5 * rows[words].detach().float().norm(dim=1) * real_model.shape.d_model**0.5,
        w_dec=units,
        b_dec=torch.zeros(units.shape[1]),
        read="resid_pre",
        write="resid_pre",
    )
    folder = save_saelens(Transcoders("words", {0: coder}), tmp_path / "words")
    result = feature_search(
        real_model, Prompts.of("She went to Paris. Paris is in France."), coders=str(folder), token=" Paris"
    )
    assert result.tables["text_features"][0]["feature"] == "L0.F0"
    assert result.tables["reading"][0]["feature"] == "L0.F0"
    assert result.passed
