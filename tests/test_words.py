"""A site is read back from its text exactly, and a misspelt one is refused with a hint."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from workbench.words import AXES, KINDS, Site, example_of

NUMBERS = some.integers(min_value=0, max_value=10**6)


@some.composite
def sites(draw: some.DrawFn) -> Site:
    kind = draw(some.sampled_from(list(KINDS)))
    layer = None if kind in ("embed", "logits") else draw(NUMBERS)
    units = ["feature", *(["head"] if "head" in KINDS[kind] else []), *(["neuron"] if "d_mlp" in KINDS[kind] else [])]
    unit = draw(some.none() | some.sampled_from(units))
    pos = draw(some.none() | some.integers(min_value=-(10**6), max_value=10**6))
    return Site(kind, layer, pos=pos, **({unit: draw(NUMBERS)} if unit else {}))


@given(sites())
def test_a_site_is_read_back_from_its_text(site: Site) -> None:
    assert Site.parse(str(site)) == site
    assert Site.parse(f"  {site}\n") == site


@given(some.text())
def test_a_text_is_read_as_a_site_or_refused(text: str) -> None:
    try:
        site = Site.parse(text)
    except ValueError as error:
        assert "site" in str(error)
    else:
        assert Site.parse(str(site)) == site


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("L3.H2.z@5", Site("z", 3, head=2, pos=5)),
        ("L9.resid_post", Site("resid_post", 9)),
        ("L4.N120.mlp_post@-1", Site("mlp_post", 4, neuron=120, pos=-1)),
        ("L4.F7.mlp_out", Site("mlp_out", 4, feature=7)),
        ("embed@0", Site("embed", pos=0)),
        ("logits", Site("logits")),
    ],
)
def test_the_text_form_of_a_site(text: str, site: Site) -> None:
    assert str(site) == text and Site.parse(text) == site


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("L3.resid_pots", "'resid_pots' is unknown: did you mean resid_post"),
        ("resid_post", "site resid_post needs a layer, as in L3.resid_post"),
        ("L2.embed", "site embed takes no layer, as in embed"),
        ("L2.H1.resid_post", "has no heads: its axes are batch pos d_model"),
        ("L2.N1.z", "has no neurons: its axes are batch pos head d_head"),
        ("2.z", "cannot be read: write layer, unit, kind and position as in"),
        ("L2.H1.N1.z", "cannot be read"),
        ("L2.z@x", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_text_that_is_no_site_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Site.parse(text)


def test_a_site_names_one_unit_counted_from_0() -> None:
    with pytest.raises(ValueError, match="name a head, a neuron or a feature, only one of them"):
        Site("z", 1, head=1, feature=2)
    for numbers in ({"layer": -1}, {"layer": 1, "head": -2}):
        with pytest.raises(ValueError, match="count from 0"):
            Site("z", **numbers)


def test_the_whole_of_a_site_has_no_part() -> None:
    assert Site.parse("L3.H2.z@5").whole == Site("z", 3)
    assert Site.parse("L3.N2.mlp_post").whole.axes == ("batch", "pos", "d_mlp")


def test_every_kind_is_described_with_known_axes_and_a_readable_example() -> None:
    for kind, axes in KINDS.items():
        assert set(axes.split()) <= set(AXES)
        assert Site.parse(example_of(kind)).kind == kind
