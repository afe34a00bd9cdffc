"""Views: what a picture of a result shows, and the ways to draw it.

`kinds` holds the descriptions, `lookup` finds what a view shows, `figures` draws it with plotly (`clicks` makes
cells clickable) and `svg` as SVG and HTML that need no script and no network.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

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
    "figure",
    "markup",
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
    """Draw a heatmap whose cells can be clicked where a program listens, unless they are pooled or too many.

    Args:
        view: what to draw.
        result: where its array is.
        select: indices of further axes, over the view's own.
        dark: colours for a dark page.
        marked: the column and the row to frame; None leaves that side open.
    """
    from workbench.views.clicks import MAX_CELLS, add_points
    from workbench.views.figures import draw
    from workbench.views.lookup import panel_of
    from workbench.views.panels import Grid

    panel = panel_of(view, result, select)
    array = result.arrays[view.array]
    drawn = draw(panel, dark)
    whole = array.size(view.y), array.size(view.x)
    if isinstance(panel, Grid) and panel.values.shape == whole and panel.values.size <= MAX_CELLS:
        add_points(drawn, panel, marked)
    return drawn


def markup(view: View, result: Source, select: Mapping[str, int] | None = None) -> str:
    """Draw a view as HTML with inline SVG: safe to place in any page, no script, no network."""
    from workbench.views.lookup import panel_of
    from workbench.views.svg import draw

    return draw(panel_of(view, result, select), view.caption)
