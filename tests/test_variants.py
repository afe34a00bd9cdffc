"""The rows of a sweep are read: where each begins to differ, and what is no row."""

import pytest
from small_models import WORDS, prompt_ids, small_model

from workbench.edit import onward, scale, zero
from workbench.model import Model
from workbench.rewiring import cut, skip
from workbench.sweep import Outcome, sweep
from workbench.variants import Row, read_row
from workbench.words import Site


def swept(model: Model, rows: list[Row]) -> list[Outcome]:
    return list(sweep(model, model.tokens_of([prompt_ids()]), rows))


STARTS: dict[str, tuple[Row, int, int]] = {
    "one place": ([("L1.resid_post@4", zero())], 4, 1),
    "from the end": ([("L1.resid_post@-2", zero())], WORDS - 2, 1),
    "everywhere": ([("L2.mlp_out", zero())], 0, 2),
    "onward": ([onward("L1.z", zero(), since=-1)], WORDS - 1, 1),
    "generated tokens only": ([onward("L1.z", zero(), since=WORDS)], WORDS - 1, 1),
    "an edge": ([cut(2, query=6, key=3)], 6, 2),
    "a key, which earlier queries never see": ([cut(2, key=3)], 3, 2),
    "the first of several": ([("L2.resid_pre@5", zero()), ("L1.z@7", zero()), cut(2, query=8, key=1)], 5, 1),
}


@pytest.mark.parametrize("row, position, layer", STARTS.values(), ids=STARTS)
def test_a_row_begins_where_its_first_edit_acts(tiny_model: Model, row: Row, position: int, layer: int) -> None:
    variant = read_row(tiny_model, 3, row, WORDS)
    assert (variant.row, variant.position, variant.layer) == (3, position, layer)


LATER: dict[str, tuple[Row, int]] = {
    "behind the keys of its layer": ([("L1.resid_post@4", zero())], 2),
    "in front of them": ([("L1.resid_pre@4", zero())], 1),
    "values": ([("L1.v@4", zero())], 1),
    "everywhere": ([("L1.mlp_out", zero())], 1),
    "onward": ([onward("L1.z", zero(), since=-1)], 1),
    "an edge of the prompt": ([cut(1, query=6, key=3)], 2),
    "a key, for generated tokens too": ([cut(1, key=3)], 1),
    "the first of several": ([("L2.resid_pre@5", zero()), ("L0.z@7", zero())], 1),
}


@pytest.mark.parametrize("row, layer", LATER.values(), ids=LATER)
def test_generated_tokens_differ_from_where_an_edit_reaches_them(tiny_model: Model, row: Row, layer: int) -> None:
    assert read_row(tiny_model, 0, row, WORDS).later == layer


def test_edits_of_two_rows_are_counted_apart(tiny_model: Model) -> None:
    shared = onward("L1.z", zero(), since=2)
    first, second = (read_row(tiny_model, number, [shared], WORDS) for number in range(2))
    first.edits[0].count = 5
    assert second.edits[0].count == shared.count == 0


BAD: dict[str, tuple[Row, str]] = {
    "no edit": ([], "row 0 of the sweep has no edits"),
    "past the end": ([("L0.resid_post@9", zero())], r"row 0 .* the prompt has 9 tokens \(positions 0-8\)"),
    "no such layer": ([("L7.resid_post@1", zero())], r"the model has 3 layers \(0-2\)"),
    "embedding": ([("embed@1", zero())], "edits are made inside layers, not at embed@1"),
    "a blind query": ([cut(0, key=0)], "query 0 would have no key left"),
    "tokens that nobody generates": ([onward("L0.z", zero(), since=WORDS)], "edits that never took effect"),
}


@pytest.mark.parametrize("row, message", BAD.values(), ids=BAD)
def test_refuses_a_bad_row(tiny_model: Model, row: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        swept(tiny_model, [row])


def test_refuses_what_is_no_edit_of_a_row(tiny_model: Model) -> None:
    with pytest.raises(TypeError, match="Skip"):
        swept(tiny_model, [[("L0.z", zero())], [skip("mlp", 0)]])


def test_refuses_a_read_only_site() -> None:
    with pytest.raises(ValueError, match=r"row 0 .* is read-only"):
        swept(small_model("OPT"), [[(Site("pattern", 0, pos=3), scale(2.0))]])
