"""Attention sinks finds which planted head sleeps on which text, and sees what transformers' own maps show."""

from typing import Any

import numpy as np
import pytest
import torch
from small_models import plain_logits, plain_twin, small_model

from workbench.analyses.attention_sinks import attention_sinks
from workbench.analyses.attention_sinks.heads import drain_ratio
from workbench.analyses.attention_sinks.reading import read_text
from workbench.analyses.attention_sinks.texts import RANDOM, SAME, Texts
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Prompt, Prompts
from workbench.result import Result

NAMES = ("GPT2", "Llama", "Gemma2", "Gemma3", "Mistral", "GPTNeoX parallel")
TEXTS = Prompts.of("w5 w6 w7 w8 w9 w10 w11 w12 w13", "w20 w21 w22 w23 w24")


@pytest.fixture(scope="module")
def sleeper() -> Model:
    return load("planted:sink")


@pytest.fixture(scope="module")
def domains() -> Prompts:
    told: Any = plant("sink").truth["domains"]
    return Prompts([Prompt(text, meta={"kind": kind}) for kind, texts in told.items() for text in texts])


@pytest.fixture(scope="module")
def seen(sleeper: Model, domains: Prompts) -> Result:
    return attention_sinks(sleeper, domains, domain="kind", ablated=1)


def test_the_planted_heads_rest_where_they_were_built_to(seen: Result) -> None:
    truth: Any = plant("sink").truth
    for number, kind in enumerate(("names", "numbers")):
        assert seen.arrays["sink"].labels["component"][number] == kind
        np.testing.assert_allclose(seen.arrays["sink"].values[number], truth["sink"][kind], atol=1e-4)
    np.testing.assert_allclose(seen.arrays["drain"].values, truth["drain"], atol=1e-6)
    rests = {row["head"]: row["rests"] for row in seen.tables["heads"]}
    assert rests == {"L0.H0": "active-dormant", "L0.H1": "always", "L0.H2": "never", "L0.H3": "never"}
    assert seen.passed


def test_the_dormant_head_is_missed_only_where_it_is_awake(seen: Result) -> None:
    names, numbers = seen.arrays["loss_change"].values[:, 0, 0]
    assert names > 5
    assert abs(numbers) < 1e-3
    assert seen.finding.startswith("1 of 4 heads put more than half of their attention on '<bos>'")
    assert "L0.H0 rests most differently: 0.00 on names, 1.00 on numbers" in seen.finding
    assert sum(row["taken as"] == "random" for row in seen.tables["heads"]) == 1


def test_even_attention_is_one_over_what_is_seen(seen: Result) -> None:
    uniform = seen.arrays["sink"].values[:, 0, 3]
    np.testing.assert_allclose(uniform, seen.arrays["even"].values[:, 0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_maps_and_streams_of_transformers(name: str) -> None:
    model, twin = small_model(name), plain_twin(name)
    ids = tuple(model.tokens(TEXTS[0]).ids[0].tolist())
    found = read_text(model, ids, 0)
    with torch.no_grad():
        out = twin(torch.tensor([ids]), use_cache=False, output_attentions=True, output_hidden_states=True)
    for layer, pattern in enumerate(out.attentions):
        there = pattern[0, :, 2:, 0]
        visible = there.sum(0) > 0  # behind the window it is zero in every head
        torch.testing.assert_close(found.sink[layer], there[:, visible].mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.dormancy[layer], (there[:, visible] > 0.5).float().mean(1))
        reach = (pattern[0].sum(0) > 0).sum(1)[2:][visible]
        torch.testing.assert_close(found.even[layer], (1 / reach).mean())
        below = pattern[0].mean(0).tril(-1)
        slow = [below[key + 1 :, key].mean() for key in range(len(ids) - 1)]
        torch.testing.assert_close(found.received[layer, :-1], torch.stack(slow), rtol=1e-4, atol=1e-6)
    for layer, stream in enumerate(out.hidden_states[1:-1]):  # the last one of transformers is normed
        torch.testing.assert_close(found.norms[layer], stream[0].norm(dim=-1), rtol=1e-4, atol=1e-5)


def test_values_are_as_long_as_what_a_head_that_looks_there_alone_writes() -> None:
    model, twin = small_model("Llama"), plain_twin("Llama")
    ids = tuple(model.tokens(TEXTS[0]).ids[0].tolist())
    found = read_text(model, ids, 0)
    with torch.no_grad():
        states = twin(torch.tensor([ids]), use_cache=False, output_hidden_states=True).hidden_states
        block, size = twin.model.layers[1], model.shape.d_head
        v = block.self_attn.v_proj(block.input_layernorm(states[1]))[0]
        for head in range(model.shape.n_heads):
            group = head // (model.shape.n_heads // model.shape.n_kv_heads)
            weight = block.self_attn.o_proj.weight[:, head * size : (head + 1) * size]
            written = v[:, group * size : (group + 1) * size] @ weight.T
            torch.testing.assert_close(found.written[1, head], written.norm(dim=-1), rtol=1e-3, atol=1e-6)


def test_the_loss_without_a_head_is_that_of_weights_without_it() -> None:
    model, twin = small_model("Llama"), plain_twin("Llama")
    found = attention_sinks(model, TEXTS, ablated=1)
    row = next(row for row in found.tables["heads"] if row["taken as"] == "notable")
    layer, head = (int(part[1:]) for part in row["head"].split("."))
    rows = [model.tokens(prompt).ids[0].tolist() for prompt in TEXTS]

    def mean_loss() -> float:
        losses = []
        for ids in rows:
            log_probs = plain_logits(twin, ids).double().log_softmax(-1)
            losses.append(-np.mean([float(log_probs[at - 1, ids[at]]) for at in range(1, len(ids))]))
        return float(np.mean(losses))

    before, size = mean_loss(), model.shape.d_head
    twin.model.layers[layer].self_attn.o_proj.weight[:, head * size : (head + 1) * size] = 0
    assert row["loss change, the prompts"] == pytest.approx(mean_loss() - before, abs=1e-5)


def test_controls_keep_the_sink_token_and_replace_what_is_behind_it() -> None:
    model = small_model("Llama")
    texts = Texts.of(model, TEXTS, "", 20, 1, seed=0)
    by_kind = {kind: [row for one, row in texts.rows if one == kind] for kind in (*texts.kinds, RANDOM, SAME)}
    for plain, random, same in zip(*by_kind.values(), strict=True):
        assert plain[:2] == random[:2] == same[:2]
        assert len(plain) == len(random) == len(same)
        assert set(same[2:]) == {plain[2]}
        assert random[2:] != plain[2:]


def test_the_drain_of_hand_made_lengths() -> None:
    lengths = torch.tensor([[[1.0, 4, 2, 6], [0.0, 0, 0, 0], [3.0, 0, 0, 0]]])
    assert drain_ratio(lengths, 0)[0, :2].tolist() == [0.25, 0.0]
    assert bool(drain_ratio(lengths, 0)[0, 2].isnan())


def test_runs_repeat_and_survive_saving(sleeper: Model, domains: Prompts, seen: Result, tmp_path) -> None:
    again = attention_sinks(sleeper, domains, domain="kind", ablated=1)
    assert again.arrays == seen.arrays and again.tables == seen.tables
    assert Result.load(seen.save(tmp_path / "run")) == seen


@pytest.mark.parametrize(
    "prompts, options, message",
    [
        (TEXTS, {"domain": "kind"}, "has no 'kind' in its meta, which holds nothing"),
        (TEXTS, {"texts": 0}, "texts must be 1 or more, found 0"),
        (TEXTS, {"position": 7}, "prompt 1 has 6 tokens, but a sink at position 7 needs 10 or more"),
        (Prompts.of(Prompt("w5 w6 w7", meta={"kind": RANDOM})), {"domain": "kind"}, "name it otherwise"),
    ],
)
def test_refuses_what_it_cannot_measure(prompts: Prompts, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_sinks(small_model("Llama"), prompts, **options)


@pytest.mark.real
def test_a_real_model_rests_on_the_token_that_begins_the_sequence(real_model: Model) -> None:
    prompts = Prompts.of("The old harbour was quiet when the boats came in that evening, and nobody said a word.")
    found = attention_sinks(real_model, prompts, ablated=0)
    assert found.scalars["sink"] > 3 * found.scalars["even"]
    token, median, _ = found.arrays["norm"].values
    assert (token[5:15] > 3 * median[5:15]).all()
    assert np.median(found.arrays["drain"].values) < 1
    assert found.passed
