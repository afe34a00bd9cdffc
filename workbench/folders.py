"""Folders of files that are either whole or not there.

A folder is written beside its place under a temporary name, flushed to the disk, and then renamed.
"""

import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

TEMPORARY = ".tmp-"
"""How the names of unfinished folders begin; the process id follows."""


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


def file_states(text: str) -> list[list[str | int]]:
    """Name, size and time of change of each file that a text names; empty when it names none.

    Args:
        text: anything; a path, or several with commas between, of files or of folders (two levels are looked at).
    """
    states: list[list[str | int]] = []
    for part in filter(None, map(str.strip, text.split(","))):
        path = Path(part).expanduser()
        with suppress(OSError):  # a text that no path can be
            files = [path] if path.is_file() else sorted([*path.glob("*"), *path.glob("*/*")])
            for file in filter(Path.is_file, files):
                about = file.stat()
                states.append([str(file), about.st_size, about.st_mtime_ns])
    return states


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
