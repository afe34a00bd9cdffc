"""The options of `workbench run NAME`: knobs and inputs of an analysis, read from words of the shell."""

from collections.abc import Sequence
from pathlib import Path

from workbench.entry import Entry
from workbench.knobs import show
from workbench.prompts import Needles, Prompts
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
        elif name in {knob.name for knob in entry.knobs}:
            raise ValueError(f"--{written} needs a value")
        else:
            texts[name] = ""
    return texts


def read_inputs(
    entry: Entry, texts: Sequence[str], prompts: str | None, needles: str | None
) -> tuple[Prompts | Needles, ...]:
    """The inputs that the analysis takes, from what was given for them.

    Args:
        entry: the analysis.
        texts: prompts written on the command line.
        prompts: a file of prompts, or the name of a bundled set.
        needles: a file of needles, or the name of a bundled set; without it the bundled needles.

    Raises:
        ValueError: an input is missing, given twice, or not taken by this analysis.
    """
    kinds = [one.type for one in entry.inputs]
    if (texts or prompts) and "Prompts" not in kinds:
        raise ValueError(f"{entry.name} takes no prompts: it takes {', '.join(kinds) or 'only a model'}")
    if needles and "Needles" not in kinds:
        raise ValueError(f"{entry.name} takes no needles: it takes {', '.join(kinds) or 'only a model'}")
    inputs: list[Prompts | Needles] = []
    for kind in kinds:
        if kind == "Prompts":
            inputs.append(_read_prompts(entry, texts, prompts))
        elif kind == "Needles":
            inputs.append(Needles.read(needles) if needles else Needles.bundled())
        else:
            raise ValueError(f"{entry.name} takes {kind}, which only Python can give: see workbench.run")
    return tuple(inputs)


def print_analysis_help(entry: Entry) -> None:
    """Print what an analysis finds, what it takes, and its knobs as options."""
    print_line(f"{entry.title} ({entry.name}): {entry.summary}", "bold")
    print_line(f"Source: {entry.reference}")
    for line in ["", *entry.about.splitlines()]:
        print_line(line)
    print_table(["takes", "", "meaning"], [(one.name, one.type, one.doc) for one in entry.inputs])
    rows = [
        (f"--{knob.name.replace('_', '-')}", show(knob.default), f"{knob.allowed}: {knob.doc}")
        for knob in entry.knobs
    ]
    print_table(["knob", "default", "value and meaning"], rows)


def _read_prompts(entry: Entry, texts: Sequence[str], prompts: str | None) -> Prompts:
    if texts and prompts:
        raise ValueError("give the prompts with --prompt or with --prompts, not with both")
    if prompts:
        return Prompts.read(Path(prompts) if Path(prompts).is_file() else prompts)
    if not texts:
        raise ValueError(f"{entry.name} needs prompts: give --prompt TEXT or --prompts FILE")
    return Prompts.of(*texts)
