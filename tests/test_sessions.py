"""Eight sessions with different edits on one model at once: every answer is the one that a session would get alone."""

import gc
import statistics
import threading
import time
from pathlib import Path

import pytest

from apps.models import Models
from apps.service import Order, Service
from workbench.catalog import CATALOG, run
from workbench.prompts import Prompts
from workbench.result import Result

MODEL = "planted:tour"
SESSIONS = 8
ENTRY = CATALOG["edited_generation"]
EDITS = (
    "zero L2.H1",
    "zero L0.H0",
    "scale L3.mlp_out 0.5",
    "skip L1.attn",
    "repeat L2 2",
    "zero L2.H3; skip L3.mlp",
    "clamp L3.N11 5",
    "cut L2.H1 query 7 key 0",
)
TEXTS = (
    "The secret of the harvest soup is smoked tangerine peel.",
    "The mayor throws a violet accordion from the balcony.",
)
MEGABYTES = 60
"""By how much the memory of the process may differ between the middle and the end of a test, to allow for noise."""


class Session(threading.Thread):
    """Hands in runs with its own edit, over and over: by the queue as a tab does, or straight as a notebook does."""

    def __init__(self, number: int, service: Service, end: threading.Event) -> None:
        super().__init__(name=f"session-{number}")
        self.number, self.service, self.end = number, service, end
        self.straight = number % 2 == 1
        self.model = service.models.load(MODEL, "auto")
        self.answers: list[tuple[Prompts, Result]] = []

    def run(self) -> None:
        while not self.end.is_set():
            prompts = Prompts.of(f"{TEXTS[len(self.answers) % 2]} {self.number} {len(self.answers)} The")
            self.answers.append((prompts, self.answer(prompts)))

    def answer(self, prompts: Prompts) -> Result:
        if self.straight:
            return run(ENTRY.name, self.model, prompts, **self.knobs)
        job = self.service.submit(Order(ENTRY, MODEL, "auto", (prompts,), self.knobs))
        done = self.service.jobs.wait(job.id)
        assert done.state == "done", done.error
        return self.service.store.get(self.service.run_of(job.id))

    @property
    def knobs(self) -> dict[str, object]:
        return {"edits": EDITS[self.number], "new_tokens": 4, "controls": 2, "seed": self.number}


def resident() -> float:
    """Megabytes of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell the memory of a process")
@pytest.mark.parametrize("seconds", [12, pytest.param(120, marks=pytest.mark.long)])
def test_eight_sessions_at_once_get_what_each_would_get_alone(seconds, tmp_path, monkeypatch, record_property):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    service, end = Service(), threading.Event()
    model = service.models.load(MODEL, "auto")
    run(ENTRY.name, model, Prompts.of(TEXTS[0]), edits=EDITS[0])  # what is built once is built
    sessions = [Session(number, service, end) for number in range(SESSIONS)]
    for session in sessions:
        session.start()
    memory = []
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and all(session.is_alive() for session in sessions):
        memory.append(resident())
        end.wait(seconds / 30)
    end.set()
    for session in sessions:
        session.join()
    answers = [(session, *answer) for session in sessions for answer in session.answers]
    third = len(memory) // 3
    growth = statistics.median(memory[-third:]) - statistics.median(memory[third : 2 * third])
    told = f"{len(answers)} answers in {seconds} s, memory {memory[-1]:.0f} MB, {growth:+.1f} MB since the middle third"
    record_property("eight sessions", told)
    assert all(session.answers for session in sessions), "every session had its turn"
    for session, prompts, got in answers:
        alone = run(ENTRY.name, model, prompts, **session.knobs)
        assert got.arrays == alone.arrays, (session.knobs, prompts)
        assert got.tables == alone.tables, (session.knobs, prompts)
    assert growth < MEGABYTES
    assert isinstance(service.models, Models) and service.models.find(MODEL, "auto") is model
