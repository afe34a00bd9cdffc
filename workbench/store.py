"""The store: every run that was kept, as folders with an index.

    <root>/runs/<id>/      one saved result, see `workbench.result`; the id is a hash of its files
    <root>/index.sqlite    one row per run, so that a list needs no folder to be opened

Several processes may use one store at the same time: a folder and its row appear and disappear together,
inside one write transaction of the index. What a killed process leaves behind is swept away when the
store is next opened.
"""

import hashlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.folders import TEMPORARY, is_abandoned, move_folder, unfinished_folder
from workbench.result import Result

SCHEMA_VERSION = 1
_ID = re.compile(r"[0-9a-f]{1,64}")
_ID_LENGTH = 16
_PATIENCE = 30.0
"""Seconds to wait for another process that is writing."""
_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
    analysis TEXT NOT NULL, title TEXT NOT NULL, model_name TEXT NOT NULL, created TEXT NOT NULL,
    finding TEXT NOT NULL, passed INTEGER NOT NULL, seconds REAL, bytes INTEGER NOT NULL
)"""


@dataclass(frozen=True)
class Run:
    """A line in the list of runs.

    Attributes:
        id: names the run in the store.
        analysis: its name in the catalogue.
        title: the title of the result.
        model_name: the model it ran on.
        created: when it was stored, ISO 8601, UTC.
        finding: its outcome in a sentence.
        passed: whether all self-checks passed.
        seconds: how long it took, None if the result does not say.
        bytes: size of its folder.
    """

    id: str
    analysis: str
    title: str
    model_name: str
    created: str
    finding: str
    passed: bool
    seconds: float | None
    bytes: int


_COLUMNS = ", ".join(field.name for field in fields(Run))


class Store:
    """Runs on disk.

    Args:
        root: the folder; without it $WORKBENCH_HOME, else the user's own data folder. It is made if it
            is missing.
        read_only: neither write nor sweep; without it, found out from the folder's permissions.

    Raises:
        ValueError: the index is from a newer workbench or is damaged.
        FileNotFoundError: a read-only store is asked for where there is none.
    """

    def __init__(self, root: str | Path | None = None, read_only: bool | None = None) -> None:
        self.root = Path(root) if root is not None else default_root()
        exists = self._index.exists()
        self.read_only = (exists and not os.access(self.root, os.W_OK)) if read_only is None else read_only
        if self.read_only:
            if not exists:
                raise FileNotFoundError(f"there is no store in {self.root}")
            self._check_schema()
            return
        self._runs.mkdir(parents=True, exist_ok=True)
        if exists:
            self._check_schema()
        with self._writing() as index:
            index.execute(_TABLE)
            index.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._sweep()

    @property
    def _index(self) -> Path:
        return self.root / "index.sqlite"

    @property
    def _journal(self) -> Path:
        return self.root / "index.sqlite-wal"

    @property
    def _runs(self) -> Path:
        return self.root / "runs"

    def put(self, result: Result, key: str) -> str:
        """Keep a result.

        Args:
            result: what to keep.
            key: what `find` shall find it by, see `workbench.catalog.run_key`.

        Returns:
            The id of the run. A result that is already there keeps its id, and takes the new key.

        Raises:
            OSError: the disk is full or the store is read-only; the store stays as it was.
        """
        self._refuse_if_read_only()
        files = result.files()
        run = _run_of(result, files)
        folder = self._runs / run.id
        row = (key, *astuple(run))
        with unfinished_folder(self._runs, files) as written, self._writing() as index:
            index.execute("DELETE FROM runs WHERE id = ?", (run.id,))
            index.execute(f"INSERT INTO runs (key, {_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
            move_folder(written, folder)
        return run.id

    def amend(self, run: str, result: Result) -> str:
        """Put a result in the place of a run, under its key; returns the new id.

        Raises:
            ValueError, KeyError, OSError: as `delete` and `put` do.
        """
        full = self._full_id(run)
        new = self.put(result, str(self._read("SELECT key FROM runs WHERE id = ?", full)[0][0]))
        if new != full:
            self.delete(full)
        return new

    def find(self, key: str) -> str | None:
        """The id of the newest run with this key that is still whole on disk, or None."""
        query = "SELECT id, bytes FROM runs WHERE key = ? ORDER BY number DESC"
        return next((run for run, size in self._read(query, key) if self._is_whole(run, size)), None)

    def get(self, run: str) -> Result:
        """The result of a run.

        Args:
            run: its id, or how the id begins.

        Raises:
            ValueError: this is no id, fits several runs, or the folder of the run is damaged.
            KeyError: there is no such run.
        """
        return Result.load(self._runs / self._full_id(run))

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return [_run_from(row) for row in self._read(f"SELECT {_COLUMNS} FROM runs ORDER BY number DESC")]

    def delete(self, run: str) -> None:
        """Remove a run.

        Args:
            run: its id, or how the id begins.

        Raises:
            ValueError: this is no id or fits several runs.
            KeyError: there is no such run.
            OSError: the store is read-only.
        """
        self._refuse_if_read_only()
        full = self._full_id(run)
        doomed = self._runs / f"{TEMPORARY}{full}"
        with self._writing() as index:
            index.execute("DELETE FROM runs WHERE id = ?", (full,))
            (self._runs / full).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _is_whole(self, run: str, size: int) -> bool:
        """Whether the folder of a run is there and no file of it was cut short."""
        folder = self._runs / run
        return folder.is_dir() and sum(file.stat().st_size for file in folder.iterdir()) == size

    def _full_id(self, run: str) -> str:
        """The id that begins like this; checked before anything on disk is named after it."""
        if not _ID.fullmatch(run):
            raise ValueError(f"{run!r} is no run id: ids are made of the digits 0-9 and a-f")
        found = [str(row[0]) for row in self._read("SELECT id FROM runs WHERE id GLOB ?", f"{run}*")]
        if not found:
            raise KeyError(f"there is no run {run!r}: the store in {self.root} holds {len(self.runs())} runs")
        if len(found) > 1 and run not in found:
            raise ValueError(f"{run!r} fits {len(found)} runs: {', '.join(sorted(found))}")
        return run if run in found else found[0]

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise PermissionError(
                f"the store in {self.root} is read-only: choose another with --store or WORKBENCH_HOME"
            )

    def _check_schema(self) -> None:
        try:
            version = self._read("PRAGMA user_version")[0][0]
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self._index} cannot be read: {error}") from error
        if version > SCHEMA_VERSION:
            raise ValueError(f"{self._index} has schema {version}: this workbench reads up to {SCHEMA_VERSION}")

    def _read(self, query: str, *values: object) -> list[tuple]:
        with closing(self._connect()) as index:
            return index.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """The index, locked for this writer; all changes of the block are kept, or none."""
        try:
            with closing(self._connect()) as index:
                _use_write_ahead_log(index)
                index.execute("PRAGMA synchronous = FULL")
                index.execute("BEGIN IMMEDIATE")
                # closing a connection takes back what it has not committed
                yield index
                index.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._index} could not be written: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        """A connection of its own for each operation, so that threads share nothing."""
        options = "?mode=ro" if self.read_only else ""
        if self.read_only and not os.access(self.root, os.W_OK) and not self._journal.exists():
            options += "&immutable=1"  # SQLite may not make its lock files here, and nobody can write
        address = self._index.absolute().as_uri() + options
        return sqlite3.connect(address, uri=True, timeout=_PATIENCE, isolation_level=None)

    def _sweep(self) -> None:
        """Remove what killed processes left: unfinished folders, folders without row, rows without folder."""
        with self._writing() as index:
            known = {str(row[0]) for row in index.execute("SELECT id FROM runs")}
            present = {folder.name for folder in self._runs.iterdir() if folder.is_dir()}
            for name in present - known:
                if not name.startswith(TEMPORARY) or is_abandoned(self._runs / name):
                    shutil.rmtree(self._runs / name, ignore_errors=True)
            index.executemany("DELETE FROM runs WHERE id = ?", [(run,) for run in known - present])


def _use_write_ahead_log(index: sqlite3.Connection) -> None:
    """Write changes ahead. SQLite itself does not wait here for others that do the same to a new index."""
    limit = time.monotonic() + _PATIENCE
    while True:
        try:
            index.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > limit:
                raise
            time.sleep(0.01)


def default_root() -> Path:
    """$WORKBENCH_HOME, else the data folder that the system gives this user."""
    import platformdirs

    if home := os.environ.get("WORKBENCH_HOME"):
        return Path(home).expanduser()
    return Path(platformdirs.user_data_dir("mechinterp-workbench", appauthor=False))


def _run_of(result: Result, files: dict[str, bytes]) -> Run:
    """What the list says of a result."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    seconds = result.made.get("seconds")
    return Run(
        id=digest.hexdigest()[:_ID_LENGTH],
        analysis=result.analysis,
        title=result.title,
        model_name=str(result.model.get("name", "")),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        finding=result.finding,
        passed=result.passed,
        seconds=None if seconds is None else float(seconds),
        bytes=sum(map(len, files.values())),
    )


def _run_from(row: tuple[Any, ...]) -> Run:
    told = dict(zip((field.name for field in fields(Run)), row, strict=True))
    told["passed"] = bool(told["passed"])  # SQLite has only numbers
    return Run(**told)
