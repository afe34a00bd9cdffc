"""Training finds planted features again, sees every layer in one pass, and does not depend on being stopped."""

from dataclasses import replace

import pytest
import torch
from circuit_parts import FAMILIES
from coding import texts_of_planted_words
from datasets import Dataset
from scipy.optimize import linear_sum_assignment
from small_models import prompt_ids, small_model

from workbench import edited, load, trace
from workbench.coders import attach, fit
from workbench.coders.training import Recipe, train_transcoders
from workbench.coders.training.buffer import Buffer, Pairs
from workbench.coders.training.capture import Capture
from workbench.coders.training.learner import Learner
from workbench.coders.training.texts import read_documents, token_rows
from workbench.coders.training.thresholds import count_active, jump
from workbench.model import Model
from workbench.progress import Cancelled, listening
from workbench.prompts import Prompts
from workbench.words import Site

D, TRUE = 32, 40


@pytest.fixture(scope="module")
def sparse() -> Model:
    return load("planted:sparse_mlp")


@pytest.fixture(scope="module")
def texts() -> Prompts:
    return texts_of_planted_words()


class PlantedPairs:
    """Outputs of a sparse transcoder with unit directions, and inputs in which its features are rarely active."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)
        self.reads, self.writes = (self._directions() for _ in range(2))

    def _directions(self) -> torch.Tensor:
        rows = torch.randn(TRUE, D, generator=self.generator)
        return rows / rows.norm(dim=1, keepdim=True)

    def draw(self, count: int) -> Pairs:
        active = torch.rand(count, TRUE, generator=self.generator) < 0.05
        values = active * (0.5 + torch.rand(count, TRUE, generator=self.generator))
        return Pairs(values @ self.reads, values @ self.writes + 0.3)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(width=64, k=3, steps=1500, batch=512, buffer=512, rate=3e-3, dead_after=20_000),
        Recipe(width=64, activation="relu", sparsity=0.02, steps=1500, batch=512, buffer=512, rate=3e-3),
    ],
    ids=lambda recipe: recipe.activation,
)
def test_planted_features_are_found_again(recipe: Recipe) -> None:
    planted = PlantedPairs()
    learner = Learner(recipe, 0, planted.draw(4096))
    for _ in range(recipe.steps):
        missed = learner.learn(planted.draw(recipe.batch))
    found = learner.finished()
    cosines = found.w_dec / found.w_dec.norm(dim=1, keepdim=True).clamp_min(1e-9) @ planted.writes.T
    rows, columns = linear_sum_assignment(-cosines.numpy())
    best = cosines[rows, columns]
    assert float((best > 0.9).float().mean()) > 0.9
    assert float(best.mean()) > 0.9
    assert missed < 0.2
    fresh = planted.draw(2000)
    gap = (fresh.y - found.predict(fresh.x)).square().sum() / (fresh.y - fresh.y.mean(0)).square().sum()
    assert float(gap) == pytest.approx(float(missed), abs=0.05), "the finished coder works on activations as they are"


@pytest.mark.parametrize("skip", [False, True])
def test_decoding_the_active_rows_alone_is_the_dense_decoding(skip: bool) -> None:
    """The same losses to 1e-6 over many steps, and the same coder at the end; k is so large that zeros are kept too."""
    planted, recipe = PlantedPairs(), Recipe(width=64, k=40, steps=60, batch=128, buffer=128, skip=skip, dead_after=500)
    first = planted.draw(512)
    few, dense = Learner(recipe, 0, first), Learner(recipe, 0, first)
    dense._predict_few = dense._predict
    for _ in range(recipe.steps):
        pairs = planted.draw(recipe.batch)
        assert float(few.learn(pairs)) == pytest.approx(float(dense.learn(pairs)), abs=1e-6)
    assert few.seen() == pytest.approx(dense.seen(), abs=1e-6)
    for name, weight in few.finished().tensors.items():
        torch.testing.assert_close(weight, dense.finished().tensors[name], rtol=0, atol=1e-5)


def test_jumprelu_learns_thresholds_that_leave_few_features_active() -> None:
    planted = PlantedPairs()
    recipe = Recipe(width=64, activation="jumprelu", sparsity=0.01, steps=800, batch=512, buffer=512, rate=3e-3)
    learner = Learner(recipe, 0, planted.draw(4096))
    for _ in range(recipe.steps):
        missed = learner.learn(planted.draw(recipe.batch))
    dear, free = learner.finished(), Learner(replace(recipe, sparsity=0.0), 0, planted.draw(4096))
    for _ in range(recipe.steps):
        free.learn(planted.draw(recipe.batch))
    x = planted.draw(2000).x
    count = [float((one.encode(x) != 0).sum(-1).float().mean()) for one in (dear, free.finished())]
    assert count[0] < 0.6 * count[1]
    assert missed < 0.4


def test_the_gradient_of_a_threshold_is_that_of_the_mean_under_a_small_spread() -> None:
    """Numerically: many pre-activations spread evenly, the threshold moved by a little, the sums compared."""
    pre = torch.linspace(-1, 2, 300_001, dtype=torch.float64)[:, None]
    threshold = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    for function in (jump, count_active):
        (slope,) = torch.autograd.grad(function(pre, threshold, 0.2).mean(), threshold)
        shift = 1e-3
        moved = [function(pre, threshold.detach() + step, 0.2).mean() for step in (shift, -shift)]
        assert float(slope) == pytest.approx(float(moved[0] - moved[1]) / (2 * shift), rel=0.01)


def test_all_layers_learn_from_one_pass_and_stand_in_for_the_mlps(sparse: Model, texts: Prompts) -> None:
    recipe = Recipe(width=32, k=4, steps=250, batch=256, buffer=1024, rate=1e-2, skip=True, dead_after=5000)
    coders = train_transcoders(sparse, texts, recipe)
    assert list(coders) == [0, 1]
    assert max(coders.card["missed"].values()) < 0.02
    with edited(sparse, [attach(fit(coders, sparse), keep_error=False, since=1)]):
        logits = trace(sparse, "stone red cat", "logits").logits[0, -1]
    assert sparse.tokenizer.decode(logits.argmax()) == "runs"


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_a_stopped_training_goes_on_to_the_same_coders(sparse: Model, texts: Prompts, tmp_path, activation) -> None:
    recipe = Recipe(width=16, k=3, activation=activation, steps=12, batch=200, buffer=400, dead_after=300)
    whole = train_transcoders(sparse, texts, recipe)
    state = tmp_path / "runs" / "state.safetensors"

    def stop(done: int, total: int, label: str) -> None:
        if label == "training transcoders" and done == 7:
            raise Cancelled

    with pytest.raises(Cancelled), listening(stop):
        train_transcoders(sparse, texts, recipe, state=state)
    resumed = train_transcoders(sparse, texts, recipe, state=state)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.card["curve"] == whole.card["curve"]
    again = train_transcoders(sparse, texts, recipe, state=state)
    assert again.fingerprint == whole.fingerprint, "a finished training is not taken further"
    with pytest.raises(ValueError, match="the state of another training"):
        train_transcoders(sparse, Prompts.of("red cat runs"), recipe, state=state)
    with pytest.raises(ValueError, match="the state of another training"):
        train_transcoders(sparse, texts, replace(recipe, k=2), state=state)


def test_the_buffer_holds_the_model_s_own_pairs_each_once(sparse: Model) -> None:
    texts = Prompts.of("red cat runs", "stone river flows blue")
    buffer = Buffer(sparse, token_rows(sparse, texts, 8), (1,), Recipe(width=8, k=2, batch=7, buffer=7))
    pairs = buffer.at(0)[1]
    seen = [trace(sparse, text, ["L1.mlp_in", "L1.mlp_out"]) for text in texts]
    found = torch.cat([pairs.x, pairs.y], dim=1)
    rows = [torch.cat([one["L1.mlp_in"][0, 1:], one["L1.mlp_out"][0, 1:]], dim=1) for one in seen]
    gaps = (found[:, None] - torch.cat(rows)[None]).abs().amax(-1)
    assert sorted(gaps.argmin(1).tolist()) == list(range(7))
    assert float(gaps.min(1).values.max()) < 1e-3


def test_a_text_file_a_data_set_and_token_ids_give_the_same_rows(sparse: Model, tmp_path) -> None:
    documents = ["red cat runs\nstone river flows", "blue owl sleeps"]
    file = tmp_path / "text.txt"
    file.write_text("".join(f"{document}\n\n" for document in documents))
    assert read_documents(file) == documents
    ids = [sparse.tokenizer(document, add_special_tokens=False)["input_ids"] for document in documents]
    start = [sparse.tokenizer.bos_token_id] if sparse.prepend_bos else []
    step = 4 - len(start)
    expected = [start + one[at : at + step] for one in ids for at in range(0, len(one), step)]
    for texts in (read_documents(file), Dataset.from_dict({"text": documents})):
        assert [row.tolist() for row in token_rows(sparse, texts, 4)] == expected
    stream = torch.tensor(ids[0])
    assert [row.tolist() for row in token_rows(sparse, stream, 4)] == [
        row for row in expected if set(row) <= set(start + ids[0])
    ]
    rows = torch.tensor([ids[1], ids[1]])
    assert torch.equal(torch.stack(token_rows(sparse, rows, 4)).long(), rows)


def test_texts_that_cannot_be_read_are_refused(sparse: Model, tmp_path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ValueError, match="holds no text"):
        read_documents(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_documents(tmp_path / "latin.txt")
    with pytest.raises(ValueError, match=r"token ids must lie in 0-\d+ for planted:sparse_mlp, found 100000"):
        token_rows(sparse, torch.tensor([[1, 100_000]]), 8)
    with pytest.raises(ValueError, match="a row of 100 tokens was given, but planted:sparse_mlp reads 64 at most"):
        token_rows(sparse, torch.ones(2, 100, dtype=torch.long), 8)
    with pytest.raises(TypeError, match="a row with a `text`"):
        token_rows(sparse, [{"words": "red cat"}], 8)
    with pytest.raises(ValueError, match="no text to learn from"):
        token_rows(sparse, [], 8)


def test_the_curve_tells_what_the_coders_do(sparse: Model, texts: Prompts) -> None:
    recipe = Recipe(width=32, k=4, steps=40, batch=256, buffer=1024, rate=1e-2, dead_after=512)
    curve = train_transcoders(sparse, texts, recipe, layers=(1,)).card["curve"]
    assert [row["step"] for row in curve] == list(range(1, 41))
    assert curve[-1]["missed"] < 0.5 * curve[0]["missed"]
    assert all(0 < row["l0"] <= 4 and 0 <= row["dead"] < 1 for row in curve)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plain_model_shows_what_the_hooked_one_does(name: str) -> None:
    model = small_model(name)
    sites = [Site(kind, layer) for kind in ("mlp_in", "mlp_out") for layer in range(model.shape.n_layers)]
    capture = Capture(model, sites, model.tokens_of([prompt_ids(5)]))
    assert capture._modules is not None, "the fast way is taken"
    texts = [prompt_ids(1), prompt_ids(2)[:5]]
    seen, hooked = capture(model.tokens_of(texts)), trace(model, model.tokens_of(texts), sites)
    for site in sites:
        for row, ids in enumerate(texts):
            expected = hooked[site][row, : len(ids)]
            torch.testing.assert_close(seen[site][row, : len(ids)], expected, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in model.plain.modules())


def test_a_site_that_no_module_shows_is_read_from_the_hooked_model() -> None:
    model, site = small_model("GPT2"), Site("resid_mid", 1)
    probe = model.tokens_of([prompt_ids(5)])
    capture = Capture(model, [site], probe)
    assert capture._modules is None
    torch.testing.assert_close(capture(probe)[site], trace(model, probe, [site])[site])


def test_recipes_that_make_no_sense_are_refused() -> None:
    for settings, sentence in (
        ({"width": 8, "k": 9}, "top-9 of 8 features"),
        ({"steps": 0}, "steps 0"),
        ({"batch": 10, "buffer": 5}, "holds no batch"),
        ({"context": 1}, "a context of 2 tokens or more"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Recipe(**settings)
