"""Neuron vocabulary of a whole model against its bare matrix products, and against a full sort of a sample.

The bare products are those of every row with the unembedding, tile by tile, with nothing looked at. They run
for every other layer before the analysis and for the rest after it, so that a busy machine slows both.

The same at the shapes of Llama 3.1 8B, on paper: 458,752 neurons x 128,256 tokens x 4,096 numbers are 4.8e14
operations in 32 bits, 39 times those of Gemma 3 270M; beside the weights one layer's rows (235 MB), the
covariance (134 MB), a tile (8 MB) and the results (80 MB) are held. The seconds are told from the speed of
the bare products of this run.
"""

import sys
import time
from pathlib import Path

import torch
from memory import largest_memory

from workbench.analyses.neuron_vocabulary import neuron_vocabulary
from workbench.knobs import Knob
from workbench.model import Model, load
from workbench.neurons import neuron_rows
from workbench.vocabulary import Vocabulary

SAMPLED = 500
TOP = 10
LLAMA = 2 * 458_752 * 128_256 * 4_096


def bare(model: Model, vocabulary: Vocabulary, layers: tuple[int, ...]) -> float:
    """Seconds of the products alone."""
    start = time.perf_counter()
    for layer in layers:
        for _ in vocabulary.tiles(neuron_rows(model, layer, "read", "none")):
            pass
    return time.perf_counter() - start


def sorted_ids(vocabulary: Vocabulary, rows: torch.Tensor) -> torch.Tensor:
    """The top tokens by a sort of all scores."""
    found = []
    for part in rows.split(50):
        scores = torch.cat([part @ block.T for _, block in vocabulary.blocks()], dim=1)
        found.append(vocabulary.ids[scores.sort(dim=1, descending=True, stable=True).indices[:, :TOP]])
    return torch.cat(found)


def forget_peak() -> None:
    """Start to measure the most memory anew, where the system allows it (Linux)."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


def main(name: str, layers: tuple[int, ...]) -> None:
    model = load(name)
    layers = layers or tuple(range(model.shape.n_layers))
    weights = sum(one.numel() * one.element_size() for one in model.bridge.original_model.parameters())
    vocabulary = Vocabulary.of(model)
    products = bare(model, vocabulary, layers[::2])
    forget_peak()
    start = time.perf_counter()
    result = neuron_vocabulary(model, layers=layers, top=TOP)
    whole = time.perf_counter() - start
    peak = largest_memory()
    products += bare(model, vocabulary, layers[1::2])
    count, threads = len(layers) * model.shape.d_mlp, torch.get_num_threads()
    speed = 2 * count * len(vocabulary.ids) * model.shape.d_model / products
    print(f"{model.name}: {count:,} neurons x {len(vocabulary.ids):,} tokens, {threads} threads")
    print(
        f"  bare products {products:.1f} s ({speed / 1e9:.0f} GFLOP/s), analysis with its null {whole:.1f} s: ", end=""
    )
    print(f"{whole / products:.2f} x")
    beside = (peak - weights) / 1e9
    print(f"  peak memory {peak / 1e9:.2f} GB, weights {weights / 1e9:.2f} GB: {beside:.2f} GB beside them")
    generator = torch.Generator().manual_seed(0)
    sample = torch.randperm(count, generator=generator)[:SAMPLED]
    rows = [
        neuron_rows(model, layers[one // model.shape.d_mlp], "read", "none")[one % model.shape.d_mlp] for one in sample
    ]
    expected = sorted_ids(vocabulary, torch.stack(rows).detach().float())
    streamed = torch.tensor(result.named("promoted").values.reshape(count, -1))[sample]
    same = int((streamed == expected.cpu()).all(1).sum())
    print(f"  top {TOP} ids equal to a full sort: {same} of {len(sample)} neurons; all self-checks: {result.passed}")
    print(f"  {result.finding}")
    print(f"  at the shapes of Llama 3.1 8B the products would take {LLAMA / speed / 60:.0f} minutes at this speed")


if __name__ == "__main__":
    chosen = Knob("layers", "tuple[int, ...]", ()).parse(sys.argv[2]) if len(sys.argv) > 2 else ()
    main(sys.argv[1] if len(sys.argv) > 1 else "gemma-3-270m", chosen)
