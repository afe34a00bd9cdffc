"""A picture as an SVG file: well formed, with heading, legend and scale, and closed to foreign texts."""

import xml.etree.ElementTree as ET

import pytest
from pictures import HOSTILE, every_view

from workbench.views import Table, drawing_file

DRAWINGS = [place for place, view in enumerate(every_view().views) if not isinstance(view, Table)]
SVG = "{http://www.w3.org/2000/svg}"


def drawn(place: int, **options) -> ET.Element:
    result = every_view(**options)
    return ET.fromstring(drawing_file(result.views[place], result))


def words(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("place", DRAWINGS)
def test_every_drawing_is_a_file_of_its_own_with_its_heading(place):
    root = drawn(place)
    assert root.tag == f"{SVG}svg"
    assert float(root.attrib["width"]) > 300 and float(root.attrib["height"]) > 60
    assert not list(root.iter("{http://www.w3.org/1999/xhtml}div")), "only shapes, so that any program can open it"
    result = every_view()
    assert words(root)[0].split(",")[0] in drawing_file(result.views[place], result)
    assert words(root)[0]


def test_a_heatmap_has_its_scale_and_lines_have_their_legend():
    assert any("score (probability)" in text for text in words(drawn(0)))
    assert len(list(drawn(0).iter(f"{SVG}linearGradient"))) == 1
    names = words(drawn(2))
    assert [name for name in names if name.startswith("head ")] == ["head 0", "head 1", "head 2"]


def test_a_strip_of_tokens_breaks_into_lines():
    few, many = (drawn(5, tokens=tuple(f" token{number}" for number in range(count))) for count in (5, 60))
    assert float(many.attrib["height"]) > float(few.attrib["height"]) + 40
    assert [text for text in words(many) if text.startswith("·token")] == [f"·token{number}" for number in range(60)]


@pytest.mark.parametrize("place", DRAWINGS)
def test_hostile_texts_stay_texts(place):
    root = drawn(place, tokens=HOSTILE)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert not tags & {"script", "img", "b", "foreignObject"}
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


def test_a_table_is_no_drawing():
    result = every_view()
    with pytest.raises(ValueError, match="CSV or JSON"):
        drawing_file(Table("nodes"), result)
