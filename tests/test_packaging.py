"""The wheel holds all that the workbench needs besides its code, and an installed copy finds it there."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
ASK = """
import json
from workbench.prompts import Needles, Prompts, data_folder
from workbench.serving import dashboard_script
from workbench.sources import checkpoints, find_source, known_names
models = [name for name in known_names() if name.startswith("world")]
print(json.dumps({
    "data": str(data_folder()),
    "script": str(dashboard_script()),
    "needles": len(Needles.bundled()),
    "capitals": len(Prompts.read("capitals")),
    "places": {name: find_source(name).place for name in models},
    "checkpoints": {name: list(checkpoints(name)) for name in models},
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is unpacked into, as an installation does it."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def data_files() -> set[str]:
    """Every file of the data that belongs to the project, as it is named in the wheel."""
    files = [file.relative_to(DATA) for file in DATA.rglob("*") if file.is_file()]
    return {f"workbench/data/{file.as_posix()}" for file in files if "progress" not in file.parts}


def test_every_data_file_is_in_the_wheel_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.startswith("workbench/data/")} == data_files()
    assert {"workbench/report.html.jinja", "apps/.streamlit/config.toml"} <= names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"workbench", "apps"}


def test_the_data_are_the_bytes_of_the_checkout(installed):
    changed = [
        name
        for name in data_files()
        if (installed / name).read_bytes() != (DATA / name.removeprefix("workbench/data/")).read_bytes()
    ]
    assert changed == []


def test_an_installed_copy_finds_its_own_data(installed, tmp_path):
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr
    found = json.loads(asked.stdout)
    inside = installed / "workbench" / "data"
    assert found["data"] == str(inside)
    assert found["script"] == str(installed / "apps" / "dashboard.py")
    assert found["needles"] >= 10
    assert found["capitals"] >= 100
    assert found["places"] == {name: str(inside / "models" / name) for name in found["places"]}
    bundled = {folder.name for folder in DATA.glob("models/world*") if (folder / "config.json").is_file()}
    assert set(found["places"]) == bundled
    if "world-history" in bundled:
        assert len(found["checkpoints"]["world-history"]) >= 12
