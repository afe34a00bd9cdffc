"""The pages of the dashboard without a browser: controls, runs, failures, links."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from toys import HEADER, WORD_COUNT, Toy, toy_package

from apps import service as service_module
from apps.controls import TYPED, _bundled_as, beyond_text, read_inputs
from apps.models import _affordable, _budget
from apps.screens.analysis import Asked, leave_other_pages
from apps.screens.welcome import QUESTIONS
from apps.selection import choose_on, index_on, selection
from apps.service import service
from apps.sheets import places_of
from apps.wording import counted, duration, inert, size
from workbench import catalog
from workbench.entry import FAMILIES, Entry, Input
from workbench.knobs import plain
from workbench.pairs import Pairs
from workbench.prompts import Prompts
from workbench.result import Check, Named, Result
from workbench.views import Heatmap, Lines, Table

DASHBOARD = Path(__file__).parent.parent / "apps" / "dashboard.py"
SOON = 60.0
NASTY = "<script>window.PWN=1</script> ![x](http://y) :red[z] $1$ `a`"

FAILING = (
    HEADER
    + '''

@analysis(title="Failing", family="depth", reference="arXiv:2404.15574")
def failing(model, *, mistake: bool = True) -> Result:
    """Fail.

    Args:
        mistake: whose fault it is.

    Returns:
        Nothing.
    """
    raise ValueError("layer 99 was asked: allowed are 0-3") if mistake else RuntimeError("our own defect")
'''
)


class ToyModel(Toy):
    """A stand-in for a loaded model, with what the side bar asks of it."""

    parameters = 12
    dtype = np.dtype("float32")

    def identity(self) -> dict:
        return {
            **super().identity(),
            "parameters": 12,
            "checks": [{"name": "sums", "value": 2.0, "tolerance": 1.0, "passed": False}],
        }

    def tokens(self, prompts: Prompts) -> SimpleNamespace:
        return SimpleNamespace(text=tuple(tuple(prompt.text.split(" ")) for prompt in prompts))


class ToyModels:
    """Gives the toy model, once it is loaded."""

    toy = ToyModel(name="planted:copy")

    def __init__(self) -> None:
        self.loaded = False

    def find(self, name: str, dtype: str) -> ToyModel | None:
        return self.toy if self.loaded else None

    def load(self, name: str, dtype: str) -> ToyModel:
        self.loaded = True
        return self.toy


def one_page(name):
    from apps.screens.analysis import analysis_page
    from apps.session import adopt_link
    from apps.sidebar import side_bar
    from workbench import catalog

    adopt_link()
    side_bar()
    analysis_page(catalog.CATALOG[name])


@pytest.fixture(autouse=True)
def fresh_service(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("workbench.examples.data_folder", lambda: tmp_path)  # where there are none
    monkeypatch.setattr("apps.models.tour_model", lambda: "planted:tour")
    monkeypatch.setattr(service_module, "Models", ToyModels)
    monkeypatch.setattr(ToyModels, "toy", ToyModel(name="planted:copy"))
    st.cache_resource.clear()


@pytest.fixture
def toys(tmp_path, monkeypatch):
    with toy_package(tmp_path, monkeypatch) as entries:
        (entries.folder / "word_count.py").write_text(WORD_COUNT)
        (entries.folder / "failing.py").write_text(FAILING)
        yield entries


def open_page(name: str, **address: str) -> AppTest:
    page = AppTest.from_function(one_page, kwargs={"name": name}, default_timeout=SOON)
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def press_run(page: AppTest) -> AppTest:
    """Press Run, wait for the job, and look at the page again."""
    page.button(key="run").click().run()
    service().jobs.wait(service().jobs.all()[-1].id, SOON)
    return page.run()


def texts(page: AppTest) -> str:
    return "\n".join(str(part.body) for part in page.get("html"))


def test_the_first_page_opens_without_torch(tmp_path):
    program = f"""
import sys
import tomllib
from streamlit.testing.v1 import AppTest
page = AppTest.from_file({str(DASHBOARD)!r}, default_timeout=60).run()
assert not page.exception, page.exception
print(page.header[0].value, {{"torch", "transformers"}} & set(sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert found.stdout.strip() == "Look inside a language model set()", found.stderr


@pytest.mark.parametrize("name", list(catalog.CATALOG))
def test_every_analysis_has_a_page_with_a_widget_for_each_knob(name):
    entry = catalog.CATALOG[name]
    page = open_page(name)
    assert page.header[0].value == entry.title
    kinds = {"int": "number_input", "float": "number_input", "bool": "toggle", "Literal": "selectbox"}
    keys = {knob.name: "target" if knob.name == "target" else f"{name}.{knob.name}" for knob in entry.knobs}
    for knob in entry.knobs:
        widget = page.get_by_key(keys[knob.name])
        assert widget.type == kinds.get(knob.type, "text_input")
        if knob.name == "target":  # one for all pages, in the side bar
            assert knob.doc in "".join(caption.value.replace("\\", "") for caption in page.main.caption)
        else:
            assert widget.help == knob.doc
    assert entry.parse_knobs({knob: page.session_state[key] for knob, key in keys.items()}) == entry.parse_knobs({})


@pytest.mark.parametrize("name", ["logit_lens", "transcoder_circuit"])
def test_one_target_stands_in_the_side_bar_for_all_pages_and_comes_back_with_the_link(name):
    assert open_page(name, target=" soup").text_input(key="target").value == " soup"
    told = {knob.name: knob.default for knob in catalog.CATALOG[name].knobs}
    result = Result(
        analysis=name,
        model={"name": "planted:copy", "dtype": "float32"},
        params={**told, "target": "cat"},
        inputs={"prompts": Prompts.of("red cat").describe()},
    )
    page = open_page(name, run=service().store.put(result, "key"))
    assert page.text_input(key="target").value == "cat"
    page.text_input(key="target").set_value("dog").run()
    assert any("not those of the result" in caption.value for caption in page.caption)
    next(one for one in page.button if one.label == "Set them back").click().run()
    assert page.text_input(key="target").value == "cat"
    assert not any("not those of the result" in caption.value for caption in page.caption)


def test_a_run_is_computed_with_what_the_widgets_say_and_then_shown(toys):
    page = open_page("word_count")
    page.text_area(key="prompts").set_value("one two\n\nthree").run()
    page.number_input(key="word_count.repeat").set_value(2)
    page.selectbox(key="word_count.unit").set_value("letters").run()
    press_run(page)
    assert "24 letters" in texts(page)
    result = service().store.get(page.query_params["run"][0])
    assert result.params["repeat"] == 2
    assert [prompt["text"] for prompt in result.inputs["prompts"]["prompts"]] == ["one two", "three"]


def test_the_button_tells_the_cost_once_the_model_is_loaded(toys):
    page = open_page("word_count")
    assert page.button(key="run").label == r"Load planted\:tour and run"
    service().models.load("planted:copy", "auto")
    assert page.run().button(key="run").label == "Run: 1 pass, about 9 s, 1 kB"


def test_a_model_that_cannot_serve_the_analysis_is_refused_with_the_reason(toys):
    service().models.load("planted:copy", "auto")
    ToyModels.toy.missing = "pattern"
    page = open_page("word_count")
    assert page.button(key="run").disabled
    assert r"needs pattern on planted\:copy" in page.error[0].value


@pytest.mark.parametrize(
    ("knob", "text", "told"),
    [
        ("layers", "1,x", r"knob layers takes whole numbers such as 0\,3\,8\-11\, found \'1\,x\'"),
        ("at", "L1.resid_pots", r"did you mean resid\_post"),
    ],
)
def test_a_knob_that_cannot_be_read_is_one_sentence_and_no_run(toys, knob, text, told):
    page = open_page("word_count")
    page.text_input(key=f"word_count.{knob}").set_value(text).run()
    assert told.replace(r"\_", "_") in page.error[0].value.replace(r"\_", "_")
    assert page.button(key="run").disabled
    assert not page.exception


def test_an_uploaded_file_is_kept_by_its_digest_and_chosen(toys):
    page = open_page("word_count")
    foreign = "../../<b>mine</b>.csv"
    page.file_uploader(key="word_count.prompts file").set_value((foreign, b"text\none two three\n", "text/csv")).run()
    assert not page.exception
    chosen = Path(page.selectbox(key="word_count.prompts").value)
    assert chosen.parent == service().store.root / "uploads"
    assert re.fullmatch(r"[0-9a-f]{16}\.csv", chosen.name)
    result = service().store.get(press_run(page).query_params["run"])
    assert [prompt["text"] for prompt in result.inputs["prompts"]["prompts"]] == ["one two three"]
    page.file_uploader(key="word_count.prompts file").set_value(("bad.jsonl", b"{", "text/plain")).run()
    assert any("line 1" in error.value and "not JSON" in error.value for error in page.error)


def test_an_empty_prompt_is_one_sentence(toys):
    page = open_page("word_count")
    page.text_area(key="prompts").set_value(" \n").run()
    assert "no prompt was given" in page.error[0].value


def test_a_users_mistake_in_a_run_is_one_sentence_and_a_defect_is_told_in_full(toys):
    page = press_run(open_page("failing"))
    assert page.error[0].value == inert("layer 99 was asked: allowed are 0-3")
    assert not page.code
    page.toggle(key="failing.mistake").set_value(False).run()
    press_run(page)
    assert page.error[0].value == inert("RuntimeError: our own defect")
    assert "Traceback" in page.code[0].value


def test_a_link_to_a_run_shows_it_without_computing_and_sets_the_widgets(toys):
    page = open_page("word_count")
    page.text_area(key="prompts").set_value("a b c").run()
    page.text_input(key="word_count.layers").set_value("1-3").run()
    run = press_run(page).query_params["run"][0]
    jobs = len(service().jobs.all())
    other = open_page("word_count", run=run)
    assert "3 words" in texts(other)
    assert other.text_area(key="prompts").value == "a b c"
    assert other.text_input(key="word_count.layers").value == "1,2,3"
    assert other.selectbox(key="model").value == "planted:copy"
    assert len(service().jobs.all()) == jobs


def test_a_link_restores_the_widgets_that_it_names(toys):
    page = open_page("word_count", **{"word_count.repeat": "4", "prompts": "x\ny", "model": "/a/folder"})
    assert page.number_input(key="word_count.repeat").value == 4
    assert page.text_area(key="prompts").value == "x\ny"
    assert page.selectbox(key="model").value == "/a/folder"


def test_a_run_that_is_not_here_is_said_to_be_missing(toys):
    page = open_page("word_count", run="abc123")
    assert "there is no run" in page.warning[0].value
    assert not page.button(key="run").disabled


def test_a_result_of_other_settings_is_marked_and_they_can_be_set_back(toys):
    page = press_run(open_page("word_count", model="planted:copy"))
    assert not any("not those of the result" in caption.value for caption in page.caption)
    page.number_input(key="word_count.repeat").set_value(3).run()
    assert any("not those of the result" in caption.value for caption in page.caption)
    next(button for button in page.button if button.label == "Set them back").click().run()
    assert page.number_input(key="word_count.repeat").value == 1


def test_prompts_that_have_more_than_a_text_say_that_it_cannot_be_typed(toys):
    prompts = {"type": "prompts", "prompts": [{"text": "a b", "target": " c"}, {"text": "d"}]}
    assert beyond_text(Result(inputs={"prompts": prompts, "hops": {"type": "hops"}})) == ["target"]
    result = Result(
        analysis="word_count",
        model={"name": "planted:copy", "dtype": "float32"},
        params={knob.name: plain(knob.default) for knob in catalog.CATALOG["word_count"].knobs},
        inputs={"prompts": prompts},
    )
    page = open_page("word_count", run=service().store.put(result, "key"))
    told = [caption.value for caption in page.caption]
    assert any("more than a text (target), which cannot be typed" in one for one in told)
    assert not any("not those of the result" in one for one in told)
    page.text_area(key="prompts").set_value("a b").run()
    assert any("not those of the result" in caption.value for caption in page.caption)


def test_a_result_on_a_bundled_set_sets_the_page_to_that_set(toys):
    given = Prompts.read("world_facts")
    result = Result(
        analysis="word_count",
        model={"name": "planted:copy", "dtype": "float32"},
        params={knob.name: plain(knob.default) for knob in catalog.CATALOG["word_count"].knobs},
        inputs={"prompts": given.describe()},
    )
    page = open_page("word_count", run=service().store.put(result, "key"))
    assert page.selectbox(key="word_count.prompts").value == "world_facts"
    told = [caption.value for caption in page.caption]
    assert not any("more than a text" in one or "not those of" in one for one in told)


def test_a_redraw_with_the_address_of_before_does_not_lose_the_new_result(toys):
    """A click while the job ends sends the old address once more, after the new one was set."""
    page = press_run(open_page("word_count"))
    old = page.query_params["run"]
    page.run()
    page.text_area(key="prompts").set_value("three words here")
    page.button(key="run").click().run()
    job = service().jobs.all()[-1].id
    service().jobs.wait(job, SOON)
    new = service().run_of(job)
    assert new != old
    for _ in range(2):
        page.query_params["run"] = old
        page.run()
        assert page.query_params["run"] == new
    page.run()
    page.query_params["run"] = old
    page.run()
    assert page.query_params["run"] == old, "once the new address has come back, the reader may leave it"


def test_a_page_that_was_left_shows_the_run_that_is_asked_for_next():
    st.session_state["one job"], st.session_state["other job"] = Asked("a", shown=True), Asked("b", shown=True)
    st.session_state["third job"] = Asked("c")
    leave_other_pages("other")
    assert [key for key in ("one job", "other job", "third job") if key in st.session_state] == [
        "other job",
        "third job",
    ]


def test_the_side_bar_shows_tokens_and_which_self_check_failed(toys):
    service().models.load("planted:copy", "auto")
    page = open_page("word_count", prompts=NASTY)
    (drawn,) = page.get("bidi_component")
    strip = json.loads(drawn.proto.json)["markup"]
    assert 'title="position 0">&lt;script&gt;window.PWN=1&lt;/script&gt;</bdi>' in strip
    assert "<script" not in strip
    assert "1 of 1 check FAILED" in [block.proto.popover.label for block in page.get("popover")]


def test_foreign_texts_in_a_result_are_escaped(toys):
    result = Result(
        analysis="word_count",
        title="Word count",
        model={"name": NASTY, "dtype": "float32"},
        arrays={"length": Named(np.ones(1), ("example",), labels={"example": (NASTY,)})},
        scalars={"token": NASTY},
        finding=NASTY,
        notes=(NASTY,),
        checks=(Check("sum", 0.0, 1.0),),
    )
    page = open_page("word_count", run=service().store.put(result, "key"))
    shown = texts(page)
    assert shown.count("&lt;script&gt;") == 3
    assert "<script" not in shown
    assert all("![x]" not in caption.value for caption in page.caption)


def test_a_selection_is_shared_by_pictures_and_tables_and_stands_in_the_address(toys):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    result = Result(
        analysis="word_count",
        model={"name": "planted:copy", "dtype": "float32"},
        arrays={"score": Named(values, ("layer", "head", "pos")), "other": Named(values[0], ("head", "pos"))},
        tables={"heads": [{"layer": layer, "head": head} for layer in range(2) for head in range(3)]},
        views=(Heatmap("score", x="pos", y="layer"), Heatmap("other", x="pos", y="head"), Table("heads")),
    )
    run = service().store.put(result, "key")
    page = open_page("word_count", run=run, at="head2.layer1")
    box = axis_box(page, "head")
    assert box.value == 2
    assert any(caption.value == "At layer 1, head 2: 1 row of 6" for caption in page.caption)
    box.set_value(0).run()
    assert any(caption.value == "At layer 1, head 0: 1 row of 6" for caption in page.caption)
    assert axis_box(page, "head").value == 0


def test_a_selection_that_an_array_does_not_have_is_ignored(toys):
    result = Result(
        analysis="word_count",
        model={"name": "planted:copy", "dtype": "float32"},
        arrays={"score": Named(np.zeros((2, 3)), ("layer", "head"), labels={"layer": ("4", "8")})},
        views=(Lines("score", x="head"),),
    )
    run = service().store.put(result, "key")
    assert axis_box(open_page("word_count", run=run, at="layer8"), "layer").value == 1
    assert axis_box(open_page("word_count", run=run, at="layer5.nonsense7"), "layer").value == 0


def axis_box(page: AppTest, axis: str):
    return next(box for box in page.selectbox if box.label == axis)


def test_rows_are_about_the_places_that_they_name():
    frame = pandas.DataFrame({"head": ["L3.H2", "L11.H0"], "layer": [3, 11], "number": [2, 0], "pos": [0.5, 1.0]})
    assert places_of(frame).to_dict("list") == {"layer": [3, 11], "head": [2, 0]}
    assert places_of(pandas.DataFrame({"head": ["L3.H2", "all"], "neuron": [1, 2]})).to_dict("list") == {
        "neuron": [1, 2]
    }
    assert places_of(pandas.DataFrame({"word": ["L3.H2"]})).empty


def test_every_family_belongs_to_one_question():
    assert sorted(family for families in QUESTIONS.values() for family in families) == sorted(FAMILIES)


def keep_page(name):
    from apps.screens.compare import compare_page
    from apps.screens.head import head_page
    from apps.screens.report import report_page
    from apps.screens.runs import runs_page
    from apps.sidebar import side_bar

    side_bar()
    {
        "runs": lambda: runs_page({}, None),
        "compare": compare_page,
        "report": report_page,
        "head": lambda: head_page({}),
    }[name]()


def open_keep(name: str, **address: str) -> AppTest:
    page = AppTest.from_function(keep_page, kwargs={"name": name}, default_timeout=SOON)
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def saved_heads(name: str, values: np.ndarray) -> str:
    result = Result(
        analysis="word_count",
        title="Word count",
        model={"name": "planted:tour", "dtype": "float32"},
        arrays={"score": Named(values, ("layer", "head"))},
        views=(Heatmap("score", x="head", y="layer"),),
        finding=f"finding {name}",
    )
    return service().store.put(result, name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("runs", "Nothing is saved yet"),
        ("compare", "nothing to compare"),
        ("report", "is empty"),
        ("head", "measures heads"),
    ],
)
def test_a_page_with_nothing_to_show_says_what_to_do(toys, name, told):
    page = open_keep(name)
    assert any(told in text.value for text in [*page.markdown, *page.info])


def test_two_runs_are_compared_from_their_address(toys):
    one, other = saved_heads("one", np.zeros((2, 3))), saved_heads("other", np.eye(2, 3) * 5)
    page = open_keep("compare", first=one, second=other)
    assert "largest change is +5 in score at layer 0, head 0" in texts(page)
    add = next(button for button in page.button if button.label == "Add to report")
    add.click().run()
    (kept,) = [run for run in service().store.runs() if run.analysis == "comparison"]
    assert page.session_state["runs"] == [kept.id]
    assert "In the report" in [button.label for button in page.button]
    report = open_keep("report", runs=kept.id)
    assert any("compared" in text.value for text in report.markdown)


def test_a_head_page_tells_the_place_of_the_selected_head(toys):
    saved_heads("one", np.arange(6.0).reshape(2, 3))
    page = open_keep("head", at="layer1.head2")
    assert any("Of 6 heads L1.H2 is number 1 in score: 5." in text.value for text in page.markdown)
    next(one for one in page.main.number_input if one.label == "head").set_value(1).run()
    assert any("Of 6 heads L1.H1 is number 2 in score: 4." in text.value for text in page.markdown)


def test_a_report_keeps_its_order_and_drops_what_is_taken_out(toys):
    one, other = saved_heads("one", np.zeros((2, 3))), saved_heads("other", np.ones((2, 3)))
    page = open_keep("report", runs=f"{one},{other}")
    page.button(key=f"Down {one}").click().run()
    assert page.query_params["runs"] == f"{other},{one}"
    page.button(key=f"Take out {other}").click().run()
    assert page.query_params["runs"] == one
    assert not page.exception


def test_a_report_says_which_run_is_not_here(toys):
    page = open_keep("report", runs="0123456789abcdef")
    assert any("0123456789abcdef" in text.value for text in page.markdown)


def test_an_axis_that_a_picture_does_not_show_has_a_select_box(toys):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    result = Result(
        analysis="word_count",
        model={"name": "planted:copy", "dtype": "float32"},
        arrays={"score": Named(values, ("layer", "head", "pos"), labels={"head": (" a", "b", "c")})},
        views=(Heatmap("score", x="pos", y="layer", select={"head": -1}),),
    )
    run = service().store.put(result, "key")
    page = open_page("word_count", run=run)
    box = next(one for one in page.main.selectbox if one.label == "head")
    assert (box.options, box.value) == (["0 ·a", "1 b", "2 c"], 2)
    assert "<b>score, head 2 c</b>" in texts(page)
    box.set_value(0).run()
    assert "<b>score, head 0 ·a</b>" in texts(page)


def test_models_stay_loaded_while_their_weights_fit():
    old, middle, new = (SimpleNamespace(parameters=count, dtype=np.dtype("float32")) for count in (10, 20, 30))
    assert _affordable([old, middle, new], 240) == [old, middle, new]
    assert _affordable([old, middle, new], 239) == [middle, new]
    assert _affordable([old, middle, new], 1) == [new]
    assert 1e8 < _budget() < 1e14


def test_the_first_page_lists_the_newest_findings(toys):
    service().store.put(Result(analysis="word_count", title="Word count", finding=NASTY), "key")
    page = AppTest.from_file(str(DASHBOARD), default_timeout=SOON).run()
    assert not page.exception
    assert [text.value for text in page.text] == [NASTY]
    assert [markdown.value for markdown in page.markdown] == ["**Look**", "**Find**"]


def test_a_store_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "file"))
    page = AppTest.from_file(str(DASHBOARD), default_timeout=SOON).run()
    assert not page.exception
    assert len(page.error) == 1


def test_the_server_is_private_and_quiet():
    settings = tomllib.loads((DASHBOARD.parent / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["fileWatcherType"] == "none"
    assert settings["browser"]["gatherUsageStats"] is False


def test_a_bundled_set_is_known_again_by_what_a_result_says_of_it():
    assert _bundled_as("Pairs", Pairs.read("sums").describe()) == "sums"
    assert _bundled_as("Pairs", {"type": "pairs", "pairs": []}) is None


def test_inputs_that_the_dashboard_cannot_give_are_named():
    entry = Entry("x", "X", "lens", "folklore", inputs=(Input("prompts", "Prompts"), Input("coder", "Coder")))
    with pytest.raises(ValueError, match="cannot give a Coder"):
        read_inputs(entry, [TYPED, "a"], ["one"])
    assert read_inputs(Entry("x", "X", "lens", "folklore", inputs=entry.inputs[:1]), [TYPED], ["one"]) == (
        Prompts.of("one"),
    )


def test_words_of_numbers_and_texts():
    assert inert("a_b\n*c*") == r"a\_b \*c\*"
    assert (counted(1, "pass"), counted(2, "pass"), counted(1200, "job")) == (
        "1 pass",
        "2 passes",
        "1,200 jobs",
    )
    assert (duration(59.6), duration(3600)) == ("about 1 min 0 s", "about 1 h 0 min")
    assert (size(1), size(999_999), size(2.5e9)) == ("1 kB", "1000 kB", "2.5 GB")


@pytest.mark.parametrize(
    ("axis", "labels", "index", "selected"),
    [
        ("layer", ("4", "8"), 1, {"layer": 8}),
        ("head", ("L4.H1", "L8.H2"), 1, {"layer": 8, "head": 2}),
        ("head", ("mean", "rest"), 1, {}),
        ("query", ("a", "b"), 1, {"pos": 1}),
        ("key", ("a@0", "b@16"), 1, {"source": 16}),
        ("pos", ("a@0", "b@16"), 1, {"pos": 1}),
        ("component", ("x", "y"), 1, {}),
    ],
)
def test_an_entry_of_an_axis_selects_what_its_name_means(axis, labels, index, selected):
    array = Named(np.zeros(2), (axis,), labels={axis: labels})
    st.session_state["at"] = {}
    choose_on(array, {axis: index})
    assert selection() == selected
    assert index_on(array, axis) == (index if selected else None)
