"""Figures: panels drawn with plotly. Only `workbench.views` knows plotly, and only this module draws with it.

Plotly reads some HTML in its texts, so every text goes through `escape`. Axes are numeric with the texts
as aliases, since categories of equal name (a token that occurs twice) would fall together.
"""

from html import escape

import numpy as np
import plotly.graph_objects as go  # noqa: TID251

from workbench.views.colours import SERIES, colour_of, ink_on, scale, series_colours
from workbench.views.panels import Chart, Cloud, Curve, Grid, Network, Panel, Sheet, Strip
from workbench.views.texts import number_text

_TICKS = 40
"""At most so many labels along an axis."""
_ROWS_AT_USUAL_HEIGHT = 20
_FRAME, _ROW, _TALLEST = 130, 16, 900
"""Pixels around a heatmap, of one of its many rows, and of the tallest one."""
_FEW_ROWS, _LOW_ROW, _USUAL_HEIGHT = 8, 28, 450
"""A heatmap with fewer rows than this loses so many pixels of the usual height for each."""
_STRIP_COLUMNS = 12
_STRIP_ROWS_FOR_SCALE = 4
_NODES_WITH_LABELS = 40
_INK = {False: ("#1f2328", "#d8dee4"), True: ("#e6edf3", "#3d444d")}
"""Text and lines, on a light and on a dark page."""


def draw(panel: Panel, dark: bool = False) -> go.Figure:
    """Draw a panel; the background stays transparent."""
    match panel:
        case Grid():
            figure = _grid(panel, dark)
        case Chart():
            figure = _chart(panel)
        case Cloud():
            figure = _cloud(panel)
        case Strip():
            figure = _strip(panel, dark)
        case Sheet():
            figure = _sheet(panel, dark)
        case Network():
            figure = _network(panel)
    ink, line = _INK[dark]
    figure.update_layout(
        template="none",
        title={"text": escape(panel.title), "x": 0, "xanchor": "left", "font": {"size": 16}},
        font={"color": ink, "family": "system-ui, sans-serif", "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 64, "r": 16, "t": 48, "b": 56},
        colorway=SERIES,
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": line, "activecolor": ink},
    )
    figure.update_traces(error_y={"color": ink}, selector={"type": "bar"})
    figure.update_xaxes(gridcolor=line, zerolinecolor=line, linecolor=line, automargin=True, title_standoff=12)
    figure.update_yaxes(gridcolor=line, zerolinecolor=line, linecolor=line, automargin=True)
    return figure


def _grid(panel: Grid, dark: bool) -> go.Figure:
    hover = f"{escape(panel.x_title)} %{{x}}<br>{escape(panel.y_title)} %{{y}}<br>%{{z:.4g}}<extra></extra>"
    trace = go.Heatmap(z=panel.values, hovertemplate=hover, hoverongaps=False, **_colours(panel, dark))
    trace.colorbar = _bar(panel.value_title)
    figure = go.Figure(trace)
    figure.update_xaxes(title={"text": escape(panel.x_title)}, showgrid=False, **_named_ticks(panel.x_labels))
    figure.update_yaxes(title={"text": escape(panel.y_title)}, showgrid=False, **_named_ticks(panel.y_labels))
    if not panel.upward:
        figure.update_yaxes(autorange="reversed")
    rows = len(panel.y_labels)
    if rows > _ROWS_AT_USUAL_HEIGHT:
        figure.update_layout(height=min(_FRAME + _ROW * rows, _TALLEST))
    elif rows < _FEW_ROWS:
        figure.update_layout(height=_USUAL_HEIGHT - _LOW_ROW * (_FEW_ROWS - rows))
    return figure


def _chart(panel: Chart) -> go.Figure:
    figure = go.Figure()
    for curve, colour in zip(panel.curves, series_colours(len(panel.curves)), strict=True):
        figure.add_traces(_bars(curve, colour) if panel.bars else _line(curve, colour))
    ends = [-0.5, len(panel.x_labels) - 0.5]
    figure.update_xaxes(title={"text": escape(panel.x_title)}, range=ends, **_named_ticks(panel.x_labels))
    figure.update_yaxes(title={"text": escape(panel.y_title)}, type="log" if panel.log else "linear")
    return figure.update_layout(showlegend=len(panel.curves) > 1, hovermode="x unified", barmode="group")


def _line(curve: Curve, colour: str) -> list[go.Scatter]:
    """The band, if there is one, and the line over it."""
    places = np.arange(len(curve.values))
    line = go.Scatter(
        x=places,
        y=curve.values,
        name=escape(curve.name),
        legendgroup=escape(curve.name),
        mode="lines+markers" if len(places) <= 64 else "lines",
        line={"color": colour, "width": 2},
        hovertemplate="%{y:.4g}",
    )
    if curve.lower is None or curve.upper is None:
        return [line]
    band = go.Scatter(
        x=np.concatenate([places, places[::-1]]),
        y=np.concatenate([curve.upper, curve.lower[::-1]]),
        fill="toself",
        fillcolor=_faint(colour),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=escape(curve.name),
    )
    return [band, line]


def _bars(curve: Curve, colour: str) -> list[go.Bar]:
    error = None
    if curve.lower is not None and curve.upper is not None:
        up, down = curve.upper - curve.values, curve.values - curve.lower
        error = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1}
    name = escape(curve.name)
    return [go.Bar(y=curve.values, name=name, marker={"color": colour}, error_y=error, hovertemplate="%{y:.4g}")]


def _cloud(panel: Cloud) -> go.Figure:
    marker: dict[str, object] = {"size": 8, "opacity": 0.8, "color": SERIES[0]}
    hover = "%{customdata}<br>" + f"{escape(panel.x_title)} %{{x:.4g}}<br>{escape(panel.y_title)} %{{y:.4g}}"
    if panel.values is not None:
        marker |= {"color": panel.values, **_marker_colours(panel), "colorbar": _bar(panel.value_title)}
        hover += f"<br>{escape(panel.value_title)} %{{marker.color:.4g}}"
    names = [escape(name) for name in panel.names]
    trace = go.Scatter(x=panel.x, y=panel.y, mode="markers", marker=marker, customdata=names)
    trace.hovertemplate = hover + "<extra></extra>"
    figure = go.Figure(trace)
    figure.update_xaxes(title={"text": escape(panel.x_title)})
    figure.update_yaxes(title={"text": escape(panel.y_title)})
    return figure


def _strip(panel: Strip, dark: bool) -> go.Figure:
    """Tokens in rows, each as text on a coloured cell."""
    size = len(panel.tokens)
    rows = max(-(-size // _STRIP_COLUMNS), 1)
    cells = np.full(rows * _STRIP_COLUMNS, np.nan, dtype=np.float32)
    cells[:size] = panel.values
    figure = go.Figure(
        go.Heatmap(
            z=cells.reshape(rows, _STRIP_COLUMNS),
            hoverinfo="skip",
            xgap=2,
            ygap=4,
            colorbar=_bar(panel.value_title),
            showscale=rows >= _STRIP_ROWS_FOR_SCALE,
            **_colours(panel, dark),
        )
    )
    hover = [
        f"{escape(panel.axis)} {index} {escape(token)}<br>{number_text(float(value))}"
        for index, (token, value) in enumerate(zip(panel.tokens, panel.values, strict=True))
    ]
    figure.add_scatter(
        x=np.arange(size) % _STRIP_COLUMNS,
        y=np.arange(size) // _STRIP_COLUMNS,
        mode="text",
        text=[escape(token) for token in panel.tokens],
        textfont={"color": [_ink(value, panel, dark) for value in panel.values.tolist()]},
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, autorange="reversed")
    return figure.update_layout(height=110 + 40 * rows)


def _sheet(panel: Sheet, dark: bool) -> go.Figure:
    ink, line = _INK[dark]
    columns = [[escape(text) for text in column] for column in zip(*panel.rows, strict=True)]
    align = ["right" if numeric else "left" for numeric in panel.numeric]
    look = {
        "align": align,
        "fill": {"color": "rgba(0,0,0,0)"},
        "line": {"color": line},
        "font": {"color": ink},
    }
    headings = [f"<b>{escape(heading)}</b>" for heading in panel.headings]
    return go.Figure(go.Table(header={"values": headings, **look}, cells={"values": columns, **look}))


def _network(panel: Network) -> go.Figure:
    figure = go.Figure(_edges(panel))
    marker: dict[str, object] = {"size": 12, "color": SERIES[0], "line": {"width": 1, "color": "#ffffff"}}
    labels = [escape(label) for label in panel.labels]
    hover = "%{text}"
    if panel.values is not None:
        marker |= {"color": panel.values, **_marker_colours(panel), "colorbar": _bar(panel.value_title)}
        hover += "<br>%{marker.color:.4g}"
    figure.add_scatter(
        x=panel.x,
        y=panel.y,
        mode="markers+text" if len(labels) <= _NODES_WITH_LABELS else "markers",
        marker=marker,
        text=labels,
        textposition="top center",
        hovertemplate=hover + "<extra></extra>",
        showlegend=False,
    )
    plain = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(title={"text": escape(panel.x_title)}, showticklabels=bool(panel.x_title), **plain)
    figure.update_yaxes(title={"text": escape(panel.y_title)}, showticklabels=bool(panel.y_title), **plain)
    return figure


def _edges(panel: Network) -> list[go.Scatter]:
    """Edges in at most eight traces, one for each of four widths and each sign: blue helps, red hinders."""
    strongest = max((abs(weight) for *_, weight in panel.edges), default=0.0) or 1.0
    groups: dict[tuple[int, bool], list[int | None]] = {}
    for source, target, weight in panel.edges:
        width = 1 + min(int(4 * abs(weight) / strongest), 3)
        groups.setdefault((width, weight >= 0), []).extend((source, target, None))
    traces = []
    for (width, positive), ends in sorted(groups.items()):
        line = {"width": width, "color": colour_of(0.75 if positive else -0.75, (-1.0, 1.0), True)}
        x, y = ([None if end is None else float(where[end]) for end in ends] for where in (panel.x, panel.y))
        traces.append(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False))
    return traces


def _colours(panel: Grid | Strip, dark: bool) -> dict[str, object]:
    low, high = panel.bounds
    return {"colorscale": list(scale(panel.diverging, dark)), "zmin": low, "zmax": high}


def _marker_colours(panel: Cloud | Network) -> dict[str, object]:
    low, high = panel.bounds
    return {"colorscale": list(scale(panel.diverging)), "cmin": low, "cmax": high}


def _bar(title: str) -> dict[str, object]:
    return {"title": {"text": escape(title), "side": "right"}, "thickness": 14, "outlinewidth": 0}


def _named_ticks(labels: tuple[str, ...]) -> dict[str, object]:
    """Ticks at whole numbers, thinned where there are many, shown as the labels on axis and hover."""
    ticks: dict[str, object] = {"tickmode": "linear", "tick0": 0, "dtick": -(-len(labels) // _TICKS) or 1}
    if labels != tuple(str(index) for index in range(len(labels))):
        ticks["labelalias"] = {str(index): escape(label) for index, label in enumerate(labels)}
    return ticks


def _ink(value: float, panel: Strip, dark: bool) -> str:
    """The colour of a text that can be read on its cell."""
    return "#888888" if np.isnan(value) else ink_on(colour_of(value, panel.bounds, panel.diverging, dark))


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"
