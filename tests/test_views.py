"""The seven views: what they say, what they draw, and that no text in them becomes markup."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import HOSTILE, every_view

from workbench.result import Named, Result
from workbench.views import (
    Graph,
    Heatmap,
    Lines,
    Scatter,
    Table,
    Tokens,
    canvas,
    clickable,
    clicked_cell,
    figure,
    has_many_cells,
    markup,
    numbered_cell,
    view_from_json,
    view_to_json,
)
from workbench.views.colours import DIVERGING, SEQUENTIAL, colour_of, ink_on, scale, series_colours
from workbench.views.lookup import bounds_of, panel_of
from workbench.views.plane import ticks
from workbench.views.texts import cell_text, number_text, visible
from workbench.views.thinning import pool

VIEWS = range(len(every_view().views))


def grid_of(values: np.ndarray, **more: object) -> Result:
    array = Named(np.asarray(values), ("layer", "pos"))
    return Result(arrays={"score": array}, views=(Heatmap("score", x="pos", y="layer", **more),))


class Elements(HTMLParser):
    """Collects the elements, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def elements_of(html: str) -> Elements:
    parser = Elements()
    parser.feed(html)
    parser.close()
    return parser


@pytest.mark.parametrize("place", VIEWS)
def test_a_view_survives_json(place: int) -> None:
    view = every_view().views[place]
    assert view_from_json(json.loads(json.dumps(view_to_json(view)))) == view


def test_unknown_kinds_and_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="'Pie' is unknown: allowed are Heatmap"):
        view_from_json({"kind": "Pie"})
    with pytest.raises(ValueError, match="Table has no colour"):
        view_from_json({"kind": "Table", "table": "t", "colour": "red"})
    with pytest.raises(ValueError, match="Heatmap cannot be read"):
        view_from_json({"kind": "Heatmap", "array": "score"})


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("place", VIEWS)
def test_every_view_becomes_a_valid_transparent_figure(place: int, dark: bool) -> None:
    drawn = every_view().figure(place, dark=dark)
    assert drawn.layout.paper_bgcolor == drawn.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert drawn.layout.font.color == ("#e6edf3" if dark else "#1f2328")
    assert drawn.layout.title.text
    assert json.loads(drawn.to_json())["data"]


def test_layer_zero_lies_at_the_bottom_and_other_rows_read_from_the_top() -> None:
    result = every_view()
    assert result.figure(0).layout.yaxis.autorange != "reversed"
    assert result.figure(1).layout.yaxis.autorange == "reversed"
    assert panel_of(result.views[0], result).upward
    drawn = markup(result.views[0], result)
    assert drawn.index("layer 4, head 0") < drawn.index("layer 0, head 0")


def test_effects_are_centred_at_zero_and_scores_begin_there() -> None:
    assert bounds_of(np.array([-1.0, 3.0]), diverging=True) == (-3.0, 3.0)
    assert bounds_of(np.array([0.2, 0.9]), diverging=False) == (0.0, 0.9)
    assert bounds_of(np.array([90.0, 100.0]), diverging=False) == (90.0, 100.0)
    assert bounds_of(np.array([np.nan, np.inf]), diverging=True) == (-1.0, 1.0)
    assert bounds_of(np.array([5.0, 5.0]), diverging=False) == (0.0, 5.0)
    assert bounds_of(np.array([-5.0]), diverging=False) == (-5.0, 0.0)
    assert bounds_of(np.array([0.0]), diverging=False) == (0.0, 1.0)
    assert bounds_of(np.array([0.97, 0.98]), diverging=False, unit="probability") == (0.0, 0.98)


def test_all_slices_share_one_colour_scale() -> None:
    result = every_view()
    first, second = (result.figure(0, select={"pos": pos}).data[0] for pos in (0, 3))
    assert (first.zmin, first.zmax) == (second.zmin, second.zmax)
    assert not np.array_equal(first.z, second.z)


def test_the_viewer_may_select_over_the_view_and_the_title_says_what_is_shown() -> None:
    result = every_view()
    assert result.figure(0).layout.title.text == "score, pos 5 ."
    chosen = result.figure(0, select={"pos": 1})
    assert chosen.layout.title.text == "score, pos 1 ·cat"
    np.testing.assert_array_equal(chosen.data[0].z, result.arrays["score"].values[:, :, 1])
    with pytest.raises(IndexError, match="pos 9 was selected, but the axis has 6"):
        result.figure(0, select={"pos": 9})


def test_a_view_draws_axes_in_the_order_it_names() -> None:
    result = every_view()
    np.testing.assert_array_equal(result.figure(1).data[0].z, result.arrays["effect"].values[0])
    turned = Heatmap("effect", x="head", y="pos")
    np.testing.assert_array_equal(figure(turned, result).data[0].z, result.arrays["effect"].values[0].T)


def test_what_is_near_zero_is_near_the_page_in_both_themes() -> None:
    result = grid_of(np.zeros((2, 2)), diverging=True)
    for dark, ground in ((False, 255), (True, 0)):
        shades = [colour for _, colour in result.figure(dark=dark).data[0].colorscale]
        away = [abs(sum(int(shade[at : at + 2], 16) for at in (1, 3, 5)) / 3 - ground) for shade in shades]
        assert away[4] == min(away), "the middle of nine shades is nearest to the page"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("diverging", [False, True])
def test_tokens_stand_on_the_colours_of_the_theme_and_can_be_read_there(diverging: bool, dark: bool) -> None:
    array = Named(np.linspace(-1.0, 1.0, 21), ("pos",), labels={"pos": tuple("abcdefghijklmnopqrstu")})
    result = Result(arrays={"score": array}, views=(Tokens("score", diverging=diverging),))
    cells, texts = result.figure(dark=dark).data
    shown = markup(result.views[0], result, dark=dark)
    assert ",".join(scale(diverging, dark)) in shown
    assert [shade for _, shade in cells.colorscale] == list(scale(diverging, dark))
    for value, ink in zip(array.values, texts.textfont.color, strict=True):
        ground = colour_of(value, (cells.zmin, cells.zmax), diverging, dark)
        assert abs(luminance(ink) - luminance(ground)) > 0.35
        assert f"background:{ground};color:{ink}" in shown


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_bars_of_uncertainty_are_drawn_in_the_ink_of_the_page() -> None:
    for dark in (False, True):
        drawn = figure(every_view().views[3], every_view(), dark=dark)
        assert drawn.data[0].error_y.color == drawn.layout.font.color


def test_equal_tokens_stay_apart_on_an_axis() -> None:
    bars = every_view().figure(3)
    assert bars.layout.xaxis.labelalias["1"] == bars.layout.xaxis.labelalias["2"] == "·cat"
    assert len(bars.data[0].y) == 6


def test_a_large_grid_keeps_its_brightest_cell_and_says_downsampled() -> None:
    values = np.zeros((600, 700), dtype=np.float32)
    values[599, 13] = -2.0
    result = grid_of(values, diverging=True)
    drawn = result.figure()
    assert drawn.layout.title.text == "score, downsampled"
    assert max(drawn.data[0].z.shape) <= 256
    assert drawn.data[0].z.min() == -2.0
    assert len(drawn.to_json()) < 1_000_000
    assert "downsampled" not in grid_of(values[:256, :256]).figure().layout.title.text


def test_pooling_prefers_numbers_to_missing_ones() -> None:
    pooled, labels = pool(np.array([[1.0, np.nan, np.nan, np.nan, -3.0]]), tuple("abcde"), axis=1, cells=3)
    np.testing.assert_array_equal(pooled, [[1.0, np.nan, -3.0]])
    assert labels == ("a", "c", "e")


def test_long_curves_are_thinned_and_say_so() -> None:
    result = Result(arrays={"loss": Named(np.arange(10_000.0), ("step",))}, views=(Lines("loss", x="step"),))
    drawn = result.figure()
    assert len(drawn.data[0].y) <= 4096
    assert drawn.layout.title.text == "loss, downsampled"


def test_bands_and_error_bars_follow_their_arrays() -> None:
    result = every_view()
    band = result.figure(2).data[0]
    np.testing.assert_allclose(band.y[:5], result.arrays["high"].values[:, 0, 0])
    bars = figure(type(result.views[3])("score", x="head", lower="low", upper="high"), result).data[0]
    np.testing.assert_allclose(bars.error_y.array, 0.2, rtol=1e-5)
    np.testing.assert_allclose(bars.error_y.arrayminus, 0.1, rtol=1e-5)
    with pytest.raises(ValueError, match="lower and upper belong together"):
        Lines("score", x="layer", lower="low")


def test_a_scatter_reads_arrays_or_a_table() -> None:
    result = every_view()
    assert len(result.figure(4).data[0].x) == result.arrays["score"].values.size
    cloud = figure(Scatter("x", "value", table="nodes", label="label"), result).data[0]
    assert cloud.customdata[1] == "·cat"
    np.testing.assert_array_equal(cloud.y, [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])


def test_a_graph_refuses_edges_to_nowhere() -> None:
    nodes = [{"id": "a", "x": 0, "y": 0, "label": "a"}]
    edges = [{"source": "a", "target": "z", "weight": 1.0}]
    result = Result(tables={"nodes": nodes, "edges": edges}, views=(Graph("nodes", "edges"),))
    with pytest.raises(KeyError, match="does not have: \\['z'\\]"):
        result.figure()


def test_what_a_view_names_must_be_there() -> None:
    with pytest.raises(KeyError, match="names the array 'missing'"):
        Result(views=(Tokens("missing"),))
    with pytest.raises(KeyError, match=r"wants axis 'head' of 'score': its axes are \('layer', 'pos'\)"):
        Result(arrays=grid_of(np.zeros((2, 2))).arrays, views=(Heatmap("score", x="head", y="layer"),))
    with pytest.raises(KeyError, match=r"wants columns \['b'\]"):
        Result(tables={"t": [{"a": 1}]}, views=(Table("t", columns=("b",)),))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_empty_and_single_cells_can_be_drawn(shape: tuple[int, int]) -> None:
    result = grid_of(np.zeros(shape, dtype=np.float32))
    assert result.figure().data[0].z.shape == shape
    assert "<svg" in markup(result.views[0], result)


def test_nan_is_a_gap_in_both_drawings() -> None:
    result = grid_of(np.array([[np.nan, 1.0]]))
    assert np.isnan(result.figure().data[0].z[0, 0])
    assert 'fill="none" d="M0 0h1v1h-1z"><title>layer 0, pos 0: no value' in markup(result.views[0], result)


def test_many_cells_become_an_image_and_few_become_shapes() -> None:
    few, many = grid_of(np.ones((10, 10))), grid_of(np.ones((60, 60)))
    assert markup(few.views[0], few).count("<path fill") == 100
    drawn = markup(many.views[0], many)
    assert "<path fill" not in drawn and "data:image/png;base64," in drawn


def test_pixels_carry_the_colours_of_the_scale() -> None:
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    from workbench.views.pixels import png_address

    address = png_address(np.array([[0.0, 1.0], [np.nan, 0.5]]), (0.0, 1.0), diverging=True)
    image = Image.open(BytesIO(b64decode(address.split(",")[1]))).convert("RGBA")
    assert image.getpixel((0, 0)) == (178, 24, 43, 255)
    assert image.getpixel((1, 0)) == (33, 102, 172, 255)
    assert image.getpixel((0, 1))[3] == 0
    assert image.getpixel((1, 1)) == (247, 247, 247, 255)


@pytest.mark.parametrize("place", VIEWS)
def test_hostile_texts_stay_texts_in_markup(place: int) -> None:
    calm, hostile = every_view(("a",) * len(HOSTILE)), every_view(HOSTILE)
    view = hostile.views[place]
    found = elements_of(markup(view, hostile))
    expected = elements_of(markup(view, calm))
    assert found.tags == expected.tags
    assert found.attributes <= expected.attributes | {"transform"}


@pytest.mark.parametrize("place", VIEWS)
def test_hostile_texts_are_escaped_in_figures(place: int) -> None:
    written = every_view(HOSTILE).figure(place).to_json()
    texts = json.loads(written)
    assert not [text for text in strings_in(texts) if "<script" in text or "<img" in text or "<svg" in text]


def strings_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in strings_in(item)]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(), min_size=1, max_size=12))
def test_no_token_makes_an_element(token: str) -> None:
    result = Result(
        arrays={"score": Named(np.zeros(1, dtype=np.float32), ("pos",), labels={"pos": (token,)})},
        views=(Tokens("score"),),
    )
    assert elements_of(markup(result.views[0], result)).tags == {
        "figure", "figcaption", "div", "bdi", "p", "small", "span",
    }  # fmt: skip


def test_hidden_characters_can_be_seen() -> None:
    assert visible(" a b ") == "·a b·"
    assert visible("  ") == "··"
    assert visible("\n\t") == "⏎⇥"
    assert visible("\u202eab\x00") == "\\u202eab\\u0000"
    assert visible("\ud83e") == "\\ud83e"
    assert visible("x" * 40) == "x" * 31 + "…"
    assert visible("\U0001f9e0\u200d\U0001f525") == "\U0001f9e0\u200d\U0001f525"


def test_numbers_and_cells_read_well() -> None:
    assert [number_text(value) for value in (0.123456, 3, float("nan"), -2.0)] == [
        "0.1235",
        "3",
        "no value",
        "-2",
    ]
    assert [cell_text(value) for value in (None, True, [1, " a"], {"k": 0.5})] == [
        "",
        "yes",
        "1, ·a",
        "k: 0.5",
    ]


def test_colours_reach_both_ends_and_the_middle_of_effects_is_pale() -> None:
    assert colour_of(-9.0, (-1.0, 1.0), diverging=True) == DIVERGING[0]
    assert colour_of(0.0, (-1.0, 1.0), diverging=True) == "#f7f7f7"
    assert colour_of(1.0, (0.0, 1.0), diverging=False) == SEQUENTIAL[-1]
    assert ink_on(SEQUENTIAL[0]) == "#ffffff"
    assert ink_on(SEQUENTIAL[-1]) == "#111111"


@pytest.mark.parametrize(
    ("bounds", "log", "expected"),
    [
        ((0.0, 1.0), False, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((-3.0, 11.0), False, [0.0, 5.0, 10.0]),
        ((1e-7, 3e-7), False, [1e-7, 1.5e-7, 2e-7, 2.5e-7, 3e-7]),
        ((0.5, 2000.0), True, [1.0, 10.0, 100.0, 1000.0]),
        ((0.1, 0.9), True, [0.1, 0.2, 0.5]),
    ],
)
def test_ticks_are_round(bounds: tuple[float, float], log: bool, expected: list[float]) -> None:
    np.testing.assert_allclose(ticks(bounds, log), expected)


def test_few_series_get_separate_hues_and_many_a_gradient() -> None:
    assert len(set(series_colours(8))) == 8
    many = series_colours(30)
    assert (many[0], many[-1]) == ("#0072b2", "#d55e00")
    assert len(set(many)) == 30


def test_drawing_needs_plotly_only_for_figures() -> None:
    script = (
        "import sys\nfrom pictures import every_view\n"
        "every_view()._repr_html_()\nprint({'torch', 'pandas', 'plotly'} & set(sys.modules))\n"
        "every_view().figure()\nprint('plotly' in sys.modules)\n"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    shown = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert shown.stdout == "set()\nTrue\n"


def test_a_clickable_heatmap_shows_its_cells_and_nothing_beyond() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    result = Result(arrays={"score": Named(values, ("layer", "pos")), "map": Named(values, ("query", "key"))})
    for view, vertical in (
        (Heatmap("score", "pos", "layer"), (-0.5, 2.5)),
        (Heatmap("map", "key", "query"), (2.5, -0.5)),
    ):
        drawn = clickable(view, result, marked=(1, None))
        points = drawn.data[1]
        assert [(int(x), int(y), float(v)) for x, y, v in zip(points.x, points.y, points.customdata, strict=True)] == [
            (column, row, float(values[row, column])) for row in range(3) for column in range(4)
        ]
        assert (drawn.layout.xaxis.range, drawn.layout.yaxis.range) == ((-0.5, 3.5), vertical)
        assert not drawn.layout.yaxis.autorange
        assert clicked_cell(view, result, column=3, row=1) == {view.x: 3, view.y: 1}
        frame = drawn.layout.shapes[0]
        assert (frame.x0, frame.x1, frame.y0, frame.y1) == (0.5, 1.5, -0.5, 2.5)


def test_a_long_prompt_is_a_canvas_that_is_clicked_cell_by_cell_or_block_by_block() -> None:
    view = Heatmap("score", "pos", "layer")
    for tokens, columns, clicked in ((500, 500, 17), (2000, 250, 8 * 17)):
        values = np.arange(32 * tokens).reshape(32, tokens) / 1000
        result = Result(arrays={"score": Named(values, ("layer", "pos"))})
        assert has_many_cells(view, result)
        options, height = canvas(view, result)
        cells = options["dataset"]["source"]
        assert len(cells) == 32 * columns
        assert numbered_cell(view, result, 5 * columns + 17) == {"pos": clicked, "layer": 5}
        told = cells.iloc[5 * columns + 17]
        assert told.cell == 5 * columns + 17
        assert (told.x, told.y) == (str(17 if tokens == 500 else f"17 {clicked}"), "5")
        assert options["yAxis"]["inverse"] is False
        assert 300 < height < 900
    assert not has_many_cells(view, Result(arrays={"score": Named(np.zeros((18, 100)), ("layer", "pos"))}))


def test_hostile_texts_cannot_leave_the_hover_of_a_canvas() -> None:
    array = Named(np.zeros((200, 12)), ("layer", "pos"), unit="<img src=x onerror=f()> {@x}", labels={"pos": HOSTILE})
    options, _ = canvas(Heatmap("score", "pos", "layer"), Result(arrays={"score": array}))
    template = options["tooltip"]["formatter"]
    assert template.count("<") == 2 and template.count("{@") == 3, "the two line breaks, and the three placeholders"
