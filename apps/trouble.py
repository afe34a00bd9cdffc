"""Trouble: how a page says what went wrong. The user's mistake is one sentence, a defect is told in full."""

import streamlit as st

from apps.wording import inert
from workbench.jobs import Job
from workbench.mistakes import sentence


def tell_mistake(error: Exception) -> None:
    """Show a user's mistake as one sentence."""
    st.error(inert(sentence(error) or type(error).__name__))


def tell_failure(job: Job) -> None:
    """Show why a job failed, with its traceback when the mistake is ours."""
    st.error(inert(job.error))
    if job.traceback:
        st.code(job.traceback, language=None)
