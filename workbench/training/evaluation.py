"""What a model of the small world has learned, measured on what its training text never held."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.hops import TwoHop
from workbench.lens import read_out
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompt, Prompts
from workbench.stats import bootstrap_mean
from workbench.tracer import trace
from workbench.words import Site
from workbench.world import World, make_world, questions
from workbench.world.chains import two_hops

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Score:
    """One line of an evaluation.

    Attributes:
        task: what was asked.
        score: the mean, in [0, 1]: of right answers, or of the probability on right answers.
        low: lower end of the 95 % bootstrap interval.
        high: its upper end.
        examples: how many prompts.
        goal: what the score should reach; None where it is only measured.
    """

    task: str
    score: float
    low: float
    high: float
    examples: int
    goal: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal or without prompts."""
        return None if self.goal is None or not self.examples else self.score >= self.goal


COLUMNS = ["task", "score", "95 % interval", "prompts", "goal", "reached"]
"""The columns of a printed evaluation."""


def score_row(score: Score) -> list[str]:
    """One printed line of an evaluation."""
    goal = "" if score.goal is None else f">= {score.goal:.2f}"
    reached = {None: "", True: "yes", False: "no"}[score.reached]
    interval = f"{score.low:.3f} to {score.high:.3f}" if score.examples else ""
    return [score.task, f"{score.score:.3f}" if score.examples else "", interval, str(score.examples), goal, reached]


Answers = Callable[[Model, World], Sequence[float]]
"""A task: the model and its world in, a number in [0, 1] for each prompt out."""


def _length(model: Model) -> questions.Length:
    return lambda text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def _needles(model: Model, world: World, distance: int) -> Sequence[float]:
    """No prompts at all where the context of the model is too short for them."""
    longest = min(500, model.shape.n_ctx)
    if longest < distance + 100:
        return []
    return right(model, questions.needles(world, _length(model), distance, longest=longest))


TASKS: dict[str, tuple[Answers, float | None]] = {
    "facts in held-out phrasings": (lambda model, world: right(model, questions.told_facts(world)), 0.95),
    "held-out questions": (lambda model, world: right(model, questions.asked_facts(world, in_training=True)), None),
    "facts never asked for in training, asked": (
        lambda model, world: right(model, questions.asked_facts(world, in_training=False)),
        None,
    ),
    "indirect objects": (lambda model, _: right(model, questions.indirect_objects()), 0.95),
    "pronouns": (lambda model, _: right(model, questions.pronouns()), None),
    "needles at 100 tokens": (lambda model, world: _needles(model, world, 100), None),
    "needles at 400 tokens": (lambda model, world: _needles(model, world, 400), 0.9),
    "years: probability on later years": (lambda model, _: later_mass(model, questions.greater_than()), 0.9),
    "sums of held-out numbers": (lambda model, world: right(model, questions.problems(world, "+")), 0.8),
    "differences of held-out numbers": (lambda model, world: right(model, questions.problems(world, "-")), None),
    "repeated random words": (lambda model, _: right(model, questions.repeated()), None),
    "who has what": (lambda model, _: right(model, questions.owners()), None),
}
"""What is measured besides two hops, and the goals."""


def evaluate(model: Model, tasks: Iterable[str] | None = None, seed: int = 0) -> list[Score]:
    """Measure a model of the small world.

    Args:
        model: a model trained on the world of this seed.
        tasks: names of `TASKS`, or "two hops"; all by default.
        seed: of the world.

    Raises:
        KeyError: there is no such task.
    """
    world = make_world(seed)
    chosen = list(tasks) if tasks is not None else [*TASKS, "two hops"]
    unknown = [task for task in chosen if task not in (*TASKS, "two hops")]
    if unknown:
        raise KeyError(f"task {unknown[0]!r} is unknown: allowed are {', '.join((*TASKS, 'two hops'))}")
    scores = []
    for task in track(chosen, "evaluating"):
        if task == "two hops":
            scores += score_two_hops(model, world)
        else:
            answers, goal = TASKS[task]
            scores.append(_score(task, answers(model, world), goal))
    return scores


def _score(task: str, values: Sequence[float], goal: float | None = None) -> Score:
    if not len(values):
        return Score(task, 0.0, 0.0, 0.0, 0, goal)
    numbers = np.array(values, dtype=np.float32)
    low, high = bootstrap_mean(numbers, seed=0)
    return Score(task, float(numbers.mean()), float(low), float(high), len(numbers), goal)


def right(model: Model, prompts: Iterable[Prompt]) -> list[float]:
    """1 where the most likely continuation is the whole target, else 0.

    Every token of the target must be the most likely one after those before it: what greedy decoding would say.
    """
    told = list(prompts)
    if not told:
        return []
    texts = Prompts.of(*(f"{prompt.text}{prompt.target}" for prompt in told))
    lengths = [len(model.tokenizer(str(prompt.target), add_special_tokens=False)["input_ids"]) for prompt in told]
    hits = [0.0] * len(told)
    for rows, ids, logits, ends in _passes(model, texts):
        best = logits.argmax(-1)
        for place, row in enumerate(rows):
            answer = slice(ends[place] - lengths[row], ends[place])
            said = best[place, answer.start - 1 : answer.stop - 1]
            hits[row] = float(torch.equal(said, ids[place, answer]))
    return hits


def later_mass(model: Model, prompts: Iterable[Prompt]) -> list[float]:
    """The probability on years after `start`, of all continuations."""
    told = list(prompts)
    years = torch.tensor([model.token(f"{year:02d}") for year in range(100)])
    mass = [0.0] * len(told)
    for rows, _, logits, ends in _passes(model, Prompts.of(*told)):
        for place, row in enumerate(rows):
            chances = logits[place, ends[place] - 1].softmax(-1)
            mass[row] = float(chances[years[told[row].meta["start"] + 1 :]].sum())
    return mass


def _passes(model: Model, prompts: Prompts) -> Iterable[tuple[list[int], Tensor, Tensor, list[int]]]:
    """Rows, token ids, logits and lengths, some rows at a time, rows of like length together."""
    found = model.tokens(prompts)
    order = sorted(range(len(prompts)), key=lambda row: found.lengths[row])
    while order:
        count = max(1, _BATCH_TOKENS // found.lengths[order[min(len(order), 64) - 1]])
        rows, order = order[:count], order[count:]
        ends = [found.lengths[row] for row in rows]
        ids = found.ids[rows, : max(ends)]
        with torch.inference_mode():
            logits = model.plain(ids, use_cache=False).logits.float()
        yield rows, ids, logits, ends


def score_two_hops(model: Model, world: World) -> list[Score]:
    """How often two-hop questions are answered, with and without a bridge that the lens sees (`bridges_seen`).

    Only questions whose single hops are both answered count.
    """
    scores = []
    for told, label in ((True, "told in training"), (False, "never told")):
        hops = two_hops(world, told=told)
        known = _both_hops_known(model, hops)
        asked = [hop for hop, both in zip(hops, known, strict=True) if both]
        answered = right(model, (Prompt(hop.prompt, f" {hop.answer[0]}") for hop in asked))
        seen, chance = bridges_seen(model, world, asked)
        scores.append(_score(f"two hops {label}", answered))
        scores.append(_score(f"two hops {label}: latent hop solved", [float(yes) for yes in seen]))
        scores.append(_score(f"two hops {label}: the same of another name (control)", [float(yes) for yes in chance]))
        for wanted, words in ((True, "latent hop solved"), (False, "latent hop not solved")):
            part = [value for value, yes in zip(answered, seen, strict=True) if yes == wanted]
            scores.append(_score(f"two hops {label}: answered, {words}", part))
    return scores


def _both_hops_known(model: Model, hops: Sequence[TwoHop]) -> list[bool]:
    first = right(model, (Prompt(hop.first_hop, f" {hop.bridge[0]}") for hop in hops))
    second = right(model, (Prompt(hop.second_hop, f" {hop.answer[0]}") for hop in hops))
    return [bool(one and two) for one, two in zip(first, second, strict=True)]


def bridges_seen(model: Model, world: World, hops: Sequence[TwoHop]) -> tuple[list[bool], list[bool]]:
    """Whether the lens sees the bridge of each question, and whether it sees another name in the same way.

    Seen is a name that the lens puts before all others of its kind (all towns, all countries, ...), in any layer but
    the last, at the end of the bridge's description or at the end of the question. Names count by their first token.
    The other name is the one after the bridge in the order of its kind: what chance would give.
    """
    sites = [Site("resid_post", layer) for layer in range(model.shape.n_layers - 1)]
    seen: tuple[list[bool], list[bool]] = ([], [])
    for hop in hops:
        kept = trace(model, hop.prompt, sites)
        end = hop.prompt.index(hop.first) + len(hop.first)
        described = model.tokens(hop.prompt).between(0, end - len(hop.first), end)[-1]
        streams = torch.stack([kept[site][0, [described, -1]] for site in sites])
        tokens = [_first_token(model, name) for name in sorted(set(world.facts[hop.relations[0]].values()))]
        kind = list(dict.fromkeys(tokens))
        place = kind.index(_first_token(model, hop.bridge[0]))
        first = set(read_out(model.bridge, streams)[..., kind].argmax(-1).flatten().tolist())
        seen[0].append(place in first)
        seen[1].append((place + 1) % len(kind) in first)
    return seen


def _first_token(model: Model, name: str) -> int:
    return model.tokenizer(f" {name}", add_special_tokens=False)["input_ids"][0]
