"""Paragraphs of prose out of HTML pages, Mallard pages and plain text."""

import gzip
import re
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_SKIPPED = frozenset(
    {"head", "script", "style", "nav", "pre", "code-block", "screen", "synopsis", "svg", "info", "table"}
)
"""Elements whose text is no prose; `screen`, `synopsis` and `info` are those of Mallard."""

_INLINE = re.compile(
    "a|abbr|acronym|b|bdi|big|cite|code|dfn|em|font|i|img|input|kbd|mark|q|s|samp|small|span|strong|sub|sup|tt|u|var|"
    "app|cmd|file|gui|guiseq|key|keyseq|link|media|output|sys"
)
"""Elements that stand within a sentence, of HTML and of Mallard; every other one ends a paragraph."""

_FEWEST_WORDS = 8
_LETTERS = 0.8
"""The least share of a paragraph that is letters and spaces: below it, it is a table, a path or code."""

_MARKS = re.compile(r"[\u00b6\u00ad\u200b\ufeff\ufffd]")


class _Page(HTMLParser):
    """Reads a page into blocks of text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[str] = []
        self._parts: list[str] = []
        self._skipping: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _SKIPPED:
            self._skipping.append(tag)
        if not _INLINE.fullmatch(tag):
            self._end()

    def handle_endtag(self, tag: str) -> None:
        if tag in self._skipping:
            del self._skipping[self._skipping.index(tag) :]
        if not _INLINE.fullmatch(tag):
            self._end()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if not _INLINE.fullmatch(tag):
            self._end()

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._parts.append(data)

    def close(self) -> None:
        super().close()
        self._end()

    def _end(self) -> None:
        self.blocks.append("".join(self._parts))
        self._parts = []


def paragraphs(file: Path) -> Iterator[str]:
    """The paragraphs of a file that are prose, each on one line."""
    text = _text(file)
    for block in re.split(r"\n\s*\n", text) if ".txt" in file.suffixes else _blocks(text):
        line = " ".join(_MARKS.sub("", unicodedata.normalize("NFC", block)).split())
        if is_prose(line):
            yield line


def is_prose(line: str) -> bool:
    """Whether a line reads like sentences: enough words, and mostly letters.

    Example:
        >>> is_prose("The lighthouse keeper counted the ships every evening."), is_prose("usr/bin/x -f --all 17 0x3f")
        (True, False)
    """
    plain = sum(character.isalpha() or character == " " for character in line)
    return len(line.split()) >= _FEWEST_WORDS and plain >= _LETTERS * len(line)


def _blocks(text: str) -> list[str]:
    page = _Page()
    page.feed(text)
    page.close()
    return page.blocks


def _text(file: Path) -> str:
    """The text of a file, unpacked; pages that are not UTF-8 are of the time of Latin-1."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
