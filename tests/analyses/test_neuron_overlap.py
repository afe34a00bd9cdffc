"""Neurons that were replaced lose their tokens, the others keep them, and noise does what brute force says."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from planting import planted
from small_models import small_model

from workbench.analyses.neuron_overlap import neuron_overlap
from workbench.analyses.neuron_overlap.comparing import _noise
from workbench.model import Model, load
from workbench.planted import plant

REPLACED = 100


@cache
def concepts() -> Model:
    return load("planted:concepts")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The concept model in which the first reading rows of layer 2 are new, and no other weight is."""
    built = plant("concepts")
    rows = built.model.model.layers[2].mlp.up_proj.weight.data
    fresh = torch.randn(REPLACED, rows.shape[1], generator=torch.Generator().manual_seed(5))
    rows[:REPLACED] = fresh * rows.norm(dim=1).mean() / fresh.norm(dim=1, keepdim=True)
    return saved(built, tmp_path_factory.mktemp("tuned"))


def saved(built, folder: Path) -> Path:
    built.model.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    return folder


def test_only_replaced_neurons_lose_their_tokens(tuned: Path):
    result = neuron_overlap(concepts(), other=str(tuned))
    kept, change = result.named("kept").values[0], result.named("change").values
    assert kept[[0, 1, 3]].tolist() == [1, 1, 1]
    chance = result.scalars["chance"]
    assert kept[2] == pytest.approx(1 - (1 - chance) * REPLACED / 400, abs=0.01)
    assert (change[2, REPLACED:] == 0).all()
    assert change[2, :REPLACED].mean() == pytest.approx(np.sqrt(2), rel=0.05)
    assert {row["neuron"].split(".")[0] for row in result.tables["changed"]} == {"L2"}
    assert result.scalars["unembedding_change"] == 0
    assert result.passed
    assert neuron_overlap(concepts(), other=str(tuned), direction="write").scalars["kept_tuned"] == 1


def test_noise_is_as_long_as_the_change_and_loses_about_as_much(tuned: Path):
    """Replaced rows moved by more than their length: noise so long leaves some 20% on top, tuning none."""
    result = neuron_overlap(concepts(), other=str(tuned), layers=(2,))
    tuned_kept, noise_kept = result.named("kept").values[:, 0]
    assert tuned_kept < noise_kept < 1 - 0.5 * REPLACED / 400
    pushed = _noise(torch.ones(3, 8), torch.tensor([0.5, 2.0, 0.0]), torch.Generator().manual_seed(0))
    assert pushed.norm(dim=1).tolist() == pytest.approx([0.5, 2.0, 0.0])


def test_agrees_with_brute_force():
    """The same noise, all logits, plain argsort."""
    result = neuron_overlap(concepts(), noise=0.3, layers=(1,), top=10, seed=4)
    rows = planted("concepts").model.model.layers[1].mlp.up_proj.weight.detach()
    generator = torch.Generator().manual_seed(4001)
    shaken = rows + _noise(rows, 0.3 * rows.norm(dim=1), generator)
    words = planted("concepts").model.lm_head.weight.detach()[4:]
    before, after = ((one @ words.T).argsort(dim=1, descending=True)[:, :10] for one in (rows, shaken))
    kept = (before[:, 0] == after[:, 0]).float().mean()
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(before.tolist(), after.tolist(), strict=True)])
    assert result.named("kept").values[0, 0] == pytest.approx(float(kept), abs=1e-6)
    assert result.named("shared").values[0, 0] == pytest.approx(shared, abs=1e-6)


def test_the_farther_out_a_token_the_better_it_withstands_noise():
    result = neuron_overlap(concepts(), noise=0.3)
    by_stratum = [row["kept_noise"] for row in result.tables["strata"] if row["neurons"] >= 15]
    assert by_stratum == sorted(by_stratum)
    assert by_stratum[0] < 0.6
    assert by_stratum[-1] == 1
    assert sum(row["neurons"] for row in result.tables["strata"]) == 1600
    total = sum(row["neurons"] * row["kept_noise"] for row in result.tables["strata"] if row["neurons"])
    assert total / 1600 == pytest.approx(result.scalars["kept_noise"], abs=1e-6)


def test_a_tuned_unembedding_counts_unless_the_base_is_asked(tmp_path: Path):
    built = plant("concepts")
    head = built.model.lm_head.weight.data
    head[:] = head.roll(1, dims=0)  # every token takes another's row
    folder = saved(built, tmp_path / "rolled")
    own = neuron_overlap(concepts(), other=str(folder), layers=(0,))
    assert own.scalars["kept_tuned"] < 0.02
    assert own.scalars["unembedding_change"] == pytest.approx(np.sqrt(2), rel=0.05)
    base = neuron_overlap(concepts(), other=str(folder), layers=(0,), through="base")
    assert base.scalars["kept_tuned"] == 1
    assert "Tuned rows go through the base's norms and unembedding: only the neurons' rows differ." in base.notes


def test_chance_is_that_of_two_neurons():
    result = neuron_overlap(concepts(), layers=(0, 1), draws=100)
    words = planted("concepts").model.lm_head.weight.detach()[4:]
    tops = torch.cat([(block.mlp.up_proj.weight @ words.T).argmax(1) for block in concepts_blocks()[:2]])
    same = (tops[:, None] == tops[None]).sum() - len(tops)
    assert result.scalars["chance"] == pytest.approx(float(same) / (len(tops) * (len(tops) - 1)))


def concepts_blocks() -> torch.nn.ModuleList:
    return planted("concepts").model.model.layers


def test_folded_rows_are_shaken_before_they_are_folded():
    gained = neuron_overlap(small_model("Gemma3"), noise=1e-6, direction="write", draws=100)
    assert gained.scalars["kept_noise"] == 1
    assert gained.passed


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"other": "planted:tour"}, "has d_model 210, but planted:concepts has 256"),
        ({"other": "nowhere/at-all-here"}, "nowhere"),
        ({"noise": 0.0}, "noise must be above 0"),
        ({"layers": (4,)}, "the model has 4 layers"),
        ({"layers": (1, 1)}, "layers names a number twice"),
        ({"top": 0}, "top must be 1 or more"),
        ({"top": 600}, "600 tokens were asked for, but the vocabulary has 500"),
        ({"draws": 3}, "draws must be 100 or more"),
    ],
)
def test_refuses(knobs, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((ValueError, OSError), match=message):
        neuron_overlap(concepts(), **knobs)


def test_refuses_other_words(tmp_path: Path):
    built = plant("concepts")
    built.tokenizer.add_tokens(["entirely-new"])
    folder = saved(built, tmp_path / "words")
    with pytest.raises(ValueError, match="have different vocabularies"):
        neuron_overlap(concepts(), other=str(folder))


@pytest.mark.real
def test_a_tenth_of_noise_leaves_most_top_tokens_of_a_real_model(real_model):
    result = neuron_overlap(real_model, layers=(6,), draws=500)
    assert result.passed
    assert 0.65 < result.scalars["kept_noise"] < 0.9
    assert result.scalars["specialised_kept_noise"] > result.scalars["kept_noise"]
