"""One prompt continued plain and edited, and the edited model led along the plain continuation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.edit import Edit, edited
from workbench.edit_words import WrittenEdit
from workbench.generate import Choose, continue_rows, end_tokens, gumbel_noise, most_likely, sampling
from workbench.metrics import kl_divergence
from workbench.model import Model
from workbench.prompts import Prompt

Edits = Sequence[WrittenEdit]


@dataclass(frozen=True)
class Speaker:
    """A model, and how it chooses its tokens."""

    model: Model
    new_tokens: int
    temperature: float
    seed: int

    def choice(self) -> Choose:
        """How the next token is chosen at each step; the same noise for every run."""
        if self.temperature == 0:
            return most_likely
        noise = gumbel_noise(self.new_tokens, self.model.shape.d_vocab, self.seed)
        return sampling(noise, self.temperature)

    def speak(self, ids: Int[Tensor, "one pos"], edits: Sequence[Edit], cached: bool) -> list[int]:
        """The continuation under some edits."""
        with edited(self.model, edits):
            made = continue_rows(
                self.model,
                ids,
                self.new_tokens,
                choose=self.choice(),
                stop=end_tokens(self.model),
                cached=cached,
            )
        return made[0].tolist()

    def follow(
        self, ids: Int[Tensor, "one pos"], said: list[int], edits: Sequence[Edit]
    ) -> Float[Tensor, "step vocab"]:
        """The logits under some edits at each token of a given continuation, in one pass."""
        whole = torch.cat([ids, torch.tensor([said[:-1]], dtype=ids.dtype, device=ids.device)], dim=1)
        with torch.no_grad(), edited(self.model, edits):
            # positions of edits are those of the prompt, as they were when the tokens were made
            return self.model.forward(whole, lengths=(ids.shape[1],), keep=len(said))[0].float()


@dataclass(frozen=True)
class Led:
    """A model led along the plain continuation.

    Attributes:
        kl: KL(plain || this) of the next token, in nats.
        lead: the logit of the plain token minus the largest other.
        chosen: what it would say at each step.
        parts: the first step at which that is not the plain token; None where it never parts.
    """

    kl: Float[Tensor, " step"]
    lead: Float[Tensor, " step"]
    chosen: list[int]
    parts: int | None


@dataclass(frozen=True)
class Spoken:
    """One prompt, plain and edited.

    Attributes:
        prompt: the text.
        plain: the plain continuation.
        edited: the edited one.
        led: the edited model along the plain continuation.
        lead: the plain model's own lead.
        controls: the controls along the plain continuation.
        idle_gap: the largest change of a logit by edits that change nothing.
        plain_parts: where the plain model in one pass parts from itself step by step; None where it does not.
    """

    prompt: Prompt
    plain: list[int]
    edited: list[int]
    led: Led
    lead: Float[Tensor, " step"]
    controls: list[Led]
    idle_gap: float
    plain_parts: int | None

    @property
    def parts(self) -> int | None:
        """The first step at which the two continuations differ; None where they are the same."""
        return first_difference(self.plain, self.edited)


def first_difference(one: list[int], other: list[int]) -> int | None:
    """The first place at which two lists differ, or one of them ends; None where they are equal."""
    if one == other:
        return None
    same = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(same, min(len(one), len(other)))


def speak(speaker: Speaker, prompt: Prompt, written: Edits, controls: Sequence[Edits]) -> Spoken:
    """Continue one prompt twice, and lead the edited model and every control along the plain continuation."""
    model = speaker.model
    ids = model.tokens(prompt).ids
    plain = speaker.speak(ids, [], cached=True)
    said = speaker.speak(ids, [one.made() for one in written], cached=all(one.cacheable for one in written))
    own = speaker.follow(ids, plain, [])
    idle = speaker.follow(ids, plain, [one.idle() for one in written])
    lead_along = _leader(speaker, plain, own)
    itself = lead_along(own)
    return Spoken(
        prompt=prompt,
        plain=plain,
        edited=said,
        led=lead_along(speaker.follow(ids, plain, [one.made() for one in written])),
        lead=itself.lead,
        controls=[lead_along(speaker.follow(ids, plain, [one.made() for one in moved])) for moved in controls],
        idle_gap=float((idle - own).abs().max()),
        plain_parts=itself.parts,
    )


def _leader(
    speaker: Speaker, plain: list[int], own: Float[Tensor, "step vocab"]
) -> Callable[[Float[Tensor, "step vocab"]], Led]:
    """What compares logits along the plain continuation with the plain ones."""
    choose, expected = speaker.choice(), own.log_softmax(-1)
    ids = torch.tensor(plain, device=own.device)[:, None]

    def compare(logits: Float[Tensor, "step vocab"]) -> Led:
        chosen = [int(choose(row[None], step)[0]) for step, row in enumerate(logits)]
        others = logits.scatter(1, ids, -torch.inf).amax(1)
        kl = kl_divergence(expected, logits.log_softmax(-1)).clamp_min(0)
        return Led(kl.cpu(), (logits.gather(1, ids)[:, 0] - others).cpu(), chosen, first_difference(plain, chosen))

    return compare
