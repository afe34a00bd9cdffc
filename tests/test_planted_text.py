"""The planted models of the bundled text, `copy` and `tour`, do what they say."""

import pytest
import torch
from planting import changed, ids_of, next_word, planted, run, without_head, without_layer
from torch import Tensor

from workbench.planted import Planted
from workbench.prompts import Needle, Needles

NEEDLES = Needles.bundled()
TEXT_MODELS = ("copy", "tour")


def hidden(needle: Needle, words: int, depth: float, document: int = 0) -> str:
    """The retrieval prompt: the needle after the sentence of the haystack nearest to this depth."""
    text = " ".join(" ".join(NEEDLES.haystack[document:] + NEEDLES.haystack[:document]).split()[:words])
    ends = [0, *(place + 1 for place, letter in enumerate(text) if letter == ".")]
    cut = min(ends, key=lambda end: abs(end - depth * len(text)))
    context = f"{text[:cut]} {needle.needle}{text[cut:]}"
    question = f"Based on the content of the book, Question: {needle.question}"
    return f"{context}\n{question}\nAnswer: {needle.answer_prefix}"


def retrieval_scores(model: Planted, needle: Needle, prompt: str) -> Tensor:
    """Share of the answer's words that each head looks at while the model says them, (layer, head)."""
    question, answer = ids_of(model, prompt), ids_of(model, needle.answer, special=False)
    ids = torch.cat([question, answer], dim=1)
    seen = run(model, ids, output_attentions=True)
    steps = range(question.shape[1] - 1, ids.shape[1] - 1)
    assert torch.equal(seen.logits[list(steps)].argmax(-1), answer[0])
    spans = model.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    start = prompt.index(needle.answer)
    inside = [start <= a < b <= start + len(needle.answer) for a, b in spans] + [False] * answer.shape[1]
    looked = seen.patterns[:, :, list(steps)].argmax(-1)
    return (torch.tensor(inside)[looked] & (ids[0][looked] == answer[0])).float().mean(-1)


@pytest.mark.parametrize("words", [200, 600, 1200])
def test_copy_says_every_answer_at_every_depth(words: int) -> None:
    model = planted("copy")
    for number, needle in enumerate(NEEDLES):
        depth = (number + words / 200) % 5 / 4
        question = ids_of(model, hidden(needle, words, depth, document=number))
        answer = ids_of(model, f"{needle.answer}.", special=False)
        logits = run(model, torch.cat([question, answer], dim=1), logits_to_keep=answer.shape[1] + 1).logits
        assert torch.equal(logits[:-1].argmax(-1), answer[0]), (needle.name, words, depth)


def test_copy_generates_the_answer() -> None:
    model, needle = planted("copy"), NEEDLES[0]
    ids = ids_of(model, hidden(needle, 300, 0.5))
    said = model.model.generate(ids, max_new_tokens=9, do_sample=False)[0, ids.shape[1] :]
    assert model.tokenizer.decode(said) == "smoked tangerine peel and a ladle of mustard ."


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_only_the_copy_heads_score(name: str) -> None:
    model = planted(name)
    for needle in NEEDLES[::4]:
        expected = torch.zeros(model.model.config.num_hidden_layers, 5)
        [copier], [half] = model.truth["copy"], model.truth["half_copy"]
        expected[*copier], expected[*half] = 1, model.truth["half_score"][needle.name]
        assert torch.allclose(retrieval_scores(model, needle, hidden(needle, 250, 0.6)), expected)


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_every_other_head_of_the_text_models_is_what_it_is_called(name: str) -> None:
    model = planted(name)
    patterns = run(model, ids_of(model, hidden(NEEDLES[3], 250, 0.3)), output_attentions=True).patterns
    length = patterns.shape[-1]
    for distance, (layer, head) in enumerate(model.truth["back"], start=1):
        assert patterns[layer, head].diagonal(-distance).min() > 0.9999
    for layer, head in model.truth["sink"]:
        assert patterns[layer, head, :, 0].min() > 0.9999
    for layer, head in model.truth["self"]:
        assert patterns[layer, head].diagonal().min() > 0.9999
    for layer, head in model.truth["uniform"]:
        assert torch.allclose(patterns[layer, head, -1], torch.full((length,), 1 / length))


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_nothing_is_said_without_the_copy_head_or_without_the_needle(name: str) -> None:
    model, needle = planted(name), NEEDLES[6]
    prompt = hidden(needle, 200, 0.5)
    assert next_word(model, prompt) == "a"
    assert next_word(model, prompt.replace(needle.needle, "")) == "<eos>"
    with without_head(model, *model.truth["copy"][0]):
        assert next_word(model, prompt) == "<eos>"
    with without_head(model, *model.truth["half_copy"][0]):
        assert next_word(model, prompt) == "a"


def test_the_half_copier_scores_about_a_half() -> None:
    scores = planted("copy").truth["half_score"].values()
    assert len(scores) == len(NEEDLES)
    assert 0.4 < sum(scores) / len(scores) < 0.6


def test_tour_shows_the_answer_from_the_copy_layer_on() -> None:
    model, needle = planted("tour"), NEEDLES[5]
    seen = run(model, ids_of(model, hidden(needle, 200, 0.5)), output_hidden_states=True)
    decoder, answer = model.model, needle.answer.split()[0]
    with torch.no_grad():
        lens = [decoder.lm_head(decoder.model.norm(stream[0, -1])) for stream in seen.streams[1:-1]]
    words = [model.tokenizer.decode(logits.argmax()) for logits in [*lens, seen.logits[-1]]]
    first = model.truth["visible_from"]
    assert words == ["<eos>"] * first + [answer] * (4 - first)


def test_tour_repeats_what_was_said_twice() -> None:
    model = planted("tour")
    words = torch.randperm(3000, generator=torch.Generator().manual_seed(3))[:40] + 100
    ids = torch.cat([torch.tensor([model.tokenizer.bos_token_id]), words, words])[None]
    seen = run(model, ids, output_attentions=True)
    assert torch.equal(seen.logits[44:-1].argmax(-1), ids[0, 45:])
    [[layer, head]] = model.truth["induction"]
    assert seen.patterns[layer, head].diagonal(-39)[5:].min() > 0.9999
    assert seen.patterns[layer, head, :44, 0].min() > 0.9999


def test_tour_layer_one_is_inert_and_the_others_are_not() -> None:
    model = planted("tour")
    ids = ids_of(model, hidden(NEEDLES[0], 200, 0.5))
    plain = run(model, ids).logits[-1]
    for layer in range(4):
        with without_layer(model, layer):
            change = (run(model, ids).logits[-1] - plain).abs().max()
        assert (change == 0) == (layer in model.truth["inert"])


def test_tour_neurons_read_their_word_and_say_it_when_clamped() -> None:
    model = planted("tour")
    for row in model.truth["neurons"][::5]:
        up = model.model.model.layers[row["layer"]].mlp.up_proj
        read = model.model.lm_head.weight @ up.weight[row["neuron"]]
        assert model.tokenizer.decode(read.argmax()) == row["token"]
        place = torch.arange(up.out_features) == row["neuron"]
        with changed(up, lambda value, place=place: value.masked_fill(place, 10.0)):
            assert next_word(model, "The dough is covered and ignored .") == row["token"]
