"""From a text file to a folder of coders with measured numbers, on the command line and from Python."""

import json

import pytest
import torch

from workbench import load
from workbench.__main__ import answer
from workbench.catalog import run
from workbench.coders import load_coders
from workbench.coders.training import Recipe, SAERecipe
from workbench.model import Model
from workbench.progress import Cancelled, listening
from workbench.prompts import Prompts
from workbench.transcoding.making import STATE, excerpts, make_sae, make_transcoders, split_documents

SHARED = {"width": 48, "k": 6, "steps": 150, "batch": 256, "buffer": 2048}
SHARED |= {"rate": 1e-2, "context": 32, "dead_after": 20_000}
SMALL = Recipe(**SHARED)
WORDS = ["red", "green", "blue", "cat", "dog", "owl", "stone", "river", "runs", "sleeps", "flows"]


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


def documents(count: int, seed: int) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(WORDS), (count, 30), generator=generator).tolist()
    return [" ".join(WORDS[number] for number in row) for row in rows]


def test_what_is_trained_stands_in_for_the_mlps_and_the_card_says_so(sparse: Model, tmp_path) -> None:
    page = make_transcoders(sparse, documents(80, 1), documents(8, 2), SMALL, tmp_path / "coders", measured=200)
    card = json.loads((tmp_path / "coders" / "card.json").read_text())
    assert [row["layer"] for row in card["quality"]] == ["0", "1", "all"]
    for row in card["quality"]:
        assert row["explained_variance"] > 0.95
        assert row["l0"] <= SMALL.k
        assert row["fvu"] == pytest.approx(1 - row["explained_variance"])
    assert card["quality"][-1]["kl"] < 0.1
    assert load_coders(tmp_path / "coders").fingerprint == card["fingerprint"]
    assert card["weights"] == sparse.fingerprint
    assert "loss recovered" in page.read_text()
    assert card["measured_on"]["tokens"] == pytest.approx(200, rel=0.2)


def test_a_stopped_training_in_a_folder_goes_on(sparse: Model, tmp_path) -> None:
    def stop(done: int, total: int, label: str) -> None:
        if label == "training transcoders" and done == 60:
            raise Cancelled

    texts = documents(80, 1), documents(8, 2)
    with pytest.raises(Cancelled), listening(stop):
        make_transcoders(sparse, *texts, SMALL, tmp_path / "stopped", layers=(1,), measured=100)
    assert (tmp_path / "stopped" / STATE).is_file()
    for name in ("stopped", "whole"):
        make_transcoders(sparse, *texts, SMALL, tmp_path / name, layers=(1,), measured=100)
    stopped, whole = (load_coders(tmp_path / name) for name in ("stopped", "whole"))
    assert stopped.fingerprint == whole.fingerprint
    assert list(whole) == [1]


def test_the_command_trains_measures_and_tells(tmp_path, capsys) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(documents(80, 3)))
    out = tmp_path / "coders"
    words = ["train-transcoders", "planted:sparse_mlp", "--text", str(text), "--out", str(out), "--layers", "1"]
    words += ["--features", "32", "--k", "4", "--steps", "20", "--batch", "128", "--buffer", "1024"]
    words += ["--architecture", "jumprelu", "--skip", "--measured", "60"]
    assert answer(words) == 0
    told = capsys.readouterr()
    assert "jumprelu transcoders with a skip of 32 features" in told.out
    assert "step 20 of 20" in told.err
    (coder,) = load_coders(out).values()
    assert (coder.layer, coder.activation, coder.w_skip is not None) == (1, "jumprelu", True)
    assert answer([*words[:4], "--out", str(tmp_path / "b"), "--skip"]) == 2
    assert "no top-k transcoders with a skip" in capsys.readouterr().err
    assert answer([*words, "--features", "16"]) == 2
    assert "is the state of another training" in capsys.readouterr().err


@pytest.mark.parametrize(("site", "architecture"), [("resid_post", "batchtopk"), ("mlp_out", "topk")])
def test_autoencoders_are_measured_and_every_analysis_of_them_reads_the_folder(
    sparse: Model, tmp_path, site: str, architecture: str
) -> None:
    recipe = SAERecipe(**SHARED, site=site, architecture=architecture)
    page = make_sae(sparse, documents(80, 1), documents(8, 2), recipe, tmp_path / "sae", layers=(1,), measured=200)
    card = json.loads((tmp_path / "sae" / "card.json").read_text())
    (row,) = card["quality"]
    assert row["explained_variance"] > 0.9
    assert row["kl"] < 0.1
    assert 0 < row["l0"] < 2 * recipe.k
    assert f"autoencoders of 48 features at {site}, trained by SAELens" in page.read_text()
    (coder,) = load_coders(tmp_path / "sae").values()
    assert (coder.layer, coder.read, coder.write) == (1, site, site)
    texts = Prompts.of("stone red cat runs", "red stone cat sleeps")
    for name, knobs in (("sae_features", {}), ("transcoder_quality", {}), ("feature_card", {"layer": 1, "feature": 0})):
        assert run(name, sparse, texts, coders=str(tmp_path / "sae"), **knobs).passed, name


def test_the_command_trains_autoencoders_with_the_loss_in_sight(tmp_path, capsys) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(documents(80, 3)))
    words = ["train-sae", "planted:sparse_mlp", "--text", str(text), "--out", str(tmp_path / "sae"), "--layer", "1"]
    words += ["--site", "mlp_out", "--features", "32", "--architecture", "jumprelu", "--steps", "20"]
    words += ["--batch", "128", "--buffer", "1024", "--measured", "60"]
    assert answer(words) == 0
    told = capsys.readouterr()
    assert "Written by `workbench train-sae`" in told.out
    assert "step 20 of 20: loss " in told.err
    (coder,) = load_coders(tmp_path / "sae").values()
    assert (coder.layer, coder.activation, coder.read) == (1, "jumprelu", "mlp_out")
    assert answer([*words, "--site", "q"]) == 2
    assert "a coder at q cannot be saved" in capsys.readouterr().err
    assert answer([*words, "--features", "16"]) == 2
    assert "is the state of another training" in capsys.readouterr().err


def test_excerpts_lie_evenly_over_the_documents(sparse: Model) -> None:
    pieces = excerpts(sparse, documents(40, 4), 16, 160)
    assert 8 <= len(pieces) <= 12
    held = [" ".join(piece.text.split()) for piece in pieces]
    assert sum(any(piece in document for piece in held) for document in documents(40, 4)) >= 8


def test_every_fiftieth_document_is_held_out() -> None:
    texts = [f"text {number}" for number in range(120)]
    learnt, held_out = split_documents(texts)
    assert held_out == ["text 0", "text 50", "text 100"]
    assert set(learnt) == set(texts) - set(held_out)
    with pytest.raises(ValueError, match="leaves none to hold out"):
        split_documents(texts[:1])
