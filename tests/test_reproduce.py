"""The lines that make a result again really say what the result says of itself."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from pictures import HOSTILE, every_view

from workbench.comparison import compare
from workbench.pairs import Pair, Pairs
from workbench.prompts import Needle, Needles, Prompt, Prompts
from workbench.reproduce import command_line, notebook, python_lines
from workbench.result import Result

PLAIN = Prompts.of("The Eiffel tower", 'it\'s "here" $HOME `ls` \\ --fresh', " two  spaces ")
RICH = Prompts.of(
    Prompt("The tower is in", target=" Paris", distractor=" Rome", meta={"kind": "city"}),
    *(text for text in HOSTILE if "\ud83e" not in text),
)
OWN_NEEDLES = Needles.of([Needle("a", "The code is 7.", "What is the code?", "7")], ["Long prose."])
SITES = ["L1.resid_post", "L2.H0.z@-1"]
PARAMS = {"threshold": 0.1, "layers": (0, 1), "sites": SITES, "exact": True, "word": "a b"}
SHOW = """workbench() { "$PYTHON" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"; }
"""


OWN_PAIRS = Pairs.of(Pair("it's a", "it's b", " \u001b[31m", meta={"n": 1}), Pair('"x" $HOME', "`y`", "é", "e", "kind"))
Given = Prompts | Needles | Pairs


def made_with(prompts: Given) -> Result:
    model = {"name": "my models/it's", "revision": "main", "fingerprint": "f", "dtype": "bfloat16"}
    return replace(every_view(), model=model, inputs={"given": prompts.describe()}, params=PARAMS)


def arguments_of(command: str, folder: Path) -> list[str]:
    """What the shell hands to the program."""
    return json.loads(shown_by(command, folder))


def shown_by(command: str, folder: Path) -> str:
    """What the program shows of its arguments, a line for each time that it is called."""
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("this system has no bash")
    environment = {**os.environ, "PYTHON": sys.executable}
    run = [shell, "-c", SHOW + command]
    return subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "prompts",
    [PLAIN, RICH, Needles.bundled(), OWN_PAIRS, Pairs.bundled(), Pairs.read("sums")],
    ids=["plain", "rich", "needles", "own pairs", "bundled pairs", "sums"],
)
def test_the_python_lines_give_the_same_model_inputs_and_knobs(prompts: Given) -> None:
    result = made_with(prompts)
    called: list[tuple] = []
    names = {
        "load": lambda *given, **options: (given, options),
        "run": lambda *given, **knobs: called.append((given, knobs)),
        "Prompt": Prompt,
        "Prompts": Prompts,
        "Needles": Needles,
        "Pair": Pair,
        "Pairs": Pairs,
    }
    header, code = python_lines(result).split("\n\n", 1)
    exec(code, names)
    (name, model, inputs), knobs = called[0]
    assert name == result.analysis
    assert model == (("my models/it's",), {"revision": "main", "dtype": "bfloat16"})
    assert inputs.describe() == result.inputs["given"]
    assert knobs == result.params
    assert set(header.removeprefix("from workbench import ").split(", ")) <= set(names)


def test_the_command_hands_plain_prompts_to_the_program_unchanged(tmp_path: Path) -> None:
    command = command_line(made_with(PLAIN))
    assert command is not None
    assert arguments_of(command, tmp_path) == [
        "run",
        "retrieval_heads",
        "--model=my models/it's",
        "--revision=main",
        "--dtype=bfloat16",
        *(f"--prompt={prompt.text}" for prompt in PLAIN),
        "--threshold=0.1",
        "--layers=0,1",
        "--sites=L1.resid_post,L2.H0.z@-1",
        "--exact=true",
        "--word=a b",
    ]


def test_targets_and_dangerous_characters_travel_in_a_file(tmp_path: Path) -> None:
    command = command_line(made_with(RICH))
    assert command is not None and command.isascii()
    assert "--prompts=prompts.jsonl" in arguments_of(command, tmp_path)
    assert Prompts.read(tmp_path / "prompts.jsonl") == RICH


def test_pairs_travel_in_a_file_and_bundled_ones_by_their_name(tmp_path: Path) -> None:
    command = command_line(made_with(OWN_PAIRS))
    assert command is not None and command.isascii()
    assert "--given=given.jsonl" in arguments_of(command, tmp_path)
    assert Pairs.read(tmp_path / "given.jsonl") == OWN_PAIRS
    assert "--given=sums" in arguments_of(command_line(made_with(Pairs.read("sums"))) or "", tmp_path)
    assert "given" not in (command_line(made_with(Pairs.bundled())) or "")


def test_bundled_needles_need_no_word_and_others_no_command() -> None:
    command = command_line(made_with(Needles.bundled()))
    assert command is not None and "needles" not in command
    assert command_line(made_with(OWN_NEEDLES)) is None
    assert "# your needles and haystack" in python_lines(made_with(OWN_NEEDLES))


def test_the_notebook_is_valid_and_holds_the_same_lines() -> None:
    result = replace(every_view(), finding=HOSTILE[0])
    made = nbformat.reads(notebook(result), as_version=4)
    nbformat.validate(made)
    assert [cell.source for cell in made.cells if cell.cell_type == "code"] == [python_lines(result), "result"]
    assert (made.cells[0].cell_type, HOSTILE[0] in made.cells[0].source) == ("raw", True)


def test_short_commands_stay_on_one_line() -> None:
    result = Result(analysis="lens", model={"name": "planted:copy"}, params={"top": 3})
    assert command_line(result) == "workbench run lens --model=planted:copy --top=3"
    assert python_lines(result).splitlines()[2:] == [
        "model = load('planted:copy')",
        "result = run('lens', model, top=3)",
    ]


def test_a_comparison_makes_both_of_its_sides_again(tmp_path: Path) -> None:
    first, second = made_with(PLAIN), replace(made_with(Needles.bundled()), model={"name": "planted:copy"})
    compared = compare(first, second)
    header, code = python_lines(compared).split("\n\n", 1)
    called: list[tuple] = []
    names = {
        "load": lambda name, **options: name,
        "run": lambda name, model, given, **knobs: (name, model, given.describe(), knobs),
        "compare": lambda *sides: called.append(sides),
        "Prompts": Prompts,
        "Needles": Needles,
    }
    exec(code, names)
    assert set(header.removeprefix("from workbench import ").split(", ")) <= set(names)
    assert called == [
        tuple((one.analysis, one.model["name"], one.inputs["given"], one.params) for one in (first, second))
    ]
    command = command_line(compared) or ""
    *runs, last = [json.loads(line) for line in shown_by(command, tmp_path).splitlines()]
    assert [words[:2] + words[-1:] for words in runs] == [
        ["run", first.analysis, "--out=first"],
        ["run", second.analysis, "--out=second"],
    ]
    assert last == ["compare", "first", "second"]
    assert command_line(compare(first, made_with(OWN_NEEDLES))) is None
