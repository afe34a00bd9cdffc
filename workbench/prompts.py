"""Prompts: what is asked of a model. Text only; turning text into tokens is the model's business.

Every input type reads JSONL (one object a line) or CSV from a path, or a bundled set by its name, and
describes itself as plain JSON for results and reports.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path


def data_folder() -> Path:
    """The folder of bundled data: inside an installed wheel, or at the top of a checkout."""
    inside = Path(str(files("workbench"))) / "data"
    beside = Path(str(files("workbench"))).parent / "data"
    for folder in (inside, beside):
        if (folder / "prompts").is_dir():
            return folder
    raise FileNotFoundError(f"the bundled data is missing: looked in {inside} and {beside}")


def find_file(path: str | Path) -> Path:
    """A path as it is, or the name of a bundled prompt set.

    Raises:
        FileNotFoundError: there is neither.
    """
    given = Path(path)
    if given.is_file():
        return given
    bundled = data_folder() / "prompts" / f"{path}.jsonl"
    if bundled.is_file():
        return bundled
    names = sorted(file.stem for file in (data_folder() / "prompts").glob("*.jsonl"))
    raise FileNotFoundError(f"prompt file {str(path)!r} does not exist; bundled sets are {', '.join(names)}")


def read_rows(path: Path, needed: Iterable[str]) -> list[dict]:
    """The objects of a JSONL file, or the rows of a CSV file with a heading, each with the needed text fields.

    Empty cells of a CSV file are left out.

    Raises:
        ValueError: names the line that cannot be read or lacks a field; or the file is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    read = _csv_rows if path.suffix.lower() == ".csv" else _json_rows
    rows = []
    for number, row in read(path, text):
        missing = [name for name in needed if not isinstance(row.get(name), str)]
        if missing:
            raise ValueError(f"{path}, line {number}: the text field {missing[0]!r} is missing")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no prompts: it is empty")
    return rows


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict]]:
    """The objects of JSONL text with their line numbers."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
        yield number, row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict]]:
    """The rows of CSV text with their line numbers."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row:
                raise ValueError(f"{path}, line {reader.line_num}: more cells than the heading names")
            yield reader.line_num, {name: cell for name, cell in row.items() if cell}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


@dataclass(frozen=True)
class Prompt:
    """One text, with an optional target token (and a distractor) that should follow it."""

    text: str
    target: str | None = None
    distractor: str | None = None
    meta: dict = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"a prompt is a text, found {type(self.text).__name__}")
        if not self.text.strip():
            raise ValueError("the prompt is empty: write at least one word")
        try:
            self.text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"the prompt holds a broken character at {error.start}: {error.reason}") from error


def _clean_side(row: dict) -> Prompt:
    """The clean prompt of a pair, with what else the pair says in its meta."""
    meta = {**row.get("meta", {}), "corrupt": row["corrupt"], "corruption": row.get("corruption", "")}
    return Prompt(row["clean"], row.get("target"), row.get("distractor"), meta)


class Prompts(tuple[Prompt, ...]):
    """Some prompts in order.

    Example:
        >>> [prompt.text for prompt in Prompts.of("one two", "three")]
        ['one two', 'three']
    """

    @classmethod
    def of(cls, *texts: "str | Prompt") -> "Prompts":
        """Prompts from texts. Raises ValueError when there is none, or one is empty."""
        if not texts:
            raise ValueError("no prompt was given: write at least one text")
        return cls(text if isinstance(text, Prompt) else Prompt(text) for text in texts)

    @classmethod
    def read(cls, path: str | Path) -> "Prompts":
        """Read prompts from a file: JSONL or CSV (`text`, optional `target`, `distractor`), or plain text, a line each.

        Of a set of pairs the clean prompts are read; their `meta` also holds the corrupt one and the corruption.
        """
        file = find_file(path)
        if file.suffix.lower() not in (".jsonl", ".csv"):
            lines = file.read_text(encoding="utf-8").splitlines()
            return cls.of(*(line for line in lines if line.strip()))
        if "clean" in read_rows(file, needed=[])[0]:
            return cls(_clean_side(row) for row in read_rows(file, needed=["clean", "corrupt"]))
        names = ("text", "target", "distractor", "meta")
        rows = read_rows(file, needed=["text"])
        return cls(Prompt(**{name: row[name] for name in names if name in row}) for row in rows)

    def describe(self) -> dict:
        """The prompts as plain JSON, without empty fields."""
        rows = [{name: value for name, value in asdict(prompt).items() if value} for prompt in self]
        return {"type": "prompts", "prompts": rows}


@dataclass(frozen=True)
class Needle:
    """A sentence to hide in a long text, the question about it, and the part that answers it.

    `answer` is the exact part of `needle` that counts as retrieved; `answer_prefix` is how a model
    that only continues text is led to it. `asking` is how the question follows the text, with {question}
    in its place; by default as in the paper's prompts.
    """

    name: str
    needle: str
    question: str
    answer: str
    answer_prefix: str = ""
    asking: str = "\nBased on the content of the book, Question: {question}\nAnswer:"

    def __post_init__(self) -> None:
        if self.needle.count(self.answer) != 1 or not self.answer:
            raise ValueError(
                f"needle {self.name!r}: the answer {self.answer!r} must occur exactly once in the needle "
                f"{self.needle!r}, found {self.needle.count(self.answer) if self.answer else 0} times"
            )
        if "{question}" not in self.asking:
            raise ValueError(f"needle {self.name!r}: asking holds no {{question}}: {self.asking!r}")

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> "Needle":
        """A needle from plain JSON; fields that a needle has not are left out."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__ if name in row})

    def ask(self, prefixed: bool) -> str:
        """The question as it follows the text, with the beginning of the answer if it is wanted and there is one."""
        asked = self.asking.replace("{question}", self.question)
        return f"{asked} {self.answer_prefix}" if prefixed and self.answer_prefix else asked


class Needles(tuple[Needle, ...]):
    """Needles and the haystack that they are hidden in: documents of plain prose."""

    haystack: tuple[str, ...]

    @classmethod
    def of(cls, needles: Iterable[Needle], haystack: Iterable[str]) -> "Needles":
        """Needles with their haystack. Raises ValueError when either is empty."""
        made = cls(needles)
        made.haystack = tuple(haystack)
        if not made or not any(document.strip() for document in made.haystack):
            raise ValueError(f"needles need a haystack: found {len(made)} needles, {len(made.haystack)} documents")
        return made

    @classmethod
    def read(cls, path: str | Path, haystack: str | Path = "") -> "Needles":
        """Read needles and haystack from JSONL files or bundled sets.

        Without a haystack, a file `..needles.jsonl` goes with the `..haystack.jsonl` beside it, any other file with
        the haystack that ships with the workbench.
        """
        file = find_file(path)
        needles = [Needle.from_row(row) for row in read_rows(file, needed=("name", "needle", "question", "answer"))]
        beside = file.with_name(file.name.replace("needles", "haystack"))
        hay = find_file(haystack) if haystack else beside if beside != file and beside.is_file() else None
        rows = read_rows(hay or find_file("haystack"), needed=["text"])
        return cls.of(needles, (row["text"] for row in rows))

    @classmethod
    def bundled(cls) -> "Needles":
        """The needles and the haystack that ship with the workbench (our own text)."""
        return cls.read("needles")

    def describe(self) -> dict:
        """The needles as plain JSON, and how large the haystack is."""
        size = sum(len(document) for document in self.haystack)
        return {
            "type": "needles",
            "needles": [asdict(needle) for needle in self],
            "haystack": {"documents": len(self.haystack), "characters": size},
        }
