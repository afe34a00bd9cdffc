"""The options of `workbench run NAME`: knobs and inputs of an analysis, read from words of the shell."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import workbench
from workbench.entry import Entry, Input
from workbench.knobs import show
from workbench.prompts import Prompts
from workbench.terminal import print_line, print_table


def read_knobs(entry: Entry, words: Sequence[str]) -> dict[str, str]:
    """The texts of the knobs in `--name value`, `--name=value`, `--switch` and `--no-switch`.

    Raises:
        ValueError: a word belongs to no knob, or a knob lacks its value.
    """
    switches = {knob.name for knob in entry.knobs if knob.type == "bool"}
    texts: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ValueError(f"{word!r} belongs to no option: knobs of {entry.name} are written --name value")
        written, equals, value = word.removeprefix("--").partition("=")
        name = written.replace("-", "_")
        if name.removeprefix("no_") in switches and not equals:
            texts[name.removeprefix("no_")] = "false" if name not in switches else "true"
        elif equals:
            texts[name] = value
        elif rest and not rest[0].startswith("--"):
            texts[name] = rest.pop(0)
        elif name in {one.name for one in (*entry.knobs, *entry.inputs)}:
            raise ValueError(f"--{written} needs a value")
        else:
            texts[name] = ""
    return texts


def split_sets(entry: Entry, given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What was given for inputs by their name, and the rest, which is for knobs."""
    names = {one.name for one in entry.inputs if one.type != "Prompts"}
    return (
        {name: text for name, text in given.items() if name in names},
        {name: text for name, text in given.items() if name not in names},
    )


def read_inputs(entry: Entry, texts: Sequence[str], prompts: str | None, sets: Mapping[str, str]) -> tuple[Any, ...]:
    """The inputs that the analysis takes, from what was given for them.

    Prompts have options of their own; any other input is given by its name, as in `--needles FILE`, and
    without it the set that ships with the workbench is taken.

    Args:
        entry: the analysis.
        texts: prompts written on the command line.
        prompts: a file of prompts, or the name of a bundled set.
        sets: for inputs by their name a file, or the name of a bundled set.

    Raises:
        ValueError: an input is missing, given twice, or not taken by this analysis.
    """
    kinds = [one.type for one in entry.inputs]
    if (texts or prompts) and "Prompts" not in kinds:
        raise ValueError(f"{entry.name} takes no prompts: it takes {', '.join(kinds) or 'only a model'}")
    return tuple(
        _read_prompts(entry, texts, prompts) if one.type == "Prompts" else _read_set(entry, one, sets.get(one.name))
        for one in entry.inputs
    )


def print_analysis_help(entry: Entry) -> None:
    """Print what an analysis finds, what it takes, and its knobs as options."""
    print_line(f"{entry.title} ({entry.name}): {entry.summary}", "bold")
    print_line(f"Source: {entry.reference}")
    for line in ["", *entry.about.splitlines()]:
        print_line(line)
    print_table(["takes", "", "meaning"], [(one.name, one.type, one.doc) for one in entry.inputs])
    rows = [
        (f"--{knob.name.replace('_', '-')}", show(knob.default), f"{knob.allowed}: {knob.doc}") for knob in entry.knobs
    ]
    print_table(["knob", "default", "value and meaning"], rows)


def _read_set(entry: Entry, one: Input, path: str | None) -> Any:
    kind = getattr(workbench, one.type, None)
    if not hasattr(kind, "bundled"):
        raise ValueError(f"{entry.name} takes {one.type}, which only Python can give: see workbench.run")
    return kind.read(path) if path else kind.bundled()


def _read_prompts(entry: Entry, texts: Sequence[str], prompts: str | None) -> Prompts:
    if texts and prompts:
        raise ValueError("give the prompts with --prompt or with --prompts, not with both")
    if prompts:
        return Prompts.read(Path(prompts) if Path(prompts).is_file() else prompts)
    if not texts:
        raise ValueError(f"{entry.name} needs prompts: give --prompt TEXT or --prompts FILE")
    return Prompts.of(*texts)
