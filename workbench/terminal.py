"""What the command line shows: text that cannot disturb the terminal, tables, and progress.

Answers go to standard output; progress and errors go to standard error, so that a pipe stays clean.
"""

import os
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from workbench.progress import listening

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_PATIENCE = 1.0
"""Seconds of work before a progress bar appears."""

_WIDE = 200
"""Characters in a line that goes into a pipe or a file."""


def visible(text: object) -> str:
    r"""The text with every character that has no glyph written as an escape, such as `\n` or `\x1b`.

    Tokens hold line ends, terminal commands and marks that reverse the reading order; none of them may
    act on the terminal.

    Example:
        >>> visible("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


def print_line(text: str = "", style: str = "") -> None:
    """Print one line; the text is shown as it is, never read as markup."""
    from rich.text import Text

    _console().print(Text(visible(text), style=style), soft_wrap=True)


def print_error(text: str) -> None:
    """Print one line on standard error."""
    from rich.text import Text

    _console(stderr=True).print(Text(visible(text)), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]], title: str = "") -> None:
    """Print a table of any values; where the terminal is narrow, the last column is broken into lines."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(visible(title)) if title else None, box=box.SIMPLE_HEAD, title_justify="left")
    for column in columns[:-1]:
        table.add_column(Text(visible(column)), no_wrap=True, overflow="ellipsis")
    table.add_column(Text(visible(columns[-1])), overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    _console().print(table)


def waiting(text: str) -> AbstractContextManager[object]:
    """Show a moving sign and the text on the terminal while the block works."""
    from rich.text import Text

    console = _console(stderr=True)
    return console.status(Text(visible(text))) if console.is_terminal else nullcontext()


def _console(stderr: bool = False) -> "Console":
    """The terminal; a pipe or a file gets wide lines, because nobody has to fit them on a screen."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


@contextmanager
def progress_bars() -> Generator[None]:
    """Show a bar with the time left for each loop of the block, once the work takes over a second."""
    if not _console(stderr=True).is_terminal:
        yield
        return
    bars = _Bars()
    try:
        with listening(bars):
            yield
    finally:
        bars.close()


class _Bars:
    """A listener that draws one bar a label."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.progress: Progress | None = None
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, done: int, total: int, label: str) -> None:
        if self.progress is None:
            if time.monotonic() - self.begun < _PATIENCE:
                return
            self.progress = _start_progress()
        if label not in self.tasks:
            self.tasks[label] = self.progress.add_task(visible(label), total=total)
        elif done == 0:
            self.progress.reset(self.tasks[label], total=total)
        self.progress.update(self.tasks[label], completed=done, total=total)

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()


def _start_progress() -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=_console(stderr=True), transient=True)
    progress.start()
    return progress
