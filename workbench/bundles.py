"""Circuit bundles: one folder or zip that holds a circuit, its report and its graph, and can be checked again.

    manifest.json        model, coders, prompt, targets, settings, counts, versions, command, sha256 of every file
    report.html          the report, which opens with no network; report.json holds its numbers
    graph.safetensors    the whole graph: signed edges by row and column, values, features, tokens
    circuit.json         the drawn part, as circuit-tracer and Neuronpedia read it
    result.json          with arrays.safetensors the saved result: `Result.load` reads the folder

`check_bundle` reads all of it back: hashes, the accounting from the stored graph, and that the files agree.
"""

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.folders import replace_file, write_folder
from workbench.reports import report
from workbench.reproduce import command_line, python_lines
from workbench.result import Check, Result
from workbench.strict_json import dumps, loads

if TYPE_CHECKING:
    from workbench.circuits.graph import AttributionGraph

SCHEMA_VERSION = 1
MANIFEST, REPORT, GRAPH, CIRCUIT = "manifest.json", "report.html", "graph.safetensors", "circuit.json"
_DATE = (1980, 1, 1, 0, 0, 0)
"""Every file in a zip has this date, so that the same bundle is the same bytes."""


def bundle(result: Result, place: str | Path, further: Sequence[Result] = (), *, slug: str = "circuit") -> Path:
    """Write a result of `transcoder_circuit` as a bundle.

    Args:
        result: the circuit.
        place: a folder, or a file whose name ends in .zip.
        further: results that its report shall show too (checks, ablations, feature cards).
        slug: the name of the circuit in its file, of letters, digits, `-` and `_`.

    Raises:
        KeyError: the result holds no graph.
        ValueError: the slug has other characters, or the folder holds something else.
        OSError: it cannot be written; nothing is left behind.
    """
    from safetensors.numpy import save

    from workbench.circuits.exchange import circuit_of_result
    from workbench.circuits.stored import graph_of_result, sparse_graph

    graph = graph_of_result(result)
    files = {
        **_report([result, *further]),
        **result.files(),
        GRAPH: save(sparse_graph(graph)),
        CIRCUIT: dumps(circuit_of_result(result, slug).to_json(), indent=1).encode(),
    }
    files[MANIFEST] = dumps(_manifest(result, graph, files, further), indent=1).encode()
    target = Path(place)
    if target.suffix == ".zip":
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, _zipped(files))
    else:
        write_folder(target, files)
    return target


def check_bundle(place: str | Path) -> list[Check]:
    """Read a bundle back and check it: its hashes, its accounting from the stored graph, and its files' agreement.

    Raises:
        ValueError: it is no bundle, a file is missing or cannot be read, or it is from a newer workbench.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from workbench.circuits.stored import graph_of_sparse

    files = _files(Path(place))
    manifest = _read_manifest(files, place)
    lost = [name for name in manifest["files"] if name not in files]
    if lost:
        raise ValueError(f"{place} lacks {', '.join(lost)}: the bundle is not whole")
    changed = [name for name, known in manifest["files"].items() if _sha256(files[name]) != known]
    try:
        told = manifest["tokens"]["text"]
        graph = graph_of_sparse(load(files[GRAPH]), manifest["targets"], manifest["model"]["shape"]["n_layers"], told)
        circuit = loads(files[CIRCUIT].decode())
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{place} cannot be read: {error}") from error
    tolerance = 1e-5 if manifest["model"]["dtype"] in ("float32", "float64") else 3e-2
    return [
        Check("files whose sha256 is another than the manifest says", len(changed), 0),
        Check("every row of the stored graph adds up to its value", float(graph.missing().max()), tolerance),
        Check("the accounting that was told is that of the graph", _accounting_gap(graph, manifest), tolerance),
        Check(
            "drawn edges are those of the graph",
            _edge_gap(graph, circuit, manifest["model"]["shape"]["d_vocab"]),
            tolerance,
        ),
    ]


def _report(results: list[Result]) -> dict[str, bytes]:
    """The report's two files."""
    with tempfile.TemporaryDirectory() as folder:
        page = report(results, Path(folder) / REPORT)
        return {file.name: file.read_bytes() for file in (page, page.with_suffix(".json"))}


def _manifest(
    result: Result, graph: "AttributionGraph", files: Mapping[str, bytes], further: Sequence[Result]
) -> dict[str, Any]:
    """All that is needed to make the circuit again, and to see that nothing was changed."""
    counts = ("active_features", "feature_nodes", "drawn_nodes", "drawn_edges")
    return {
        "schema_version": SCHEMA_VERSION,
        "files": {name: _sha256(content) for name, content in files.items()},
        "finding": result.finding,
        "model": {**result.model, "attention": "eager"},
        "coders": {"name": result.scalars["coders"], "layers": result.tables["coders"]},
        "inputs": result.inputs,
        "tokens": {"ids": list(graph.ids), "text": list(graph.text), "bos": result.model.get("prepend_bos")},
        "targets": result.tables["targets"],
        "accounting": result.tables["accounting"],
        "settings": result.params,
        "counts": {name: result.scalars[name] for name in counts},
        "scores": {name: result.scalars[name] for name in ("replacement", "completeness")},
        "verdicts": result.tables.get("verdicts", []),
        "limits": list(result.notes),
        "further": [one.analysis for one in further],
        "made": result.made,
        "command": command_line(result),
        "python": python_lines(result),
    }


def _accounting_gap(graph: "AttributionGraph", manifest: Mapping[str, Any]) -> float:
    """The largest difference of a told part of a target from that of the graph, over the target's largest part."""
    worst = 0.0
    for found, told in zip(graph.account(), manifest["accounting"], strict=True):
        parts = [name for name in told if name not in ("target", "missing")]
        size = max(abs(float(found[name])) for name in parts) or 1.0
        worst = max(worst, *(abs(float(found[name]) - float(told[name])) / size for name in parts))
    return worst


def _edge_gap(graph: "AttributionGraph", circuit: Mapping[str, Any], vocabulary: int) -> float:
    """The largest difference of a drawn edge from the same edge of the graph, over the largest edge."""
    import torch

    from workbench.circuits.exchange import circuit_of
    from workbench.circuits.pruning import Pruned

    square = graph.square()
    count = len(square)
    all_nodes = Pruned(
        torch.ones(count).bool(), torch.zeros(count, count).bool(), torch.zeros(count), torch.zeros(count)
    )
    named = circuit_of(graph, all_nodes, slug="all", scan="", vocabulary=vocabulary).nodes
    places = {node.node_id: place for place, node in enumerate(named)}
    if lost := [link for link in circuit["links"] if not {link["source"], link["target"]} <= set(places)]:
        raise ValueError(f"the link from {lost[0]['source']} to {lost[0]['target']} leads to no node of the graph")
    size = float(square.abs().max()) or 1.0
    gaps = [
        abs(float(square[places[link["target"]], places[link["source"]]]) - link["weight"]) for link in circuit["links"]
    ]
    return max(gaps, default=0.0) / size


def _files(place: Path) -> dict[str, bytes]:
    """The files of a folder or a zip."""
    if place.is_dir():
        return {file.name: file.read_bytes() for file in place.iterdir() if file.is_file()}
    if not place.is_file() or not zipfile.is_zipfile(place):
        raise ValueError(f"{place} is no bundle: give a folder or a zip that workbench circuit-bundle wrote")
    with zipfile.ZipFile(place) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _read_manifest(files: Mapping[str, bytes], place: str | Path) -> dict[str, Any]:
    if MANIFEST not in files:
        raise ValueError(f"{place} is no bundle: it has no {MANIFEST}")
    manifest = loads(files[MANIFEST].decode())
    version = manifest.get("schema_version")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"{place} has schema {version}: this workbench reads 1 to {SCHEMA_VERSION}")
    return manifest


def _zipped(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
