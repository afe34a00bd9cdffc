"""Prompts and needles are read whole, described as they are, and refused with the line that is wrong."""

import json
from pathlib import Path

import pytest

from workbench.prompts import Needle, Needles, Prompt, Prompts, data_folder


def written(folder: Path, *rows: object) -> Path:
    """A JSONL file; texts are written as they are."""
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return file


def test_prompts_are_read_with_all_their_fields(tmp_path: Path) -> None:
    row = {"text": "The capital of France is", "target": " Paris", "distractor": " Rome", "meta": {"kind": "city"}}
    prompts = Prompts.read(written(tmp_path, row, "", {"text": "naïve 東京 🙂"}))
    assert prompts == Prompts.of(Prompt(**row), "naïve 東京 🙂")
    assert prompts.describe() == {"type": "prompts", "prompts": [row, {"text": "naïve 東京 🙂"}]}


def test_a_plain_text_file_is_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("one two\n\n  \nthree\n", encoding="utf-8")
    assert [prompt.text for prompt in Prompts.read(file)] == ["one two", "three"]


def test_a_csv_file_is_read_by_its_heading(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_bytes('\ufefftext,target\n"one, two", three\nfour,\n'.encode())
    assert Prompts.read(file) == Prompts.of(Prompt("one, two", " three"), "four")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prompt\none", "line 2: the text field 'text' is missing"),
        ("text\none,two", "line 2: more cells than the heading names"),
        ('text\n"one', "not CSV"),
        ("text\n", "it is empty"),
    ],
)
def test_a_damaged_csv_file_is_refused_with_its_line(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        Prompts.read(file)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (({"text": "good"}, "{bad"), "prompts.jsonl, line 2: not JSON"),
        (({"text": "good"}, [1]), "line 2: expected an object, found list"),
        (({"target": "x"},), "line 1: the text field 'text' is missing"),
        (({"text": 3},), "line 1: the text field 'text' is missing"),
        ((), "holds no prompts: it is empty"),
        (({"text": "  "},), "the prompt is empty"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(rows: tuple[object, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        Prompts.read(written(tmp_path, *rows))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not UTF-8 text: .* at byte 0"):
        Prompts.read(file)


def test_a_file_that_does_not_exist_is_refused_with_the_bundled_sets() -> None:
    with pytest.raises(FileNotFoundError, match="prompt file 'nothing' does not exist; bundled sets are .*needles"):
        Prompts.read("nothing")


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("", ValueError, "the prompt is empty"),
        ("\n\t ", ValueError, "the prompt is empty"),
        ("ab\ud800", ValueError, "a broken character at 2"),
    ],
)
def test_a_text_that_is_no_prompt_is_refused(text: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        Prompt(text)
    with pytest.raises(ValueError, match="no prompt was given"):
        Prompts.of()


NEEDLE = Needle("park", "The key is under the red stone.", "Where is the key?", "under the red stone", "The key is")


@pytest.mark.parametrize("answer", ["under the blue stone", "e", ""])
def test_an_answer_stands_exactly_once_in_its_needle(answer: str) -> None:
    with pytest.raises(ValueError, match="must occur exactly once in the needle"):
        Needle("park", NEEDLE.needle, NEEDLE.question, answer)


def test_needles_need_a_haystack() -> None:
    for needles, haystack in (([], ["text"]), ([NEEDLE], []), ([NEEDLE], ["  "])):
        with pytest.raises(ValueError, match="needles need a haystack"):
            Needles.of(needles, haystack)


def test_needles_are_described_with_the_size_of_their_haystack() -> None:
    told = Needles.of([NEEDLE], ["one two", "three"]).describe()
    assert told["haystack"] == {"documents": 2, "characters": 12}
    assert told["needles"][0]["answer"] == "under the red stone"
    assert json.loads(json.dumps(told)) == told


def test_the_bundled_needles_are_many_and_their_answers_are_nowhere_in_the_haystack() -> None:
    bundled = Needles.bundled()
    assert len(bundled) >= 6
    assert sum(len(document) for document in bundled.haystack) >= 60_000
    for needle in bundled:
        assert not any(needle.answer in document for document in bundled.haystack), needle.name
    assert (data_folder() / "prompts").is_dir()
