"""Run every dose along every direction, and let the model speak."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.feature_steering.doses import Plan
from workbench.attribution import token_directions
from workbench.edit import edited
from workbench.generate import end_tokens, greedy
from workbench.metrics import kl_divergence
from workbench.model import Model
from workbench.norms import FrozenNorm, freeze
from workbench.progress import track
from workbench.prompts import Prompt, Prompts
from workbench.tracer import Trace, trace
from workbench.vocabulary import Vocabulary
from workbench.words import Site

_ROWS = 32
"""Conditions in one pass."""
_SPOKEN = 3
"""Prompts that are continued."""


@dataclass(frozen=True)
class Spoken:
    """What the model says after one prompt.

    Attributes:
        prompt: the text.
        plain: the plain continuation.
        steered: one for each dose.
        random: at the largest dose, along a random direction.
        idle: with the coders in place and nothing changed.
    """

    prompt: Prompt
    plain: list[int]
    steered: list[list[int]]
    random: list[int]
    idle: list[int]


@dataclass(frozen=True)
class Steered:
    """All of it.

    Attributes:
        prompts: the texts.
        token: whose logit is measured.
        active: the feature's value at the last position of each prompt, unsteered.
        lengths: the mean length of what each dose writes at the last positions.
        logit: change above the mean logit; the first direction is the feature's.
        kl: KL(plain || steered), in nats.
        predicted: the change of the logit by the direct way, with the final norm frozen.
        probability: of the token, plain and at each dose.
        idle_gap: the largest change of a logit by a change that changes nothing.
        road_gap: the largest difference of logits between steering in the coder and pushing the stream, relative.
        spoken: the continuations.
    """

    prompts: Prompts
    token: int
    active: Float[np.ndarray, " prompt"]
    lengths: Float[np.ndarray, " dose"]
    logit: Float[np.ndarray, "prompt dose direction"]
    kl: Float[np.ndarray, "prompt dose direction"]
    predicted: Float[np.ndarray, "prompt dose"]
    probability: Float[np.ndarray, "prompt one_and_doses"]
    idle_gap: float
    road_gap: float
    spoken: list[Spoken]


@torch.no_grad()
def steer_all(model: Model, prompts: Prompts, plan: Plan, token: str, new_tokens: int) -> Steered:
    """Steer every prompt at every dose along every direction."""
    works = [_Work.of(model, prompt, plan) for prompt in prompts]
    wanted = model.token(token) if token else works[0].most_written()
    found = [one.measure(wanted) for one in track(works, "prompts steered")]
    spoken = [one.speak(new_tokens) for one in track(works[:_SPOKEN], "prompts continued")] if new_tokens else []
    logit, kl, predicted, probability = (np.stack(values) for values in zip(*found, strict=True))
    pushes = np.array([[abs(one.push_at_end(dose)) for dose in plan.doses] for one in works]).mean(0)
    gaps = [one.gaps() for one in works]
    return Steered(
        prompts=prompts,
        token=wanted,
        active=np.array([float(one.z[-1]) for one in works], np.float32),
        lengths=pushes * float(plan.directions[plan.place[0]][0].norm()),
        logit=logit,
        kl=kl,
        predicted=predicted,
        probability=probability,
        idle_gap=max(idle for idle, _ in gaps),
        road_gap=max(road for _, road in gaps),
        spoken=spoken,
    )


@dataclass(frozen=True)
class _Work:
    """One prompt: its plain run, and what is done to it."""

    model: Model
    prompt: Prompt
    plan: Plan
    traced: Trace
    z: Float[Tensor, " pos"]

    @classmethod
    def of(cls, model: Model, prompt: Prompt, plan: Plan) -> "_Work":
        last = Site("resid_post", model.shape.n_layers - 1, pos=-1)
        traced = trace(model, prompt, [plan.read_site, last, Site("logits", pos=-1)])
        values = plan.coders[plan.place[0]].encode(traced[plan.read_site][0])
        return cls(model, prompt, plan, traced, values[:, plan.place[1]].float())

    @property
    def base(self) -> Float[Tensor, " vocab"]:
        """The plain logits at the last position."""
        return self.traced["logits@-1"][0].float()

    def most_written(self) -> int:
        """The token that the feature's decoder raises most by the direct way."""
        written = torch.stack([rows[0] for rows in self.plan.directions.values()]).sum(0)
        final = replace(self._final(), bias=torch.zeros_like(written))
        return int(Vocabulary.of(self.model).extremes(final(written)[None], 1).promoted[0, 0])

    def measure(self, token: int) -> tuple[Float[np.ndarray, "..."], ...]:
        """The changes at the last position: of the logit and of KL by dose and direction; predicted; probabilities."""
        doses, count = len(self.plan.doses), len(next(iter(self.plan.directions.values())))
        logit, kl = np.zeros((doses, count), np.float32), np.zeros((doses, count), np.float32)
        before = self.base.log_softmax(-1)
        probability = [float(before[token].exp())] + [0.0] * doses
        for dose, direction, logits in self._pushed():
            after = logits.log_softmax(-1)
            change = (logits - logits.mean()) - (self.base - self.base.mean())
            logit[dose, direction] = float(change[token])
            kl[dose, direction] = max(float(kl_divergence(before, after)), 0.0)
            if direction == 0:
                probability[1 + dose] = float(after[token].exp())
        rows = self._final().pulled(
            token_directions(self.model, torch.tensor([token], device=self.base.device), None).rows
        )
        slope = sum(float(found[0].to(rows.dtype) @ rows[0]) for found in self.plan.directions.values())
        predicted = np.array([self.push_at_end(dose) * slope for dose in self.plan.doses], np.float32)
        return logit, kl, predicted, np.array(probability, np.float32)

    def push_at_end(self, dose: int) -> float:
        """By how much a dose changes the feature's value at the last position."""
        return float(self.plan.changed(self.z[-1], dose) - self.z[-1])

    def gaps(self) -> tuple[float, float]:
        """A change that changes nothing against the plain run; steering in the coder against pushing the stream."""
        idle = float((self._in_coder(None) - self.base).abs().max())
        road = 0.0
        last = len(self.plan.doses) - 1
        for dose, direction, logits in self._pushed([last]):
            if direction in (0, 1):
                own = self._in_coder(self.plan.doses[dose], direction)
                road = max(road, float((own - logits).abs().max() / own.abs().max()))
        return idle, road

    def speak(self, new_tokens: int) -> Spoken:
        """The continuations: plain, at every dose, along a random direction at the last dose, and idle."""
        ids = self.traced.tokens.ids[0].tolist()

        def said(dose: int | None, row: int = 0) -> list[int]:
            with edited(self.model, [self.plan.attached(len(ids), dose, row)]):
                return greedy(self.model, ids, new_tokens, stop=end_tokens(self.model))

        plain = greedy(self.model, ids, new_tokens, stop=end_tokens(self.model))
        steered = [said(dose) for dose in self.plan.doses]
        return Spoken(self.prompt, plain, steered, said(self.plan.doses[-1], 1), said(None))

    def _in_coder(self, dose: int | None, row: int = 0) -> Float[Tensor, " vocab"]:
        tokens = self.traced.tokens
        with edited(self.model, [self.plan.attached(tokens.lengths[0], dose, row)]):
            return trace(self.model, tokens, Site("logits", pos=-1))["logits@-1"][0].float()

    def _pushed(self, doses: list[int] | None = None) -> Iterator[tuple[int, int, Float[Tensor, " vocab"]]]:
        """The logits of every dose and direction, many in one pass; only one feature moves, so its pushes are known."""
        tokens, plan = self.traced.tokens, self.plan
        length = tokens.lengths[0]
        count = len(next(iter(plan.directions.values())))
        chosen = range(len(plan.doses)) if doses is None else doses
        keys = [(dose, direction) for dose in chosen for direction in range(count)]
        steered = torch.arange(length, device=self.z.device) >= plan.since(length)
        for start in range(0, len(keys), _ROWS):
            part = keys[start : start + _ROWS]
            pushes = torch.stack([(plan.changed(self.z, plan.doses[dose]) - self.z) * steered for dose, _ in part])
            rows = [direction for _, direction in part]
            edits = []
            for target, directions in plan.directions.items():
                vectors = pushes[..., None] * directions[rows][:, None].to(pushes.device)
                site = Site(plan.coders[plan.place[0]].write, target)
                edits.append((site, lambda value, vectors=vectors: value + vectors.to(value.dtype)))
            with edited(self.model, edits):
                logits = self.model.forward(tokens.ids.expand(len(part), -1), lengths=(length,) * len(part), keep=1)
            yield from (
                (dose, direction, row.float()) for (dose, direction), row in zip(part, logits[:, -1], strict=True)
            )

    def _final(self) -> FrozenNorm:
        stream = self.traced[Site("resid_post", self.model.shape.n_layers - 1, pos=-1)][0]
        return freeze(self.model.bridge.ln_final.original_component, stream)
