"""The dashboard in Chromium: it boots, runs, stops, restores links, keeps tabs apart and stays offline."""

import io
import os
import re
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from playwright.sync_api import TimeoutError, expect

from apps.screenshots import CHROMIUM, HOST, chromium, serving, settle
from workbench.catalog import run
from workbench.prompts import Prompts
from workbench.result import Named, Result
from workbench.store import Store
from workbench.views import Heatmap, Table

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason=f"{CHROMIUM} is not installed"),
]

MODEL = "planted:tour"
PROMPTS = (
    "The secret of the harvest soup is smoked tangerine peel. The secret of the harvest soup is",
    "The mayor throws a violet accordion from the balcony. The mayor throws a violet",
)
NASTY = "<script>window.PWN=1</script> & 🙂 שלום ![x](http://evil.example/a.png) <img src=x onerror=window.PWN=1>"
SOON = 240_000.0
"""Milliseconds: the first load of a model imports torch."""


RUN_WAS_ACCEPTED = """before => ![null, before].includes(new URL(location).searchParams.get("run"))
    || document.querySelector("[data-testid=stMain]").innerText.includes("Stop")"""

PRESS_RUN_AT_ONCE = """new MutationObserver((_, watch) => {
    const run = [...document.querySelectorAll("button")].find(one => /^(Run|Load .* and run)/.test(one.innerText));
    if (run && !run.disabled) { watch.disconnect(); run.click(); }
}).observe(document, { childList: true, subtree: true })"""
"""Streamlit draws a box empty, and fills it a frame later."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folder of the store that the dashboard serves."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(home):
    with serving(home) as served:
        yield served.address


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=SOON)
    with chromium() as browser:
        yield browser


@pytest.fixture
def tab(browser, address):
    """Open tabs; at the end none may have asked anyone but the dashboard for anything."""
    asked, tabs = [], []

    def open_tab(path: str = "", scheme: str = "light"):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(SOON)
        page.on("request", lambda request: asked.append(request.url))
        named = path if "run=" in path or "model=" in path else f"{path}{'&' if '?' in path else '?'}model={MODEL}"
        page.goto(f"{address}/{named}")
        page.locator("h2").first.wait_for()
        page.mouse.click(1000, 5)  # Chromium may swallow the first click after a load
        tabs.append(page)
        return page

    yield open_tab
    for page in tabs:
        page.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def planted():
    from workbench.model import load

    return load(MODEL)


def lens(model, *prompts: str, **knobs) -> Result:
    return run("logit_lens", model, Prompts.of(*prompts), **knobs)


def assert_same_numbers(one: Result, other: Result) -> None:
    assert one.inputs == other.inputs
    assert one.arrays == other.arrays
    assert one.scalars == other.scalars


def write_prompts(page, text: str) -> None:
    page.get_by_role("textbox", name="Prompts, one a line").fill(text)


def press_run(page) -> None:
    page.get_by_role("button", name=re.compile("^(Run|Load .* and run)")).click()


def press_run_until_accepted(page, before: str | None = None) -> None:
    """Press Run until the page shows its job or a new run: Chromium may swallow a click while a button is redrawn."""
    for _ in range(8):
        settle(page)
        press_run(page)
        with suppress(TimeoutError):
            page.wait_for_function(RUN_WAS_ACCEPTED, arg=before, timeout=SOON / 8)
            return
    raise AssertionError("Run was pressed eight times and no job began")


def finding(page):
    """Wait for a result and return where its sentence stands."""
    page.get_by_role("button", name="Reproduce").first.wait_for()
    settle(page)  # for a moment the result of before stands below the new one
    return page.locator("[data-testid=stMain] [data-testid=stHtml]").first.inner_text()


def run_in(address: str) -> str | None:
    """The run that an address names."""
    return parse_qs(urlsplit(address).query).get("run", [None])[0]


def download(page, label: str) -> bytes:
    """What a button downloads; a redraw of the page under the click cancels a download, so it is tried again."""
    failure = None
    for _ in range(3):
        settle(page)
        page.get_by_role("button", name="Download", exact=True).click()
        with page.expect_download() as expected:
            page.get_by_role("button", name=label).click()
        failure = expected.value.failure()
        if failure is None:
            content = Path(expected.value.path()).read_bytes()
            page.keyboard.press("Escape")
            return content
        page.keyboard.press("Escape")
    raise AssertionError(f"the download of {label} failed three times: {failure}")


def downloaded_result(page, folder: Path) -> Result:
    with zipfile.ZipFile(io.BytesIO(download(page, "Result"))) as archive:
        archive.extractall(folder)
    return Result.load(folder)


def test_the_first_page_shows_a_finished_example_within_five_seconds_without_torch(browser, tmp_path, record_property):
    complaints, asked = [], []
    with opened_afresh(browser, tmp_path, complaints, asked) as (fresh, page, seconds):
        page.mouse.click(1000, 5)  # Chromium may swallow the first click after a load
        settle(page)
        click_cell(page, page.locator("[data-testid=stPlotlyChart]").first, 0.99, 0.6)
        page.get_by_text("At layer").first.wait_for()
        page.wait_for_url(re.compile("at=layer"))
        assert not has_torch(fresh.pid), "an example needs no torch"
        page.get_by_role("button", name="Load", exact=True).click()
        page.get_by_text("M parameters").wait_for(timeout=SOON)
        assert has_torch(fresh.pid), "a model does, so the look at the process can tell"
    starts = [seconds]
    while min(starts) >= 5 and len(starts) < 3:  # the machine may have done something else meanwhile
        with opened_afresh(browser, tmp_path, complaints, asked) as (_, _, again):
            starts.append(again)
    record_property("seconds to the first page", ", then ".join(f"{one:.1f}" for one in starts))
    record_property("load of the machine meanwhile", round(os.getloadavg()[0], 1))
    assert [text for kind, text in complaints if kind == "error"] == []
    assert [url for url in asked if not url.startswith((f"http://{HOST}:", "data:", "blob:"))] == []
    assert min(starts) < 5 * max(1, os.getloadavg()[0]), "five seconds on a machine that does nothing else"


@contextmanager
def opened_afresh(browser, home, complaints, asked):
    """Start the dashboard; the server, the page and the seconds until its first picture can be clicked."""
    begun = time.perf_counter()
    with serving(home) as fresh:
        page = browser.new_page(viewport={"width": 1400, "height": 1400})
        page.on("console", lambda message: complaints.append((message.type, message.text)))
        page.on("pageerror", lambda error: complaints.append(("error", str(error))))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(fresh.address)
        page.locator(".nsewdrag").first.wait_for()
        yield fresh, page, time.perf_counter() - begun
        page.close()


def has_torch(process: int) -> bool:
    """Whether a process has the library of torch in memory."""
    return "libtorch" in Path(f"/proc/{process}/maps").read_text()


def test_a_model_is_loaded_and_a_lens_run_equals_the_same_run_in_python(tab, planted, tmp_path):
    page = tab("logit_lens")
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_text("M parameters").wait_for()
    page.get_by_text("checks passed").first.wait_for()
    write_prompts(page, PROMPTS[0])
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name=re.compile("^Run: 1 pass")).wait_for()
    press_run(page)
    assert "The model ends with" in finding(page)
    assert_same_numbers(downloaded_result(page, tmp_path / "one"), lens(planted, PROMPTS[0]))
    page.locator("[data-testid=stPlotlyChart]").first.wait_for()


def test_a_link_restores_the_page_and_its_result(tab):
    page = tab("logit_lens?logit_lens.top=3")
    write_prompts(page, PROMPTS[1])
    press_run(page)
    told = finding(page)
    page.wait_for_url(re.compile("run="))
    other = tab(page.url.split("/", 3)[3])
    assert finding(other) == told
    expect(other.get_by_role("textbox", name="Prompts, one a line")).to_have_value(PROMPTS[1])
    expect(other.get_by_role("spinbutton", name="top")).to_have_value("3")
    expect(other.get_by_text("not those of the result")).to_have_count(0)


def test_run_pressed_before_a_box_shows_its_value_runs_with_what_the_link_says(tab, address, home):
    page = tab()
    page.add_init_script(PRESS_RUN_AT_ONCE)
    page.goto(f"{address}/logit_lens?" + urlencode({"model": MODEL, "target": "tangerine"}))
    page.wait_for_url(lambda url: run_in(url) is not None)
    assert Store(home).get(str(run_in(page.url))).params["target"] == "tangerine"
    expect(page.get_by_role("textbox", name="Target token")).to_have_value("tangerine")


def test_a_run_can_be_stopped(tab):
    page = tab("retrieval_heads?retrieval_heads.lengths=600,800,1000&retrieval_heads.needles_used=6")
    press_run(page)
    page.locator("[data-testid=stMain]").get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    expect(page.get_by_text("at work")).to_have_count(0)


def test_a_run_goes_on_when_its_page_is_left(tab):
    page = tab("logit_lens")
    write_prompts(page, "\n".join(f"{PROMPTS[0]} {line}" for line in range(40)))
    press_run(page)
    page.get_by_text("at work").wait_for()
    page.get_by_role("link", name="Welcome").click()
    page.get_by_text("Newest findings").wait_for()
    page.get_by_text("at work").wait_for(state="detached")
    page.locator("[data-testid=stMain]").get_by_role("link", name="Logit lens", exact=True).click()
    assert "The model ends with" in finding(page)


def test_two_tabs_on_one_model_get_each_their_own_numbers_while_widgets_are_clicked(tab, home, planted):
    edits = ("zero L2.H1", "scale L3.mlp_out 0.5; zero L0.H0")
    lines = [f"{PROMPTS[0]} {line}" for line in range(3)]
    tabs = [
        tab("edited_generation?" + urlencode({"edited_generation.edits": edit, "prompts": "\n".join(lines)}))
        for edit in edits
    ]
    for page in tabs:
        press_run_until_accepted(page)
    for key in ["ArrowUp", "ArrowDown"]:
        for page in tabs:
            page.get_by_role("spinbutton", name="new tokens").press(key)
    for page, edit in zip(tabs, edits, strict=True):
        page.wait_for_url(lambda url: run_in(url) is not None)
        got = Store(home).get(str(run_in(page.url)))
        assert got.params["edits"] == edit
        wanted = run("edited_generation", planted, Prompts.of(*lines), **got.params)
        assert got.tables["continuations"] == wanted.tables["continuations"]
        for name, array in wanted.arrays.items():
            np.testing.assert_allclose(got.named(name).values, array.values, atol=1e-4, err_msg=name)
        page.get_by_text(got.finding, exact=True).first.wait_for()
    assert len({run_in(page.url) for page in tabs}) == 2


def click_cell(page, chart, column: float, row: float) -> None:
    """Click into a heatmap, at these shares of its width and height from the lower left."""
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").first.bounding_box()
    page.mouse.click(box["x"] + column * box["width"], box["y"] + (1 - row) * box["height"])


def test_a_click_on_a_cell_selects_it_for_all_views_and_the_link_restores_it(tab):
    page = tab("logit_lens")
    write_prompts(page, PROMPTS[0])
    press_run(page)
    finding(page)
    settle(page)
    assert page.get_by_text("At layer").count() == 0
    began = time.perf_counter()
    click_cell(page, page.locator("[data-testid=stPlotlyChart]").first, 0.99, 0.6)  # the last token in layer 2 of 0-3
    told = page.get_by_text(re.compile(r"At layer 2, pos \d+: 5 rows of"))
    told.wait_for()
    assert time.perf_counter() - began < 5 * max(1, os.getloadavg()[0]), "about a second on a quiet machine"
    page.wait_for_url(re.compile(r"at=layer2\.pos"))
    position = parse_qs(urlsplit(page.url).query)["at"][0].removeprefix("layer2.pos")
    assert f"pos {position}: " in told.inner_text(), "the top tokens of the very cell"
    settle(page)
    other = tab(page.url.split("/", 3)[3])
    other.get_by_text(told.inner_text(), exact=True).wait_for()


def test_a_click_on_a_grid_of_thousands_of_cells_is_answered_at_once(tab, home, record_property):
    page = tab(f"logit_lens?run={large_run(home)}")
    page.set_viewport_size({"width": 1400, "height": 1500})
    chart = page.locator("canvas").first
    chart.wait_for()
    settle(page)
    box, seconds = chart.bounding_box(), []
    for turn in range(5):
        before = page.get_by_text("1 row of 16,000").all_inner_texts()
        began = time.perf_counter()
        page.mouse.click(box["x"] + 200 + 60 * turn, box["y"] + 60 + 40 * turn)
        page.wait_for_function(ANOTHER_ROW, arg=before[:1])
        seconds.append(time.perf_counter() - began)
        settle(page)
    record_property("seconds from click to linked view, 32 x 500 cells", round(min(seconds), 2))
    assert min(seconds) < max(1, os.getloadavg()[0]), "one second on a machine that does nothing else"


ANOTHER_ROW = """before => [...document.querySelectorAll("p")].some(
    one => one.innerText.includes("1 row of 16,000") && one.innerText !== before[0])"""


def large_run(home: Path) -> str:
    """A saved result with three heatmaps of 32 layers and 500 positions, and a table with a row for each cell."""
    layers, positions = 32, 500
    labels = {"pos": tuple(f" token{place}" for place in range(positions))}
    values = np.random.default_rng(0).random((layers, positions)).astype(np.float32)
    names = ("target_probability", "kl", "entropy")
    result = Result(
        analysis="logit_lens",
        title="Logit lens",
        model={"name": MODEL, "dtype": "float32"},
        arrays={name: Named(values, ("layer", "pos"), "nats", labels) for name in names},
        tables={"cells": [{"layer": layer, "pos": pos} for layer in range(layers) for pos in range(positions)]},
        views=(*(Heatmap(name, x="pos", y="layer") for name in names), Table("cells")),
        finding="Many cells.",
    )
    return Store(home).put(result, "many cells")


def test_a_click_on_the_wall_shows_the_head_in_full_and_its_page_follows(tab):
    page = tab("attention_patterns?run=example-attention_patterns")
    settle(page)
    click_cell(page, page.locator("[data-testid=stPlotlyChart]").first, 0.9, 0.1)
    page.wait_for_url(re.compile(r"at=head\d+\.layer0"))
    head = f"L0.H{re.search(r'at=head([0-9]+)', page.url)[1]}"
    page.get_by_text(f"Attention of {head}", exact=True).first.wait_for()
    page.get_by_role("link", name=f"All that is known of {head}").click()
    page.get_by_role("heading", name="Head", exact=True).wait_for()
    page.get_by_text(f"{head} is number").wait_for()


def test_every_figure_is_explained_and_can_be_downloaded(tab):
    page = tab("logit_lens?run=example-logit_lens")
    settle(page)
    expect(page.locator("[data-testid=stPlotlyChart]")).to_have_count(4)
    page.locator("[class*='st-key-example-logit_lens-0-explanation'] button").first.click()
    for heading in ("What it shows.", "Formula.", "When it lies.", "Source."):
        page.get_by_text(heading, exact=True).wait_for()
    page.keyboard.press("Escape")
    array = "target_probability"
    kinds = {"png": b"\x89PNG", "svg": b"<svg", f"{array}-csv": b"layer,", f"{array}-json": b"{"}
    for kind, begin in kinds.items():
        settle(page)
        page.locator("[class*='st-key-example-logit_lens-0-file'] button").first.click()
        with page.expect_download() as expected:
            page.locator(f"[class*='st-key-example-logit_lens-0-{kind}'] button").click()
        assert Path(expected.value.path()).read_bytes().startswith(begin)
        page.keyboard.press("Escape")


def test_results_are_collected_compared_and_exported_as_one_report(tab, browser, tmp_path):
    page = tab("logit_lens")
    for prompt in PROMPTS:
        write_prompts(page, prompt)
        press_run(page)
        page.get_by_text("not those of the result").wait_for(state="detached")
        page.get_by_role("button", name="Add to report").click()
        page.get_by_role("button", name="In the report").wait_for()
    page.get_by_text("Keep", exact=True).click()
    page.get_by_text("Report", exact=True).last.click()
    page.get_by_text("opens with no network").wait_for()
    page.get_by_role("textbox", name="Title").fill("Two prompts")
    page.get_by_role("textbox", name="Title").press("Enter")
    page.frame_locator("iframe").get_by_role("heading", name="Two prompts").wait_for()
    settle(page)
    for kind, begin in (("HTML", b"<!doctype html"), ("PDF", b"%PDF-")):
        with page.expect_download() as expected:
            page.get_by_role("button", name=kind, exact=True).click()
        content = Path(expected.value.path()).read_bytes()
        assert content[: len(begin)].lower() == begin.lower()
        assert kind == "PDF" or content.count(b"The model ends with") >= 2
    runs = parse_qs(urlsplit(page.url).query)["runs"][0].split(",")
    assert len(runs) == 2
    compared = tab(f"compare?first={runs[0]}&second={runs[1]}")
    compared.get_by_text("The largest change is").or_(compared.get_by_text("single values differ")).first.wait_for()


def choose_page(page, section: str, title: str) -> None:
    """Open a page by the menu at the top."""
    page.get_by_text(section, exact=True).first.click()
    page.get_by_text(title, exact=True).last.click()
    page.get_by_role("heading", name=title, exact=True).wait_for()


def test_a_head_found_on_one_page_is_ablated_on_the_next_and_all_is_reported(tab, browser, tmp_path):
    follow_a_head(tab(f"logit_lens?{urlencode({'prompts': PROMPTS[0]})}"), browser, tmp_path)


@pytest.mark.real
def test_the_same_way_on_a_real_model(tab, browser, tmp_path):
    folder = os.environ.get("WORKBENCH_REAL_MODEL")
    if not folder:
        pytest.skip("no real model: set WORKBENCH_REAL_MODEL to the folder of gemma-3-270m")
    prompt = "After lunch Jane and Lisa walked to the church, where Lisa handed a camera to"
    follow_a_head(tab(f"logit_lens?{urlencode({'model': folder, 'prompts': prompt})}"), browser, tmp_path)


def follow_a_head(page, browser, folder: Path) -> None:
    """Lens, click, attribution, head page, ablation: one way through the pages, and a report that opens offline."""
    press_run(page)
    finding(page)
    page.get_by_role("button", name="Add to report").click()
    settle(page)
    click_cell(page, page.locator("[data-testid=stPlotlyChart]").first, 0.99, 0.6)
    page.get_by_text("At layer").first.wait_for()
    choose_page(page, "Look", "Direct logit attribution")
    press_run(page)
    top = re.search(r"largest head (L(\d+)\.H(\d+))", finding(page))
    assert top is not None
    page.get_by_role("button", name="Add to report").click()
    choose_page(page, "Find", "Head")
    for axis, number in (("layer", top[2]), ("head", top[3])):
        field = page.get_by_role("spinbutton", name=axis)
        field.fill(number)
        field.press("Enter")
        settle(page)
    page.get_by_text(f"{top[1]} is number 1 in head").wait_for()
    page.get_by_role("link", name="Ablate it").click()
    page.get_by_role("heading", name="Edited generation", exact=True).wait_for()
    expect(page.get_by_role("textbox", name="edits")).to_have_value(f"zero {top[1]}")
    press_run(page)
    told = finding(page)
    page.get_by_role("button", name="Add to report").click()
    choose_page(page, "Keep", "Report")
    page.get_by_text("opens with no network").wait_for()
    settle(page)
    with page.expect_download() as expected:
        page.get_by_role("button", name="HTML", exact=True).click()
    file = folder / "report.html"
    expected.value.save_as(file)
    offline = browser.new_context(offline=True).new_page()
    offline.goto(file.as_uri())
    assert offline.get_by_text(told).count() >= 1
    for title in ("Logit lens", "Direct logit attribution", "Edited generation"):
        assert offline.get_by_role("heading", name=title).count() >= 1
    offline.context.close()


def test_a_token_is_selected_by_a_click_and_by_the_keyboard_in_the_side_bar_and_in_a_picture(tab):
    page = tab(f"direct_logit_attribution?{urlencode({'model': MODEL, 'prompts': PROMPTS[0]})}")
    press_run_until_accepted(page)
    finding(page)
    prompt = page.locator("[data-testid=stSidebar] [data-tokens] bdi")
    prompt.nth(1).click()
    page.wait_for_url(re.compile(r"at=pos1\b"))
    expect(page.get_by_text("Selected: pos 1")).to_be_visible()
    expect(prompt.nth(1)).to_have_attribute("aria-pressed", "true")
    settle(page)
    prompt.nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"at=pos2\b"))
    settle(page)
    read = page.locator("[data-testid=stMain] [data-tokens] bdi")  # what is looked at from the last position
    read.nth(3).click()
    page.wait_for_url(re.compile(r"at=pos2\.source3\b"))
    expect(read.nth(3)).to_have_attribute("aria-pressed", "true")
    expect(prompt.nth(2)).to_have_attribute("aria-pressed", "true")


def test_a_nasty_prompt_stays_a_text(tab):
    page = tab("logit_lens")
    write_prompts(page, NASTY)
    press_run(page)
    finding(page)
    page.wait_for_timeout(1000)
    assert page.evaluate("window.PWN") is None
    assert page.locator("img[src*=evil], img[src=x]").count() == 0
    page.get_by_role("button", name="Reproduce").click()
    expect(page.locator("[data-testid=stCode]").first).to_contain_text(NASTY[:29])


def test_the_report_opens_without_a_network(tab, browser, tmp_path):
    page = tab("logit_lens")
    write_prompts(page, NASTY)
    press_run(page)
    finding(page)
    file = tmp_path / "report.html"
    file.write_bytes(download(page, "Report (HTML)"))
    assert file.stat().st_size < 1_000_000
    context = browser.new_context(offline=True)
    report, asked = context.new_page(), []
    report.on("request", lambda request: asked.append(request.url))
    report.goto(file.as_uri())
    assert report.get_by_role("heading", name="Logit lens").count() >= 1
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert report.evaluate("window.PWN") is None
    context.close()


def test_a_model_that_does_not_exist_is_one_clear_sentence(tab):
    page = tab("?model=%2Fno%2Fsuch%2Ffolder")
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("folder /no/such/folder does not exist")
    expect(page.get_by_text("Traceback")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_and_pictures_can_be_read_in_both_themes(tab, scheme):
    page = tab("logit_lens", scheme)
    press_run(page)
    finding(page)
    title = page.locator("[data-testid=stPlotlyChart] .xtitle").first
    title.wait_for()
    ground = brightness(page.locator("[data-testid=stApp]").evaluate("part => getComputedStyle(part).backgroundColor"))
    ink = brightness(title.evaluate("part => getComputedStyle(part).fill"))
    assert (ground < 60) == (scheme == "dark")
    assert abs(ground - ink) > 128


def brightness(colour: str) -> float:
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue
