"""Many threads on one model: every answer is bit for bit the one that it would give alone."""

import random
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from conftest import hooks_in
from workbench.edit import add, edited, scale, zero
from workbench.model import Model
from workbench.rewiring import cut, repeat, skip
from workbench.tracer import trace

THREADS = 8
SECONDS = 4.0
TEXTS = ("w5 w6 w7 w8 w9", "w20 w21 w22", "w30 w31 w32 w33 w34 w35 w36")
Job = Callable[[Model], list[Tensor]]


def make_job(seed: int) -> Job:
    """A run with random edits, traces and gradients; the same one for the same seed."""
    dice = random.Random(seed)
    layer, head, text = dice.randrange(3), dice.randrange(4), dice.choice(TEXTS)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    edits = dice.choice(
        [
            [],
            [(f"L{layer}.resid_post", add(vector))],
            [(f"L{layer}.H{head}.z@-1", zero()), (f"L{dice.randrange(3)}.mlp_out", scale(dice.uniform(-2, 2)))],
            [(f"L{layer}.resid_mid@1", add(vector, scale=3.0))],
            [cut(layer, query=2, key=1, head=head)],
            [skip(dice.choice(["block", "attn", "mlp"]), layer)],
            [repeat(layer, times=2)],
        ]
    )
    some = dice.choice([[], ["resid_post"], [f"L{layer}.pattern"], [f"L{layer}.z", "L2.mlp_post", "L0.resid_mid@1"]])
    wanted = [*some, dice.choice(["logits", "logits@-1", "L2.resid_post"])]
    with_gradient = bool(some) and dice.random() < 0.5

    def job(model: Model) -> list[Tensor]:
        metric = (lambda logits: logits[:, -1, 5].sum()) if with_gradient else None
        with edited(model, edits):
            found = trace(model, text, wanted, grads_of=metric)
        return [*found.values(), *found.grads.values()]

    return job


def make_broken_job(seed: int) -> Job:
    """A run whose edit fails in the middle of the pass."""

    def break_down(_value: Tensor) -> Tensor:
        raise ZeroDivisionError

    def job(model: Model) -> list[Tensor]:
        try:
            with edited(model, [(f"L{seed % 3}.mlp_out", zero()), ("L1.z", break_down)]):
                trace(model, TEXTS[seed % 3], "logits")
        except ZeroDivisionError:
            return []
        raise AssertionError("the edit did not fail")

    return job


def test_eight_threads_get_the_answers_that_each_would_get_alone(tiny_model: Model) -> None:
    jobs = [make_broken_job(seed) if seed % 9 == 8 else make_job(seed) for seed in range(60)]
    alone = [job(tiny_model) for job in jobs]
    hooks = hooks_in(tiny_model)
    assert len({tuple(value.shape for value in answer) for answer in alone}) > 5, "the jobs are not all alike"
    wrong: list[int] = []
    done: list[int] = []
    deadline = threading.Event()

    def work(seed: int) -> None:
        dice = random.Random(seed)
        while not deadline.is_set():
            number = dice.randrange(len(jobs))
            answer = jobs[number](tiny_model)
            same = len(answer) == len(alone[number]) and all(map(torch.equal, answer, alone[number]))
            (done if same else wrong).append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    deadline.wait(SECONDS)
    deadline.set()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert len(done) >= 100 and len(set(done)) > 30
    assert hooks_in(tiny_model) == hooks
    assert tiny_model.current_pass is None and not tiny_model.rehearsing
