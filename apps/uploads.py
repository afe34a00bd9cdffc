"""Uploads: prompt sets from the reader's own machine, kept beside the saved runs."""

import hashlib
from pathlib import Path

import streamlit as st

from apps.service import service
from apps.wording import inert
from workbench.folders import replace_file

KINDS = ("jsonl", "csv", "txt")
_NAME = 60
"""Characters of a file's own name that are shown."""


def uploaded() -> dict[str, str]:
    """The files that this tab has uploaded: where they lie, and what they were called."""
    return st.session_state.setdefault("uploads", {})


def upload_button(key: str) -> None:
    """Draw a button that takes a file and chooses it in the select box of this key."""
    with st.popover("", icon=":material/upload_file:", help="Upload prompts", key=f"{key} upload"):
        st.file_uploader(
            "JSONL, CSV with a heading, or text with a prompt a line",
            type=KINDS,
            key=f"{key} file",
            on_change=_keep,
            args=(key,),
        )
        if (name := uploaded().get(st.session_state.get(key, ""))) is not None:
            st.caption(f"in use: {inert(name)}")


def _keep(key: str) -> None:
    """Store an uploaded file under its digest: its own name is a foreign text, so it never names a file."""
    file = st.session_state[f"{key} file"]
    if file is None:
        return
    content = file.getvalue()
    kind = Path(file.name).suffix.lower()
    folder = service().store.root / "uploads"
    folder.mkdir(exist_ok=True)
    place = folder / f"{hashlib.sha256(content).hexdigest()[:16]}{kind}"
    replace_file(place, content)
    st.session_state["uploads"] = {**uploaded(), str(place): file.name[:_NAME]}
    st.session_state[key] = str(place)
