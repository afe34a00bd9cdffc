"""Circuit bundles: what is written is read back, its accounting is made again, and a change is noticed."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from workbench import Prompts, Store, load, run
from workbench.__main__ import answer
from workbench.bundles import bundle, check_bundle
from workbench.circuits.exchange import read_circuit
from workbench.result import Result


@pytest.fixture(scope="module")
def result():
    return run("transcoder_circuit", load("planted:sparse_mlp"), Prompts.of("stone red cat"))


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory):
    return bundle(result, tmp_path_factory.mktemp("bundles") / "circuit", slug="red-cat")


def test_a_bundle_passes_its_checks_and_holds_what_was_found(result, folder):
    assert all(check.passed for check in check_bundle(folder))
    assert Result.load(folder) == result
    assert read_circuit(folder / "circuit.json").metadata["slug"] == "red-cat"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["tokens"]["text"] == ["<bos>", "stone", "red", "cat"]
    assert manifest["model"]["fingerprint"] == result.model["fingerprint"]
    assert [len(row["sha256"]) for row in manifest["coders"]["layers"]] == [64, 64]
    assert manifest["command"].startswith("workbench run transcoder_circuit")
    assert manifest["counts"]["active_features"] == result.scalars["active_features"]
    assert "The logit of" in (folder / "report.html").read_text()


def test_the_stored_graph_alone_adds_up(folder):
    """A second reader: numpy on the file's arrays, without the workbench."""
    held = load_file(folder / "graph.safetensors")
    sums = np.zeros(len(held["values"]))
    np.add.at(sums, held["row"], held["edge"].astype(float))
    assert sums + held["left_out"] == pytest.approx(held["values"], abs=1e-4)
    kept = json.loads((folder / "manifest.json").read_text())["accounting"]
    assert sums[-len(kept) :] == pytest.approx([row["sum"] - row["left_out"] for row in kept], abs=1e-4)


def test_a_zip_is_the_same_bundle_and_the_same_bytes(result, folder, tmp_path):
    first = bundle(result, tmp_path / "a.zip", slug="red-cat")
    assert all(check.passed for check in check_bundle(first))
    with zipfile.ZipFile(first) as archive:
        assert set(archive.namelist()) == {file.name for file in folder.iterdir()}
        assert archive.read("graph.safetensors") == (folder / "graph.safetensors").read_bytes()


def test_a_change_is_noticed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    held = load_file(copy / "graph.safetensors")
    held["edge"][np.abs(held["edge"]).argmax()] *= 1.5
    save_file(held, copy / "graph.safetensors")
    values = {check.name: check.passed for check in check_bundle(copy)}
    assert not any(values.values()), "hash, row sum, accounting and drawn edge all differ"


def test_the_command_bundles_a_saved_run_and_checks_it(result, tmp_path, capsys):
    saved = Store(tmp_path / "store").put(result, "key")
    place, store = tmp_path / "out.zip", str(tmp_path / "store")
    assert answer(["circuit-bundle", saved, "--out", str(place), "--store", store]) == 0
    assert "every row of the stored graph adds up" in capsys.readouterr().out
    assert answer(["check-bundle", str(place)]) == 0
    place.write_bytes(b"no zip")
    assert answer(["check-bundle", str(place)]) == 2
    assert "is no bundle" in capsys.readouterr().err


def test_mistakes_are_refused(folder, tmp_path):
    with pytest.raises(KeyError, match="holds no graph"):
        bundle(Result(), tmp_path / "x")
    with pytest.raises(ValueError, match=r"it has no manifest.json"):
        check_bundle(tmp_path)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "circuit.json").unlink()
    with pytest.raises(ValueError, match=r"lacks circuit.json: the bundle is not whole"):
        check_bundle(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    with pytest.raises(ValueError, match="has schema 99: this workbench reads 1 to 1"):
        check_bundle(copy)
