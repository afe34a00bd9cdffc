"""Read the entry of an analysis from its source text, so that listing analyses imports none of them.

What the catalogue needs is literal by rule: the arguments of `@analysis`, the signature, the
docstrings and the constants `NEEDS` and `TOUR`. A name may stand for a literal assigned at the top of
the same file.
"""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from workbench.entry import FAMILIES, INPUTS, Entry, Input
from workbench.knobs import TYPES, Knob, did_you_mean
from workbench.words import Site

_SECTIONS = ("Args", "Returns", "Raises", "Example", "Examples", "Note", "Yields")
_RESERVED = "model store fresh name prompt prompts needles out json dtype device revision debug help"
"""Words that mean something else to `run` or to the command line, so no knob may carry them."""

_Constants = dict[str, ast.expr]


def read_entry(file: Path, home: str) -> Entry:
    """The entry that a source file declares.

    Args:
        file: `<name>.py`, or `<name>/__init__.py` when the analysis is a package.
        home: the package that the analysis is imported from.

    Raises:
        ValueError: names the file and what breaks the rules of an analysis.
    """
    name = file.parent.name if file.stem == "__init__" else file.stem
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        return _entry(name, home, tree)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{file}: {error}") from error


def docstring_sections(docstring: str | None) -> dict[str, str]:
    """A Google docstring by section; the text before the first section has the name ""."""
    sections: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line.rstrip().removesuffix(":") in _SECTIONS and line.rstrip().endswith(":"):
            current = line.rstrip().removesuffix(":")
            sections[current] = []
        else:
            sections[current].append(line)
    return {name: inspect.cleandoc("\n".join(["", *lines])) for name, lines in sections.items()}


def argument_docs(section: str) -> dict[str, str]:
    """What an `Args` section says of each argument, on one line each."""
    docs: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if match := re.match(r"^(\w+):\s*(.*)$", line):
            name = match[1]
            docs[name] = match[2]
        elif name:
            docs[name] = f"{docs[name]} {line.strip()}".strip()
    return docs


def _entry(name: str, home: str, tree: ast.Module) -> Entry:
    constants = _constants(tree)
    function = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name), None)
    if function is None:
        raise ValueError(f"the file must hold a function of its own name, {name}")
    sections = docstring_sections(ast.get_docstring(function))
    docs = argument_docs(sections.get("Args", ""))
    tour = _evaluate(constants["TOUR"], constants) if "TOUR" in constants else None
    entry = Entry(
        name=name,
        **_declaration(function, constants),
        summary=sections[""].partition("\n")[0],
        doc=sections[""],
        about=ast.get_docstring(tree) or "",
        returns=sections.get("Returns", ""),
        inputs=_inputs(function, docs),
        knobs=_knobs(function, docs, constants),
        needs=tuple(_evaluate(constants["NEEDS"], constants)) if "NEEDS" in constants else (),
        tour=tour,
        home=home,
    )
    entry.parse_knobs(tour or {})
    return entry


def _constants(tree: ast.Module) -> _Constants:
    constants: _Constants = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            constants[node.target.id] = node.value
    return constants


def _evaluate(node: ast.expr, constants: _Constants) -> Any:
    """The value of a literal, a name of a literal, or a Site of literals, also inside lists."""
    if isinstance(node, ast.Name) and node.id in constants:
        return _evaluate(constants[node.id], constants)
    if isinstance(node, ast.List):
        return [_evaluate(item, constants) for item in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Site":
        return Site(
            *(_evaluate(item, constants) for item in node.args),
            **{item.arg: _evaluate(item.value, constants) for item in node.keywords if item.arg},
        )
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"line {node.lineno}: {ast.unparse(node)} must be a literal") from error


def _declaration(function: ast.FunctionDef, constants: _Constants) -> dict[str, str]:
    """Title, family and reference out of the decorator."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in (
            "analysis",
            "workbench.analysis",
        ):
            given = {word.arg: _evaluate(word.value, constants) for word in decorator.keywords if word.arg}
            break
    else:
        raise ValueError(f"{function.name} must be decorated with @analysis(title=..., family=..., reference=...)")
    if set(given) != {"title", "family", "reference"}:
        raise ValueError(f"@analysis takes title, family and reference, found {', '.join(given)}")
    if given["family"] not in FAMILIES:
        raise ValueError(f"family {given['family']!r}: {did_you_mean(given['family'], FAMILIES)}")
    return given


def _inputs(function: ast.FunctionDef, docs: dict[str, str]) -> tuple[Input, ...]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if not positional or positional[0].arg != "model":
        raise ValueError(f"the first argument of {function.name} must be model")
    if arguments.vararg or arguments.kwarg or arguments.defaults:
        raise ValueError(f"{function.name} takes no *args, no **kwargs and no input with a default")
    if len(positional) > 3:
        raise ValueError(f"{function.name} takes {len(positional) - 1} inputs beside the model: at most 2")
    inputs = []
    for argument in positional[1:]:
        kind = ast.unparse(argument.annotation) if argument.annotation else "nothing"
        if kind not in INPUTS:
            raise ValueError(f"input {argument.arg} is {kind}: allowed are {', '.join(INPUTS)}")
        inputs.append(Input(argument.arg, kind, docs.get(argument.arg, "")))
    return tuple(inputs)


def _knobs(function: ast.FunctionDef, docs: dict[str, str], constants: _Constants) -> tuple[Knob, ...]:
    knobs = []
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        name = argument.arg
        if default is None or argument.annotation is None:
            raise ValueError(f"knob {name} needs a type and a default")
        if name in _RESERVED.split():
            raise ValueError(f"knob {name}: the word is taken by the command line, choose another")
        kind, choices = _type(name, argument.annotation, constants)
        knob = Knob(name, kind, _evaluate(default, constants), choices, docs.get(name, ""))
        knob.parse(knob.default)
        knobs.append(knob)
    return tuple(knobs)


def _type(name: str, annotation: ast.expr, constants: _Constants) -> tuple[str, tuple[int | str, ...]]:
    if isinstance(annotation, ast.Name):
        annotation = constants.get(annotation.id, annotation)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        choices = ast.literal_eval(annotation.slice)
        return "Literal", choices if isinstance(choices, tuple) else (choices,)
    if (kind := ast.unparse(annotation)) not in TYPES:
        raise ValueError(f"knob {name} is {kind}: allowed are {', '.join(TYPES)}")
    return kind, ()
