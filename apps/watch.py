"""Watching jobs: progress, time left and a stop button, redrawn twice a second while something runs."""

import streamlit as st

from apps.service import service
from apps.wording import counted, duration, inert
from workbench.jobs import Job


def unfinished_jobs() -> list[str]:
    """The ids of all jobs that run or wait."""
    return [job.id for job in service().jobs.all() if not job.finished]


def queue(waiting: list[str]) -> None:
    """Show all jobs at work, for the side bar."""
    if waiting:
        st.caption(f"{counted(len(waiting), 'job')} at work")
        watch(waiting, "side bar")


@st.fragment(run_every="500ms")
def watch(jobs: list[str], place: str) -> None:
    """Show jobs until one of them is finished; then the whole page is drawn again.

    Args:
        jobs: ids of jobs that were not finished when the page was drawn.
        place: where this is shown; one job may be watched at several places.
    """
    found = [service().jobs.get(job) for job in jobs]
    if any(job.finished for job in found):
        st.rerun()
    for job in found:
        _progress(job, place)


def find_job(identifier: str | None) -> Job | None:
    """The job as it is now; None when there was none, or it is long finished."""
    return next((job for job in service().jobs.all() if job.id == identifier), None)


def _progress(job: Job, place: str) -> None:
    words, button = st.columns([4, 1], vertical_alignment="center")
    words.progress(job.done / job.total if job.total else 0.0, text=inert(_state(job)))
    if button.button("Stop", key=f"stop {job.id} {place}", type="tertiary"):
        service().jobs.cancel(job.id)


def _state(job: Job) -> str:
    """What a job does, in words."""
    if job.state == "queued":
        return f"{job.title}: waiting for its turn"
    if job.total <= 1:
        return f"{job.title}: {job.label or 'starting'}"
    left = "" if job.seconds_left is None else f", {duration(job.seconds_left)} left"
    return f"{job.title}: {job.label} {job.done:,} of {job.total:,}{left}"
