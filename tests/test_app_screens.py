"""The hand-made screens without a browser: examples, the wall of heads, the page of a neuron, explanations."""

from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from apps.explain import described
from apps.service import service
from workbench.catalog import CATALOG
from workbench.examples import example, example_runs
from workbench.result import Named, Result

DASHBOARD = Path(__file__).parent.parent / "apps" / "dashboard.py"
SOON = 60.0
ATTENTION = "example-attention_patterns"


@pytest.fixture(autouse=True)
def fresh_store(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    st.cache_resource.clear()


def one_screen(name):
    from apps.screens.attention import attention_result
    from apps.screens.neuron import neuron_page
    from apps.service import saved_result
    from apps.sidebar import side_bar

    side_bar()
    if name == "neuron":
        neuron_page({})
    else:
        attention_result({}, saved_result(name), name)


def open_screen(name: str, **address: str) -> AppTest:
    page = AppTest.from_function(one_screen, kwargs={"name": name}, default_timeout=SOON)
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    return "\n".join(str(part.body) for part in page.get("html"))


@pytest.mark.parametrize("place", range(len(example_runs())))
def test_every_example_is_shown_on_the_first_page(place):
    run = example_runs()[place]
    page = AppTest.from_file(str(DASHBOARD), default_timeout=SOON).run()
    page.pills(key="example").set_value(run.id).run()
    assert not page.exception
    assert page.get("html")
    assert any(run.id in str(link.proto) for link in page.get("page_link"))


def test_the_wall_shows_the_selected_head_in_place_of_the_one_of_the_run():
    shown = example(ATTENTION).scalars["shown"]
    assert f"Attention of {shown}" in texts(open_screen(ATTENTION))
    page = open_screen(ATTENTION, at="layer0.head4")
    assert "Attention of L0.H4" in texts(page)
    assert f"Attention of {shown}" not in texts(page)


def test_a_head_whose_map_is_pooled_can_be_computed_in_full():
    page = open_screen(ATTENTION, at="layer0.head4")
    button = next(one for one in page.button if one.label.startswith("Compute the full map"))
    button.click().run()
    assert page.session_state["attention_patterns.layer"] == 0
    assert page.session_state["attention_patterns.head"] == 4
    assert page.session_state["attention_patterns wanted"] is True


def test_a_neuron_page_gathers_what_runs_say_of_it():
    result = Result(
        analysis="neuron_vocabulary",
        title="Neuron vocabulary",
        model={"name": "planted:tour", "dtype": "float32"},
        arrays={"peak": Named(np.arange(6.0).reshape(2, 3), ("layer", "neuron"), "z")},
        tables={"neurons": [{"neuron": "L1.N2", "token": "egg"}, {"neuron": "L0.N0", "token": "soup"}]},
    )
    service().store.put(result, "key")
    page = open_screen("neuron", at="layer1.neuron2", model="planted:tour")
    assert any("L1.N2 is number 1 in peak: 5." in text.value for text in page.markdown)
    assert any("Neuron vocabulary, neurons" in text.value for text in page.markdown)
    shown = [list(frame.value["token"]) for frame in page.dataframe if "token" in frame.value]
    assert ["egg"] in shown and ["soup"] not in shown


def test_a_neuron_that_no_run_has_says_where_to_go():
    page = open_screen("neuron", at="layer99.neuron1")
    assert any("L99.N1" in text.value for text in page.info)


def test_every_analysis_explains_formula_source_and_caveats():
    for entry in CATALOG.values():
        assert set(described(entry.about)) == {"Idea", "Score", "Beware", "Reference"}, entry.name
    assert described("") == {}
