"""Exact effects: every patch and every ablation of one pair is a row of a sweep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.analyses.activation_patching.cases import Case
from workbench.edit import Function, edited, onward, patch, zero
from workbench.model import Model
from workbench.sweep import sweep
from workbench.tokens import Tokens
from workbench.tracer import Trace, trace
from workbench.variants import Row
from workbench.words import Site

CLEAN, CORRUPT = 0, 1
"""The rows of the runs of a pair."""

STREAMS = ("resid_pre", "attn_out", "mlp_out")
"""What is patched position by position."""

DENOISE, NOISE, NULL = "denoise", "noise", "random pair"
ABLATIONS = ("zero", "mean", "resample")
EXACT = (DENOISE, NOISE, *ABLATIONS, NULL)
"""The measures that are exact, the last one a control."""


@dataclass(frozen=True)
class Plan:
    """What is to be patched.

    Attributes:
        head_kind: the kind of site that is patched head by head; empty for no heads.
        heads: how many heads it has.
        streams: the kinds that are patched position by position.
        ablate: also take the heads out of the clean run.
        apart: also patch each head at each position by itself.
    """

    head_kind: str
    heads: int
    streams: tuple[str, ...]
    ablate: bool
    apart: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind of site that the runs are read at."""
        return (*STREAMS, *([self.head_kind] if self.head_kind else []))

    @property
    def tracks(self) -> dict[str, tuple[str, int | None]]:
        """What is patched position by position: a kind of site, or one head of it in every layer."""
        streams: dict[str, tuple[str, int | None]] = {kind: (kind, None) for kind in self.streams}
        heads = range(self.heads if self.apart else 0)
        return streams | {f"H{head}": (self.head_kind, head) for head in heads}


@dataclass(frozen=True)
class Donors:
    """What else can stand in for a head: its mean over tokens and prompts, and its runs in another pair."""

    means: Float[Tensor, "layer head d_head"] | None = None
    other: Trace | None = None


@dataclass(frozen=True)
class Trial:
    """One patch: what it measures, where (the heads, or a track of the plan), and its place in a layer."""

    measure: str
    where: str
    layer: int
    place: int
    row: Row


@dataclass(frozen=True)
class Patched:
    """One pair under all its patches, in units of the metric.

    Attributes:
        clean: the metric of the clean run.
        corrupt: the metric of the corrupt run.
        effects: for each measure, at the heads ([layer, head]) or along a track of the plan ([layer, pos]):
            what a patch gains over the corrupt run (denoise, random pair), or loses from the clean one (all
            others).
        stream_gap: how far a run with the whole stream of the other run is from that other run.
        looped: how many rows were run by the plain loop as well.
        loop_gap: how far these are from it at most.
    """

    clean: float
    corrupt: float
    effects: dict[tuple[str, str], Float[np.ndarray, "layer place"]]
    stream_gap: float
    looped: int
    loop_gap: float

    @property
    def gap(self) -> float:
        """By how much the clean run is above the corrupt one."""
        return self.clean - self.corrupt


def patch_pair(
    model: Model, case: Case, runs: Trace, plan: Plan, donors: Donors, looped: int, generator: np.random.Generator
) -> Patched:
    """Patch one pair everywhere, in both directions.

    Args:
        model: a loaded model.
        case: the pair.
        runs: its clean and its corrupt run, at every site of the plan and at the last logits.
        plan: what is to be patched.
        donors: what else can stand in for a head.
        looped: how many rows of each direction to run by the plain loop as well.
        generator: draws them.
    """
    ends = [float(case.reading(runs["logits@-1"][row])) for row in (CLEAN, CORRUPT)]
    wheres = [*plan.tracks, *([plan.head_kind] if plan.head_kind else [])]
    effects = {(name, where): _nothing(model, case, plan, where) for name in (DENOISE, NOISE) for where in wheres}
    stream_gaps, loop_gaps = [], []
    for base, donor in ((CORRUPT, CLEAN), (CLEAN, CORRUPT)):
        tokens = case.aligned.clean if base == CLEAN else case.aligned.corrupt
        trials = list(into_run(model, case, runs, plan, donors, base))
        *values, whole = _sweep(model, case, tokens, [*(one.row for one in trials), _stream_row(case, runs, donor)])
        stream_gaps.append(abs(whole - ends[donor]))
        for trial, value in zip(trials, values, strict=True):
            gained = value - ends[base]
            grid = effects.setdefault((trial.measure, trial.where), _nothing(model, case, plan, trial.where))
            grid[trial.layer, trial.place] = gained if base == CORRUPT else 0.0 - gained
        for index in generator.choice(len(trials), min(looped, len(trials)), replace=False).tolist():
            loop_gaps.append(abs(looped_value(model, case, tokens, trials[index].row) - values[index]))
    return Patched(*ends, effects, max(stream_gaps), len(loop_gaps), max(loop_gaps, default=0.0))


def _nothing(model: Model, case: Case, plan: Plan, where: str) -> Float[np.ndarray, "layer place"]:
    """Before the first changed token both runs are the same, so that a patch there does nothing."""
    return np.zeros((model.shape.n_layers, plan.heads if where == plan.head_kind else case.length))


def into_run(model: Model, case: Case, runs: Trace, plan: Plan, donors: Donors, base: int) -> Iterator[Trial]:
    """Every patch into one of the two runs."""
    donor = CORRUPT if base == CLEAN else CLEAN
    measure = NOISE if base == CLEAN else DENOISE
    layers = range(model.shape.n_layers)
    speaking = speaking_layers(model, plan.head_kind, runs)
    for name, (kind, head) in plan.tracks.items():
        for layer in layers if head is None else speaking:
            values = runs[Site(kind, layer, head=head)][donor]
            for pos in range(case.first, case.length):
                row: Row = [(Site(kind, layer, head=head, pos=pos), patch(values[pos]))]
                yield Trial(measure, name, layer, pos, row)
    if not plan.head_kind:
        return
    makers = {measure: _from_run(runs, donor, case.first), **_others(model, case, plan, donors, base)}
    for name, (make, since) in makers.items():
        for layer in speaking:
            for head in range(plan.heads):
                site = Site(plan.head_kind, layer, head=head)
                yield Trial(name, plan.head_kind, layer, head, [onward(site, make(site), since)])


def speaking_layers(model: Model, kind: str, runs: Trace) -> list[int]:
    """The layers at whose heads a patch can do something.

    Attention that writes nothing in either run, and into which nothing can be written, is left out.
    """
    layers = range(model.shape.n_layers)
    writable = model.capabilities.writable.get(kind, tuple(layers))
    return [layer for layer in layers if layer in writable or bool(runs[Site("attn_out", layer)].any())]


Maker = tuple[Callable[[Site], Function], int]
"""What to put at a head, and from which position on."""


def _from_run(runs: Trace, row: int, since: int) -> Maker:
    return (lambda site: patch(runs[site][row, since:])), since


def _others(model: Model, case: Case, plan: Plan, donors: Donors, base: int) -> dict[str, Maker]:
    """Beside the patches: the control in the corrupt run, ablations in the clean one (never of <bos>)."""
    if base == CORRUPT:
        return {} if donors.other is None else {NULL: _from_run(donors.other, CORRUPT, case.first)}
    if not plan.ablate:
        return {}
    since, means, other = int(model.prepend_bos), donors.means, donors.other
    makers: dict[str, Maker] = {"zero": ((lambda _: zero()), since)}
    if means is not None:
        makers["mean"] = (lambda site: patch(means[site.block, site.head])), since
    if other is not None:
        makers["resample"] = _from_run(other, CLEAN, since)
    return makers


def _stream_row(case: Case, runs: Trace, donor: int) -> Row:
    """The whole stream of the other run, from the first changed token on."""
    start = Site("resid_pre", 0)
    return [onward(start, patch(runs[start][donor, case.first :]), case.first)]


def _sweep(model: Model, case: Case, tokens: Tokens, rows: list[Row]) -> list[float]:
    """The metric under each row."""
    reading = case.reading.of_needed
    values = [float("nan")] * len(rows)
    for outcome in sweep(model, tokens, rows, only=case.reading.needed):
        assert outcome.logits is not None, "they are asked for"
        values[outcome.row] = float(reading(outcome.logits))
    return values


def looped_value(model: Model, case: Case, tokens: Tokens, row: Row) -> float:
    """The metric under one row by the plain loop: one edit, one whole pass."""
    with edited(model, row):
        return float(case.reading(trace(model, tokens, "logits@-1")["logits@-1"][0]))


def self_gap(model: Model, case: Case, plan: Plan) -> float:
    """The largest change of a logit of the clean run when all its activations are patched with themselves."""
    tokens, last = case.aligned.clean, "logits@-1"
    own = trace(model, tokens, [*plan.kinds, last])
    sites = [Site(kind, layer) for kind in STREAMS for layer in range(model.shape.n_layers)]
    if plan.head_kind:
        sites += [Site(plan.head_kind, layer) for layer in speaking_layers(model, plan.head_kind, own)]
    with edited(model, [(site, patch(own[site])) for site in sites]):
        again = trace(model, tokens, last)
    return float((again[last] - own[last]).abs().max())
