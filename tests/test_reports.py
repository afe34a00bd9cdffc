"""Reports: everything is in them, nothing gets out of them, and hostile text stays text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import HOSTILE, every_view

from workbench.reports import _EXPLORE, _HASH, MAX_VALUES, report
from workbench.result import Check, Named, Result
from workbench.strict_json import loads
from workbench.views import Bars, Heatmap, Lines, Tokens

ADDRESSED = ("href", "src", "srcset", "action", "xlink:href")


class Page(HTMLParser):
    """The elements, attributes, addresses and texts of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.source = file.read_text("utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ADDRESSED]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def hostile_result() -> Result:
    """A result in which every field that can hold text holds all hostile texts."""
    every = " ".join(HOSTILE)
    return replace(
        every_view(HOSTILE),
        title=every,
        finding=every,
        analysis=every,
        reference=every,
        notes=HOSTILE,
        checks=tuple(Check(text, 0.0, 1.0) for text in HOSTILE),
        scalars=dict.fromkeys(HOSTILE, every),
        params=dict.fromkeys(HOSTILE, every),
        made=dict.fromkeys(HOSTILE, every),
        model={"name": every, **dict.fromkeys(HOSTILE, every)},
        inputs={
            "prompts": {"type": "prompts", "prompts": [{"text": text, "target": text} for text in HOSTILE]},
            every: {"type": every, "more": [every]},
        },
        tables={**every_view(HOSTILE).tables, every: [dict.fromkeys(HOSTILE, every)]},
    )


def realistic_result(number: int) -> Result:
    """About what an analysis of an 18-layer model on a prompt of 30 tokens returns."""
    random = np.random.default_rng(number)
    tokens = tuple(f" token{place}" for place in range(30))
    return replace(
        every_view(tokens, title=f"Analysis {number}"),
        arrays={
            "lens": Named(random.random((18, 30)), ("layer", "pos"), "probability", {"pos": tokens}),
            "score": Named(random.random((18, 8)), ("layer", "head")),
            "pattern": Named(np.tril(random.random((8, 300, 300))), ("head", "query", "key")),
            "effect": Named(random.normal(size=30), ("pos",), "nats", {"pos": tokens}),
        },
        views=(
            Heatmap("lens", x="pos", y="layer"),
            Heatmap("score", x="head", y="layer"),
            Heatmap("pattern", x="key", y="query"),
            Lines("lens", x="layer", series="pos"),
            Bars("effect", x="pos"),
            Tokens("effect", diverging=True),
        ),
    )


def test_a_report_tells_everything_that_a_reader_needs(tmp_path: Path) -> None:
    result = every_view()
    text = Page(report([result], tmp_path / "report.html", author_text="First.\n\nSecond.")).text
    expected = [
        result.title,
        result.finding,
        "Where it copies.",
        "First.",
        "Second.",
        "Short prompts only.",
        "components sum to the logit",
        "1e-07 ≤ 1e-05",
        "arXiv:2404.15574",
        "fingerprint abc123",
        "threshold 0.1",
        "torch: 2.13",
        "seconds 1.5",
        "workbench run retrieval_heads",
        "run('retrieval_heads', model, prompts, threshold=0.1, layers=[0, 1])",
        "and 3 more rows",
    ]
    assert [words for words in expected if words not in text] == []


def test_every_view_is_drawn_and_tables_without_a_view_are_listed(tmp_path: Path) -> None:
    result = replace(every_view(), tables={**every_view().tables, "extra": [{"word": "lonely"}] * 12})
    page = Page(report([result], tmp_path / "report.html"))
    assert page.tags.count("figure") == 9
    assert page.text.count("lonely") == 10 and "and 2 more rows" in page.text


def test_a_failed_check_cannot_be_overlooked(tmp_path: Path) -> None:
    checks = (Check("logits agree", 0.5, 1e-6), Check("sums", float("nan"), 1.0))
    failed = replace(every_view(), checks=checks)
    text = Page(report([every_view(), failed], tmp_path / "report.html")).text
    assert "self-checks of 1 failed" in text
    assert "✗ failed: logits agree 0.5 is not ≤ 1e-06" in text
    assert "✗ failed: sums no value is not ≤ 1" in text
    passed = Page(report([every_view()], tmp_path / "good.html")).text
    assert "all self-checks passed (1)" in passed and "✗" not in passed


def test_equal_references_are_listed_once(tmp_path: Path) -> None:
    results = [every_view(), replace(every_view(), reference="doi:10.1000/a(b)c"), every_view()]
    page = Page(report(results, tmp_path / "report.html"))
    assert page.text.split("References")[1].count("arXiv:2404.15574") == 1
    assert page.addresses.count("https://doi.org/10.1000/a(b)c") == 2
    assert page.addresses.count("#reference-1") == 2


def test_hostile_texts_add_no_element_and_no_attribute(tmp_path: Path) -> None:
    calm_texts = tuple(f"text {number}" for number in range(len(HOSTILE)))
    hostile, calm = tmp_path / "hostile.html", tmp_path / "calm.html"
    page = Page(report([hostile_result()], hostile, title=HOSTILE[0], author_text=HOSTILE[0]))
    expected = Page(report([every_view(calm_texts), every_view()], calm))
    assert set(page.tags) <= set(expected.tags) | {"br"}
    assert page.attributes <= expected.attributes
    assert page.tags.count("style") == 1
    allowed = ("#", "https://arxiv.org/", "data:image/png;base64,")
    assert [address for address in page.addresses if not address.startswith(allowed)] == []


def test_no_character_turns_or_hides_what_follows(tmp_path: Path) -> None:
    source = Page(report([hostile_result()], tmp_path / "report.html", title=HOSTILE[7])).source
    assert not set("\u202e\x00\x1b\u2066") & set(source)
    assert "\\u202eright to left" in source


@pytest.mark.parametrize("results", [[every_view()], [hostile_result()]], ids=["calm", "hostile"])
def test_a_report_asks_for_nothing_from_anywhere(tmp_path: Path, results: list[Result]) -> None:
    page = Page(report(results, tmp_path / "report.html"))
    assert "default-src 'none'" in page.source.split("</head>")[0]
    assert not {"link", "iframe", "img", "object", "embed", "form", "base"} & set(page.tags)
    assert [text.strip() for text in re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)] == [
        _EXPLORE.strip()
    ]
    assert f"script-src 'sha256-{_HASH}'" in page.source.split("</head>")[0]
    assert not re.search(r"innerHTML|https?:|fetch|eval|import", _EXPLORE)
    assert not [name for name in page.attributes if name.startswith("on")]
    styles = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert len(styles) == 1 and "url(" not in styles[0] and "@import" not in styles[0]


def test_six_realistic_results_stay_below_a_megabyte(tmp_path: Path) -> None:
    page = report([realistic_result(number) for number in range(6)], tmp_path / "report.html")
    assert page.stat().st_size < 1_000_000


def test_the_json_beside_it_is_strict_and_holds_the_numbers(tmp_path: Path) -> None:
    large = Named(np.zeros(MAX_VALUES + 1), ("neuron",))
    arrays = {**every_view().arrays, "large": large}
    result = replace(every_view(), arrays=arrays, scalars={"x": float("inf")})
    report([result], tmp_path / "report.html", title="Both")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not strict JSON")

    text = (tmp_path / "report.json").read_text()
    assert json.loads(text, parse_constant=refuse)["title"] == "Both"
    told = loads(text)["results"][0]
    np.testing.assert_array_equal(told["arrays"]["score"]["values"], result.arrays["score"].values)
    assert told["arrays"]["large"]["values"] is None
    assert told["arrays"]["large"]["shape"] == [MAX_VALUES + 1]
    assert told["scalars"] == {"x": float("inf")}
    assert told["checks"][0]["passed"] is True


def test_a_report_of_nothing_or_under_a_wrong_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one result"):
        report([], tmp_path / "report.html")
    with pytest.raises(ValueError, match="must end in .html"):
        report([every_view()], tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_report_replaces_the_old_one_and_leaves_no_other_file(tmp_path: Path) -> None:
    for title in ("old", "new"):
        report([every_view()], tmp_path / "deep" / "report.html", title=title)
    assert "<title>new</title>" in (tmp_path / "deep" / "report.html").read_text("utf-8")
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == ["report.html", "report.json"]


def test_a_result_with_nothing_in_it_can_be_reported(tmp_path: Path) -> None:
    text = Page(report([Result(analysis="empty")], tmp_path / "report.html")).text
    assert "no self-checks" in text and "an unnamed model" in text


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chromium_runs_nothing_and_requests_nothing(tmp_path: Path, chromium: Any, scheme: str) -> None:
    file = report([hostile_result(), every_view()], tmp_path / "report.html")
    page = chromium.new_page(viewport={"width": 1000, "height": 1400}, color_scheme=scheme)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    assert page.evaluate("window.PWN") is None
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert complaints == []
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == {"light": "rgb(253, 252, 249)", "dark": "rgb(21, 23, 26)"}[scheme]
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()
