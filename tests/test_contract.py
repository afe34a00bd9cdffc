"""The rules that hold for every analysis and every file, so that the tree stays as small as it looks."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

import workbench
from workbench.catalog import CATALOG
from workbench.entry import PLACES
from workbench.knobs import TYPES
from workbench.result import Result
from workbench.signature import read_entry
from workbench.tour import tour_inputs, tour_prompts

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "workbench").rglob("*.py"), *(ROOT / "apps").rglob("*.py")])
LONGEST_FILE, LONGEST_ANALYSIS, LONGEST_FUNCTION = 300, 250, 60
PARAGRAPHS = ("Idea.", "Score.", "Differs from the paper.", "Beware.", "Reference:")

each_analysis = pytest.mark.parametrize("name", CATALOG)
each_source = pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))


@each_analysis
def test_file_package_line_test_and_changelog_agree(name):
    line = f"from workbench.analyses.{name} import {name} as {name}"
    assert line in (ROOT / "workbench/analyses/__init__.py").read_text(encoding="utf-8").splitlines()
    assert (ROOT / f"tests/analyses/test_{name}.py").is_file()
    assert f"`{name}`" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@each_analysis
def test_docstrings_say_what_a_reader_needs(name):
    entry = CATALOG[name]
    first, _, rest = entry.about.partition("\n")
    assert re.fullmatch(rf"{re.escape(entry.title)}: .+\.", first), "the module says `<Title>: <what it finds>.`"
    for paragraph in PARAGRAPHS:
        assert re.search(rf"^{re.escape(paragraph)}\s+\S", rest, re.MULTILINE), f"{paragraph} is missing"
    assert entry.summary.endswith(".")
    assert entry.returns
    undocumented = [one.name for one in (*entry.inputs, *entry.knobs) if not one.doc]
    assert undocumented == []


@each_analysis
def test_the_entry_read_from_the_source_is_the_signature_at_runtime(name):
    entry, function = CATALOG[name], CATALOG[name].function
    parameters = list(inspect.signature(function).parameters.values())
    takes = [one for one in parameters if one.kind is not one.KEYWORD_ONLY]
    knobs = [one for one in parameters if one.kind is one.KEYWORD_ONLY]
    assert [one.name for one in takes] == ["model", *(one.name for one in entry.inputs)]
    assert [one.annotation.__name__ for one in takes] == ["Model", *(one.type for one in entry.inputs)]
    assert [(one.name, one.default) for one in knobs] == [(knob.name, knob.default) for knob in entry.knobs]
    assert [_type_words(one.annotation) for one in knobs] == [(knob.type, knob.choices) for knob in entry.knobs]
    assert {knob.type for knob in entry.knobs} <= set(TYPES)
    assert inspect.signature(function).return_annotation is Result
    assert inspect.getdoc(function).startswith(entry.summary)


@each_analysis
def test_a_knob_that_names_files_counts_them_in_the_key_of_a_run(name):
    naming = {knob.name for knob in CATALOG[name].knobs if re.search(r"\bfolder\b|named as for load", knob.doc)}
    assert naming <= set(PLACES)


def _type_words(annotation) -> tuple[str, tuple]:
    if get_origin(annotation) is Literal:
        return "Literal", get_args(annotation)
    return (
        annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else _spelt(annotation)
    ), ()


def _spelt(annotation) -> str:
    return repr(annotation).replace("workbench.words.", "")


@pytest.fixture(scope="module")
def subject():
    """The planted model that shows everything."""
    return workbench.load("planted:tour")


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.tour is not None])
def test_a_run_repeats_itself_leaves_the_model_alone_and_survives_the_disk(name, subject, tmp_path):
    entry = CATALOG[name]
    inputs = tour_inputs(entry)
    before = [parameter.clone() for parameter in subject.bridge.original_model.parameters()]
    first = workbench.run(name, subject, *inputs, **entry.tour)
    hooks = _count_hooks(subject)
    second = workbench.run(name, subject, *inputs, **entry.tour)
    assert first.arrays == second.arrays
    assert first.tables == second.tables
    assert _count_hooks(subject) == hooks
    after = subject.bridge.original_model.parameters()
    assert all(old.equal(new) for old, new in zip(before, after, strict=True))
    assert first.passed, [check for check in first.checks if not check.passed]
    assert first.finding
    assert first.views
    assert first.checks
    loaded = Result.load(first.save(tmp_path / name))
    assert loaded == first
    for index in range(len(first.views)):
        assert loaded.figure(index).to_json() == first.figure(index).to_json()


def _count_hooks(model) -> int:
    return sum(len(module._forward_hooks) for module in model.bridge.modules())


@each_source
def test_no_file_and_no_function_grows_too_long(file):
    text = file.read_text(encoding="utf-8")
    limit = LONGEST_ANALYSIS if "analyses" in file.parts else LONGEST_FILE
    assert len(text.splitlines()) <= limit
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    too_long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno >= LONGEST_FUNCTION}
    assert too_long == {}


@each_source
def test_no_room_has_a_name_that_says_nothing(file):
    assert file.stem not in ("utils", "helpers", "common", "base", "misc")


@pytest.mark.parametrize("name", workbench.__all__)
def test_every_public_name_exists(name):
    assert getattr(workbench, name).__doc__


def test_an_unknown_public_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="workbench has no 'tracing': the public names are"):
        workbench.tracing  # noqa: B018


def test_the_template_for_a_new_analysis_is_an_analysis(subject, tmp_path):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    template = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    file = tmp_path / "loudest_head.py"
    file.write_text(template, encoding="utf-8")
    entry = read_entry(file, "workbench.analyses")
    assert [one.type for one in entry.inputs] == ["Prompts"]
    assert all(paragraph in entry.about for paragraph in PARAGRAPHS)
    assert all(knob.doc for knob in entry.knobs)
    spec = importlib.util.spec_from_file_location("loudest_head", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = module.loudest_head(subject, tour_prompts())
    assert result.named("loudness").values.shape == (subject.shape.n_layers, subject.shape.n_heads)
    assert result.named("loudness").values.min() >= 0
    assert "is the loudest" in result.finding
