"""The page of one attention head: all that saved runs say of it, and what to do with it next."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from apps.selection import choose, selection
from apps.service import saved_result, service
from apps.session import RUN, chosen
from apps.wording import inert
from workbench.head_card import head_card
from workbench.result import Result

_FOLLOW = {
    "attention_patterns": ("See where it attends", {"layer": "{layer}", "head": "{head}"}),
    "edited_generation": ("Ablate it and see what the model says", {"edits": "zero L{layer}.H{head}"}),
}
"""Pages that take a head over: the words of the link, and the knobs it sets."""


def head_page(pages: Mapping[str, st.Page]) -> None:
    """Draw the page.

    Args:
        pages: the page of each analysis.
    """
    st.header("Head", anchor=False)
    st.markdown("All that the saved runs on this model say of one attention head.")
    layer, head = _which()
    results = _newest(chosen().model)
    rows = head_card(results.values(), layer, head)
    _follow(pages, layer, head)
    if not rows:
        st.info(
            f"No saved run on {inert(chosen().model)} measures heads, or none has L{layer}.H{head}: "
            "run retrieval heads, attention patterns, direct logit attribution or activation patching."
        )
        return
    best = min(rows, key=_place)
    words = inert(best["measure"].replace("_", " "))
    st.markdown(
        f"**Of {best['heads']} heads L{layer}.H{head} is number {_place(best)} in {words}: {best['value']:.3g}.**"
    )
    st.dataframe(rows, hide_index=True, column_config={"value": st.column_config.NumberColumn(format="%.4g")})
    st.caption("Rank 1 is the highest value; rank of size counts by absolute value where there are both signs.")
    for run, result in results.items():
        if any(row["analysis"] == result.analysis for row in rows) and result.analysis in pages:
            st.page_link(pages[result.analysis], label=f"Open {inert(result.title)}", query_params={RUN: run})
            st.caption(inert(result.finding))


def _place(row: Mapping[str, Any]) -> int:
    """Where a head stands: by absolute value where there are both signs."""
    return row["rank_of_size"] or row["rank"]


def _which() -> tuple[int, int]:
    """The head that the two number fields say, which is the selected one."""
    picked = selection()
    left, right, _ = st.columns([1, 1, 4])
    fields = {}
    for place, axis in ((left, "layer"), (right, "head")):
        key = f"card {axis}"
        st.session_state[key] = picked.get(axis, 0)
        fields[axis] = place.number_input(
            axis,
            min_value=0,
            step=1,
            key=key,
            on_change=lambda axis=axis, key=key: choose(**{axis: st.session_state[key]}),
        )
    return fields["layer"], fields["head"]


def _newest(model: str) -> dict[str, Result]:
    """The newest run of each analysis on a model."""
    found: dict[str, str] = {}
    for run in service().store.runs():
        if run.model_name == model:
            found.setdefault(run.analysis, run.id)
    return {run: saved_result(run) for run in found.values()}


def _follow(pages: Mapping[str, st.Page], layer: int, head: int) -> None:
    with st.container(horizontal=True):
        for name, (label, knobs) in _FOLLOW.items():
            if name in pages:
                query = {f"{name}.{knob}": text.format(layer=layer, head=head) for knob, text in knobs.items()}
                st.page_link(pages[name], label=label, icon=":material/arrow_forward:", query_params=query)
