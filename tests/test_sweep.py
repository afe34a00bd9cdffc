"""The sweep equals running every row by itself, and says so when it cannot."""

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from architectures import SERVED
from small_models import WORDS, forgetful_model, prompt_ids, small_model
from torch import Tensor

from conftest import hooks_in
from workbench import lanes
from workbench.edit import add, clamp, edited, onward, patch, scale, zero
from workbench.generate import greedy
from workbench.model import Model, load
from workbench.planted import plant
from workbench.progress import Cancelled, listening
from workbench.rewiring import cut
from workbench.sweep import Outcome, sweep
from workbench.tracer import trace
from workbench.variants import Row
from workbench.words import Site

NEW = 3
SWEPT = (
    *("GPT2", "Llama", "Gemma3", "GPTNeoX parallel", "Bloom", "OPT", "Falcon new layout"),
    *("Granite", "OLMo2", "Mixtral", "MPT", "Falcon old layout, sequential"),
)


def swept(model: Model, rows: list[Row], ids: list[int] | None = None, **options: object) -> list[Outcome]:
    """All outcomes, in the order of the rows."""
    tokens = model.tokens_of([ids or prompt_ids()])
    return sorted(sweep(model, tokens, rows, **options), key=lambda outcome: outcome.row)


def looped(model: Model, row: Row, new_tokens: int = NEW) -> tuple[Tensor, tuple[int, ...]]:
    """The slow definition: one row under `edited`, every token from a whole pass without a cache."""
    tokens = model.tokens_of([prompt_ids()])
    with edited(model, row), torch.no_grad():
        logits = model.forward(tokens.ids)[0, -1].float()
        return logits, tuple(greedy(model, prompt_ids(), new_tokens, cached=False))


def mixed_rows(model: Model) -> list[Row]:
    """Rows of every kind of site that the model lets one write, at mixed layers and positions.

    In the last layer they act at the last position, where alone the logits can show it.
    """
    vector = torch.randn(model.shape.d_model, generator=torch.Generator().manual_seed(3))
    last = model.shape.n_layers - 1

    def at(layer: int, pos: int) -> int:
        return pos if layer < last else WORDS - 1

    makers: dict[str, Callable[[int], Row]] = {
        "resid_pre": lambda layer: [(Site("resid_pre", layer, pos=at(layer, 3)), add(vector))],
        "resid_mid": lambda layer: [(Site("resid_mid", layer, pos=at(layer, 4)), patch(vector))],
        "resid_post": lambda layer: [(Site("resid_post", layer, pos=-1), patch(vector))],
        "attn_out": lambda layer: [(f"L{layer}.attn_out@{at(layer, 0)}", scale(2.0))],
        "mlp_out": lambda layer: [(f"L{layer}.mlp_out@{at(layer, 6)}", zero())],
        "z": lambda layer: [(Site("z", layer, head=1, pos=at(layer, 5)), zero())],
        "mlp_post": lambda layer: [(Site("mlp_post", layer, neuron=3, pos=at(layer, 2)), clamp(3.0))],
        "scores": lambda layer: [cut(layer, query=at(layer, 6), key=5), cut(layer, key=7, head=1)],
    }
    rows = [
        makers[kind](layer)
        for kind, layers in model.capabilities.writable.items()
        for layer in layers
        if kind in makers
    ]
    two_places = [(Site("resid_post", 0, pos=6), add(vector)), (Site("resid_pre", last, pos=-1), scale(0.5))]
    return [*rows, two_places, *generating_rows(vector)]


def generating_rows(vector: Tensor) -> list[Row]:
    """Rows whose edits act on generated tokens too; the last of them on nothing else."""
    return [
        [onward(Site("z", 1, head=2), zero(), since=4)],
        [onward(Site("resid_post", 1), add(vector), since=-1)],
        [(Site("mlp_out", 0), scale(3.0))],
        [onward(Site("resid_post", 0), add(vector), since=WORDS)],
    ]


@pytest.mark.parametrize("name", SWEPT)
def test_equals_the_plain_loop(name: str) -> None:
    model = small_model(name)
    rows = mixed_rows(model)
    outcomes = swept(model, rows, new_tokens=NEW)
    assert [outcome.row for outcome in outcomes] == list(range(len(rows)))
    with torch.no_grad():
        plain = model.forward(model.tokens_of([prompt_ids()]).ids)[0, -1]
    for row, outcome in zip(rows, outcomes, strict=True):
        logits, ids = looped(model, row)
        assert outcome.ids == ids
        torch.testing.assert_close(outcome.logits, logits, atol=1e-4, rtol=0)
        changed = (logits - plain).abs().max() > 1e-3
        assert changed == (row is not rows[-1]), "a row that changes nothing proves nothing"


def test_every_kind_of_site_is_swept_somewhere() -> None:
    sites = [str(getattr(edit, "site", edit)) for row in mixed_rows(small_model("Llama")) for edit in row]
    for kind in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "mlp_post", "scores"):
        assert any(kind in site for site in sites)


def test_refuses_a_model_that_keeps_no_keys() -> None:
    with pytest.raises(ValueError, match="not every layer keeps its keys and values"):
        swept(forgetful_model(), [[(Site("resid_post", 0, pos=3), zero())]])


@pytest.mark.parametrize("name", ["Llama", "Bloom"])
def test_batches_change_nothing(name: str) -> None:
    model = small_model(name)
    rows = mixed_rows(model)
    together = swept(model, rows, new_tokens=NEW, batch=512)
    for size in (1, 3):
        for one, other in zip(swept(model, rows, new_tokens=NEW, batch=size), together, strict=True):
            assert one.ids == other.ids
            torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=0)


def test_as_many_rows_as_keys_are_no_trap() -> None:
    """ALiBi tensors can be cut up wrongly without an error when rows and keys are equally many."""
    model = small_model("Bloom")
    row = [(Site("resid_post", 0, pos=2), scale(-1.0))]
    logits, ids = looped(model, row)
    for outcome in swept(model, [row] * WORDS, new_tokens=NEW):
        assert outcome.ids == ids
        torch.testing.assert_close(outcome.logits, logits, atol=1e-4, rtol=0)


def test_the_shared_prefix_may_be_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("Gemma3")
    rows = [[(Site("resid_post", 0, pos=7), zero())], [cut(1, query=8, key=6)]]
    whole = swept(model, rows, new_tokens=NEW)
    monkeypatch.setattr(lanes, "_PREFIX_STEP", 2)
    for one, other in zip(swept(model, rows, new_tokens=NEW), whole, strict=True):
        assert one.ids == other.ids
        torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=0)


def test_rows_that_change_nothing_give_the_plain_run() -> None:
    model = small_model("Llama")
    tokens = model.tokens_of([prompt_ids()])
    with torch.no_grad():
        plain = model.forward(tokens.ids)[0, -1]
    traced = trace(model, tokens, "resid_post")
    rows = [
        [(Site("resid_post", layer, pos=pos), patch(traced[Site("resid_post", layer, pos=pos)]))]
        for layer, pos in itertools.product(range(model.shape.n_layers), range(WORDS))
    ]
    for outcome in swept(model, rows, new_tokens=NEW):
        torch.testing.assert_close(outcome.logits, plain, atol=1e-5, rtol=0)
        assert list(outcome.ids) == greedy(model, prompt_ids(), NEW)


def test_a_negative_position_is_the_prompts_and_not_the_newest_token() -> None:
    model = small_model("Llama")
    vector = torch.randn(model.shape.d_model, generator=torch.Generator().manual_seed(1))
    counted, named = swept(
        model, [[(Site("resid_post", 0, pos=pos), patch(vector))] for pos in (-1, WORDS - 1)], new_tokens=NEW
    )
    assert counted.ids == named.ids
    assert counted.ids != tuple(looped(model, [onward(Site("resid_post", 0), patch(vector), since=-1)])[1])


@pytest.mark.parametrize("name", ["GPT2", "Gemma2", "Granite"])
def test_some_logits_read_alone_are_those_of_the_whole_vocabulary(name: str) -> None:
    model, only = small_model(name), (9, 100, 9)
    rows = mixed_rows(model)[:-1]  # the last one changes generated tokens alone
    for whole, some in zip(swept(model, rows), swept(model, rows, only=only), strict=True):
        assert some.row == whole.row
        torch.testing.assert_close(some.logits, whole.logits[list(only)], atol=1e-5, rtol=0)
    for whole, some in zip(swept(model, rows, new_tokens=2), swept(model, rows, only=only, new_tokens=2), strict=True):
        assert some.ids == whole.ids
    assert all(outcome.logits is None for outcome in swept(model, rows[:2], with_logits=False))


@pytest.mark.parametrize("name", ["induction", "tour"])
def test_rows_may_differ_from_any_position_on(name: str) -> None:
    """With a fast attention kernel the last token by itself needs no mask, the ones before it do."""
    model = load(f"planted:{name}")
    tokens = model.tokens("baba bebe bibi baba" if name == "induction" else "the park is near the park")
    vector = torch.randn(model.shape.d_model, generator=torch.Generator().manual_seed(3))
    rows: list[Row] = [[(Site("resid_post", 0, pos=pos), add(vector))] for pos in range(tokens.lengths[0])]
    for outcome in sweep(model, tokens, rows):
        with edited(model, rows[outcome.row]), torch.no_grad():
            logits = model.forward(tokens.ids)[0, -1]
        torch.testing.assert_close(outcome.logits, logits, atol=1e-4, rtol=1e-4)


def test_a_token_leads_by_the_gap_to_the_second_best() -> None:
    model = small_model("Llama")
    row = [(Site("resid_post", 1, pos=4), zero())]
    (outcome,) = swept(model, [row], new_tokens=NEW)
    for step, lead in enumerate(outcome.leads):
        with edited(model, [(Site("resid_post", 1, pos=4), zero())]), torch.no_grad():
            best = model.forward(torch.tensor([[*prompt_ids(), *outcome.ids[:step]]]))[0, -1].topk(2)
        assert outcome.ids[step] == best.indices[0]
        assert lead == pytest.approx(float(best.values[0] - best.values[1]), abs=1e-5)


def test_rows_that_end_leave_the_others_as_they_were() -> None:
    model = small_model("Llama")
    rows = mixed_rows(model)[:-2]
    whole = swept(model, rows, new_tokens=6)
    stop = {outcome.ids[place] for place, outcome in enumerate(whole[:3])}
    for outcome, ended in zip(whole, swept(model, rows, new_tokens=6, stop=stop), strict=True):
        end = next((place for place, index in enumerate(outcome.ids) if index in stop), 5)
        assert ended.ids == outcome.ids[: end + 1]
        assert len(ended.leads) == len(ended.ids)


def test_rows_that_are_alike_share_a_lane() -> None:
    """Below its first layer a row is computed once for each continuation, above it by itself."""
    model = small_model("Llama")
    last = model.shape.n_layers - 1
    rows: list[Row] = [[(Site("resid_post", layer, pos=4), zero())] for layer in range(last + 1)]
    entered: list[list[int]] = [[] for _ in range(last + 1)]
    hooks = [
        model.places.attach_entry(layer, lambda resid, layer=layer: entered[layer].append(resid.shape[0]))
        for layer in range(last + 1)
    ]
    outcomes = swept(model, rows, new_tokens=NEW)
    for hook in hooks:
        hook.remove()
    made = [outcome.ids for outcome in outcomes]
    for layer, counts in enumerate(entered):
        expected = [layer + 1 + (layer < last)]  # in the prompt a patch of this layer has its lane already
        expected += [layer + len({ids[:step] for ids in made[layer:]}) for step in range(1, NEW)]
        assert counts[-NEW:] == expected


def test_a_continuation_keeps_its_stop_token_and_ends() -> None:
    model = small_model("Llama")
    row = [(Site("resid_post", 0, pos=3), zero())]
    _, ids = looped(model, row, new_tokens=6)
    (outcome,) = swept(model, [row], new_tokens=6, stop=[ids[2]])
    assert outcome.ids == ids[: ids.index(ids[2]) + 1]


def test_rows_that_are_done_are_left_out() -> None:
    model = small_model("Llama")
    rows = mixed_rows(model)
    all_rows = swept(model, rows, new_tokens=2)
    done = {0, 3, len(rows) - 1}
    rest = swept(model, rows, new_tokens=2, done=done)
    assert [outcome.row for outcome in rest] == [row for row in range(len(rows)) if row not in done]
    for outcome in rest:
        assert outcome.ids == all_rows[outcome.row].ids


def test_a_cancelled_sweep_keeps_what_is_finished_and_leaves_no_hook(tiny_model: Model) -> None:
    rows = [[(Site("resid_post", 1, pos=pos), zero())] for pos in range(6)]
    finished: list[int] = []

    def stop_after_two(done: int, total: int, label: str) -> None:
        assert total == len(rows)
        if done == 2:
            raise Cancelled

    before = hooks_in(tiny_model)
    with pytest.raises(Cancelled), listening(stop_after_two):
        for outcome in sweep(tiny_model, tiny_model.tokens_of([prompt_ids()]), rows, batch=1):
            finished.append(outcome.row)
    assert len(finished) == 2
    assert hooks_in(tiny_model) == before
    resumed = swept(tiny_model, rows, done=finished)
    assert {outcome.row for outcome in resumed} | set(finished) == set(range(len(rows)))


def test_an_error_inside_an_edit_leaves_no_hook(tiny_model: Model) -> None:
    before = hooks_in(tiny_model)
    with pytest.raises(ValueError, match="must keep the shape"):
        swept(tiny_model, [[(Site("resid_post", 1, pos=2), lambda value: value[..., :3])]])
    assert hooks_in(tiny_model) == before
    assert tiny_model.current_pass is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch": 0}, "at least one row"),
        ({"new_tokens": -1}, "0-55 new tokens, -1 were asked for"),
        ({"new_tokens": 56}, "0-55 new tokens, 56 were asked for"),
    ],
)
def test_refuses_bad_numbers(tiny_model: Model, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        swept(tiny_model, [[("L0.z", zero())]], **options)


def test_refuses_two_prompts(tiny_model: Model) -> None:
    with pytest.raises(ValueError, match="a sweep varies one prompt, 2 were given"):
        sweep(tiny_model, tiny_model.tokens(["w5 w6", "w7 w8"]), [[("L0.z", zero())]])


@functools.cache
def late_hop() -> tuple[Model, dict]:
    return load("planted:late_hop"), plant("late_hop").truth


@pytest.mark.parametrize("place", ["entity", "last"])
def test_back_patching_succeeds_exactly_where_it_was_planted(place: str) -> None:
    model, truth = late_hop()
    pairs = list(itertools.product(range(model.shape.n_layers), repeat=2))
    for question in truth["questions"]:
        tokens = model.tokens(question["prompt"])
        pos = tokens.text[0].index(question["entity"]) if place == "entity" else tokens.lengths[0] - 1
        streams = trace(model, tokens, f"L*.resid_post@{pos}")
        rows = [
            [(Site("resid_post", target, pos=pos), patch(streams[Site("resid_post", source, pos=pos)]))]
            for source, target in pairs
        ]
        answer = model.token(question["answer"])
        outcomes = sorted(sweep(model, tokens, rows, new_tokens=1), key=lambda outcome: outcome.row)
        found = [list(pair) for pair, outcome in zip(pairs, outcomes, strict=True) if outcome.ids == (answer,)]
        assert found == (truth["success"] if place == "entity" else [])


@pytest.mark.real
def test_equals_the_plain_loop_on_a_real_model(real_model: Model) -> None:
    prompt = "The capital of the country that Paris belongs to is"
    tokens = real_model.tokens(prompt)
    pos = tokens.lengths[0] - 1
    streams = trace(real_model, tokens, f"L*.resid_post@{pos}")
    pairs = [(source, target) for source in range(18) for target in range(18) if source > target]
    rows = [
        [(Site("resid_post", target, pos=pos), patch(streams[Site("resid_post", source, pos=pos)]))]
        for source, target in pairs
    ]
    outcomes = sorted(sweep(real_model, tokens, rows, new_tokens=NEW), key=lambda outcome: outcome.row)
    for number in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:40].tolist():
        with edited(real_model, rows[number]), torch.no_grad():
            logits = real_model.forward(tokens.ids, keep=1)[0, -1]
            ids = greedy(real_model, tokens.ids[0].tolist(), NEW)
        assert list(outcomes[number].ids) == ids
        torch.testing.assert_close(outcomes[number].logits, logits, atol=1e-4, rtol=0)


def test_every_swept_name_is_an_architecture() -> None:
    assert set(SWEPT) <= {architecture.name for architecture in SERVED}
