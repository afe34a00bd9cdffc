"""Run texts plainly, and with a place of the model rebuilt, set to its mean or to zero, or moved at random."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.coders import Transcoder, Transcoders, attach
from workbench.coders.scoring import Tally
from workbench.edit import Given, edited, onward, patch, zero
from workbench.metrics import kl_divergence
from workbench.model import Model
from workbench.progress import track
from workbench.prompts import Prompts
from workbench.tokens import Tokens
from workbench.tracer import trace
from workbench.words import Site

ORIGINAL, REBUILT, RANDOM, MEAN, ZERO = "original", "rebuilt", "random error", "mean ablation", "zero ablation"
WAYS = (ORIGINAL, REBUILT, RANDOM, MEAN, ZERO)


@dataclass(frozen=True)
class Plan:
    """Which coder stands in for what.

    Attributes:
        coders: coders that were fitted to the model.
        layer: of which this layer's is used.
        since: positions before this one are spared and not scored.
        draws: random errors for each text.
        seed: of the random errors.
    """

    coders: Transcoders
    layer: int
    since: int
    draws: int
    seed: int

    @property
    def coder(self) -> Transcoder:
        """The coder."""
        return self.coders[self.layer]

    @property
    def site(self) -> Site:
        """The place that is rebuilt."""
        return Site(self.coder.write, self.layer)

    def rebuilt(self, keep_error: bool) -> Given:
        """The coder in the running model; of a cross-layer transcoder the earlier layers' features too."""
        whole = self.coders if self.coders.crosses else self.coders.only((self.layer,))
        return attach(whole, keep_error=keep_error, since=self.since, layers=(self.layer,))


@dataclass(frozen=True)
class Read:
    """One text: what the coder makes of it.

    Attributes:
        z: the feature values.
        wanted: what is at the place.
        missed: what the coder misses of it.
    """

    tokens: Tokens
    z: Float[Tensor, "pos feature"]
    wanted: Float[Tensor, "pos d_out"]
    missed: Float[Tensor, "pos d_out"]


@dataclass
class Substituted:
    """All of it.

    Attributes:
        tally: sparsity and reconstruction over all scored tokens.
        written: the sum over tokens of the length that each feature writes.
        total: the sum of its activations.
        largest: its activation of the largest size, and on which text and position.
        loss, kl: sums over tokens that have a next one, for each of `WAYS`.
        scored: how many those are.
        first: the first text.
        first_kl: KL(original || rebuilt) at its positions, and the mean over random errors.
        kept_gap: the largest change of a logit with the error kept.
        sum_gap: the largest difference between a prediction and the sum of what its active features write, relative.
    """

    tally: Tally
    written: Float[Tensor, " feature"]
    total: Float[Tensor, " feature"]
    largest: Float[Tensor, " feature"]
    where: Int[Tensor, "feature 2"]
    first: Read
    texts: list[Tokens]
    loss: Float[Tensor, " way"] = field(default_factory=lambda: torch.zeros(len(WAYS), dtype=torch.float64))
    kl: Float[Tensor, " way"] = field(default_factory=lambda: torch.zeros(len(WAYS), dtype=torch.float64))
    scored: int = 0
    first_kl: Float[Tensor, "both pos"] = field(default_factory=lambda: torch.zeros(2, 0))
    kept_gap: float = 0.0
    sum_gap: float = 0.0


@torch.no_grad()
def substitute(model: Model, prompts: Prompts, plan: Plan) -> Substituted:
    """Read every text, then run it in every way.

    Raises:
        ValueError: the first text has no token that can be scored.
    """
    texts = [model.tokens(prompt) for prompt in prompts]
    if texts[0].lengths[0] - 1 <= plan.since:
        raise ValueError("no token of the first text can be scored: give a text of three tokens or more")
    first = _read(model, plan, texts[0])
    coder = plan.coder
    found = Substituted(
        tally=Tally(coder.width, coder.d_out),
        written=torch.zeros(coder.width, dtype=torch.float64),
        total=torch.zeros(coder.width, dtype=torch.float64),
        largest=torch.zeros(coder.width, dtype=torch.float64),
        where=torch.zeros(coder.width, 2, dtype=torch.long),
        first=first,
        texts=texts,
    )
    reads = [first, *(_read(model, plan, text) for text in track(texts[1:], "texts read"))]
    for number, one in enumerate(reads):
        _take(plan, found, number, one)
    found.sum_gap = _sum_gap(plan, first)
    mean = found.tally.mean.to(model.dtype)
    generator = torch.Generator().manual_seed(plan.seed)
    for number, one in track(list(enumerate(reads)), "texts rebuilt"):
        if one.tokens.lengths[0] - 1 > plan.since:
            _run(model, plan, found, number, one, mean, generator)
    return found


def _read(model: Model, plan: Plan, text: Tokens) -> Read:
    """What the coder makes of one text."""
    used = [layer for layer in plan.coders if layer == plan.layer or (plan.coders.crosses and layer < plan.layer)]
    sites = {layer: Site(plan.coders[layer].read, layer) for layer in used}
    traced = trace(model, text, [*sites.values(), plan.site])
    inputs = {layer: traced[site][0] for layer, site in sites.items()}
    z = {layer: plan.coders[layer].encode(x) for layer, x in inputs.items()}
    wanted = traced[plan.site][0]
    if plan.coders.crosses:
        predicted = plan.coders.predict(plan.layer, z, inputs[plan.layer])
    else:
        predicted = plan.coder.decode(z[plan.layer], inputs[plan.layer])
    return Read(text, z[plan.layer].float(), wanted.float(), wanted.float() - predicted.float())


def _take(plan: Plan, found: Substituted, number: int, one: Read) -> None:
    """Add one text to the sums."""
    z, wanted, missed = (part[plan.since :] for part in (one.z, one.wanted, one.missed))
    found.tally.add(z, wanted, wanted - missed)
    sizes = z.abs().double().cpu()
    found.written += sizes.sum(0) * plan.coder.w_dec.double().norm(dim=1).cpu()
    found.total += z.double().cpu().sum(0)
    if not len(z):
        return
    best = sizes.max(0)
    better = best.values > found.largest.abs()
    values = z.double().cpu().gather(0, best.indices[None])[0]
    found.largest = torch.where(better, values, found.largest)
    places = torch.stack([torch.full_like(best.indices, number), best.indices + plan.since], dim=1)
    found.where = torch.where(better[:, None], places, found.where)


def _sum_gap(plan: Plan, one: Read) -> float:
    """The prediction against the sum of what each active feature writes, feature by feature, at the last position."""
    coder = plan.coder
    if plan.coders.crosses or coder.w_skip is not None:
        return 0.0
    total = coder.b_dec.double()
    for feature in one.z[-1].nonzero()[:, 0].tolist():
        total = total + float(one.z[-1, feature]) * coder.w_dec[feature].double()
    predicted = (one.wanted[-1] - one.missed[-1]).double()
    scale = max(float(one.wanted[-1].abs().max()), float(predicted.abs().max()), 1e-30)
    return float((total - predicted).abs().max()) / scale


def _run(
    model: Model,
    plan: Plan,
    found: Substituted,
    number: int,
    one: Read,
    mean: Float[Tensor, " d_out"],
    generator: torch.Generator,
) -> None:
    """One text in every way."""
    text, scored = one.tokens, slice(plan.since, -1)
    plain = trace(model, text, "logits").logits[0]
    with edited(model, [plan.rebuilt(keep_error=True)]):
        kept = trace(model, text, "logits").logits[0]
    found.kept_gap = max(found.kept_gap, float((kept - plain).abs().max()))
    ways: dict[str, list[list[Given]]] = {
        ORIGINAL: [[]],
        REBUILT: [[plan.rebuilt(keep_error=False)]],
        RANDOM: [[_moved(plan, one, generator)] for _ in range(plan.draws)],
        MEAN: [[onward(plan.site, patch(mean), plan.since)]],
        ZERO: [[onward(plan.site, zero(), plan.since)]],
    }
    wanted = text.ids[0, plan.since + 1 :]
    found.scored += len(wanted)
    before = plain.float().log_softmax(-1)
    rows = []
    for way, runs in enumerate(ways.values()):
        gaps = torch.zeros(len(plain), dtype=torch.float64)
        for edits in runs:
            with edited(model, edits):
                said = trace(model, text, "logits").logits[0].float().log_softmax(-1)
            loss = -said[scored].gather(-1, wanted[:, None]).double().sum()
            found.loss[way] += float(loss) / len(runs)
            gaps += kl_divergence(before, said).clamp_min(0).double().cpu() / len(runs)
        found.kl[way] += float(gaps[scored].sum())
        rows.append(gaps)
    if number == 0:
        found.first_kl = torch.stack([rows[WAYS.index(REBUILT)], rows[WAYS.index(RANDOM)]]).float()


def _moved(plan: Plan, one: Read, generator: torch.Generator) -> Given:
    """The place moved at every position along a random direction, as far as the coder misses it."""
    drawn = torch.randn(one.missed.shape, generator=generator).to(one.missed)
    drawn *= one.missed.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    shift = drawn[plan.since :]
    return onward(plan.site, lambda value: value + shift.to(value), plan.since)
