"""Folders of files that are either whole or not there.

A folder is written beside its place under a temporary name, flushed to the disk, and then renamed.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

TEMPORARY = ".tmp-"
"""How the names of unfinished folders begin; the process id follows."""

_ALONE = (".gguf", ".txt", ".jsonl", ".csv")
"""Endings of files that are read by themselves, without what lies beside them."""

_HOUR = 3600.0

_JUST_NOW = 2.0
"""Seconds within which a file may change twice and keep its time of change."""


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files; a folder with just these files in it is replaced.

    Raises:
        ValueError: the folder holds something else.
        OSError: the disk is full or cannot be written; nothing is left behind.
    """
    if folder.exists() and not (folder.is_dir() and {file.name for file in folder.iterdir()} <= set(files)):
        raise ValueError(f"{folder} holds something other than {', '.join(files)}: choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(folder.parent, files) as written:
        move_folder(written, folder)


@contextmanager
def unfinished_folder(parent: Path, files: Mapping[str, bytes]) -> Generator[Path]:
    """A hidden folder with these files, flushed to the disk, for the block to move to its place.

    Whatever is not moved is removed at the end.
    """
    folder = _temporary_name(parent)
    try:
        _write_files(folder, files)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_abandoned(folder: Path) -> bool:
    """Whether an unfinished folder is so old that nobody can still be writing it."""
    try:
        return time.time() - folder.stat().st_mtime > _HOUR
    except FileNotFoundError:  # its writer has just moved it to its place
        return False


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir()
        for name, content in files.items():
            with (folder / name).open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        _flush_names(folder)
    except OSError as error:
        size = sum(map(len, files.values()))
        raise OSError(
            error.errno,
            f"{error.strerror}: {size:,} bytes could not be written to {folder.parent}, none were kept",
        ) from error


def move_folder(written: Path, folder: Path) -> None:
    """Rename a written folder to its place; a folder that is there is put aside first, then deleted."""
    aside = _temporary_name(folder.parent)
    if folder.exists():
        folder.rename(aside)
    try:
        written.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    _flush_names(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def replace_file(file: Path, content: bytes) -> None:
    """Write one file, or leave the one that is there as it was.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    with unfinished_folder(file.parent, {file.name: content}) as written:
        (written / file.name).replace(file)
    _flush_names(file.parent)


def file_contents(text: str) -> list[list[str]]:
    """Name and sha256 of each file that a text names; empty when it names none.

    Args:
        text: anything; a path, or several with commas between. A folder stands for all that is in it but what is
            hidden, and a file for its folder, since coders are read with what lies beside them; a GGUF file and a
            text are alone.
    """
    contents = []
    for part in filter(None, map(str.strip, text.split(","))):
        path = Path(part).expanduser()
        with suppress(OSError):  # a text that no path can be
            alone = path.suffix in _ALONE and path.is_file()
            top = path if path.is_dir() else path.parent if path.is_file() else None
            if top is not None:
                files = [path] if alone else sorted(file for file in top.rglob("*") if file.is_file())
                names = [(file.relative_to(top), file) for file in files]
                contents += [[name.as_posix(), _digest(file)] for name, file in names if not _hidden(name)]
    return contents


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _digest(file: Path) -> str:
    """The sha256 of a file, read anew only when its size or its time of change is another."""
    about = file.stat()
    read = _read_digest if time.time() - about.st_mtime > _JUST_NOW else _read_digest.__wrapped__
    return read(file.absolute(), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_digest(file: Path, _size: int, _changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _temporary_name(parent: Path) -> Path:
    return parent / f"{TEMPORARY}{os.getpid()}-{uuid4().hex}"


def _flush_names(folder: Path) -> None:
    """Flush the names in a folder to the disk; Windows has no such call and does it by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
