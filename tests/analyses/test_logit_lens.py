"""The logit lens sees the planted answer where it was planted, and reads what transformers reads."""

from importlib import import_module

import numpy as np
import pytest
import torch
from small_models import plain_twin, small_model
from torch.distributions import Categorical
from torch.distributions.kl import kl_divergence

from workbench.analyses.logit_lens import logit_lens
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Needles, Prompt, Prompts
from workbench.result import Result

ARRAYS = ("target_probability", "target_rank", "entropy", "kl")
TEXTS = ("w20 w31 w9 w55 w7 w70 w81 w12", "w5 w6 w90", "w40 w41 w42 w43 w44")
NORMS = {"GPT2": "transformer.ln_f", "Llama": "model.norm", "Gemma2": "model.norm", "Gemma3": "model.norm"}


@pytest.fixture(scope="module")
def tour() -> Model:
    return load("planted:tour")


@pytest.fixture(scope="module")
def needle_prompt() -> Prompt:
    """A needle, and its beginning again: the model's next word is the first of the answer."""
    needle = Needles.bundled()[0]
    return Prompt(f"{needle.needle} {needle.answer_prefix}", target=needle.answer.split()[0])


def test_the_planted_answer_is_visible_exactly_from_its_layer_on(tour: Model, needle_prompt: Prompt) -> None:
    truth = plant("tour").truth
    result = logit_lens(tour, Prompts.of(needle_prompt))
    ranks = result.arrays["target_rank"].values[:, -1]
    assert [bool(rank == 0) for rank in ranks] == [
        layer >= truth["visible_from"] for layer in range(tour.shape.n_layers)
    ]
    assert result.scalars["settled_layer"] == truth["visible_from"]
    assert result.scalars["prediction"] == needle_prompt.target
    probability = result.arrays["target_probability"].values[:, -1]
    assert probability[truth["visible_from"]] < probability[-1], "the MLP of the last layer makes it surer"
    assert "on top from layer 2 of 3 on" in result.finding
    assert all(check.passed for check in result.checks)


def test_a_layer_that_does_nothing_changes_no_reading(tour: Model, needle_prompt: Prompt) -> None:
    (inert,) = plant("tour").truth["inert"]
    result = logit_lens(tour, Prompts.of(needle_prompt))
    for name in ("target_probability", "entropy", "kl"):
        values = result.arrays[name].values
        np.testing.assert_allclose(values[inert], values[inert - 1], atol=1e-5)


def plain_table(name: str, text: str) -> torch.Tensor:
    """[layer, pos, vocab] by transformers alone: its hidden states, its norm, its head, its cap."""
    twin = plain_twin(name)
    ids = small_model(name).tokens(text).ids
    with torch.no_grad():
        output = twin(ids, output_hidden_states=True, use_cache=False)
        norm, head = twin.get_submodule(NORMS[name]), twin.get_output_embeddings()
        early = [head(norm(hidden[0])) for hidden in output.hidden_states[1:-1]]
    bound = getattr(twin.config, "final_logit_softcapping", None)
    early = [logits if bound is None else bound * torch.tanh(logits / bound) for logits in early]
    return torch.stack([*early, output.logits[0]])


@pytest.mark.parametrize("name", NORMS)
def test_agrees_with_the_slow_road(name: str) -> None:
    result = logit_lens(small_model(name), Prompts.of(TEXTS[0]), target="w31", top=3)
    table = plain_table(name, TEXTS[0])
    said, final = Categorical(logits=table), Categorical(logits=table[-1:])
    order = table.argsort(-1, descending=True)
    expected = {
        "target_probability": said.probs[..., 31],
        "target_rank": (order == 31).int().argmax(-1).float(),
        "entropy": said.entropy(),
        "kl": kl_divergence(final, said),
    }
    for quantity, values in expected.items():
        np.testing.assert_allclose(result.arrays[quantity].values, values, atol=5e-6, rtol=1e-4)
    texts = result.arrays["kl"].labels["pos"]
    for line in result.tables["top_tokens"]:
        best = order[line["layer"], line["pos"], line["rank"]]
        assert line["token"] == small_model(name).tokenizer.decode([best])
        assert line["probability"] == pytest.approx(float(said.probs[line["layer"], line["pos"], best]), abs=1e-6)
        assert line["after"] == texts[line["pos"]]
    assert len(result.tables["top_tokens"]) == 3 * table.shape[0] * table.shape[1]
    assert result.checks[0].passed


@pytest.mark.parametrize("chunk", [1, 64_000_000])
def test_a_long_prompt_lists_the_top_tokens_of_its_last_positions_and_says_so(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("Llama")
    monkeypatch.setattr(import_module("workbench.analyses.logit_lens"), "_CHUNK_NUMBERS", chunk)
    whole = logit_lens(model, Prompts.of(TEXTS[0]), top=2)
    monkeypatch.setattr(import_module("workbench.analyses.logit_lens"), "_LISTED", 3 * 2 * model.shape.n_layers)
    result = logit_lens(model, Prompts.of(TEXTS[0]), top=2)
    length = whole.arrays["kl"].size("pos")
    rows = [row for row in whole.tables["top_tokens"] if row["pos"] >= length - 3]
    assert result.tables["top_tokens"] == rows and len(rows) == 3 * 2 * model.shape.n_layers
    assert f"Top tokens are listed at the last 3 of {length} positions: the result stays small." in result.notes
    assert not any("Top tokens" in note for note in whole.notes)


def test_without_a_target_it_follows_what_is_said_in_the_end() -> None:
    result = logit_lens(small_model("Llama"), Prompts.of(TEXTS[0]))
    table = plain_table("Llama", TEXTS[0])
    own = table.softmax(-1).gather(-1, table[-1].argmax(-1).expand(2, -1)[..., None])[..., 0]
    np.testing.assert_allclose(result.arrays["target_probability"].values, own, atol=1e-6)
    assert (result.arrays["target_rank"].values[-1] == 0).all()


@pytest.mark.parametrize("name", ["GPT2", "Gemma3"])
def test_several_prompts_are_read_as_each_by_itself(name: str) -> None:
    model = small_model(name)
    prompts = Prompts.of(*(Prompt(text, target=target) for text, target in zip(TEXTS, ("w8", "w9", None), strict=True)))
    together = logit_lens(model, prompts)
    for row, prompt in enumerate(prompts):
        alone = logit_lens(model, Prompts.of(prompt))
        for quantity in ARRAYS:
            values = together.arrays[quantity].values[row]
            length = alone.arrays[quantity].values.shape[1]
            np.testing.assert_allclose(values[:, :length], alone.arrays[quantity].values, atol=1e-5)
            assert np.isnan(values[:, length:]).all()
        own = [line for line in together.tables["top_tokens"] if line["example"] == row]
        assert [line["token"] for line in own] == [line["token"] for line in alone.tables["top_tokens"]]
    assert "NaN marks positions beyond the end of a shorter prompt." in together.notes


def test_the_streams_between_and_before_are_read_too() -> None:
    model = small_model("Llama")
    before = logit_lens(model, Prompts.of(TEXTS[0]), site="resid_pre", target="w9")
    after = logit_lens(model, Prompts.of(TEXTS[0]), target="w9")
    between = logit_lens(model, Prompts.of(TEXTS[0]), site="resid_mid", target="w9")
    np.testing.assert_allclose(before.arrays["entropy"].values[1], after.arrays["entropy"].values[0], atol=1e-6)
    assert not np.allclose(between.arrays["entropy"].values, after.arrays["entropy"].values, atol=1e-3)
    assert before.checks == between.checks == ()
    assert any("not yet the model's output" in note for note in before.notes)


def test_a_capped_model_says_so() -> None:
    notes = logit_lens(small_model("Gemma2"), Prompts.of(TEXTS[0])).notes
    assert "The model's soft cap on the logits is applied at every layer." in notes


def test_labels_are_the_tokens_and_the_result_survives_saving(tmp_path) -> None:
    result = logit_lens(small_model("Llama"), Prompts.of(TEXTS[1]))
    labels = result.arrays["kl"].labels
    assert [label.strip() for label in labels["pos"]][-3:] == ["w5", "w6", "w90"]
    result.save(tmp_path / "run")
    again = Result.load(tmp_path / "run")
    assert again.finding == result.finding
    np.testing.assert_array_equal(again.arrays["kl"].values, result.arrays["kl"].values)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("Llama", {"top": 0}, "top must be 1 or more, found 0"),
        ("Llama", {"target": "w5 w6"}, "'w5 w6' is 2 tokens .* not one"),
        ("GPTNeoX parallel", {"site": "resid_mid"}, "no resid_mid: attention and MLP read the same stream"),
    ],
)
def test_refuses_what_it_cannot_read(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        logit_lens(small_model(name), Prompts.of(TEXTS[0]), **options)


@pytest.mark.real
def test_a_real_model_ends_with_paris(real_model: Model) -> None:
    result = logit_lens(real_model, Prompts.of("The capital of France is the city of"), target=" Paris")
    ranks = result.arrays["target_rank"].values[:, -1]
    assert result.scalars["prediction"] == " Paris"
    assert ranks[-1] == 0
    assert ranks[0] > 100, "the first layer cannot know it"
    assert result.scalars["settled_layer"] >= 6
    assert result.arrays["kl"].values[-1].max() < 1e-5
    assert all(check.passed for check in result.checks)
