"""Reproduce: the Python lines and the command that make a result again, written from the result itself."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from workbench.hops import TwoHops
from workbench.pairs import Pairs
from workbench.prompts import Needles
from workbench.result import Result

_FIELDS = ("target", "distractor", "meta")
"""What a prompt may have beside its text."""
_LONG = 100
"""Characters of a line of code that is not yet broken."""


def python_lines(result: Result) -> str:
    """Python that makes the result again; of a comparison, both of its sides first.

    Inputs whose content a result does not hold (needles of one's own, coders) are named in a comment at
    the line that must be filled in.
    """
    if "runs" in result.inputs:
        return _python_series(result.inputs["runs"])
    sides = _sides(result)
    blocks = [_python_run(side, name) for name, side in sides.items()] or [_python_run(result, "result")]
    if sides:
        blocks.append(f"result = {_call('compare', [*sides])}")
    return _with_imports("\n\n".join(blocks), ["compare", "load", "run"] if sides else ["load", "run"])


def _with_imports(code: str, words: list[str]) -> str:
    public = ("Needles", "Pair", "Pairs", "Prompt", "Prompts", "TwoHop", "TwoHops")
    used = [word for word in public if re.search(rf"\b{word}[.(]", code)]
    return f"from workbench import {', '.join([*used, *words])}\n\n{code}"


def _python_series(told: Mapping[str, Any]) -> str:
    """The lines that run one analysis on every checkpoint."""
    inputs = {given: _python_input(one) for given, one in told["inputs"].items()}
    knobs = [f"{knob}={value!r}" for knob, value in told["params"].items()]
    model = {name: value for name, value in told["model"].items() if name != "revision"}
    loading = ", ".join([repr(model.get("name", "")), "revision=revision", *_loading_words(model)])
    steps = {int(step): revision for step, revision in told["revisions"].items()}
    lines = [
        *(f"{given} = {code}" for given, code in inputs.items()),
        f"revisions = {steps!r}",
        f"models = {{step: load({loading}) for step, revision in revisions.items()}}",
        f"runs = {{step: {_call('run', [repr(told['analysis']), 'model', *inputs, *knobs])}",
        "        for step, model in models.items()}",
        "result = series(runs)",
    ]
    return _with_imports("\n".join(lines), ["load", "run", "series"])


def _sides(result: Result) -> dict[str, Result]:
    """The two runs that a comparison was made of, by their names; none for any other result."""
    runs = {name: told for name, told in result.inputs.items() if told.get("type") == "run"}
    fields = ("analysis", "model", "inputs", "params")
    return {name: Result(**{field: told[field] for field in fields}) for name, told in runs.items()}


def _python_run(result: Result, name: str) -> str:
    """The lines that load the model, make the inputs and run the analysis."""
    inputs = {given: _python_input(told) for given, told in result.inputs.items()}
    knobs = [f"{knob}={value!r}" for knob, value in result.params.items()]
    lines = [
        f"model = {_python_load(result.model)}",
        *(f"{given} = {code}" for given, code in inputs.items()),
        f"{name} = {_call('run', [repr(result.analysis), 'model', *inputs, *knobs])}",
    ]
    return "\n".join(lines)


def notebook(result: Result) -> str:
    """A Jupyter notebook, as its JSON, that makes the result again and shows it."""
    about = f"{result.title}\n\n{result.finding}\n\nMethod: {result.reference}"
    cells = [
        {"cell_type": "raw", "id": "about", "metadata": {}, "source": about},  # foreign texts: never as Markdown
        *(
            {
                "cell_type": "code",
                "id": name,
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for name, source in (("run", python_lines(result)), ("show", "result"))
        ),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps(
        {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}, indent=1
    )


def command_line(result: Result) -> str | None:
    """The shell command that makes the result again, or None if an input can only be given in Python.

    Prompts with targets, or with characters that a terminal may act on, and pairs and two-hop prompts of
    one's own travel in a file that the first lines of the command write. Of a comparison, both sides are run first.
    """
    if "runs" in result.inputs:
        return _series_command(result.inputs["runs"])
    if sides := _sides(result):
        runs = [command_line(side) for side in sides.values()]
        if None in runs:
            return None
        made = [f"{run} --out={name}" for run, name in zip(runs, sides, strict=True)]
        return "\n".join([*made, f"workbench compare {' '.join(sides)}"])
    options = [f"--model={result.model.get('name', '')}"]
    options += [f"--{name}={value}" for name, value in _loading(result.model).items()]
    file = ""
    for name, told in result.inputs.items():
        if told.get("type") == "prompts":
            file = "" if all(map(_is_plain, told["prompts"])) else _file("prompts", told["prompts"])
            options += ["--prompts=prompts.jsonl"] if file else _prompt_options(told["prompts"])
        elif bundled := _bundled(told):
            options += [f"--{name}={bundled[1]}"] if bundled[1] else []
        elif told.get("type") in ("pairs", "two_hops"):
            file = _file(name, told[told["type"]])
            options += [f"--{name}={name}.jsonl"]
        else:
            return None
    options += [f"--{name.replace('_', '-')}={_shell_value(value)}" for name, value in result.params.items()]
    words = [f"workbench run {shlex.quote(result.analysis)}", *map(shlex.quote, options)]
    return file + (" \\\n  " if sum(map(len, words)) > _LONG else " ").join(words)


def _series_command(told: Mapping[str, Any]) -> str | None:
    """The command that runs one analysis on every checkpoint."""
    fields = ("analysis", "inputs", "params")
    model = {name: value for name, value in told["model"].items() if name != "revision"}
    command = command_line(Result(model=model, **{field: told[field] for field in fields}))
    if command is None:
        return None
    revisions = " ".join(f"--revision={shlex.quote(str(one))}" for one in told["revisions"].values())
    return f"{command.replace('workbench run ', 'workbench history ', 1)} {revisions}"


def _loading(model: Mapping[str, Any]) -> dict[str, str]:
    """What has to be said beside its name to load the same weights in the same precision."""
    return {name: str(model[name]) for name in ("revision", "dtype") if model.get(name)}


def _is_plain(row: Mapping[str, Any]) -> bool:
    """Whether a prompt is only a text that any terminal shows as it is."""
    return row["text"].isprintable() and not any(field in row for field in _FIELDS)


def _prompt_options(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"--prompt={row['text']}" for row in rows]


def _file(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Shell lines that write rows into a JSONL file; JSON escapes whatever is not plain ASCII."""
    return "\n".join([f"cat > {name}.jsonl <<'END'", *map(json.dumps, rows), "END", ""])


_SETS = {
    "Pairs": ("greater_than", "sums", "world_facts", "world_indirect_objects", "world_years", "world_sums"),
    "TwoHops": ("world_two_hop",),
    "Needles": ("world_needles",),
}
"""The bundled sets of each type besides the one that is taken without a name."""


def _bundled(told: Mapping[str, Any]) -> tuple[str, str] | None:
    """The type of an input that ships with the workbench, and its name unless it is what is taken without one."""
    kinds = {"needles": Needles, "pairs": Pairs, "two_hops": TwoHops}
    kind = kinds.get(told.get("type", ""))
    if kind is None:
        return None
    if told == kind.bundled().describe():
        return kind.__name__, ""
    names = _SETS[kind.__name__]
    return next(((kind.__name__, name) for name in names if told == kind.read(name).describe()), None)


def _shell_value(value: Any) -> str:
    """A knob, as a result keeps it, in the form that `workbench.knobs` reads."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _python_load(model: Mapping[str, Any]) -> str:
    return _call("load", [repr(model.get("name", "")), *_loading_words(model)])


def _loading_words(model: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in _loading(model).items()]


def _python_input(told: Mapping[str, Any]) -> str:
    if told.get("type") == "prompts":
        return _call("Prompts.of", [_python_prompt(row) for row in told["prompts"]])
    if bundled := _bundled(told):
        kind, name = bundled
        return f"{kind}.read({name!r})" if name else f"{kind}.bundled()"
    if told.get("type") == "pairs":
        return _call("Pairs.of", [_call("Pair.from_row", [repr(row)]) for row in told["pairs"]])
    if told.get("type") == "two_hops":
        hops = [_call("TwoHop.from_row", [repr(row)]) for row in told["two_hops"]]
        return _call("TwoHops.of", hops)
    if told.get("type") == "needles":
        return 'Needles.read("needles.jsonl", haystack="haystack.jsonl")  # your needles and haystack'
    if "fingerprint" in told:
        return _python_load(told)
    return f"...  # the {told.get('type', 'input')} that the result describes"


def _python_prompt(row: Mapping[str, Any]) -> str:
    fields = [f"{name}={row[name]!r}" for name in _FIELDS if name in row]
    return _call("Prompt", [repr(row["text"]), *fields]) if fields else repr(row["text"])


def _call(name: str, arguments: list[str]) -> str:
    """A call on one line, or with one argument per line if that is too long."""
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= _LONG else "\n    ".join([f"{name}(", *(f"{one}," for one in arguments)]) + "\n)"
