"""The page of one attention head: all that saved runs say of it, and what to do with it next."""

from collections.abc import Mapping

import streamlit as st

from apps.links import follow
from apps.screens.units import measures, newest_runs, sources, which
from apps.session import chosen
from apps.wording import inert
from workbench.head_card import head_card


def head_page(pages: Mapping[str, st.Page]) -> None:
    """Draw the page.

    Args:
        pages: the pages by name.
    """
    st.header("Head", anchor=False)
    st.markdown("All that the saved runs on this model say of one attention head.")
    layer, head = which("head")
    name = f"L{layer}.H{head}"
    results = newest_runs(chosen().model)
    rows = head_card(results.values(), layer, head)
    with st.container(horizontal=True):
        knobs = {"attention_patterns.layer": str(layer), "attention_patterns.head": str(head)}
        follow(pages, "attention_patterns", "See where it attends", **knobs)
        ablation = {"edited_generation.edits": f"zero {name}"}
        follow(pages, "edited_generation", "Ablate it and see what the model says", **ablation)
    if not rows:
        st.info(
            f"No saved run on {inert(chosen().model)} measures heads, or none has {name}: "
            "run retrieval heads, attention patterns, direct logit attribution or activation patching."
        )
        return
    measures(rows, name, "head")
    sources(pages, results, {row["analysis"] for row in rows})
