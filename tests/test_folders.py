"""Files that a text names are known by what is in them."""

import hashlib
import os
from pathlib import Path

import pytest

from workbench.folders import file_contents


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def coders(tmp_path: Path) -> Path:
    """A folder of coders as they lie on a disk: settings, weights some folders down, and what is hidden."""
    top = tmp_path / "coders"
    inner = top / "layer_0" / "width_16k" / "average_l0_105"
    inner.mkdir(parents=True)
    (inner / "params.npz").write_bytes(b"one")
    (top / "cfg.json").write_bytes(b"{}")
    (top / ".git").mkdir()
    (top / ".git" / "index").write_bytes(b"hidden")
    return top


WEIGHTS = "layer_0/width_16k/average_l0_105/params.npz"


def test_a_folder_is_what_is_in_it_and_not_where_it_lies(coders: Path, tmp_path: Path) -> None:
    expected = [["cfg.json", sha256(b"{}")], [WEIGHTS, sha256(b"one")]]
    assert file_contents(str(coders)) == expected
    os.utime(coders / WEIGHTS, ns=(1, 1))
    assert file_contents(str(coders)) == expected, "a touched file is the same file"
    assert file_contents(str(coders.rename(tmp_path / "elsewhere"))) == expected


def test_other_bytes_of_the_same_length_are_other_contents(coders: Path) -> None:
    before = file_contents(str(coders))
    (coders / WEIGHTS).write_bytes(b"two")
    os.utime(coders / WEIGHTS, ns=(5, 5))
    assert file_contents(str(coders)) == [before[0], [WEIGHTS, sha256(b"two")]]


def test_a_file_stands_for_its_folder_and_a_gguf_file_for_itself(coders: Path) -> None:
    assert file_contents(str(coders / "cfg.json")) == file_contents(str(coders))
    alone = coders / "model.gguf"
    alone.write_bytes(b"three")
    assert file_contents(str(alone)) == [["model.gguf", sha256(b"three")]]
    text = coders / "corpus.txt"
    text.write_bytes(b"four")
    assert file_contents(str(text)) == [["corpus.txt", sha256(b"four")]]
    assert file_contents(f"{alone}, {coders}") == [*file_contents(str(alone)), *file_contents(str(coders))]


def test_other_texts_name_no_file() -> None:
    for text in ("", " , ", "zero L5.H1", "planted:sparse_mlp", "a\0b", "x" * 9000):
        assert file_contents(text) == []
