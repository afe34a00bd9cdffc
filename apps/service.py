"""The service behind all tabs: the loaded models, the queue of jobs, and the saved runs.

Pages hand in orders; one background thread carries them out, one after the other. Pages only read
snapshots, so a click during a run cannot touch its numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from apps.models import Models
from workbench.catalog import run, run_key
from workbench.entry import Entry
from workbench.examples import example, example_runs, is_example
from workbench.jobs import Job, Jobs
from workbench.result import Result
from workbench.store import Run, Store


@dataclass(frozen=True)
class Order:
    """One analysis, with everything that its run needs."""

    entry: Entry
    model: str
    dtype: str
    inputs: tuple[Any, ...]
    knobs: Mapping[str, Any]


class Service:
    """What lives as long as the server."""

    def __init__(self) -> None:
        self.store = Store()
        self.models = Models()
        self.jobs = Jobs()
        self._answers: dict[str, list[str]] = {}

    def load(self, model: str, dtype: str) -> Job:
        """Queue the loading of a model."""

        def work() -> None:
            self.models.load(model, dtype)

        return self.jobs.submit(work, f"Load {model}")

    def submit(self, order: Order) -> Job:
        """Queue a run; its model is loaded if need be."""
        answer: list[str] = []
        job = self.jobs.submit(lambda: self._carry_out(order, answer), f"{order.entry.title} on {order.model}")
        self._answers[job.id] = answer
        return job

    def runs(self) -> list[Run]:
        """All that can be looked at without computing: the saved runs, newest first, then the examples."""
        return [*self.store.runs(), *example_runs()]

    def run_of(self, job: str) -> str:
        """The saved run that a job which is done has made or found."""
        return self._answers[job][0]

    def _carry_out(self, order: Order, answer: list[str]) -> Result:
        model = self.models.load(order.model, order.dtype)
        result = run(order.entry.name, model, *order.inputs, store=self.store, **order.knobs)
        if (saved := self.store.find(run_key(order.entry, model, order.inputs, order.knobs))) is not None:
            answer.append(saved)
        return result


@st.cache_resource(show_spinner=False)
def service() -> Service:
    """The one service of this server."""
    return Service()


@st.cache_resource(show_spinner=False, max_entries=16)
def saved_result(run: str) -> Result:
    """A saved run or an example, read once. Raises KeyError when there is none of this id."""
    return example(run) if is_example(run) else service().store.get(run)
