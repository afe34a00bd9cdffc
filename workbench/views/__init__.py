"""Views: what a picture of a result shows, and the ways to draw it.

`kinds` holds the descriptions, `lookup` finds what a view shows, `figures` draws it with plotly (`clicks` makes
cells clickable), `cells` with ECharts where there are thousands of them, `svg` as SVG and HTML that need no script
and no network (`network.js` makes graphs answer to clicks where a page runs it), and `files` as a file of SVG.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.views.kinds import (
    Bars,
    Graph,
    Heatmap,
    Lines,
    Scatter,
    Source,
    Table,
    Tokens,
    View,
    check_view,
    view_from_json,
    view_to_json,
)

if TYPE_CHECKING:
    import plotly.graph_objects  # noqa: TID251

__all__ = [
    "Bars",
    "Graph",
    "Heatmap",
    "Lines",
    "Scatter",
    "Table",
    "Tokens",
    "View",
    "check_view",
    "clickable",
    "canvas",
    "clicked_cell",
    "drawing_file",
    "figure",
    "has_many_cells",
    "markup",
    "numbered_cell",
    "title_of",
    "view_from_json",
    "view_to_json",
]


def figure(
    view: View, result: Source, select: Mapping[str, int] | None = None, dark: bool = False
) -> "plotly.graph_objects.Figure":
    """Draw a view with plotly.

    Args:
        view: what to draw.
        result: where its arrays and tables are.
        select: indices of further axes, over the view's own; this is what sliders change.
        dark: colours for a dark page; the background is transparent in both cases.
    """
    from workbench.views.figures import draw
    from workbench.views.lookup import panel_of

    return draw(panel_of(view, result, select), dark)


def clickable(
    view: Heatmap,
    result: Source,
    select: Mapping[str, int] | None = None,
    dark: bool = False,
    marked: tuple[int | None, int | None] = (None, None),
) -> "plotly.graph_objects.Figure":
    """Draw a heatmap whose cells can be clicked where a program listens, unless they are too many.

    Args:
        view: what to draw.
        result: where its array is.
        select: indices of further axes, over the view's own.
        dark: colours for a dark page.
        marked: the indices on the horizontal and the vertical axis to frame; None leaves that side open.
    """
    from workbench.views.clicks import MAX_CELLS, add_points
    from workbench.views.figures import draw
    from workbench.views.lookup import cell_of, panel_of
    from workbench.views.panels import Grid

    panel = panel_of(view, result, select)
    drawn = draw(panel, dark)
    if isinstance(panel, Grid) and panel.values.size <= MAX_CELLS:
        add_points(drawn, panel, cell_of(view, result, marked))
    return drawn


def has_many_cells(view: Heatmap, result: Source) -> bool:
    """Whether a heatmap has more cells than `clickable` makes clickable, so that `canvas` is to draw it."""
    from workbench.views.clicks import MAX_CELLS
    from workbench.views.lookup import cells_of

    rows, columns = cells_of(view, result)
    return rows * columns > MAX_CELLS


def canvas(
    view: Heatmap, result: Source, select: Mapping[str, int] | None = None, dark: bool = False
) -> tuple[dict[str, Any], int]:
    """The options of an ECharts chart of a heatmap, whose cells can be clicked however many they are, and its height.

    Args:
        view: what to draw.
        result: where its array is.
        select: indices of further axes, over the view's own.
        dark: colours for a dark page.
    """
    from workbench.views.cells import canvas_height, canvas_options
    from workbench.views.lookup import panel_of
    from workbench.views.panels import Grid

    panel = panel_of(view, result, select)
    assert isinstance(panel, Grid), "a heatmap is a grid"
    return canvas_options(panel, dark), canvas_height(panel)


def clicked_cell(view: Heatmap, result: Source, column: int, row: int) -> dict[str, int]:
    """The indices of a clicked cell; where cells are pooled, of the first entry that one stands for."""
    from workbench.views.lookup import blocks_of

    rows, columns = blocks_of(result.arrays[view.array], view)
    return {view.x: column * columns, view.y: row * rows}


def numbered_cell(view: Heatmap, result: Source, number: int) -> dict[str, int]:
    """The indices of a cell of a canvas by its number."""
    from workbench.views.lookup import cells_of

    row, column = divmod(number, cells_of(view, result)[1])
    return clicked_cell(view, result, column, row)


def drawing_file(view: View, result: Source, select: Mapping[str, int] | None = None) -> str:
    """Draw a view as the content of an SVG file, legend and colour scale included.

    Raises:
        ValueError: the view is a table.
    """
    from workbench.views.files import picture_file
    from workbench.views.lookup import panel_of

    return picture_file(panel_of(view, result, select))


def markup(
    view: View,
    result: Source,
    select: Mapping[str, int] | None = None,
    heading: bool = True,
    dark: bool = False,
) -> str:
    """Draw a view as HTML with inline SVG: safe to place in any page, no script, no network.

    Args:
        view: what to draw.
        result: where its arrays and tables are.
        select: indices of further axes, over the view's own.
        heading: begin with the title.
        dark: colours of tokens for a dark page; all else suits both.
    """
    from workbench.views.lookup import panel_of
    from workbench.views.svg import draw

    return draw(panel_of(view, result, select), view.caption, heading, dark)


def title_of(view: View, result: Source, select: Mapping[str, int] | None = None) -> str:
    """The title of a picture, with what it shows of the axes that are not drawn."""
    from workbench.views.lookup import panel_of

    return panel_of(view, result, select).title
