"""Attribution graphs: every row adds up, and equals what autograd finds in a frozen plain model."""

import pytest
import torch
from architectures import SERVED, tiny_tokenizer
from circuit_parts import FAMILIES, double, frozen, graph_of, random_coders
from frozen_twin import FrozenTwin
from small_models import plain_twin, prompt_ids, small_model

from workbench.circuits.frozen import freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.targets import (
    difference_target,
    direction_target,
    feature_target,
    token_targets,
    top_logits,
)
from workbench.coders import Transcoder, Transcoders
from workbench.model import load

KINDS_OF_CODER = {
    "jumprelu": {},
    "relu": {"activation": "relu"},
    "topk": {"activation": "topk"},
    "skip": {"skip": True},
    "cross-layer": {"across": True},
    "cross-layer skip": {"across": True, "skip": True},
    "one layer only": {"layers": (1,)},
}
SPLITTABLE = [one.name for one in SERVED if one.name != "OLMo clipped"]


@pytest.mark.parametrize("kind", KINDS_OF_CODER)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_row_adds_up_to_its_value(name, kind):
    graph = graph_of(name, **KINDS_OF_CODER[kind])
    assert len(graph.features) > 20
    assert graph.missing().max() < 1e-5
    assert graph.gap < 1e-5


@pytest.mark.parametrize("name", SPLITTABLE)
def test_every_architecture_that_shows_its_values_has_an_exact_graph(name):
    graph = graph_of(name, skip=True, across=True)
    assert graph.missing().max() < 1e-5


def test_without_the_biases_and_positions_rows_do_not_add_up():
    graph = graph_of("GPT2")
    found = sum(graph.sums(kind) for kind in ("feature", "error", "token"))
    assert (found - graph.values).abs().mean() > 0.2 * graph.values.abs().mean()


@pytest.fixture
def softmax_in_64_bits(monkeypatch):
    """Most models compute their softmax in 32 bits whatever they are given, which hides errors below 1e-7."""
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr("torch.nn.functional.softmax", lambda *args, dtype=None, **knobs: softmax(*args, **knobs))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("GPT2", 1e-10),
        ("GPTNeoX parallel", 1e-10),
        ("GPTNeoX sequential", 1e-10),
        ("Llama", 3e-6),
        ("Qwen2", 3e-6),
        ("Gemma2", 3e-6),
        ("Gemma3", 3e-6),
    ],
)
@pytest.mark.parametrize("options", [{"skip": True}, {"across": True}])
def test_rows_equal_autograd_through_a_frozen_model(name, tolerance, options, softmax_in_64_bits):
    """RMSNorm computes in 32 bits whatever it is given, so those families can agree no better."""
    coders = double(random_coders(**options))
    model = load(plain_twin(name).double(), tokenizer=tiny_tokenizer())
    run = freeze_run(model, model.tokens_of([prompt_ids()]))
    targets = [*token_targets(model, run, [5, 9]), feature_target(run, coders, 1, 3, pos=4)]
    graph = explain(run, coders, targets)
    twin = FrozenTwin(name, plain_twin(name).double(), coders).run(prompt_ids())
    features = graph.features.tolist()
    asked = [(None, 8, 5), (None, 8, 9), (1, 4, 3), *((layer, pos, one) for layer, pos, one in features[::7])]
    rows = [len(features), len(features) + 1, len(features) + 2, *range(0, len(features), 7)]
    slices, depth, length = graph.columns.slices, 2, len(run.ids)
    for place, row in zip(asked, rows, strict=True):
        shares, value = twin.row(*place)
        edges = graph.edges[row]
        expected = torch.stack([shares["feature", layer][pos, one] for layer, pos, one in features])
        errors = torch.stack([shares["error", layer].sum(-1) for layer in range(depth)])
        firsts = torch.stack([shares["first", layer].sum() for layer in range(depth)])
        found = edges[slices["error"]].view(depth, length)
        assert torch.allclose(edges[slices["feature"]], expected, rtol=0, atol=tolerance)
        assert torch.allclose(found[:, 1:], errors, rtol=0, atol=tolerance)
        assert torch.allclose(edges[slices["first"]], firsts, rtol=0, atol=tolerance)
        assert torch.allclose(edges[slices["token"]], shares["token", None][0].sum(-1), rtol=0, atol=tolerance)
        if name == "GPT2":
            learned = shares["position", None].reshape(length, -1).sum(-1)
            assert torch.allclose(edges[slices["position"]], learned, rtol=0, atol=tolerance)
        assert float(graph.values[row]) == pytest.approx(value, abs=tolerance * 10)


@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "GPTNeoX parallel"])
def test_the_numbers_do_not_depend_on_how_many_rows_go_at_once(name):
    whole = graph_of(name, skip=True)
    for rows in (1, 7, 64):
        assert torch.allclose(graph_of(name, skip=True, rows_at_once=rows).edges, whole.edges, atol=1e-6)


def test_edges_lead_up_the_layers_and_never_back_in_time():
    graph = graph_of("Gemma2", skip=True)
    layers, positions = graph.features[:, 0], graph.features[:, 1]
    among = graph.edges[: len(layers), : len(layers)] != 0
    assert among.any()
    assert not among[layers[:, None] <= layers].any()
    assert not among[positions[:, None] < positions].any()


def test_a_coder_that_is_scaled_otherwise_gives_the_same_graph():
    run, coders = frozen("Llama"), random_coders()
    factors = torch.linspace(0.5, 4.0, 24)
    scaled = Transcoders("scaled", {layer: one.rescaled(factors) for layer, one in coders.items()})
    targets = top_logits(small_model("Llama"), run)
    first, second = (explain(run, one, targets) for one in (coders, scaled))
    own = factors[first.features[:, 2]]  # a feature's row is in units of its own activation
    assert torch.allclose(first.edges[: len(own)] * own[:, None], second.edges[: len(own)], atol=1e-5)
    assert torch.allclose(first.edges[len(own) :], second.edges[len(own) :], atol=1e-5)


def test_all_kinds_of_target_add_up():
    model, run, coders = small_model("Gemma2"), frozen("Gemma2"), random_coders()
    row = torch.randn(model.shape.d_model, generator=torch.Generator().manual_seed(1))
    targets = [
        *token_targets(model, run, [5], pos=3),
        difference_target(model, run, 5, 6),
        direction_target(run, "noise", row, pos=-2),
        feature_target(run, coders, 0, 7),
        feature_target(run, coders, 1, 7, pos=0),
    ]
    graph = explain(run, coders, targets)
    assert graph.missing().max() < 1e-5
    account = graph.account()
    assert [one["target"] for one in account] == [target.name for target in targets]
    assert all(one["sum"] == pytest.approx(one["value"], abs=1e-4) for one in account)


def test_top_logits_are_the_likeliest_until_their_mass_is_reached():
    model, run = small_model("GPT2"), frozen("GPT2")
    probabilities = model.forward(model.tokens_of([list(run.ids)]).ids)[0, -1].softmax(-1)
    few = top_logits(model, run, mass=0.3, most=100)
    assert [one.token for one in few] == probabilities.argsort(descending=True)[: len(few)].tolist()
    assert sum(one.weight for one in few) >= 0.3 > sum(one.weight for one in few[:-1])
    assert len(top_logits(model, run, mass=1.0, most=3)) == 3


def test_the_first_position_can_have_nodes_like_any_other():
    graph = graph_of("Llama", keep_first=False, skip=True)
    assert (graph.features[:, 1] == 0).any()
    assert not graph.edges[:, graph.columns.slices["first"]].any()
    assert graph.missing().max() < 1e-5


def test_mistakes_are_refused():
    model, run, coders = small_model("GPT2"), frozen("GPT2"), random_coders()
    with pytest.raises(ValueError, match="no target was named"):
        explain(run, coders, [])
    with pytest.raises(ValueError, match="needs two tokens, found 5 twice"):
        difference_target(model, run, 5, 5)
    with pytest.raises(ValueError, match=r"feature 99 of layer 0: its coder has 24 features"):
        feature_target(run, coders, 0, 99)
    with pytest.raises(ValueError, match=r"position 40 was asked for, but the prompt has 9 tokens"):
        top_logits(model, run, pos=40)
    with pytest.raises(ValueError, match="one prompt, found 2"):
        freeze_run(model, model.tokens_of([[5, 6], [7, 8]]))
    wide = random_coders(d_model=16)
    with pytest.raises(ValueError, match="takes 16 numbers to 16, but the model has 2 layers of width 32"):
        explain(run, wide, top_logits(model, run))
    sae = Transcoder(0, torch.ones(2, 32), torch.zeros(2), torch.ones(2, 32), torch.zeros(32), read="mlp_out")
    with pytest.raises(ValueError, match="goes from mlp_out to mlp_out"):
        explain(run, Transcoders("sae", {0: sae}), top_logits(model, run))
