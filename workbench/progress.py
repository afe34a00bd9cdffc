"""Progress and cancellation for long work, without any dependency on who is watching.

Library code wraps its loops in `track`; whoever runs it (command line, background job, notebook)
installs a listener with `listening`. Between two items the listener can stop the work.
"""

import contextvars
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


class Cancelled(Exception):
    """The work was stopped on request between two items; what was finished is kept."""


Listener = Callable[[int, int, str], None]
"""Called as listener(done, total, label) before each item and once at the end. May raise Cancelled."""

_LISTENER: contextvars.ContextVar[Listener | None] = contextvars.ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Send the progress of all work inside the block, in this thread, to the listener."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def track(items: Collection[Item], label: str) -> Iterator[Item]:
    """Yield the items in turn and tell the listener how many are done.

    Raises:
        Cancelled: the listener asked for the work to stop.
    """
    listener = _LISTENER.get()
    for done, item in enumerate(items):
        if listener is not None:
            listener(done, len(items), label)
        yield item
    if listener is not None:
        listener(len(items), len(items), label)
