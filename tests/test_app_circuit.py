"""The page of a circuit without a browser: cards, pins, groups, labels, thresholds, blind mode, links."""

import json
import re
from dataclasses import replace

import pytest
import streamlit as st
from drawn_circuit import circuit
from pictures import HOSTILE
from streamlit.testing.v1 import AppTest

from apps.circuit_choice import CIRCUIT, CircuitChoice
from apps.screens.circuit import _circuit_file
from apps.service import service
from workbench.result import Result

NAMES = ("a colour", "an animal", "a coloured animal")


def one_page(run):
    from apps.screens.circuit import circuit_result
    from apps.service import saved_result
    from apps.session import shown_run
    from apps.sidebar import side_bar

    side_bar()
    now = shown_run("transcoder_circuit") or run
    circuit_result({}, saved_result(now), now)


@pytest.fixture(autouse=True)
def fresh_service(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    st.cache_resource.clear()


def open_page(result: Result, **address: str) -> AppTest:
    run = service().store.put(result, "key")
    page = AppTest.from_function(one_page, kwargs={"run": run}, default_timeout=60)
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def button(page: AppTest, label: str):
    return next(one for one in page.button if label in one.label)


def look_at(page: AppTest, node: str) -> AppTest:
    return box(page, "Node").set_value(node).run()


def box(page: AppTest, label: str):
    return next(one for one in page.selectbox if one.label == label)


def choice_in(page: AppTest) -> dict:
    return json.loads(address_of(page) or "{}")


def address_of(page: AppTest) -> str:
    found = page.query_params.get(CIRCUIT, "")
    return found if isinstance(found, str) else found[0]


def texts(page: AppTest) -> str:
    parts = [*page.markdown, *page.caption, *page.button]
    return "\n".join(getattr(one, "label", "") or getattr(one, "value", "") for one in parts)


def test_a_node_that_is_chosen_shows_its_card_and_stands_in_the_address_and_the_selection():
    page = look_at(open_page(circuit(*NAMES)), "1_0_2")
    labels = [one.label for one in page.button if one.label.startswith(":")]
    assert labels == [
        r":blue[+2.25] L0\.F4\@2 a colour",
        r":red[-1.5] L0\.F5\@2 an animal",
        r":blue[+0.01] L0\.error\@2",
        r":blue[+20] \'runs\'",
    ]
    assert choice_in(page) == {"clickedId": "1_0_2"}
    assert dict(page.session_state["at"]) == {"layer": 1, "pos": 2, "feature": 0}


def test_a_click_on_an_input_goes_on_to_that_node():
    page = look_at(open_page(circuit(*NAMES)), "1_0_2")
    button(page, "an animal").click().run()
    assert choice_in(page) == {"clickedId": "0_5_2"}
    assert box(page, "Node").value == "0_5_2"


def test_pinned_nodes_are_grouped_summed_and_let_go_again():
    page = open_page(circuit(*NAMES))
    for node in ("0_4_2", "0_5_2"):
        look_at(page, node)
        button(page, "Pin").click().run()
    next(one for one in page.text_input if one.label == "Group them as").set_value("early").run()
    button(page, "Group").click().run()
    assert choice_in(page)["supernodes"] == [["early", "0_4_2", "0_5_2"]]
    look_at(page, "1_0_2")
    button(page, "Pin").click().run()
    (sums,) = [one.value for one in page.dataframe if "edges" in one.value and "weight" in one.value][:1]
    assert sums[["source", "target", "weight", "edges"]].values.tolist() == [
        ["early", "L1.F0@2 a coloured animal", 0.75, 2]
    ]
    button(page, "Ungroup").click().run()
    assert choice_in(page)["pinnedIds"] == ["1_0_2", "0_4_2", "0_5_2"]


def test_groups_that_the_result_proposes_are_taken_over():
    rows = [{"label": "twins", "nodes": "0_4_2 0_5_2"}]
    page = open_page(replace(circuit(*NAMES), tables={**circuit(*NAMES).tables, "supernodes": rows}))
    button(page, "Group what is alike").click().run()
    assert choice_in(page) == {"supernodes": [["twins", "0_4_2", "0_5_2"]]}
    assert not any(one.label == "Group what is alike" for one in page.button)


def test_a_label_of_ones_own_is_shown_everywhere_and_goes_into_the_circuit_file():
    page = look_at(open_page(circuit(*NAMES)), "0_4_2")
    next(one for one in page.text_input if one.label == "Your label").set_value("colours").run()
    look_at(page, "1_0_2")
    assert ":blue[+2.25] colours" in texts(page)
    choice = CircuitChoice.read(address_of(page))
    written = json.loads(_circuit_file(circuit(*NAMES), choice, "mine"))
    assert next(node for node in written["nodes"] if node["node_id"] == "0_4_2")["clerp"] == "colours"
    assert written["qParams"]["clickedId"] == "1_0_2"
    assert written["metadata"]["slug"] == "mine"
    assert len(written["links"]) == 6


def test_a_link_restores_node_pins_groups_labels_and_thresholds():
    choice = CircuitChoice(
        node="1_0_2",
        pinned=("E_3_1",),
        groups={"early": ("0_4_2", "0_5_2")},
        names={"0_4_2": "colours"},
        nodes=5,
        edges=4,
    )
    page = open_page(circuit(*NAMES), circuit=choice.written())
    assert box(page, "Node").value == "1_0_2"
    assert page.multiselect[0].value == ["E_3_1"]
    assert [(one.label, one.value) for one in page.slider] == [("Nodes of 7", 5), ("Edges of 6", 4)]
    assert "**early**" in texts(page) and ":blue[+2.25] colours" in texts(page)


def test_a_threshold_that_is_moved_stands_in_the_address():
    page = open_page(circuit())
    page.slider[0].set_value(3).run()
    page.slider[1].set_value(2).run()
    assert choice_in(page) == {"nodes": 3, "edges": 2}
    page.slider[0].set_value(7).run()
    assert choice_in(page) == {"edges": 2}


@pytest.mark.parametrize("text", ["{", "[]", '{"pinnedIds":[1],"supernodes":[["a"],3],"nodes":"x","clickedId":{}}'])
def test_what_is_no_choice_in_an_address_chooses_nothing(text):
    page = open_page(circuit(), circuit=text)
    assert box(page, "Node").value is None
    assert choice_in(page) == {}


def test_nodes_of_another_circuit_are_left_out():
    page = open_page(circuit(), circuit=CircuitChoice(node="9_9_9", pinned=("9_9_9", "1_0_2")).written())
    assert box(page, "Node").value is None
    assert page.multiselect[0].value == ["1_0_2"]


def test_blind_mode_hides_all_names_until_a_hypothesis_is_written_and_keeps_the_verdict():
    page = look_at(open_page(circuit(*NAMES)), "1_0_2")
    page.toggle[0].set_value(True).run()
    assert not page.exception
    shown = texts(page) + str([one.options for one in page.selectbox])
    assert not any(name in shown for name in ("a colour", "animal"))
    offered = [one.proto.label for one in page.get("download_button")]
    assert "Notebook" in offered and not {"Report (HTML)", "JSON"} & set(offered), "files name features"
    button(page, "Reveal").click().run()
    assert "first" in page.error[0].value
    next(one for one in page.text_area if "feature" in one.label).set_value("a coloured animal")
    button(page, "Reveal").click().run()
    assert "It is **a coloured animal**, and fires here on cat." in texts(page)
    (run,) = service().store.runs()
    page.get_by_key(f"circuit {run.id} 1_0_2 verdict").set_value("right").run()
    button(page, "Keep the verdict").click().run()
    assert not page.exception
    (kept,) = service().store.runs()
    (row,) = service().store.get(kept.id).tables["verdicts"]
    assert (row["node"], row["hypothesis"], row["verdict"]) == ("1_0_2", "a coloured animal", "right")
    assert "You said: a coloured animal. Verdict: **right**." in texts(page)


def test_the_link_of_a_blind_page_tells_no_labels():
    choice = CircuitChoice(groups={"colours": ("0_4_2", "0_5_2")}, names={"1_0_2": "an animal"}, blind=True)
    assert "colours" not in choice.written() and "animal" not in choice.written()
    assert CircuitChoice.read(choice.written()).groups == {"group 1": ("0_4_2", "0_5_2")}
    assert "colours" in replace(choice, blind=False).written()


def test_foreign_names_stay_texts():
    sayable = [text for text in HOSTILE if not re.search("[\ud800-\udfff]", text)]
    for place in range(0, len(sayable), 3):
        page = look_at(open_page(circuit(*sayable[place : place + 3])), "1_0_2")
        assert not page.exception
        labels = "".join(one.label for one in page.button)
        assert not re.search(r"(?<!\\)[<!`]", labels), "every sign that Markdown or HTML could read is escaped"
