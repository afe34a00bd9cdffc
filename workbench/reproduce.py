"""Reproduce: the Python lines and the command that make a result again, written from the result itself."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from workbench.knobs import show
from workbench.prompts import Needles
from workbench.result import Result

_FIELDS = ("target", "distractor", "meta")
"""What a prompt may have beside its text."""


def python_lines(result: Result) -> str:
    """Python that makes the result again.

    Inputs whose content a result does not hold (needles of one's own, coders) are named in a comment at
    the line that must be filled in.
    """
    inputs = {name: _python_input(told) for name, told in result.inputs.items()}
    kinds = {told.get("type") for told in result.inputs.values()}
    words = ["load", "run"]
    words += ["Prompts"] * ("prompts" in kinds) + ["Needles"] * ("needles" in kinds)
    words += ["Prompt"] * any("Prompt(" in code for code in inputs.values())
    knobs = [f"{name}={value!r}" for name, value in result.params.items()]
    call = [repr(result.analysis), "model", *inputs, *knobs]
    return "\n".join(
        [
            f"from workbench import {', '.join(sorted(words))}",
            "",
            f"model = {_python_load(result.model)}",
            *(f"{name} = {code}" for name, code in inputs.items()),
            f"result = run({', '.join(call)})",
        ]
    )


def command_line(result: Result) -> str | None:
    """The shell command that makes the result again, or None if an input can only be given in Python.

    Prompts with targets travel in a file, which the first lines of the command write.
    """
    words = ["workbench", "run", result.analysis]
    before = ""
    for told in result.inputs.values():
        if told.get("type") == "prompts":
            rows = told["prompts"]
            if any(field in row for row in rows for field in _FIELDS):
                lines = [json.dumps(row) for row in rows]
                before = "\n".join(["cat > prompts.jsonl <<'END'", *lines, "END", ""])
                words.append("--prompts=prompts.jsonl")
            else:
                words += [f"--prompt={row['text']}" for row in rows]
        elif told != Needles.bundled().describe():
            return None
    words += [f"--{name.replace('_', '-')}={show(value)}" for name, value in result.params.items()]
    words += [f"--{name}={value}" for name, value in _loading(result.model).items()]
    return before + " ".join(map(shlex.quote, words))


def _loading(model: Mapping[str, Any]) -> dict[str, str]:
    """What has to be said to load the same weights in the same precision."""
    said = {"model": model.get("name"), "revision": model.get("revision"), "dtype": model.get("dtype")}
    return {name: str(value) for name, value in said.items() if value}


def _python_load(model: Mapping[str, Any]) -> str:
    said = _loading(model)
    first = repr(said.pop("model", ""))
    return f"load({', '.join([first, *(f'{name}={value!r}' for name, value in said.items())])})"


def _python_input(told: Mapping[str, Any]) -> str:
    if told.get("type") == "prompts":
        return f"Prompts.of({', '.join(map(_python_prompt, told['prompts']))})"
    if told == Needles.bundled().describe():
        return "Needles.bundled()"
    if told.get("type") == "needles":
        return 'Needles.read("needles.jsonl", haystack="haystack.jsonl")  # your needles and haystack'
    if "fingerprint" in told:
        return _python_load(told)
    return f"...  # the {told.get('type', 'input')} that the report describes"


def _python_prompt(row: Mapping[str, Any]) -> str:
    fields = [f"{name}={row[name]!r}" for name in _FIELDS if name in row]
    return f"Prompt({', '.join([repr(row['text']), *fields])})" if fields else repr(row["text"])
