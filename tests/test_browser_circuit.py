"""The page of a circuit in Chromium: nodes are clicked, pinned, grouped and ablated, and a link brings all back."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect
from test_browser import SOON, brightness, finding, press_run_until_accepted
from test_browser import address as address
from test_browser import browser as browser
from test_browser import home as home
from test_browser import tab as tab

from apps.circuit_choice import CIRCUIT
from apps.screenshots import CHROMIUM, serving, settle

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason=f"{CHROMIUM} is not installed"),
]

ASKED = {
    "model": "planted:sparse_mlp",
    "prompts": "stone red cat",
    "transcoder_circuit.node_threshold": "1",
    "transcoder_circuit.edge_threshold": "1",
}
ALL_MARKUP = """() => [document, ...[...document.querySelectorAll("*")].map(one => one.shadowRoot).filter(Boolean)]
    .map(root => (root.body || root).innerHTML).join("")"""
"""Texts, tooltips, alternative texts and labels for readers of the screen, in shadow roots too."""
COLOURED, COLOUR, ANIMAL = "1_0_3", "0_0_3", "0_1_3"
"""L1.F0 "a coloured animal", and the two features of layer 0 that make it."""


@pytest.fixture(scope="module")
def link(browser, address):
    """Run the circuit once, through the page; the address that shows it."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(240_000)
    page.goto(f"{address}/transcoder_circuit?{urlencode(ASKED)}")
    page.locator("h2").first.wait_for()
    page.mouse.click(1000, 5)
    press_run_until_accepted(page)
    assert "The logit of 'runs' is" in finding(page)
    page.wait_for_url(re.compile("run="))
    found = page.url.split("/", 3)[3]
    page.close()
    return found


@pytest.fixture(scope="module")
def slow_address(home):
    """The same dashboard on a machine that takes its time."""
    with serving(home, Path(__file__).with_name("slow_dashboard.py")) as served:
        yield served.address


def drawing(page):
    page.locator("svg[role=group]").first.wait_for()
    settle(page)
    return page.locator(".network").first


def node(page, name: str):
    return page.locator(f"[data-id='{name}']").first


def chosen(page) -> dict:
    """What the address says of the circuit."""
    return json.loads(parse_qs(urlsplit(page.url).query).get(CIRCUIT, ["{}"])[0])


def await_choice(page, **wanted) -> None:
    """Wait until the address says so, and the page is drawn for it."""

    def there(url: str) -> bool:
        told = json.loads(parse_qs(urlsplit(url).query).get(CIRCUIT, ["{}"])[0])
        return all(told.get(name) == value for name, value in wanted.items())

    page.wait_for_url(there)
    settle(page)


def look_at(page, name: str) -> None:
    node(page, name).click()
    await_choice(page, clickedId=name)


def pin(page, name: str) -> None:
    look_at(page, name)
    pinned = chosen(page).get("pinnedIds", [])
    page.get_by_role("button", name="Pin", exact=True).click()
    await_choice(page, pinnedIds=[*pinned, name])


def assert_readable(page, dark: bool) -> None:
    """The labels of the drawing stand out from the page."""
    ground = brightness(page.locator("[data-testid=stApp]").evaluate("part => getComputedStyle(part).backgroundColor"))
    ink = brightness(page.locator("svg[role=group] text").first.evaluate("part => getComputedStyle(part).fill"))
    assert (ground < 60) == dark
    assert abs(ground - ink) > 128


def test_a_click_on_a_node_shows_its_card_and_a_click_there_leads_on(tab, link):
    page = tab(link, "dark")
    drawing(page)
    assert_readable(page, dark=True)
    look_at(page, COLOURED)
    expect(page.get_by_text("kind feature, layer 1, position 3 cat, activation 1.2")).to_have_count(1)
    expect(node(page, COLOURED)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="+2.25 L0.F0@3 a colour before").click()
    await_choice(page, clickedId=COLOUR)
    page.wait_for_url(re.compile(r"at=feature0\.layer0\.pos3"))  # the shared selection follows
    expect(page.get_by_text("Selected: layer 0, pos 3, feature 0")).to_be_visible()
    page.get_by_role("button", name="-1.125 L1.F1@3 an animal").wait_for()
    page.locator(f"[data-id='{COLOUR}'][aria-pressed=true]").wait_for()


def test_a_node_clicked_while_a_pin_is_still_on_its_way_undoes_nothing(tab, link):
    page = tab(link)
    drawing(page)
    look_at(page, COLOURED)
    page.get_by_role("button", name="Pin", exact=True).evaluate("one => { window.pin = one; }")
    node(page, COLOUR).evaluate(
        "one => { pin.click(); setTimeout(() => one.dispatchEvent(new MouseEvent('click', { bubbles: true })), 40); }"
    )
    await_choice(page, clickedId=COLOUR, pinnedIds=[COLOURED])
    expect(page.get_by_text("Selected: layer 0, pos 3, feature 0")).to_be_visible()


@pytest.mark.parametrize("order", ["press.click(); room.rest();", "room.rest(); press.click();"])
@pytest.mark.parametrize("press", ["Pin", "Blind"])
def test_a_press_in_the_moment_in_which_the_page_comes_to_rest_is_not_lost(tab, link, press, order):
    page = tab(link)
    drawing(page)
    look_at(page, COLOURED)
    page.get_by_role("switch" if press == "Blind" else "button", name=press).evaluate("one => { window.press = one; }")
    page.locator("[data-room]").evaluate(f"room => {{ {order} }}")
    if press == "Pin":
        await_choice(page, pinnedIds=[COLOURED])
        expect(page.get_by_role("button", name="Ablate the pinned features")).to_be_visible()
    else:
        await_choice(page, blind=True)
        expect(page.get_by_text("the rest of the result and its files, which name features")).to_be_visible()


@pytest.mark.parametrize("wait", [200, 800])
def test_on_a_slow_machine_no_redraw_undoes_a_press(browser, slow_address, link, wait):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SOON)
    page.goto(f"{slow_address}/{link}")
    page.locator("h2").first.wait_for()
    page.mouse.click(1000, 5)
    drawing(page)
    look_at(page, COLOURED)
    page.get_by_text("Selected: layer 1, pos 3, feature 0").wait_for()
    settle(page)
    node(page, COLOUR).click()
    page.wait_for_timeout(wait)
    page.get_by_text("Blind", exact=True).click()
    await_choice(page, clickedId=COLOUR, blind=True)
    page.wait_for_timeout(3000)  # what is still on its way arrives
    settle(page)
    assert chosen(page) == {"clickedId": COLOUR, "blind": True}
    expect(page.get_by_text("Selected: layer 0, pos 3, feature 0")).to_be_visible()
    page.close()


def test_a_pinned_node_that_is_given_another_name_stays_pinned(tab, link):
    page = tab(link)
    drawing(page)
    pin(page, COLOURED)
    label = page.get_by_role("textbox", name="Your label")
    label.fill("a red cat")
    label.press("Enter")
    await_choice(page, clerps=[[COLOURED, "a red cat"]])
    pin(page, COLOUR)
    assert chosen(page)["pinnedIds"] == [COLOURED, COLOUR]


def test_pins_groups_thresholds_and_the_focused_node_come_back_with_the_link(tab, link):
    page = tab(link)
    drawing(page)
    assert_readable(page, dark=False)
    for name in (COLOUR, ANIMAL):
        pin(page, name)
    page.get_by_role("textbox", name="Group them as").fill("early")
    page.get_by_role("textbox", name="Group them as").press("Enter")
    settle(page)
    page.get_by_role("button", name="Group", exact=True).click()
    await_choice(page, supernodes=[["early", COLOUR, ANIMAL]])
    pin(page, COLOURED)
    page.get_by_role("slider", name=re.compile("^Edges of")).press("Home")
    await_choice(page, edges=1, pinnedIds=[COLOURED])
    other = tab(page.url.split("/", 3)[3])
    drawing(other)
    await_choice(other, **chosen(page))
    assert chosen(other) == chosen(page)
    expect(other.get_by_text("early: L0.F0@3 a colour before, L0.F1@3 an animal now")).to_have_count(1)
    expect(node(other, COLOURED)).to_have_attribute("aria-pressed", "true")
    drawn = other.locator("[data-from]").evaluate_all(
        "all => all.filter(one => one.style.display !== 'none').map(one => [one.dataset.from, one.dataset.to])"
    )
    focused = node(other, COLOURED).get_attribute("data-node")
    assert drawn and all(focused in ends for ends in drawn), "the strongest edge is one of its own, which are all drawn"


def test_ablating_a_pinned_feature_runs_the_model_and_tells_what_it_did(tab, link):
    page = tab(link)
    drawing(page)
    pin(page, COLOURED)
    page.get_by_role("button", name="Ablate the pinned features").click()
    page.get_by_role("link", name="Open the ablation").wait_for()
    told = page.get_by_text(re.compile("^Without L1.F0@3, 'runs' is -")).first.inner_text()
    assert "with everything else held it changes by -2" in told
    settle(page)
    page.get_by_role("button", name="Are they necessary, are they enough?").click()
    page.get_by_role("link", name="Open the check").wait_for()
    settle(page)
    page.get_by_role("link", name="Open the ablation").click()
    page.get_by_role("heading", name="Circuit ablation", exact=True).wait_for()
    assert finding(page) == told


def test_the_circuit_file_and_the_report_can_be_taken_away(tab, link, browser, tmp_path):
    page = tab(link)
    drawing(page)
    pin(page, COLOUR)
    page.get_by_role("button", name="Circuit file").click()
    with page.expect_download() as expected:
        page.get_by_role("button", name="JSON", exact=True).click()
    written = json.loads(Path(expected.value.path()).read_text())
    assert written["qParams"]["pinnedIds"] == [COLOUR]
    assert {"source": COLOUR, "target": COLOURED}.items() <= max(
        (one for one in written["links"] if one["target"] == COLOURED), key=lambda one: one["weight"]
    ).items()
    page.keyboard.press("Escape")
    settle(page)
    page.get_by_role("button", name="Download", exact=True).click()
    with page.expect_download() as expected:
        page.get_by_role("button", name="Report (HTML)").click()
    file = tmp_path / "report.html"
    expected.value.save_as(file)
    offline = browser.new_context(offline=True).new_page()
    offline.goto(file.as_uri())
    node(offline, COLOURED).click()
    assert offline.locator("[data-card]").inner_text().startswith("L1.F0@3 a coloured animal")
    offline.context.close()


def test_blind_mode_names_nothing_until_a_hypothesis_is_written(tab, link):
    page = tab(link)
    drawing(page)
    look_at(page, COLOURED)
    page.get_by_text("Blind", exact=True).click()
    await_choice(page, blind=True)
    page.get_by_text("the rest of the result and its files, which name features").wait_for()
    settle(page)
    drawing(page)
    everything = page.evaluate(ALL_MARKUP)
    assert "L1.F0@3" in everything, "it reads the drawing too"
    assert "coloured animal" not in everything and "a colour before" not in everything
    for name in ("Download", "Circuit file"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    page.get_by_role("textbox", name="What is this feature?").fill("a colour, then an animal")
    page.get_by_role("button", name="Reveal").click()
    page.get_by_text("It is a coloured animal, and fires here on cat.").wait_for()
    settle(page)
    page.get_by_role("button", name="partly right").or_(page.get_by_role("radio", name="partly right")).first.click()
    keep = page.get_by_role("button", name="Keep the verdict")
    keep.click()
    page.get_by_text("Verdict: partly right").wait_for()
