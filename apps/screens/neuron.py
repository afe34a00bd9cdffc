"""The page of one MLP neuron: what saved runs say it reads and writes, where it fires, and what to do with it next."""

from collections.abc import Mapping

import streamlit as st

from apps.basket import collect_button
from apps.links import follow
from apps.pictures import pictures
from apps.screens.units import measures, newest_runs, sources, which
from apps.session import chosen
from apps.sheets import places_of, readable
from apps.wording import inert
from workbench.head_card import neuron_card
from workbench.result import Result
from workbench.views import Tokens
from workbench.views.texts import words_of

_VOCABULARY = "neuron_vocabulary"
_ACTIVITY = "neuron_activity"


def neuron_page(pages: Mapping[str, st.Page]) -> None:
    """Draw the page.

    Args:
        pages: the pages by name.
    """
    st.header("Neuron", anchor=False)
    st.markdown("All that the saved runs on this model say of one neuron of an MLP.")
    layer, neuron = which("neuron")
    name = f"L{layer}.N{neuron}"
    results = newest_runs(chosen().model)
    _follow(pages, layer, neuron)
    rows = neuron_card(results.values(), layer, neuron)
    if rows:
        measures(rows, name, "neuron")
    told = _fires(results, layer, neuron) | _tables(results, layer, neuron)
    if not rows and not told:
        st.info(
            f"No saved run on {inert(chosen().model)} has {name}: the links above lead to the pages that look at it."
        )
        return
    sources(pages, results, told | {row["analysis"] for row in rows})


def _follow(pages: Mapping[str, st.Page], layer: int, neuron: int) -> None:
    """Links to the pages that take this neuron over."""
    unit = {"layers": str(layer), "neurons": str(neuron)}
    with st.container(horizontal=True):
        for page, label, knobs in (
            (_VOCABULARY, "See what it promotes and suppresses", {**unit, "direction": "write"}),
            (_ACTIVITY, "See where it fires", {"layer": str(layer), "neuron": str(neuron)}),
            ("neuron_clamp", "Clamp it and see which tokens move", {"neurons": f"L{layer}.N{neuron}.mlp_post"}),
            ("edited_generation", "Ablate it", {"edits": f"zero L{layer}.N{neuron}"}),
        ):
            follow(pages, page, label, **{f"{page}.{knob}": text for knob, text in knobs.items()})


def _fires(results: Mapping[str, Result], layer: int, neuron: int) -> set[str]:
    """The strips of tokens of a run that looked at this neuron."""
    for run, result in results.items():
        if result.analysis == _ACTIVITY and (result.params["layer"], result.params["neuron"]) == (layer, neuron):
            st.subheader("Where it fires", anchor=False)
            collect_button(run)
            pictures(result, run, [place for place, view in enumerate(result.views) if isinstance(view, Tokens)])
            return {_ACTIVITY}
    return set()


def _tables(results: Mapping[str, Result], layer: int, neuron: int) -> set[str]:
    """The rows about this neuron in the tables of all runs."""
    told = set()
    for run, result in results.items():
        for table in result.tables:
            frame = result.table(table)
            places = places_of(frame)
            if not {"layer", "neuron"} <= set(places):
                continue
            rows = frame[(places["layer"] == layer) & (places["neuron"] == neuron)]
            if len(rows):
                told.add(result.analysis)
                st.markdown(f"**{inert(result.title)}, {inert(words_of(table))}**")
                st.dataframe(readable(rows), hide_index=True, key=f"{run} {table} of neuron")
    return told
