"""Results and named arrays: what they refuse, what they tabulate, and that saving loses nothing."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pictures import HOSTILE, every_view

from workbench.folders import write_folder
from workbench.result import SCHEMA_VERSION, Check, Named, Result
from workbench.strict_json import canonical, dumps, loads, plain

AXES = ("layer", "head", "pos", "key")
DTYPES = ("bool", "int8", "uint16", "int64", "float32", "float64", ">f4", ">i8")
PLAIN = st.floats() | st.integers() | st.booleans() | st.none() | st.text()


def test_an_array_needs_one_known_word_per_dimension() -> None:
    with pytest.raises(ValueError, match=r"1 axes \('layer',\) were given for an array of shape \(2, 3\)"):
        Named(np.zeros((2, 3)), ("layer",))
    with pytest.raises(ValueError, match="axis 'colour' is unknown: allowed are batch, pos"):
        Named(np.zeros(2), ("colour",))
    with pytest.raises(ValueError, match="repeat a word"):
        Named(np.zeros((2, 2)), ("layer", "layer"))
    assert Named(np.zeros((2, 2)), ("source_layer", "target_layer")).size("target_layer") == 2


def test_labels_must_fit_their_axis() -> None:
    with pytest.raises(ValueError, match="axis 'pos' has 2 entries but 1 labels"):
        Named(np.zeros(2), ("pos",), labels={"pos": ("a",)})
    with pytest.raises(ValueError, match="labels were given for axis 'head'"):
        Named(np.zeros(2), ("pos",), labels={"head": ("a", "b")})


@pytest.mark.parametrize("dtype", ["float16", "complex64", "object", "U3"])
def test_half_precision_and_objects_are_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match="cannot be kept: allowed are bool"):
        Named(np.zeros(2).astype(dtype), ("pos",))


def test_values_are_a_read_only_copy() -> None:
    given_values = np.zeros(2)
    named = Named(given_values, ("pos",))
    given_values[0] = 5.0
    assert named.values[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        named.values[0] = 1.0


def test_equality_is_exact_and_nan_equals_nan() -> None:
    first = Named(np.array([1.0, np.nan]), ("pos",))
    assert first == Named(np.array([1.0, np.nan]), ("pos",))
    assert first != Named(np.array([1.0, 2.0]), ("pos",))
    assert first != Named(np.array([1.0, np.nan], dtype=np.float32), ("pos",))
    assert first != Named(np.array([1.0, np.nan]), ("head",))
    nan = Result(scalars={"x": float("nan")}, tables={"t": [{"a": float("inf")}]})
    assert nan == Result(scalars={"x": float("nan")}, tables={"t": [{"a": float("inf")}]})
    assert nan != dataclasses.replace(nan, finding="other")


def test_a_check_passes_up_to_its_tolerance_and_nan_fails() -> None:
    passed = [Check("c", value, 1e-6).passed for value in (0.0, 1e-6, 2e-6, float("nan"))]
    assert passed == [True, True, False, False]
    assert Result(checks=(Check("a", 0.0, 1.0),)).passed
    assert not Result(checks=(Check("a", 0.0, 1.0), Check("b", 2.0, 1.0))).passed


def test_only_plain_values_enter_tables_and_the_error_says_where() -> None:
    with pytest.raises(TypeError, match="table 'top', row 1, column 'score' is a numpy.float32: allowed"):
        Result(tables={"top": [{"score": 1.0}, {"score": np.float32(2.0)}]})
    with pytest.raises(TypeError, match=r"params\['path'\] is a pathlib"):
        Result(params={"path": Path()})
    with pytest.raises(ValueError, match="must not begin with a dollar sign"):
        Result(scalars={"$float": 1.0})
    with pytest.raises(ValueError, match=r"row 1 has columns \['b'\], the first row \['a'\]"):
        Result(tables={"top": [{"a": 1}, {"b": 1}]})


def test_one_name_is_not_both_an_array_and_a_table() -> None:
    with pytest.raises(ValueError, match="score names both"):
        Result(arrays={"score": Named(np.zeros(1), ("pos",))}, tables={"score": []})


def test_a_tidy_table_has_a_row_per_element_and_a_column_per_axis() -> None:
    array = Named(np.array([[1.0, 2.0], [3.0, 4.0]]), ("layer", "pos"), labels={"pos": (" a", " a")})
    table = Result(arrays={"score": array}).table("score")
    assert list(table.columns) == ["layer", "pos", "pos_index", "score"]
    assert table.to_numpy().tolist() == [
        [0, " a", 0, 1.0],
        [0, " a", 1, 2.0],
        [1, " a", 0, 3.0],
        [1, " a", 1, 4.0],
    ]


def test_the_first_table_is_the_default_and_unknown_names_are_refused() -> None:
    result = every_view()
    assert list(result.table().columns) == ["id", "x", "y", "label", "value"]
    with pytest.raises(KeyError, match="no table or array 'missing': allowed are nodes, edges, score"):
        result.table("missing")
    with pytest.raises(KeyError, match="no array 'missing': the arrays are score"):
        result.named("missing")
    with pytest.raises(IndexError, match="view 8 was asked of a result with 8 views"):
        result.figure(8)


def test_saving_and_loading_changes_nothing(tmp_path: Path) -> None:
    result = every_view(HOSTILE)
    loaded = Result.load(result.save(tmp_path / "run"))
    assert loaded == result
    assert [loaded.figure(view).to_json() for view in range(8)] == [result.figure(view).to_json() for view in range(8)]
    assert list(loaded.tables["nodes"][0]) == list(result.tables["nodes"][0])
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["arrays.safetensors", "result.json"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_array_and_any_plain_value_survive(data: st.DataObject, tmp_path_factory) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    values = data.draw(arrays(dtype, shape))
    scalars = data.draw(st.dictionaries(st.text().filter(lambda key: not key.startswith("$")), PLAIN))
    result = Result(arrays={"values": Named(values, AXES[: values.ndim])}, scalars=scalars)
    loaded = Result.load(result.save(tmp_path_factory.mktemp("run") / "run"))
    assert loaded == result
    assert loaded.arrays["values"].values.tobytes() == result.arrays["values"].values.tobytes()


def test_a_saved_result_is_strict_json_for_any_other_tool(tmp_path: Path) -> None:
    Result(scalars={"x": float("nan"), "y": float("-inf")}).save(tmp_path / "run")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not strict JSON")

    written = json.loads((tmp_path / "run" / "result.json").read_text(), parse_constant=refuse)
    assert written["scalars"] == {"x": {"$float": "nan"}, "y": {"$float": "-inf"}}
    assert written["schema_version"] == SCHEMA_VERSION


def test_strict_json_refuses_loose_numbers_and_keeps_order() -> None:
    with pytest.raises(ValueError, match="NaN is not strict JSON"):
        loads('{"x": NaN}')
    assert dumps({"b": 1, "a": 2}) == '{"b": 1, "a": 2}'
    assert canonical({"b": 1, "a": (2,)}) == '{"a":[2],"b":1}'
    assert plain({"a": (1, (2,))}, "x") == {"a": [1, [2]]}


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter that finds this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def edit_json(folder: Path, **changes: object) -> None:
    file = folder / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: edit_json(folder, schema_version=2), "result.json cannot be read: schema version 2"),
        (
            lambda folder: edit_json(folder, views=[{"kind": "Pie"}]),
            "result.json cannot be read: view",
        ),
        (lambda folder: edit_json(folder, extra=1), "result.json cannot be read: .*extra"),
        (lambda folder: edit_json(folder, arrays={}), "result.json cannot be read: arrays"),
        (lambda folder: (folder / "result.json").write_text('{"a":'), "result.json cannot be read"),
        (lambda folder: (folder / "result.json").write_text("[]"), "result.json cannot be read"),
        (lambda folder: (folder / "result.json").write_bytes(b"\xff"), "result.json cannot be read"),
        (
            lambda folder: (folder / "arrays.safetensors").write_bytes(b"\0" * 20),
            "safetensors cannot be",
        ),
        (lambda folder: drop(folder, "arrays.safetensors"), "arrays.safetensors is missing"),
        (lambda folder: drop(folder, "result.json"), "result.json is missing"),
    ],
)
def test_a_damaged_result_is_named_in_one_error(tmp_path: Path, damage, message: str) -> None:
    folder = every_view().save(tmp_path / "run")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        Result.load(folder)


def test_arrays_must_have_the_described_shape(tmp_path: Path) -> None:
    result = Result(arrays={"score": Named(np.zeros((2, 3)), ("layer", "head"))})
    folder = result.save(tmp_path / "run")
    other = Result(arrays={"score": Named(np.zeros((3, 2)), ("layer", "head"))})
    (folder / "arrays.safetensors").write_bytes(other.files()["arrays.safetensors"])
    with pytest.raises(ValueError, match=r"described as float64 \[2, 3\], but found as float64 \[3, 2\]"):
        Result.load(folder)


def test_saving_replaces_a_result_but_nothing_else(tmp_path: Path) -> None:
    folder = every_view(title="old").save(tmp_path / "run")
    every_view(title="new").save(folder)
    assert Result.load(folder).title == "new"
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something other than result.json"):
        every_view().save(folder)
    assert (folder / "thesis.tex").read_text() == "years of work"
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_failed_write_keeps_the_old_result_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    folder = every_view(title="old").save(tmp_path / "run")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    rename = Path.rename
    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            moves = iter((rename, fail, rename))
            patch.setattr(Path, "rename", lambda *where: next(moves)(*where))
        with pytest.raises(OSError, match="No space left"):
            every_view(title="new").save(folder)
    assert Result.load(folder).title == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_killed_writer_leaves_the_old_result_whole(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    every_view(title="old").save(folder)
    script = (
        "import os, signal, sys, pathlib, workbench.folders as folders\n"
        "folders.move_folder = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files = {'result.json': b'x', 'arrays.safetensors': b'y'}\n"
        "folders.write_folder(pathlib.Path(sys.argv[1]), files)\n"
    )
    assert run_python(script, str(folder)).returncode == -9
    assert Result.load(folder).title == "old"


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_folder(tmp_path / "run", {"a": b"1"})
    plain_file = tmp_path / "plain"
    plain_file.write_text("x")
    assert (tmp_path / "run" / "a").stat().st_mode == plain_file.stat().st_mode


def test_loading_imports_neither_torch_nor_plotly_nor_the_analysis(tmp_path: Path) -> None:
    folder = every_view().save(tmp_path / "run")
    script = (
        "import sys\nfrom workbench.result import Result\n"
        "Result.load(sys.argv[1])\n"
        "print({'torch', 'plotly', 'pandas', 'workbench.analyses'} & set(sys.modules))\n"
    )
    assert run_python(script, str(folder)).stdout == "set()\n"


def test_a_notebook_shows_title_finding_and_pictures() -> None:
    shown = every_view(title="<b>bold</b>")._repr_html_()
    assert "&lt;b&gt;bold" in shown
    assert "Head 2 of layer 3 copies" in shown
    assert shown.count("<svg viewBox") == 6
    assert "Where it copies." in shown
