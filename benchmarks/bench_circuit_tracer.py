"""Attribution graphs beside circuit-tracer 0.5: the same model, transcoders and prompt, one thread each.

  benchmarks/circuit_tracer_environment.sh out/circuit-tracer
  python benchmarks/bench_circuit_tracer.py tiny           # random, 6 layers of width 256, 24 tokens
  python benchmarks/bench_circuit_tracer.py gemma-3-270m   # or a folder with it, 18 tokens
  python benchmarks/bench_circuit_tracer.py golden         # writes circuit-tracer's graph for the tests

CIRCUIT_TRACER names the folder of its environment where that is another one.

Each side runs in a process of its own, so that its CPU seconds and its largest memory are its own. The transcoders are
random, and the threshold of each layer stands in the widest gap between two pre-activations near the wanted number of
active features, so that rounding decides nothing. Wanted: adjacency within 1e-5 (relative Frobenius), the same nodes
and edges kept, the same scores; at most 1/2.5 of the seconds and 1/3 of the memory on Gemma, 1/6 of the seconds on
the small one.

Measured last (AMD EPYC, one thread of a busy machine): on Gemma 5.0 CPU seconds against 18.7 (3.8 times fewer), 2.24
GB against 8.24 (3.7 times less), pruning 0.05 s against 0.30; on the small one 0.47 to 0.51 CPU seconds against 4.4 to
4.6 (8.7 to 9.6 times fewer), pruning 0.06 s against 0.20 to 0.23. Adjacency within 6e-7, everything else the same.
Loading is counted by itself: 17 s against 23 s on Gemma, 5 s against 4 s on the small one.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from memory import largest_memory
from safetensors.torch import load_file, save_file

from workbench.circuits.frozen import FrozenRun, freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.pruning import prune, score
from workbench.circuits.targets import top_logits
from workbench.coders import Transcoder, Transcoders, load_coders, save_circuit_tracer
from workbench.model import Model, load

PYTHON = Path(os.environ.get("CIRCUIT_TRACER", "out/circuit-tracer")) / "bin" / "python"
HERE = Path(__file__).parent
GOLDEN = HERE.parent / "tests" / "golden" / "circuit_tracer.safetensors"
THRESHOLDS = 0.8, 0.98
PROMPT = "The lighthouse keeper counted every ship that passed in the long night, and wrote their"


@dataclass(frozen=True)
class Size:
    """A comparison: a random GPT-2 of some shape (or a real model), its prompt, its coders, and what is wanted."""

    shape: dict[str, int]
    tokens: int
    width: int
    active: int
    batch: int
    faster: float
    smaller: float


SIZES = {
    "tiny": Size({"n_layer": 6, "n_embd": 256, "n_head": 8, "vocab_size": 400}, 23, 1024, 17, 128, 6.0, 1.0),
    "golden": Size({"n_layer": 3, "n_embd": 32, "n_head": 4, "vocab_size": 60}, 9, 48, 9, 128, 0.0, 0.0),
    "real": Size({}, 0, 4096, 9, 64, 2.5, 3.0),
}


def size_of(name: str) -> Size:
    """The comparison of a name; any other name is that of a real model."""
    return SIZES.get(name, SIZES["real"])


def random_gpt2(folder: Path, shape: dict[str, int]) -> Path:
    """A random GPT-2, with a tokenizer of as many words as it has tokens."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<bos>", *(f"w{number}" for number in range(2, shape["vocab_size"]))]
    built = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<pad>"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=built, pad_token="<pad>", bos_token="<bos>")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        **shape, n_positions=64, bos_token_id=1, eos_token_id=1, initializer_range=1.3 / shape["n_embd"] ** 0.5
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_coders(run: FrozenRun, width: int, active: int) -> Transcoders:
    """Seeded JumpReLU transcoders with about so many active features at each position of each layer."""
    generator = torch.Generator().manual_seed(1)
    d_model, layers = run.stream.shape[1], {}
    for layer, frozen in enumerate(run.layers):
        w_enc, w_dec = (torch.randn(width, d_model, generator=generator) / d_model**0.5 for _ in range(2))
        b_enc, b_dec = (0.1 * torch.randn(size, generator=generator) for size in (width, d_model))
        ranked = (frozen.mlp_in[1:] @ w_enc.T + b_enc).flatten().sort(descending=True).values
        near = ranked[(count := active * (len(frozen.mlp_in) - 1)) - count // 10 : count + count // 10]
        gap = int((near[:-1] - near[1:]).argmax())
        threshold = torch.full((width,), float(near[gap : gap + 2].mean()))
        layers[layer] = Transcoder(layer, w_enc, b_enc, w_dec, b_dec, activation="jumprelu", threshold=threshold)
    return Transcoders("random", layers)


def prepare(name: str, work: Path) -> None:
    """Write what both sides read."""
    size = size_of(name)
    folder = random_gpt2(work / "model", size.shape) if size.shape else model_folder(name)
    model = load(str(folder))
    words = size.shape.get("vocab_size", 0) - 10
    text = " ".join(f"w{7 * place % words + 5}" for place in range(size.tokens)) or PROMPT
    run = freeze_run(model, model.tokens(text))
    save_circuit_tracer(random_coders(run, size.width, size.active), work / "coders")
    about = {"model": str(folder.resolve()), "name": "" if size.shape else "google/gemma-3-270m"}
    about |= {"ids": list(run.ids), "layers": len(run.layers), "batch": size.batch}
    about |= dict(zip(("node_threshold", "edge_threshold"), THRESHOLDS, strict=True))
    (work / "about.json").write_text(json.dumps(about))


def model_folder(name: str) -> Path:
    """Where the weights of a model lie."""
    from workbench.sources import find_source

    return Path(name) if Path(name).is_dir() else Path(find_source(name).place)


def ours(work: Path) -> None:
    """Our side, in a process of its own."""
    torch.set_num_threads(1)
    about = json.loads((work / "about.json").read_text())
    model = load(about["model"])
    coders = load_coders(work / "coders")
    built, start = time.process_time(), time.perf_counter()
    graph = make_graph(model, coders, about["ids"])
    seconds, wall = time.process_time() - built, time.perf_counter() - start
    peak = largest_memory()
    begun = time.process_time()
    pruned, scores = prune(graph, *THRESHOLDS), score(graph)
    pruning = time.process_time() - begun
    tensors = {
        "adjacency": graph.square(),
        "features": graph.features,
        "activations": graph.activations,
        "tokens": torch.tensor([target.token for target in graph.targets]),
        "probabilities": graph.weights,
        "nodes": pruned.nodes,
        "edges": pruned.edges,
        "cumulative": pruned.cumulative,
    }
    save_file({name: value.contiguous() for name, value in tensors.items()}, work / "ours.safetensors")
    told = {"built": built, "seconds": seconds, "wall": wall, "peak": peak, "pruning": pruning}
    told |= {"replacement": scores.replacement, "completeness": scores.completeness}
    told |= {"missing": float(graph.missing().max())}
    (work / "ours.json").write_text(json.dumps(told, indent=1))


def make_graph(model: Model, coders: Transcoders, ids: list[int]) -> Any:
    """The whole graph of a prompt."""
    run = freeze_run(model, model.tokens_of([ids]))
    return explain(run, coders, top_logits(model, run))


def pack(work: Path, file: Path) -> None:
    """Model, coders and circuit-tracer's graph of them in one file, for the tests."""
    tensors = {f"graph/{name}": value for name, value in load_file(work / "theirs.safetensors").items()}
    tensors |= {f"model/{name}": value for name, value in load_file(work / "model" / "model.safetensors").items()}
    for coder in sorted((work / "coders").glob("layer_*.safetensors")):
        tensors |= {f"coders/{coder.name}/{name}": value for name, value in load_file(coder).items()}
    config = (work / "coders" / "config.yaml").read_text()
    about = json.loads((work / "about.json").read_text())
    del about["model"]
    notes = {"about": json.dumps(about), "theirs": (work / "theirs.json").read_text()}
    notes |= {
        "coders": config,
        "model": (work / "model" / "config.json").read_text(),
        "made_by": "circuit-tracer 0.5.0",
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, notes)
    file.chmod(0o644)
    print(f"  {file}: {file.stat().st_size / 1e3:.0f} kB")


def compare(work: Path, size: Size) -> bool:
    """Print both sides; returns whether they are the same and every goal is met."""
    mine, peer = (load_file(work / f"{side}.safetensors") for side in ("ours", "theirs"))
    told, theirs = (json.loads((work / f"{side}.json").read_text()) for side in ("ours", "theirs"))
    same = {name: torch.equal(mine[name], peer[name].to(mine[name])) for name in ("features", "tokens", "nodes")}
    count, nodes = len(mine["features"]), len(mine["adjacency"])
    print(f"  {count} active features, {nodes} nodes; missing from a row of ours at most {told['missing']:.1e}")
    if not all(same[name] for name in ("features", "tokens")):
        print(f"  NOT the same nodes: {len(peer['features'])} features there")
        return False
    off = float((mine["adjacency"] - peer["adjacency"]).norm() / peer["adjacency"].norm())
    drawn = peer["edges"] & (peer["adjacency"] != 0) & peer["nodes"][:, None] & peer["nodes"]
    same["edges"] = torch.equal(mine["edges"], drawn)
    print(f"  adjacency: relative Frobenius {off:.1e}; the same after pruning: {same}")
    gaps = [abs(told[name] - theirs[name]) for name in ("replacement", "completeness")]
    print(f"  replacement {told['replacement']:.4f}, completeness {told['completeness']:.4f}: off by {max(gaps):.1e}")
    print(f"  {'':<28}{'workbench':>12}{'circuit-tracer':>16}{'ratio':>9}")
    ratios = {}
    for name, label, unit in (
        ("built", "CPU s to load and build", 1),
        ("seconds", "CPU s of the graph", 1),
        ("wall", "seconds of the graph", 1),
        ("pruning", "CPU s to prune and score", 1),
        ("peak", "largest memory, GB", 1e9),
    ):
        ratios[name] = theirs[name] / told[name]
        print(f"  {label:<28}{told[name] / unit:>12.2f}{theirs[name] / unit:>16.2f}{ratios[name]:>8.1f}x")
    fast, small = ratios["seconds"] >= size.faster, ratios["peak"] >= size.smaller
    print(f"  goals: {size.faster} x the speed {'met' if fast else 'MISSED'}, ", end="")
    print(f"{size.smaller} x less memory {'met' if small else 'MISSED'}")
    return fast and small and off <= 1e-5 and all(same.values()) and max(gaps) <= 1e-5


def main(name: str) -> int:
    if not PYTHON.is_file():
        print(f"circuit-tracer is not here: benchmarks/circuit_tracer_environment.sh makes {PYTHON.parents[1]},")
        print("or CIRCUIT_TRACER names the folder of its environment")
        return 0
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with TemporaryDirectory() as temporary:
        work = Path(os.environ.get("BENCH_KEEP", temporary))
        work.mkdir(parents=True, exist_ok=True)
        prepare(name, work)
        print(f"{name}: prepared")
        for command in ([sys.executable, __file__, "ours"], [str(PYTHON), str(HERE / "circuit_tracer_peer.py")]):
            subprocess.run([*command, str(work)], check=True, env=quiet)
        if name == "golden":
            pack(work, GOLDEN)
        return 0 if compare(work, size_of(name)) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        ours(Path(sys.argv[2]))
    else:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "tiny"))
