"""Blind mode on the page of a circuit: first a hypothesis, then what the feature is, then a verdict that is kept."""

import streamlit as st

from apps.service import service
from apps.session import show_run
from apps.wording import inert
from workbench.examples import is_example
from workbench.result import Result


def blind_card(result: Result, node: str, run: str) -> None:
    """Draw what there is to say of one node.

    Args:
        result: the circuit, with everything in it.
        node: the id of the node that is looked at.
        run: the run of the circuit.
    """
    from workbench.circuits.blind import VERDICTS, blind_case, blind_nodes, reveal, suppose, with_verdict

    waiting = blind_nodes(result)
    judged = {row["node"]: row for row in result.tables.get("verdicts", [])}
    if node in judged:
        st.markdown(f"You said: {inert(judged[node]['hypothesis'])}. Verdict: **{judged[node]['verdict']}**.")
        return
    if node not in waiting:
        st.caption("Blind mode is about features: choose a circle.")
        return
    key = f"circuit {run} {node}"
    with st.form(f"{key} hypothesis"):
        text = st.text_area("What is this feature?", key=f"{key} text", placeholder="It fires on ... because ...")
        if st.form_submit_button("Reveal", icon=":material/visibility:") and not text.strip():
            st.error("Write what you take it for first: afterwards it is too late.")
        elif text.strip() and st.session_state.get(f"{key} revealed") is None:
            st.session_state[f"{key} revealed"] = text
    supposed = st.session_state.get(f"{key} revealed")
    if supposed is None:
        return
    case = suppose(blind_case(result, node), supposed)
    told = reveal(result, case)
    st.markdown(f"It is **{inert(told['name'] or 'without a name')}**, and fires here on {inert(told['token'])}.")
    remark = st.text_input("What was learned", key=f"{key} remark")
    verdict = st.segmented_control("Verdict", VERDICTS, key=f"{key} verdict")
    if st.button("Keep the verdict", key=f"{key} keep", disabled=verdict is None) and verdict is not None:
        _keep(with_verdict(result, case, verdict, remark), run)


def _keep(result: Result, run: str) -> None:
    """Put the judged circuit in the place of the run, or beside an example, and show it."""
    store = service().store
    kept = store.put(result, f"{run} judged") if is_example(run) else store.amend(run, result)
    show_run(result.analysis, kept)
    st.rerun()
