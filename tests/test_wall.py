"""The wall of heads: every map in its place, a click on each means its head, and the chosen one is framed."""

import numpy as np
import pytest

from workbench.named import Named
from workbench.views.wall import MAX_CELLS, fits, wall

LAYERS, HEADS, CELLS = 3, 2, 4


def maps() -> Named:
    values = np.arange(LAYERS * HEADS * CELLS * CELLS, dtype=np.float32).reshape(LAYERS, HEADS, CELLS, CELLS)
    return Named(values / values.max(), ("layer", "head", "query", "key"), "share", {"layer": ("0", "4", "8")})


def test_every_map_lies_where_its_point_is_with_the_first_layer_at_the_bottom() -> None:
    drawn = wall(maps(), None, False, (1, 0))
    grid, points = drawn.data
    assert grid.z.shape == (LAYERS * (CELLS + 1), HEADS * (CELLS + 1))
    for x, y, (layer, head), name in zip(points.x, points.y, points.customdata, points.text, strict=True):
        top, left = int(y - 1.5), int(x - 1.5)
        np.testing.assert_array_equal(grid.z[top : top + CELLS, left : left + CELLS], maps().values[layer, head])
        assert name == f"L{(0, 4, 8)[layer]}.H{head}"
    assert list(drawn.layout.yaxis.ticktext) == ["L8", "L4", "L0"]
    assert drawn.layout.yaxis.range[0] > drawn.layout.yaxis.range[1], "rows are counted from the top"


def test_one_layer_is_a_row_of_its_heads_and_the_chosen_head_is_framed() -> None:
    drawn = wall(maps(), 2, True, (2, 1))
    assert [tuple(place) for place in drawn.data[1].customdata] == [(2, 0), (2, 1)]
    frame = drawn.layout.shapes[0]
    assert frame.x0 < drawn.data[1].x[1] < frame.x1
    assert not frame.x0 < drawn.data[1].x[0] < frame.x1
    assert len(wall(maps(), 0, True, (2, 1)).layout.shapes) == 0


def test_a_wall_that_is_too_large_for_a_page_is_known() -> None:
    axes = ("layer", "head", "query", "key")
    assert fits(maps())
    assert not fits(Named(np.zeros((MAX_CELLS // 16 + 1, 1, 4, 4), np.float32), axes))
    with pytest.raises(ValueError, match="a wall needs the axes layer, head, query, key"):
        wall(Named(np.zeros((2, 2)), ("query", "key")), None, False, (0, 0))
