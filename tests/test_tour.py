"""The tour: every analysis with tour knobs, one finding each, saved runs, and a report at the end."""

import pytest
from toys import WORD_COUNT, Toy, toy_package

from workbench import tour as touring
from workbench.store import Store
from workbench.tour import tour, tour_inputs, tour_model, tour_prompts


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A catalogue with a stop of the tour and an analysis that the tour leaves out."""
    with toy_package(tmp_path, monkeypatch) as catalog:
        (catalog.folder / "word_count.py").write_text(WORD_COUNT)
        left_out = WORD_COUNT.replace("TOUR =", "OTHER =").replace("word_count", "left_out")
        (catalog.folder / "left_out.py").write_text(left_out)
        monkeypatch.setattr(touring, "CATALOG", catalog)
        yield catalog


def test_the_tour_stops_at_every_headline_saves_and_reports(toys, tmp_path):
    store = Store(tmp_path / "store")
    stops = list(tour(Toy(), tmp_path / "out", store))
    letters = len(tour_prompts()[0].text)
    assert [(stop.title, stop.finding) for stop in stops] == [("Word count", f"{letters} letters")]
    assert stops[0].result.params["unit"] == "letters"
    assert stops[0].seconds >= 0
    assert [run.analysis for run in store.runs()] == ["word_count"]
    assert f"{letters} letters" in (tmp_path / "out/tour.html").read_text(encoding="utf-8")


def test_an_input_that_is_not_bundled_is_named(toys):
    (toys.folder / "word_count.py").write_text(WORD_COUNT.replace("prompts: Prompts", "prompts: TwoHops"))
    with pytest.raises(ValueError, match="the tour has no TwoHops for word_count"):
        tour_inputs(type(toys)(toys.folder, toys.home)["word_count"])


def test_the_tour_takes_the_bundled_model_if_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(touring, "data_folder", lambda: tmp_path)
    assert tour_model() == "planted:tour"
    (tmp_path / "models/world").mkdir(parents=True)
    (tmp_path / "models/world/config.json").write_text("{}")
    assert tour_model() == "world"
