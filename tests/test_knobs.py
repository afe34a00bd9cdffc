"""Knobs are read from text and from values alike, and say clearly what they do not take."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from workbench.knobs import Knob, parse_knobs, plain, show
from workbench.words import Site

SITES = some.builds(
    Site,
    kind=some.sampled_from(["resid_post", "z", "mlp_post"]),
    layer=some.integers(0, 90),
    pos=some.none() | some.integers(-9, 9),
)
VALUES = {
    "int": some.integers(),
    "float": some.floats(allow_nan=False, allow_infinity=False),
    "bool": some.booleans(),
    "str": some.text(),
    "tuple[int, ...]": some.lists(some.integers(-99, 99)).map(tuple),
    "list[Site]": some.lists(SITES),
}


@pytest.mark.parametrize("kind", VALUES)
@given(data=some.data())
def test_the_text_of_a_value_is_read_back_as_the_same_value(kind, data):
    value = data.draw(VALUES[kind])
    knob = Knob("any", kind, value)
    assert knob.parse(show(value)) == value
    assert knob.parse(value) == value
    assert knob.parse(show(plain(value))) == value
    assert type(knob.parse(show(value))) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", "1_000", 1000),
        ("float", "1e-3", 0.001),
        ("float", 2, 2.0),
        ("bool", "Off", False),
        ("bool", "yes", True),
        ("tuple[int, ...]", "0-2, 7", (0, 1, 2, 7)),
        ("tuple[int, ...]", "-1", (-1,)),
        ("tuple[int, ...]", "", ()),
        ("list[Site]", "L9.resid_post L3.H2.z@5", [Site("resid_post", 9), Site("z", 3, head=2, pos=5)]),
    ],
)
def test_texts_that_people_write(kind, text, value):
    assert Knob("any", kind, value).parse(text) == value


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("int", "ten"),
        ("int", 3.0),
        ("int", True),
        ("float", "nan"),
        ("float", "1,5"),
        ("float", False),
        ("bool", "maybe"),
        ("bool", 1),
        ("str", 7),
        ("tuple[int, ...]", "1;2"),
        ("tuple[int, ...]", "-3--1"),
        ("tuple[int, ...]", 4),
        ("tuple[int, ...]", (1.5,)),
        ("list[Site]", "L3.nowhere"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(kind, wrong):
    knob = Knob("top", kind, 0)
    with pytest.raises(ValueError, match=re.escape(f"knob top takes {knob.allowed}, found {wrong!r}")):
        knob.parse(wrong)


def test_a_literal_takes_its_choices_as_value_and_as_text():
    knob = Knob("bits", "Literal", 8, choices=(4, 8, "auto"))
    assert [knob.parse(given) for given in (4, "4", "auto")] == [4, 4, "auto"]
    for wrong in ("5", 4.0, True):
        with pytest.raises(ValueError, match="knob bits takes 4 or 8 or auto, found"):
            knob.parse(wrong)


def test_all_mistakes_are_told_at_once_with_the_nearest_name():
    knobs = [Knob("threshold", "float", 0.1), Knob("top", "int", 5)]
    with pytest.raises(ValueError) as caught:
        parse_knobs("lens", knobs, {"treshold": "0.2", "top": "many"})
    assert str(caught.value) == (
        "lens has no knob 'treshold': did you mean threshold? allowed are threshold, top; "
        "knob top takes a whole number, found 'many'"
    )


def test_what_is_not_given_keeps_its_default_and_dashes_are_underscores():
    knobs = [Knob("per_layer", "bool", False), Knob("top", "int", 5)]
    assert parse_knobs("lens", knobs, {"per-layer": "true"}) == {"per_layer": True, "top": 5}


def test_plain_values_are_json():
    assert plain((1, 2)) == [1, 2]
    assert plain([Site("z", 3, head=2)]) == ["L3.H2.z"]
