"""Files that a text names are known by their sizes and times of change."""

import os
from pathlib import Path

from workbench.folders import file_states


def test_a_changed_file_changes_the_state_of_its_folder(tmp_path: Path) -> None:
    inner = tmp_path / "layer 0"
    inner.mkdir()
    weights, settings = inner / "weights", tmp_path / "cfg.json"
    weights.write_bytes(b"one")
    settings.write_bytes(b"{}")
    before = file_states(str(tmp_path))
    assert [row[:2] for row in before] == [[str(settings), 2], [str(weights), 3]]
    os.utime(weights, ns=(1, 1))
    assert file_states(str(tmp_path)) != before
    assert file_states(f"{weights}, {settings}") == [*file_states(str(weights)), *file_states(str(settings))]


def test_other_texts_name_no_file() -> None:
    for text in ("", " , ", "zero L5.H1", "planted:sparse_mlp", "a\0b", "x" * 9000):
        assert file_states(text) == []
