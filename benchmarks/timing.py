"""Timing things against each other in one process, in turn, so that a busy machine slows all of them."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def compare(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each piece of work, run in turn after one round of warming up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in taken.items()}


def show(title: str, seconds: Mapping[str, float], unit_of: str) -> None:
    """One line per piece of work: seconds, and the ratio to the named one."""
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name:<46} {value * 1e3:10.1f} ms   {value / seconds[unit_of]:7.3f} x")
