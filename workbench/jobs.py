"""Background jobs: work in threads, with progress, cancellation and results, for whoever watches.

A job reports progress through `workbench.progress.track`, and between two items of such a loop it can
be cancelled. What is read here are frozen snapshots, so a page may look at any moment.
"""

import itertools
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from workbench.mistakes import sentence
from workbench.progress import Cancelled, listening
from workbench.result import Result

State = Literal["queued", "running", "done", "failed", "cancelled"]

_KEPT = 50
"""Finished jobs that are remembered; their results live on in the store."""


@dataclass(frozen=True)
class Job:
    """A job as it was at one moment.

    Attributes:
        id: names the job within its `Jobs`.
        title: what the work is, for people.
        state: queued, running, done, failed or cancelled.
        done: items finished in the loop that runs now.
        total: items of that loop; 0 before the first report.
        label: what the loop works on.
        started: seconds since the epoch, None while queued.
        seconds_left: of the loop that runs now, from its speed so far; None while unknown.
        error: why it failed, in a sentence.
        traceback: the details of a failure that is not the user's mistake.
        result: what the work gave, when done; some work only prepares and gives nothing.
    """

    id: str
    title: str
    state: State = "queued"
    done: int = 0
    total: int = 0
    label: str = ""
    started: float | None = None
    seconds_left: float | None = None
    error: str = ""
    traceback: str = ""
    result: Result | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether nothing more will change."""
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """A queue of jobs, first come first served, worked on by daemon threads.

    Args:
        max_parallel: how many jobs run at the same moment.
    """

    def __init__(self, max_parallel: int = 1) -> None:
        if max_parallel < 1:
            raise ValueError(f"max_parallel is {max_parallel}: at least one job must be able to run")
        self._jobs: dict[str, Job] = {}
        self._queue: deque[tuple[str, Callable[[], Result | None]]] = deque()
        self._unwanted: set[str] = set()
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        for number in range(max_parallel):
            threading.Thread(target=self._work, name=f"workbench-job-{number}", daemon=True).start()

    def submit(self, work: Callable[[], Result | None], title: str) -> Job:
        """Put work at the end of the queue and return its first snapshot at once."""
        with self._changed:
            job = Job(id=f"job-{next(self._numbers)}", title=title)
            self._jobs[job.id] = job
            self._queue.append((job.id, work))
            self._forget_old()
            self._changed.notify_all()
            return job

    def get(self, identifier: str) -> Job:
        """The job as it is now. Raises KeyError when it is unknown or forgotten."""
        with self._changed:
            return self._find(identifier)

    def all(self) -> tuple[Job, ...]:
        """Every job that is remembered, oldest first."""
        with self._changed:
            return tuple(self._jobs.values())

    def cancel(self, identifier: str) -> Job:
        """Ask a job to stop: at once when queued, before its next tracked item when running."""
        with self._changed:
            job = self._find(identifier)
            if job.state == "queued":
                self._queue = deque(item for item in self._queue if item[0] != identifier)
                return self._update(identifier, state="cancelled")
            if job.state == "running":
                self._unwanted.add(identifier)
            return job

    def wait(self, identifier: str, timeout: float | None = None) -> Job:
        """Block until the job is finished and return it.

        Raises:
            TimeoutError: it is not finished after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._find(identifier).finished, timeout):
                raise TimeoutError(f"{identifier} is still {self._find(identifier).state} after {timeout} s")
            return self._find(identifier)

    def _find(self, identifier: str) -> Job:
        if identifier not in self._jobs:
            raise KeyError(f"job {identifier!r} is unknown; known are {', '.join(self._jobs) or 'none'}")
        return self._jobs[identifier]

    def _update(self, identifier: str, **changes: object) -> Job:
        with self._changed:
            self._jobs[identifier] = replace(self._jobs[identifier], **changes)
            self._changed.notify_all()
            return self._jobs[identifier]

    def _forget_old(self) -> None:
        finished = [job.id for job in self._jobs.values() if job.finished]
        for identifier in finished[:-_KEPT]:
            del self._jobs[identifier]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                identifier, work = self._queue.popleft()
                self._update(identifier, state="running", started=time.time())
            self._finish(identifier, work)

    def _finish(self, identifier: str, work: Callable[[], Result | None]) -> None:
        try:
            with listening(_Reporter(self, identifier)):
                result = work()
        except Cancelled:
            self._update(identifier, state="cancelled", seconds_left=None)
        except BaseException as error:  # the thread must outlive whatever a job raises
            mistake = sentence(error)
            details = "" if mistake else "".join(traceback.format_exception(error))
            told = mistake or f"{type(error).__name__}: {error}"
            self._update(identifier, state="failed", seconds_left=None, error=told, traceback=details)
        else:
            self._update(identifier, state="done", seconds_left=None, result=result)
        finally:
            self._unwanted.discard(identifier)


class _Reporter:
    """The listener of one job: notes its progress, guesses the time left, and passes on a cancellation."""

    def __init__(self, jobs: Jobs, identifier: str) -> None:
        self.jobs = jobs
        self.identifier = identifier
        self.begun: dict[str, float] = {}

    def __call__(self, done: int, total: int, label: str) -> None:
        if self.identifier in self.jobs._unwanted:
            raise Cancelled(f"{label} was cancelled after {done} of {total}")
        now = time.monotonic()
        if done == 0 or label not in self.begun:
            self.begun[label] = now
        left = (now - self.begun[label]) / done * (total - done) if done else None
        self.jobs._update(self.identifier, done=done, total=total, label=label, seconds_left=left)
