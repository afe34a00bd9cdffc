"""The catalogue reads analyses without importing them, checks what it is given, and completes results."""

import dataclasses
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from toys import HEADER, WORD_COUNT, Toy, toy_package

from workbench import catalog as catalog_module
from workbench.catalog import Catalog, Knob, analysis, code_version, run, run_key
from workbench.prompts import Prompts
from workbench.result import Named, Result
from workbench.store import Store
from workbench.words import Site


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write analyses into a fresh package and return its catalogue."""
    with toy_package(tmp_path, monkeypatch) as catalog:

        def put(**sources: str) -> Catalog:
            for name, source in sources.items():
                (catalog.folder / f"{name}.py").write_text(source)
            return Catalog(catalog.folder, catalog.home)

        yield put


@pytest.fixture
def words(write):
    return write(word_count=WORD_COUNT)


def analysis_with(signature: str, body: str = "return Result()", before: str = "") -> str:
    decorator = '@analysis(title="T", family="lens", reference="folklore")'
    return f'{HEADER}\n{before}\n\n{decorator}\ndef bad({signature}) -> Result:\n    """Do it."""\n    {body}\n'


def test_an_entry_says_what_the_file_says(words):
    entry = words["word_count"]
    assert (entry.title, entry.family, entry.reference) == ("Word count", "lens", "folklore")
    assert entry.summary == "Count the words of each prompt."
    assert entry.doc.endswith("Longer prompts have more of them.")
    assert entry.about.startswith("Word count: how long")
    assert entry.returns == "Result with `length` (example)."
    assert [(one.name, one.type, one.doc) for one in entry.inputs] == [
        ("prompts", "Prompts", "any texts, which may be long.")
    ]
    assert [(knob.name, knob.type, knob.default) for knob in entry.knobs] == [
        ("unit", "Literal", "words"),
        ("repeat", "int", 1),
        ("layers", "tuple[int, ...]", (0, 2)),
        ("at", "list[Site]", [Site("z", 3, head=2)]),
        ("seed", "int", 7),
    ]
    assert entry.knobs[0].choices == ("words", "letters")
    assert entry.knobs[1].doc == "how often, 1 to 5."
    assert entry.needs == ("pattern",)
    assert entry.tour == {"unit": "letters"}


def test_the_entry_agrees_with_the_function(words):
    entry = words["word_count"]
    knobs = [one for one in inspect.signature(entry.function).parameters.values() if one.kind is one.KEYWORD_ONLY]
    assert {one.name: one.default for one in knobs} == {knob.name: knob.default for knob in entry.knobs}


def test_listing_imports_no_analysis(words):
    assert list(words) == ["word_count"]
    assert not [name for name in sys.modules if name.endswith(".word_count")]


def test_importing_the_catalogue_and_listing_it_loads_no_heavy_module():
    heavy = "torch transformers transformer_lens pandas plotly streamlit sae_lens"
    code = f"""
        import sys
        from workbench.catalog import CATALOG
        len(CATALOG)
        print([name for name in {heavy.split()} if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_count_and_underscored_files_do_not(write, tmp_path):
    catalog = write(word_count=WORD_COUNT, _private="x = 1")
    package = catalog.folder / "whole"
    package.mkdir()
    (package / "__init__.py").write_text(WORD_COUNT.replace("word_count", "whole"))
    assert list(catalog) == ["whole", "word_count"]


def test_an_unknown_name_gets_the_nearest(words):
    with pytest.raises(KeyError, match="analysis 'wordcount' does not exist: did you mean word_count"):
        words["wordcount"]
    assert words["word-count"].name == "word_count"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (analysis_with("model").replace("def bad", "def other"), "must hold a function of its own name, bad"),
        (analysis_with("model").replace("@analysis", "@other"), "bad must be decorated with @analysis"),
        (analysis_with("model").replace('"lens"', '"len"'), "family 'len': did you mean lens"),
        (
            analysis_with("model").replace('title="T", ', ""),
            "takes title, family and reference, found family",
        ),
        (analysis_with("prompts: Prompts"), "the first argument of bad must be model"),
        (analysis_with("model, a: Prompts, b: Prompts, c: Prompts"), "at most 2"),
        (analysis_with("model, prompts: str"), "input prompts is str: allowed are Prompts"),
        (analysis_with("model, prompts"), "input prompts is nothing"),
        (analysis_with("model, *more"), "takes no *args"),
        (analysis_with("model, prompts: Prompts = None"), "no input with a default"),
        (analysis_with("model, *, top: int"), "knob top needs a type and a default"),
        (analysis_with("model, *, top=3"), "knob top needs a type and a default"),
        (analysis_with("model, *, top: complex = 3"), "knob top is complex: allowed are int"),
        (analysis_with("model, *, top: int = 2.5"), "knob top takes a whole number, found 2.5"),
        (analysis_with("model, *, top: int = len('ab')"), "len('ab') must be a literal"),
        (analysis_with("model, *, store: int = 3"), "the word is taken by the command line"),
        (analysis_with("model, *, top: int = 1", before="TOUR = {'pot': 2}"), "bad has no knob 'pot'"),
        ("def bad(:", "invalid syntax"),
    ],
)
def test_a_file_that_breaks_the_rules_is_named(write, source, told):
    with pytest.raises(ValueError) as caught:
        list(write(bad=source))
    assert "bad.py" in str(caught.value)
    assert told in str(caught.value)


def test_a_result_carries_what_made_it(words):
    result = run("word_count", Toy(), Prompts.of("one two", "three"), unit="letters", repeat="2")
    assert result.analysis == "word_count"
    assert (result.title, result.reference) == ("Word count", "folklore")
    assert result.model["fingerprint"] == "f00d"
    assert result.inputs == {"prompts": {"type": "prompts", "prompts": [{"text": "one two"}, {"text": "three"}]}}
    assert result.params == {"unit": "letters", "repeat": 2, "layers": [0, 2], "at": ["L3.H2.z"], "seed": 7}
    assert result.named("length").values.tolist() == [14, 10]
    made = result.made
    assert (made["seed"], made["dtype"], made["device"], made["code"]) == (
        7,
        "float32",
        "cpu",
        code_version(),
    )
    assert {"python", "mechinterp-workbench", "torch", "transformers", "transformer-lens"} <= set(made["versions"])
    assert made["seconds"] >= 0
    assert 10_000_000 < made["peak_memory_bytes"] < 100_000_000_000
    assert made["date"].endswith("+00:00")


def test_calling_the_function_gives_the_same_result_as_run(words):
    by_call = words["word_count"].function(Toy(), Prompts.of("one two"))
    by_name = run("word_count", Toy(), Prompts.of("one two"))
    assert dataclasses.replace(by_call, made={}) == dataclasses.replace(by_name, made={})


def test_a_direct_call_checks_its_knobs_too(words):
    with pytest.raises(ValueError, match="knob unit takes words or letters, found 'bytes'"):
        words["word_count"].function(Toy(), Prompts.of("one"), unit="bytes")


def test_wrong_inputs_and_knobs_are_refused_before_running(words):
    with pytest.raises(TypeError, match=r"word_count takes prompts \(Prompts\), found nothing"):
        run("word_count", Toy())
    with pytest.raises(TypeError, match=r"word_count takes prompts \(Prompts\), found str"):
        run("word_count", Toy(), "one two")
    with pytest.raises(ValueError, match="did you mean repeat"):
        run("word_count", Toy(), Prompts.of("one"), repeats=2)
    assert not [name for name in sys.modules if name.endswith(".word_count")]


def test_a_model_that_lacks_a_needed_site_is_refused_with_the_reason(words):
    told = "Word count needs pattern on toy: it has no attention"
    assert words["word_count"].refusal(Toy(missing="pattern")) == told
    assert words["word_count"].refusal(Toy()) is None
    with pytest.raises(ValueError, match=told):
        run("word_count", Toy(missing="pattern"), Prompts.of("one"))


def test_the_cost_comes_from_the_file_and_the_speed_of_the_model(words, write):
    cost = words["word_count"].cost(Toy(), Prompts.of("one", "two"), repeat=3)
    assert (cost.passes, cost.tokens, cost.seconds(Toy())) == (2, 30, 23.0)
    silent = WORD_COUNT.replace("def cost", "def _cost").replace("word_count", "silent")
    assert write(silent=silent)["silent"].cost(Toy(), Prompts.of("one")) is None


def test_the_same_run_is_read_from_the_store_unless_fresh(words, tmp_path):
    store = Store(tmp_path / "store")

    def ask(**knobs):
        return run("word_count", Toy(), Prompts.of("one two"), store=store, **knobs)

    first = ask(unit="words")
    ran = sys.modules[f"{words.home}.word_count"].RAN
    assert ask(repeat="1") == first, "spelling out a default is the same run"
    assert ran == ["words"]
    assert ask(repeat=2).named("length").values.tolist() == [4]
    ask(fresh=True)
    assert len(ran) == 3
    assert store.find(
        run_key(words["word_count"], Toy(), (Prompts.of("one two"),), words["word_count"].parse_knobs({}))
    )


def test_a_read_only_store_is_read_and_not_written(words, tmp_path):
    run("word_count", Toy(), Prompts.of("one"), store=Store(tmp_path / "store"))
    shelf = Store(tmp_path / "store", read_only=True)
    ran = sys.modules[f"{words.home}.word_count"].RAN
    run("word_count", Toy(), Prompts.of("one"), store=shelf)
    assert ran == ["words"]
    assert run("word_count", Toy(), Prompts.of("one two three"), store=shelf).finding == "3 words"
    assert len(shelf.runs()) == 1


def test_the_key_changes_with_everything_that_changes_numbers(words, monkeypatch):
    entry, texts = words["word_count"], (Prompts.of("one"),)
    models = [
        Toy(other={"dtype": "bfloat16"}),
        Toy(other={"prepend_bos": False}),
        Toy(other={"fingerprint": "0"}),
    ]
    keys = [
        run_key(entry, Toy(), texts, {}),
        *(run_key(entry, model, texts, {}) for model in models),
        run_key(entry, Toy(), (Prompts.of("two"),), {}),
        run_key(entry, Toy(), texts, {"repeat": 2}),
        run_key(dataclasses.replace(entry, name="other"), Toy(), texts, {}),
    ]
    monkeypatch.setattr(catalog_module, "code_version", lambda: "other")
    keys.append(run_key(entry, Toy(), texts, {}))
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_change_with_the_spelling_of_a_run(words):
    entry, texts = words["word_count"], (Prompts.of("one"),)
    key = run_key(entry, Toy(), texts, {})
    assert run_key(entry, Toy(), texts, {"repeat": "1", "at": "L3.H2.z"}) == key
    assert run_key(entry, Toy(other={"checks": [1e-9]}), texts, entry.parse_knobs({})) == key


def test_the_key_holds_what_is_in_the_files_that_a_knob_names(words, tmp_path):
    place = Knob("coders", "str", "")
    entry = dataclasses.replace(words["word_count"], knobs=(*words["word_count"].knobs, place))
    folders = [tmp_path / name for name in ("coders", "same", "other")]
    for folder, content in zip(folders, (b"one", b"one", b"two"), strict=True):
        folder.mkdir()
        (folder / "weights.npz").write_bytes(content)

    def key(folder):
        return run_key(entry, Toy(), (Prompts.of("one"),), {"coders": str(folder)})

    before = key(folders[0])
    (folders[0] / "weights.npz").write_bytes(b"six")
    assert key(folders[0]) != before
    (folders[0] / "weights.npz").write_bytes(b"one")
    assert key(folders[0]) == before
    assert len({key(folder) for folder in folders}) == 3, "the path is a setting that the result tells"


def returning(**fields):
    @analysis(title="Any", family="lens", reference="folklore")
    def anything(model) -> Result:
        return Result(**fields)

    return anything


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_are_refused(number):
    values = np.array([[1.0, 2.0], [3.0, number]], dtype=np.float32)
    with pytest.raises(ValueError, match="Any: score holds 1 numbers that are not finite, first at 1, 1"):
        returning(arrays={"score": Named(values, ("layer", "head"))})(Toy())
    with pytest.raises(ValueError, match="Any: gap holds 1 numbers that are not finite, first at the scalar"):
        returning(scalars={"gap": float(number)})(Toy())


def test_a_note_that_speaks_of_nan_allows_nan_but_no_infinity():
    notes = ("NaN where a head never fired",)
    gaps = Named(np.array([1.0, np.nan]), ("head",))
    assert np.isnan(returning(arrays={"gap": gaps}, notes=notes)(Toy()).named("gap").values[1])
    with pytest.raises(ValueError, match="gap holds 1 numbers that are not finite"):
        returning(scalars={"gap": np.inf}, notes=notes)(Toy())


def test_an_analysis_outside_the_catalogue_runs_as_it_is():
    result = returning(finding="done")(Toy())
    assert (result.analysis, result.finding, result.params) == ("anything", "done", {})


def test_a_second_model_is_described_by_its_identity():
    @analysis(title="Two", family="lens", reference="folklore")
    def two(model, other) -> Result:
        return Result()

    assert two(Toy(), Toy(name="second")).inputs["other"]["name"] == "second"


def test_an_unknown_family_is_refused_at_once():
    with pytest.raises((ValueError, TypeError), match="atention"):
        analysis(title="T", family="atention", reference="folklore")


def test_the_code_version_covers_every_source_file():
    sources = list(Path(catalog_module.__file__).parent.rglob("*.py"))
    assert len(sources) > 20
    assert len(code_version()) == 64
