"""The drawing of a network: its places, signs and texts, and what it answers in a browser without a network."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from drawn_circuit import circuit
from pictures import HOSTILE

from workbench.reports import report
from workbench.result import Result
from workbench.views import markup
from workbench.views.colours import colour_of

RED, BLUE = (colour_of(sign * 0.75, (-1.0, 1.0), diverging=True) for sign in (-1, 1))


def drawn(result: Result) -> str:
    return markup(result.views[0], result)


def places(page: str) -> dict[str, tuple[float, float]]:
    """Where each node lies, by its id."""
    found = re.findall(r'data-id="([^"]*)"[^>]*translate\(([\d.]+) ([\d.]+)\)', page)
    return {name: (float(x), float(y)) for name, x, y in found}


def edges(page: str) -> dict[tuple[str, str], str]:
    """The element of each edge, by the labels of its ends."""
    found = {}
    for element in re.findall(r"<path data-from.*?</path>", page):
        source, target = unescape(re.search("<title>(.*?): ", element)[1]).split(" to ")
        found[source, target] = element
    return found


def test_layers_are_rows_from_below_and_positions_are_columns():
    where = places(drawn(circuit()))
    heights = [where[node][1] for node in ("E_3_1", "0_4_2", "1_0_2", "3_9_2")]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 4
    assert where["0_4_2"][1] == where["0_5_2"][1] == where["0_-1_2"][1]
    assert where["E_3_1"][0] < min(where[node][0] for node in where if node.endswith("_2"))
    assert len({where[node][0] for node in ("0_4_2", "0_5_2", "0_-1_2")}) == 3, "nodes of one place lie side by side"
    page = drawn(circuit())
    assert all(f">{name}</text>" in page for name in ("1 red", "2 cat", "tokens", "output", "position", "layer"))


def test_an_edge_that_hinders_is_red_and_broken_and_a_strong_one_is_wide():
    found = edges(drawn(circuit()))
    hinders, helps = found["L0.F5@2", "L1.F0@2"], found["L0.F4@2", "L1.F0@2"]
    assert f'stroke="{RED}" stroke-dasharray' in hinders
    assert f'stroke="{BLUE}" stroke-width' in helps
    widths = [float(re.search('stroke-width="([^"]*)"', element)[1]) for element in found.values()]
    weights = [abs(float(re.search('data-weight="([^"]*)"', element)[1])) for element in found.values()]
    assert [width for _, width in sorted(zip(weights, widths, strict=True))] == sorted(widths)


def test_the_shape_tells_the_kind_of_a_node():
    shapes = dict(re.findall(r'data-id="([^"]*)".*?</title><(path d="[^"]*"|circle)', drawn(circuit()), re.DOTALL))
    assert shapes["0_4_2"] == shapes["1_0_2"] == "circle"
    assert shapes["E_3_1"] == shapes["3_9_2"] != shapes["0_-1_2"]
    assert "circle" not in (shapes["E_3_1"], shapes["0_-1_2"])


def test_the_numbers_stand_in_a_table_for_those_without_a_script():
    page = drawn(circuit("a colour"))
    assert "<summary>Nodes as a table</summary>" in page
    row = next(row for row in re.findall("<tr>.*?</tr>", page) if "<bdi>L1.F0@2</bdi>" in row)
    assert "L0.F4@2 a colour +2.25; L0.F5@2 -1.5; L0.error@2 +0.01" in row
    assert "&#x27;runs&#x27; +20" in row
    assert "feature; layer 1; position 2 cat; influence 0.9; activation 1.25" in row


def test_two_hundred_nodes_lie_apart():
    base = circuit().tables["nodes"][0]
    nodes = [{**base, "id": str(place), "x": 2 + place / 300, "y": float(place % 4)} for place in range(200)]
    result = Result(tables={"nodes": nodes, "edges": []}, views=circuit().views[:1])
    where = sorted(places(drawn(result)).values())
    by_row = [[x for x, y in where if y == height] for height in {y for _, y in where}]
    assert min(right - left for row in by_row for left, right in zip(row, row[1:], strict=False)) >= 13


@pytest.fixture
def page_of(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """Open the report of a result with the network off; at the end nothing may have been asked of anyone."""
    asked, complaints, contexts = [], [], []

    def open_report(result: Result, **options: Any) -> Any:
        file = report([result], tmp_path / "report.html")
        contexts.append(chromium.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []


def node(page: Any, name: str) -> Any:
    return page.locator(f"[data-id='{name}']")


def seen(page: Any, marks: str) -> int:
    """How many elements are drawn."""
    return page.locator(marks).evaluate_all("all => all.filter(one => one.style.display !== 'none').length")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_click_on_a_node_shows_its_card_and_leads_on_to_the_next(page_of: Any, scheme: str) -> None:
    page = page_of(circuit("a colour", "an animal", "a coloured animal"), color_scheme=scheme)
    card = page.locator("[data-card]")
    assert "Choose a node" in card.inner_text()
    node(page, "1_0_2").click()
    told = card.inner_text()
    assert told.startswith("L1.F0@2 a coloured animal")
    assert "feature · layer 1 · position 2 cat · influence 0.9 · activation 1.25" in told
    lines = [" ".join(one.split()) for one in card.get_by_role("listitem").all_inner_texts()]
    assert lines == ["+2.25 L0.F4@2 a colour", "-1.5 L0.F5@2 an animal", "+0.01 L0.error@2", "+20 'runs'"]
    assert node(page, "1_0_2").get_attribute("aria-pressed") == "true"
    card.get_by_role("button", name="an animal").click()
    assert card.inner_text().startswith("L0.F5@2 an animal")
    assert node(page, "0_5_2").get_attribute("aria-pressed") == "true"
    node(page, "0_5_2").click()
    assert "Choose a node" in card.inner_text()


@pytest.mark.browser
def test_what_has_nothing_to_do_with_the_focused_node_fades(page_of: Any) -> None:
    page = page_of(circuit())
    node(page, "0_4_2").click()
    page.mouse.move(1, 1)
    opacity = {name: float(node(page, name).evaluate("one => one.style.opacity")) for name in places(drawn(circuit()))}
    assert {name for name, value in opacity.items() if value == 1} == {"0_4_2", "1_0_2", "E_3_1"}
    touching = page.locator("[data-from]").evaluate_all("all => all.filter(one => one.style.strokeOpacity > .5).length")
    assert touching == 2


@pytest.mark.browser
def test_thresholds_keep_what_carries_most_influence(page_of: Any) -> None:
    page = page_of(circuit())
    assert seen(page, "[data-node]") == 7 and seen(page, "[data-from]") == 6
    page.get_by_role("slider", name="strongest edges").fill("2")
    assert page.get_by_text("2 of 6 edges").count() == 1
    drawn_edges = page.locator("[data-from]").evaluate_all(
        "all => all.filter(one => one.style.display !== 'none').map(one => one.dataset.weight)"
    )
    assert sorted(map(float, drawn_edges)) == [2.25, 20.0]
    node(page, "1_0_2").click()
    assert seen(page, "[data-from]") == 4, "of the node that is looked at, all edges are drawn"
    node(page, "1_0_2").click()
    page.mouse.move(1, 1)
    page.get_by_role("slider", name="strongest nodes").fill("2")
    assert seen(page, "[data-node]") == 2 and seen(page, "[data-from]") == 1


@pytest.mark.browser
def test_keys_are_enough(page_of: Any) -> None:
    page = page_of(circuit())
    page.get_by_role("slider", name="strongest edges").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.id") == "0_5_2"
    page.keyboard.press("Enter")
    assert page.locator("[data-card]").inner_text().startswith("L0.F5@2")
    page.keyboard.press("Escape")
    assert "Choose a node" in page.locator("[data-card]").inner_text()


@pytest.mark.browser
def test_without_a_script_there_is_a_picture_and_a_table(page_of: Any) -> None:
    page = page_of(circuit("a colour"), java_script_enabled=False)
    assert page.locator("svg[role=group] [data-node]").count() == 7
    assert page.get_by_role("slider").count() == 0
    page.get_by_text("Nodes as a table").click()
    assert page.get_by_role("cell", name="+2.25").first.is_visible()


@pytest.mark.browser
def test_hostile_names_stay_texts_on_the_card_too(page_of: Any) -> None:
    for place in range(0, len(HOSTILE), 3):
        page = page_of(circuit(*HOSTILE[place : place + 3]))
        for name in ("0_4_2", "0_5_2", "1_0_2"):
            node(page, name).click()
            assert page.locator("[data-card]").inner_text().startswith("L")
            node(page, name).click()
        assert page.evaluate("window.PWN") is None
        assert page.locator("[data-card] script, [data-card] img, img[src=x]").count() == 0
