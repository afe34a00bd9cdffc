"""Retrieval scores are those of a plain step-by-step decode, and of patterns made by hand."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from copying import copier, planted_cases
from small_models import plain_greedy, plain_twin, prompt_ids, small_model
from transformers.cache_utils import DynamicCache

from workbench.analyses.retrieval_heads import scoring
from workbench.analyses.retrieval_heads.cases import Case, build_cases
from workbench.analyses.retrieval_heads.scoring import Reading, read_cases, score_heads
from workbench.attention import TopKeys
from workbench.drafting import Decoded
from workbench.model import Model
from workbench.planted import plant
from workbench.prompts import Needle, Needles
from workbench.tokens import Tokens


@dataclass(frozen=True)
class Slow:
    """What a plain decode said, and for each head the positions it copied from, one per copying step."""

    ids: list[int]
    copied: dict[tuple[int, int], list[int]]


@torch.no_grad()
def slow_decode(plain: object, case: Case, new_tokens: int, stops: Callable[[int], bool]) -> Slow:
    """Greedy decode with a cache of full length and whole rows of attention from every step."""
    ids, span = case.ids, case.span
    cache = DynamicCache()
    plain(torch.tensor([ids[:-1]]), past_key_values=cache, use_cache=True)
    entering = ids[-1]
    said: list[int] = []
    copied: dict[tuple[int, int], list[int]] = {}
    for _ in range(new_tokens):
        output = plain(torch.tensor([[entering]]), past_key_values=cache, use_cache=True, output_attentions=True)
        entering = int(output.logits[0, -1].argmax())
        said.append(entering)
        for layer, maps in enumerate(output.attentions):
            assert maps.shape[-1] == len(ids) - 1 + len(said), "every row reaches back to the first token"
            for head in range(maps.shape[1]):
                top = int(maps[0, head, -1].argmax())
                places = copied.setdefault((layer, head), [])
                if span.start <= top < span.stop and ids[top] == entering:
                    places.append(top)
        if stops(entering):
            break
    return Slow(said, copied)


def slow_score(slow: Slow, case: Case, definition: str) -> dict[tuple[int, int], float]:
    """The score of every head, by loops over what it copied."""
    answer = case.answer_ids
    scores = {}
    for head, places in slow.copied.items():
        if definition == "code":
            scores[head] = len(places) / len(answer)
        elif definition == "positions":
            scores[head] = len(set(places)) / len(answer)
        else:
            scores[head] = len({case.ids[place] for place in places}) / len(set(answer))
    return scores


def compare(model: Model, plain: object, cases: list[Case], hay: list[int], new_tokens: int) -> int:
    """Check every head of every answered case against the slow definition; returns how many were answered."""
    readings = read_cases(model, cases, hay, new_tokens, 0.5)
    for reading in readings:
        slow = slow_decode(plain, reading.case, new_tokens, scoring.stop_rule(model))
        assert list(reading.decoded.ids) == slow.ids
        for definition in ("positions", "paper_set", "code"):
            found = score_heads(reading, definition)
            expected = slow_score(slow, reading.case, definition)
            assert len(expected) == found.numel()
            for (layer, head), score in expected.items():
                assert float(found[layer, head]) == pytest.approx(score, abs=1e-6)
    return sum(reading.answered for reading in readings)


def test_agrees_with_a_plain_step_by_step_decode() -> None:
    planted = plant("copy")
    planted.model.set_attn_implementation("eager")
    cases, hay = planted_cases()
    assert compare(copier(), planted.model, cases, hay, 20) == len(cases)


@pytest.mark.parametrize("name", ["GPT2", "Gemma3"])
def test_agrees_on_random_models_whose_heads_look_anywhere(name: str) -> None:
    """Nothing is answered, but a model that goes on in circles copies from itself by chance."""
    model, plain = small_model(name), plain_twin(name)
    needle = Needle("words", "w5 w6 w7", "what", "w6 w7")
    cases, hay = [], prompt_ids(length=6)
    for seed in range(3):
        ids = [*hay, *prompt_ids(seed, length=3)]
        ids += plain_greedy(plain, ids, 25)
        cases.append(Case(needle, len(ids), 0, model.tokens_of([ids]), range(7 + seed, len(ids))))
    compare(model, plain, cases, hay, new_tokens=12)
    said = [slow_decode(plain, case, 12, lambda _: False).copied for case in cases]
    assert any(places for copied in said for places in copied.values()), "no copy, no proof"


def reading_of(context: list[int], span: range, said: list[int], keys: list[list[int]]) -> Reading:
    """One layer; `keys` are the top keys of each head while it says the tokens."""
    needle = Needle("made", "an answer", "which?", "answer")
    tokens = Tokens(torch.tensor([context]), (len(context),), (), ())
    rows = TopKeys(torch.tensor([keys]), torch.ones(1, len(keys), len(said)))
    case = Case(needle, len(context), 0, tokens, span)
    return Reading(case, "", 1.0, True, Decoded(tuple(said), rows, 1))


def test_the_three_definitions_on_a_pattern_made_by_hand() -> None:
    context = [9, 9, 1, 2, 3, 1, 9, 1, 9]  # the answer is 1 2 3 1, at 2-5; a decoy 1 stands at 7
    said = [1, 2, 3, 1, 1, 2]
    heads = {
        "copies all, twice the beginning": [2, 3, 4, 5, 2, 3],
        "always takes the first 1": [2, 3, 4, 2, 2, 3],
        "takes the decoy": [7, 3, 4, 7, 7, 3],
        "looks at the needle, but elsewhere": [3, 4, 5, 3, 3, 4],
        "looks at what it says only once": [0, 0, 4, 0, 0, 0],
        "looks at answers of its own": [9, 10, 11, 12, 13, 14],
    }
    reading = reading_of(context, range(2, 6), said, list(heads.values()))
    scores = {name: score_heads(reading, name)[0].tolist() for name in ("positions", "paper_set", "code")}
    assert scores["positions"] == [1.0, 0.75, 0.5, 0.0, 0.25, 0.0]
    assert scores["paper_set"] == pytest.approx([1.0, 1.0, 2 / 3, 0.0, 1 / 3, 0.0])
    assert scores["code"] == [1.5, 1.5, 0.75, 0.0, 0.25, 0.0]


def random_readings(count: int) -> Iterator[Reading]:
    """Few different tokens and keys, so that hits, repetitions and ties abound."""
    generator = torch.Generator().manual_seed(11)

    def draw(high: int, *shape: int) -> list:
        return torch.randint(high, shape, generator=generator).tolist()

    for _ in range(count):
        yield reading_of(draw(3, 12), range(4, 4 + 1 + draw(7, 1)[0]), draw(3, 40), draw(14, 6, 40))


def test_only_the_code_can_exceed_1() -> None:
    highest = {name: [] for name in ("positions", "paper_set", "code")}
    for reading in random_readings(40):
        for definition, seen in highest.items():
            seen.append(float(score_heads(reading, definition).max()))
        permuted = torch.tensor([5, 0, 3, 1, 2, 4])
        rows = TopKeys(reading.decoded.rows.keys[:, permuted], reading.decoded.rows.margins)
        moved = replace(reading, decoded=replace(reading.decoded, rows=rows))
        assert torch.equal(score_heads(moved, "code"), score_heads(reading, "code")[:, permuted])
    assert max(highest["positions"]) <= 1.0
    assert max(highest["paper_set"]) <= 1.0
    assert max(highest["code"]) > 1.0


@functools.cache
def real_plain(folder: str) -> object:
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    return plain.eval()


@pytest.mark.real
def test_agrees_with_a_plain_decode_of_a_real_model(real_model: Model) -> None:
    needles = Needles.bundled()
    used = Needles.of(needles[:2], needles.haystack)
    cases, hay = build_cases(real_model, used, (250, 700), (0, 67), prefixed=True, new_tokens=30)
    assert compare(real_model, real_plain(real_model.name), cases, hay, 30) >= 5
