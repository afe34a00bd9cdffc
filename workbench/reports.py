"""Reports: results as one HTML file that opens anywhere, with no network and no account.

The pictures are inline SVG, so six results stay far below a megabyte. Whatever comes from models, prompts
or authors is text: the template escapes it, and a content security policy in the file forbids the rest. The one
script is our own and makes networks answer to clicks; the policy names it by its hash, so no other can run.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from workbench.folders import replace_file
from workbench.reproduce import command_line, python_lines
from workbench.result import Result
from workbench.strict_json import dumps
from workbench.views import Graph, Scatter, Table, View, markup
from workbench.views.network import SCRIPT
from workbench.views.texts import cell_text, number_text, readable, words_of

MAX_VALUES = 65_536
"""Arrays with more numbers are described in the JSON file but not written out."""
_ROWS = 10
_EXPLORE = f'{SCRIPT}document.querySelectorAll(".network").forEach((one) => explore(one));'
_HASH = b64encode(sha256(_EXPLORE.encode()).digest()).decode()
_ADDRESSES = {
    r"arXiv:(\d{4}\.\d{4,5})": "https://arxiv.org/abs/",
    r"doi:(10\.\d{4,9}/[\w.()/-]+)": "https://doi.org/",
}


@dataclass(frozen=True)
class _Part:
    """What the template shows of one result, beside its own fields."""

    result: Result
    number: int
    reference_number: int | None
    pictures: tuple[Markup, ...]
    python: str
    command: str | None


def report(
    results: Sequence[Result], file: str | Path, *, title: str | None = None, author_text: str | None = None
) -> Path:
    """Write results as one self-contained HTML file, and as strict JSON beside it.

    The JSON file holds everything that the page shows, and the numbers of each array of up to `MAX_VALUES`.

    Args:
        results: what to report, in order.
        file: the HTML file; an existing one is replaced. Its folder is made if it is missing.
        title: the heading; without it, the title of the only result or the name of the model.
        author_text: plain text to begin with; empty lines separate paragraphs.

    Returns:
        The path of the HTML file.

    Raises:
        ValueError: there are no results, or the file is not named as HTML.
        OSError: a file cannot be written; a file that was there stays as it was.
    """
    page = Path(file)
    if not results:
        raise ValueError("a report needs at least one result")
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{page} is no name for a report: it must end in .html")
    heading = title or _heading(results)
    page.parent.mkdir(parents=True, exist_ok=True)
    replace_file(page, _page(results, heading, author_text or "").encode("utf-8", "backslashreplace"))
    replace_file(page.with_suffix(".json"), dumps(_all_numbers(results, heading), indent=1).encode())
    return page


def _page(results: Sequence[Result], heading: str, author_text: str) -> str:
    references = list(dict.fromkeys(result.reference for result in results if result.reference))
    parts = [_part(result, number, references) for number, result in enumerate(results, start=1)]
    return _template().render(
        heading=heading,
        paragraphs=[text for text in re.split(r"\n\s*\n", author_text) if text.strip()],
        parts=parts,
        references=references,
        models=list(dict.fromkeys(_model_name(result) for result in results)),
        checks=sum(len(result.checks) for result in results),
        failed=sum(not result.passed for result in results),
        written=datetime.now(UTC),
        script=Markup(_EXPLORE) if any(isinstance(view, Graph) for one in results for view in one.views) else "",
        script_hash=_HASH,
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_readable, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": cell_text, "number": number_text, "words": words_of, "linked": _linked}
    environment.filters["pretty"] = lambda value: dumps(value, indent=2)
    return environment.from_string(files("workbench").joinpath("report.html.jinja").read_text("utf-8"))


def _part(result: Result, number: int, references: list[str]) -> _Part:
    views = (*result.views, *_further_tables(result))
    return _Part(
        result=result,
        number=number,
        reference_number=references.index(result.reference) + 1 if result.reference else None,
        pictures=tuple(Markup(markup(view, result)) for view in views),  # escapes every text itself
        python=python_lines(result),
        command=command_line(result),
    )


def _further_tables(result: Result) -> Iterable[View]:
    """A view for each table that no view of the result shows."""
    shown: set[str] = set()
    for view in result.views:
        if isinstance(view, Table | Graph | Scatter):
            shown |= set(view.read_columns)
    return [Table(name, rows=_ROWS) for name in result.tables if name not in shown]


def _readable(value: object) -> object:
    """Texts without characters that hide or turn what follows; the template escapes them afterwards."""
    return readable(value) if type(value) is str else value


def _linked(reference: str) -> Markup:
    """A reference whose arXiv and DOI numbers are links."""
    text = str(Markup.escape(readable(reference)))
    for pattern, address in _ADDRESSES.items():
        text = re.sub(pattern, rf'<a href="{address}\1">\g<0></a>', text)
    return Markup(text)


def _model_name(result: Result) -> str:
    return str(result.model.get("name", "an unnamed model"))


def _heading(results: Sequence[Result]) -> str:
    if len(results) == 1:
        return results[0].title or results[0].analysis
    names = list(dict.fromkeys(_model_name(result) for result in results))
    return f"A look inside {', '.join(names)}"


def _all_numbers(results: Sequence[Result], heading: str) -> dict[str, Any]:
    """The report as plain JSON values."""
    written = []
    for result in results:
        told = result.to_json()
        for name, array in result.arrays.items():
            small = array.values.size <= MAX_VALUES
            told["arrays"][name]["values"] = array.values.tolist() if small else None
        written.append(told)
    return {"title": heading, "results": written}
