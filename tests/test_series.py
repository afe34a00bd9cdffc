"""Runs on the checkpoints of one model make curves over training, and say where the first of them bends."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.__main__ import answer
from workbench.over_steps import step_of
from workbench.prompts import Prompts
from workbench.reproduce import command_line, python_lines
from workbench.result import Check, Named, Result
from workbench.series import series, series_key
from workbench.store import Store
from workbench.views import Heatmap, Lines

BORN = (0.0, 0.1, 0.9, 1.0)
STEPS = (0, 50, 200, 1000)


def made(step: int, score: float, **more: object) -> Result:
    heads = np.full((2, 3), 0.05, dtype=np.float32)
    heads[1, 2] = score
    return Result(
        analysis="toy",
        title="Toy",
        model={"name": "small", "revision": f"step-{step:05d}", "dtype": "float32"},
        inputs={"prompts": Prompts.of("one two").describe()},
        params={"top": 3},
        arrays={"score": Named(heads, ("layer", "head"), "attention")},
        scalars={"lift": score, "best": f"at {step}", "count": int(score > 0.5)},
        views=(Heatmap("score", "head", "layer", title="Score"),),
        finding=f"found at {step}.",
        **more,
    )


RUNS = {step: made(step, score) for step, score in zip(STEPS, BORN, strict=True)}


def test_arrays_and_numbers_run_along_the_steps_in_their_order() -> None:
    found = series(dict(reversed(RUNS.items())))
    assert found.arrays["score"].axes == ("step", "layer", "head")
    assert found.arrays["score"].names("step") == ("0", "50", "200", "1000")
    np.testing.assert_allclose(found.arrays["score"].values[:, 1, 2], BORN)
    np.testing.assert_allclose(found.arrays["lift by step"].values, BORN)
    assert found.arrays["count by step"].values.tolist() == [0, 0, 1, 1]
    assert [row["best"] for row in found.tables["steps"]] == [f"at {step}" for step in STEPS]
    assert found.finding.startswith("Lift changes most between step 50 (0.1) and step 200 (0.9); it is 0 at the first")
    assert found.passed


def test_the_layer_in_which_a_head_moves_is_drawn_over_the_steps() -> None:
    views = series(RUNS).views
    assert [view.x for view in views if isinstance(view, Lines)] == ["step"] * 3
    (heads,) = (view for view in views if isinstance(view, Lines) and view.series == "head")
    assert heads.select == {"layer": 1}
    for number in range(len(views)):
        series(RUNS).figure(number)


def test_arrays_of_another_shape_are_named_and_left_out() -> None:
    longer = replace(RUNS[50], arrays={"score": Named(np.ones((3, 3)), ("layer", "head"), "attention")})
    found = series({**RUNS, 50: longer})
    assert "score" not in found.arrays and "lift by step" in found.arrays
    assert any("Left out" in note and "score" in note for note in found.notes)


def test_a_checkpoint_whose_checks_failed_fails_the_series() -> None:
    broken = replace(RUNS[50], checks=(Check("sums", 1.0, 0.1),))
    assert not series({**RUNS, 50: broken}).passed


@pytest.mark.parametrize(
    "runs, message",
    [
        ({0: RUNS[0]}, "a series needs two runs or more, found 1"),
        ({0: RUNS[0], 1: replace(RUNS[50], analysis="other")}, "two analyses were given"),
        ({0: RUNS[0], 1: replace(RUNS[50], model={"name": "large"})}, "two models were given"),
        ({0: RUNS[0], 1: replace(RUNS[50], params={})}, "two settings were given"),
        ({0: Result(analysis="a"), 1: Result(analysis="a")}, "share no array of one shape and no number"),
    ],
)
def test_refuses_what_is_no_row_of_checkpoints(runs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        series(runs)


def test_a_series_is_kept_and_made_again_from_its_lines(tmp_path: Path) -> None:
    found, store = series(RUNS), Store(tmp_path)
    kept = store.put(found, series_key(RUNS))
    assert store.get(kept) == found
    assert store.find(series_key({**RUNS, 50: RUNS[0]})) is None
    header, code = python_lines(found).split("\n\n", 1)
    names = {
        "load": lambda name, revision, dtype: (name, revision, dtype),
        "run": lambda name, model, prompts, top: made(int(model[1][-5:]), 0.5) if (name, top) == ("toy", 3) else None,
        "series": lambda runs: runs,
        "Prompts": Prompts,
    }
    assert set(header.removeprefix("from workbench import ").split(", ")) == set(names)
    exec(code, names)
    assert {step: one.model["revision"] for step, one in names["result"].items()} == {
        step: one.model["revision"] for step, one in RUNS.items()
    }
    assert command_line(found) == (
        "workbench history toy --model=small --dtype=float32 '--prompt=one two' --top=3 "
        + " ".join(f"--revision=step-{step:05d}" for step in STEPS)
    )


def test_the_number_of_a_checkpoint_is_that_of_its_name() -> None:
    assert [step_of(name, 7) for name in ("step-00025", "step1000", "main", "v2.5-beta")] == [25, 1000, 7, 7]


@pytest.fixture
def history_folder(tmp_path: Path) -> Path:
    """A tiny model with three checkpoints in which one weight grows."""
    import torch
    from safetensors.torch import load_file, save_file

    from workbench.planted import plant

    built, folder = plant("induction"), tmp_path / "grown"
    built.model.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.o_proj.weight"
    for step, share in ((0, 0.01), (10, 0.01), (20, 1.0)):
        changed = {**weights, name: (weights[name] * share).contiguous()}
        save_file(changed, folder / f"model.step-{step:05d}.safetensors", {"format": "pt"})
    assert torch.is_tensor(weights[name])
    return folder


def test_the_command_shows_when_an_induction_head_is_born(history_folder: Path, tmp_path: Path, capsys) -> None:
    asked = ["history", "induction_heads", "--model", str(history_folder), "--prompt", "one two", "--length", "12"]
    asked += ["--repeats", "1", "--draws", "1", "--reach", "1", "--store", str(tmp_path / "store"), "--json"]
    assert answer(asked) == 0
    told = json.loads(capsys.readouterr().out)
    gained = [row["gained by repetition"] for row in told["tables"]["steps"]]
    assert abs(gained[0]) < 0.5 and gained[0] == gained[1] and gained[2] > 5
    assert len(Store(tmp_path / "store").runs()) == 4
    assert answer(["history", "induction_heads", "--model", "planted:copy", "--prompt", "one"]) == 2
    assert "has no checkpoints on this machine" in capsys.readouterr().err
