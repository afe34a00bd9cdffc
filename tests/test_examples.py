"""The examples that ship: whole, small, and read without torch; and how they are made."""

import json
import subprocess
import sys

import pytest
from toys import WORD_COUNT, Toy, toy_package

from workbench import examples as shipped
from workbench import tour as touring
from workbench.catalog import CATALOG
from workbench.examples import FIRST, INDEX_FILE, LARGEST, example, example_runs, is_example, make_examples
from workbench.prompts import data_folder
from workbench.result import Result


@pytest.fixture
def toys(tmp_path, monkeypatch):
    with toy_package(tmp_path, monkeypatch) as catalog:
        (catalog.folder / "word_count.py").write_text(WORD_COUNT)
        monkeypatch.setattr(touring, "CATALOG", catalog)
        monkeypatch.setattr(shipped, "data_folder", lambda: tmp_path)
        yield tmp_path / "examples"


def test_the_shipped_examples_are_whole_and_small_and_every_check_passes():
    runs = example_runs()
    assert [run.analysis for run in runs[: len(FIRST)]] == list(FIRST)
    for run in runs:
        assert is_example(run.id)
        assert run.analysis in CATALOG
        result = example(run.id)
        assert (result.analysis, result.finding, result.model["name"]) == (run.analysis, run.finding, run.model_name)
        assert result.passed and result.views
    files = [file for file in (data_folder() / "examples").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < LARGEST
    assert len(files) == 2 * len(runs) + 1, "a folder lies there that the index does not name"


def test_reading_the_examples_imports_no_torch():
    program = (
        "import sys; from workbench.examples import example, example_runs; "
        "[example(run.id) for run in example_runs()]; print('torch' in sys.modules, len(example_runs()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(example_runs()))]


def test_examples_are_made_from_the_tour_and_read_back_by_their_name(toys):
    made = list(make_examples(Toy(), toys))
    assert [run.id for run in made] == ["example-word_count"]
    assert example_runs() == made
    assert example("example-word_count") == Result.load(toys / "word_count")
    assert example("example-word_count").params["unit"] == "letters", "the knobs of the tour"


def test_an_example_that_is_not_there_is_named_with_those_that_are(toys):
    list(make_examples(Toy(), toys))
    with pytest.raises(KeyError, match="no example 'example-x': the examples are example-word_count"):
        example("example-x")


def test_a_failed_check_and_too_many_bytes_leave_the_list_as_it_was(toys, monkeypatch):
    list(make_examples(Toy(), toys))
    before = json.loads((toys / INDEX_FILE).read_text())
    monkeypatch.setattr(shipped, "LARGEST", 10)
    with pytest.raises(ValueError, match="and 10 are allowed"):
        list(make_examples(Toy(), toys))
    monkeypatch.setattr(Result, "passed", False)
    with pytest.raises(ValueError, match="the example of word_count failed its check"):
        list(make_examples(Toy(), toys))
    assert json.loads((toys / INDEX_FILE).read_text()) == before
