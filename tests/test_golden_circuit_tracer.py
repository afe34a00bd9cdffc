"""A graph that circuit-tracer 0.5 made of a small GPT-2 with random transcoders: ours is the same graph.

`benchmarks/bench_circuit_tracer.py golden` wrote it, with the model and the transcoders in the same file.
"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from architectures import tiny_tokenizer
from safetensors import safe_open
from safetensors.torch import save_file

from workbench import load
from workbench.circuits.frozen import freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.pruning import prune, score
from workbench.circuits.targets import top_logits
from workbench.coders import load_coders

FILE = Path(__file__).parent / "golden" / "circuit_tracer.safetensors"


class Golden:
    """Their graph, and ours of the same model, coders and prompt."""

    def __init__(self, folder: Path) -> None:
        with safe_open(FILE, framework="pt") as opened:
            self.notes = {name: str(text) for name, text in opened.metadata().items()}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        self.about, self.told = (json.loads(self.notes[name]) for name in ("about", "theirs"))
        self.graph = {name.split("/")[1]: value for name, value in tensors.items() if name.startswith("graph/")}
        (folder / "config.yaml").write_text(self.notes["coders"])
        for layer in range(self.about["layers"]):
            start = f"coders/layer_{layer}.safetensors/"
            files = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            save_file(files, folder / f"layer_{layer}.safetensors")
        weights = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
        twin = transformers.GPT2LMHeadModel(transformers.GPT2Config(**json.loads(self.notes["model"])))
        missing = twin.load_state_dict(weights, strict=False)
        assert set(missing.missing_keys) <= {"lm_head.weight"} and not missing.unexpected_keys
        twin.tie_weights()
        model = load(twin.eval(), tokenizer=tiny_tokenizer(twin.config.vocab_size))
        run = freeze_run(model, model.tokens_of([self.about["ids"]]))
        self.ours = explain(run, load_coders(folder), top_logits(model, run))


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Golden:
    return Golden(tmp_path_factory.mktemp("coders"))


def test_the_same_features_are_active_and_the_same_logits_are_explained(golden: Golden) -> None:
    assert torch.equal(golden.ours.features, golden.graph["features"].long())
    assert [target.token for target in golden.ours.targets] == golden.graph["tokens"].tolist()
    torch.testing.assert_close(golden.ours.activations, golden.graph["activations"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(golden.ours.weights, golden.graph["probabilities"], rtol=1e-5, atol=1e-7)


def test_the_adjacency_is_the_same_edge_by_edge(golden: Golden) -> None:
    ours, theirs = golden.ours.square(), golden.graph["adjacency"]
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm() / theirs.norm()) <= 1e-5
    assert float((ours - theirs).abs().max() / theirs.abs().max()) <= 1e-5
    assert len(golden.ours.features) > 200, "a graph with something in it"


def test_pruning_keeps_the_same_nodes_and_edges(golden: Golden) -> None:
    ours = prune(golden.ours, golden.about["node_threshold"], golden.about["edge_threshold"])
    nodes, adjacency = golden.graph["nodes"], golden.graph["adjacency"]
    drawn = golden.graph["edges"] & (adjacency != 0) & nodes[:, None] & nodes
    assert torch.equal(ours.nodes, nodes)
    assert torch.equal(ours.edges, drawn)
    assert 0 < int(ours.nodes.sum()) < len(nodes)
    torch.testing.assert_close(ours.cumulative, golden.graph["cumulative"], rtol=1e-4, atol=1e-5)


def test_the_scores_are_the_same(golden: Golden) -> None:
    ours = score(golden.ours)
    assert ours.replacement == pytest.approx(golden.told["replacement"], abs=1e-5)
    assert ours.completeness == pytest.approx(golden.told["completeness"], abs=1e-5)


def test_our_rows_add_up_where_theirs_do_not(golden: Golden) -> None:
    """Biases, positions and the outputs at the first position have no node in theirs."""
    assert float(golden.ours.missing().max()) <= 1e-5
    theirs = torch.cat([golden.graph["adjacency"][: len(golden.ours.features)].sum(1)])
    values = golden.ours.values[: len(theirs)]
    assert float((theirs - values).abs().mean()) > 0.1 * float(values.abs().mean())


def test_the_file_is_small_and_says_who_made_it(golden: Golden) -> None:
    assert FILE.stat().st_size < 1_000_000
    assert golden.notes["made_by"] == "circuit-tracer 0.5.0"
