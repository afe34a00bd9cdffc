"""The doctor names what is missing, what does not fit, and what is in the way."""

import importlib.metadata
import json

import pytest

from workbench import doctor
from workbench.__main__ import answer
from workbench.doctor import examine


@pytest.fixture
def versions(monkeypatch):
    """Pretend that distributions have other versions; None pretends that one is missing."""
    pretended, real = {}, importlib.metadata.version

    def version(name):
        if pretended.get(name, "real") is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return pretended.get(name) or real(name)

    requirements = ["torch>=2.6", "transformer-lens<4,>=3.9", "gguf>=0.17; extra == 'gguf'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: requirements)
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    pretended["workbench"] = None
    return pretended


def found(tmp_path) -> dict[str, tuple[str, str]]:
    return {one.name: (one.state, one.text) for one in examine(tmp_path / "store")}


def test_a_fit_machine_is_fine(versions, tmp_path):
    states = found(tmp_path)
    assert {name for name, (state, _) in states.items() if state == "broken"} == set()
    assert {"Python", "torch", "transformer-lens", "cpu", "bundled data", "saved runs", "browser"} <= set(states)
    assert str(tmp_path / "store") in states["saved runs"][1]
    assert "gguf" not in states, "what only an extra needs is not missed"


def test_a_version_that_does_not_fit_is_broken_with_the_remedy(versions, tmp_path):
    versions["transformer-lens"] = "4.0.1"
    state, text = found(tmp_path)["transformer-lens"]
    assert state == "broken"
    assert text == "4.0.1 does not fit: pip install 'transformer-lens<4,>=3.9'"


def test_a_missing_requirement_is_broken(versions, tmp_path):
    versions["torch"] = None
    assert found(tmp_path)["torch"] == ("broken", "is missing: pip install 'torch>=2.6'")


def test_the_other_project_of_this_name_is_a_conflict(versions, tmp_path):
    versions["workbench"] = "0.9"
    state, text = found(tmp_path)["workbench (another project)"]
    assert state == "broken"
    assert "pip uninstall workbench" in text


def test_a_missing_browser_is_doubtful_only(versions, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert found(tmp_path)["browser"][0] == "doubtful"


def test_a_store_that_cannot_be_written_is_broken(versions, tmp_path):
    (tmp_path / "file").write_text("")
    states = {one.name: one for one in examine(tmp_path / "file" / "store")}
    assert states["saved runs"].state == "broken"
    assert "WORKBENCH_HOME" in states["saved runs"].text


def test_the_command_ends_with_1_when_something_is_broken(versions, tmp_path, capsys):
    assert answer(["doctor", "--json", "--store", str(tmp_path)]) == 0
    assert {one["state"] for one in json.loads(capsys.readouterr().out)} <= {"fine", "doubtful"}
    versions["torch"] = "1.0"
    assert answer(["doctor", "--store", str(tmp_path)]) == 1
    assert "1.0 does not fit" in capsys.readouterr().out
