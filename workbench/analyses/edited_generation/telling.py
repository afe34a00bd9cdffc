"""What the analysis says: both continuations, the numbers along the plain one, controls, checks and the finding."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from workbench.analyses.edited_generation.comparing import Spoken
from workbench.edit_words import WrittenEdit
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.tokens import token_text
from workbench.views import Lines, Table, Tokens, View

_UNSTABLE = 1e-3
"""A lead smaller than this could flip with the rounding of another kernel."""

_RUNS = ("plain", "edited")

Edits = Sequence[WrittenEdit]


def tell(model: Model, spoken: list[Spoken], written: Edits, controls: Sequence[Edits], temperature: float) -> Result:
    """The result of all prompts."""
    kl = float(np.mean([float(one.led.kl.mean()) for one in spoken]))
    by_control = [float(np.mean([float(one.controls[at].kl.mean()) for one in spoken])) for at in range(len(controls))]
    return Result(
        arrays=_arrays(model, spoken, bool(controls)),
        tables={
            "runs": [row for place, one in enumerate(spoken) for row in _run_rows(model, one, place)],
            "continuations": [_row(model, one, place) for place, one in enumerate(spoken)],
            "steps": [row for place, one in enumerate(spoken) for row in _step_rows(model, one, place)],
            "controls": [_control_row(spoken, moved, at, by_control[at]) for at, moved in enumerate(controls)],
        },
        scalars={
            "edits": _words(written),
            "prompts": len(spoken),
            "parted": sum(one.parts is not None for one in spoken),
            "kl": kl,
            "kl of controls": float(np.mean(by_control)) if controls else None,
            "controls at or above": sum(value >= kl for value in by_control) if controls else None,
        },
        views=_views(len(spoken), bool(controls)),
        finding=_finding(spoken, written, kl, by_control),
        notes=_notes(spoken, controls, temperature),
        checks=_checks(spoken, temperature),
    )


def _words(edits: Edits) -> str:
    return "; ".join(map(str, edits))


def _arrays(model: Model, spoken: list[Spoken], controlled: bool) -> dict[str, Named]:
    """Numbers along the plain continuations, NaN beyond their ends."""
    columns = {
        "kl": ([one.led.kl.numpy() for one in spoken], "nats"),
        "lead_plain": ([one.lead.numpy() for one in spoken], "logits"),
        "lead_edited": ([one.led.lead.numpy() for one in spoken], "logits"),
    }
    if controlled:
        means = [np.mean([led.kl.numpy() for led in one.controls], axis=0) for one in spoken]
        columns["kl_control"] = (means, "nats")
    labels = {"example": tuple(one.prompt.text for one in spoken)}
    if len(spoken) == 1:
        labels["step"] = token_text(model.tokenizer, spoken[0].plain)
    return {name: Named(_padded(values), ("example", "step"), unit, labels) for name, (values, unit) in columns.items()}


def _padded(rows: list[Float[np.ndarray, " step"]]) -> Float[np.ndarray, "example step"]:
    width = max(len(row) for row in rows)
    return np.stack([np.pad(row, (0, width - len(row)), constant_values=np.nan) for row in rows])


def _run_rows(model: Model, one: Spoken, place: int) -> list[dict[str, object]]:
    """The prompt and its two continuations below each other, as a narrow page can show them."""
    texts = {"prompt": one.prompt.text, **{name: model.tokenizer.decode(getattr(one, name)) for name in _RUNS}}
    parts = {"plain": None, "edited": one.parts}
    return [{"example": place, "run": run, "parts at": parts.get(run), "text": text} for run, text in texts.items()]


def _row(model: Model, one: Spoken, place: int) -> dict[str, object]:
    """Both continuations of one prompt, and where they part."""
    say = model.tokenizer.decode
    parts = one.parts
    moved = [led.parts for led in one.controls]
    return {
        "example": place,
        "plain": say(one.plain),
        "edited": say(one.edited),
        "parts at": parts,
        "plain token": "" if parts is None else say(one.plain[parts : parts + 1]),
        "edited token": "" if parts is None else say(one.edited[parts : parts + 1]),
        "kl": float(one.led.kl.mean()),
        "kl of controls": float(np.mean([float(led.kl.mean()) for led in one.controls])) if one.controls else None,
        "controls that part": sum(at is not None for at in moved) if moved else None,
        "prompt": one.prompt.text,
    }


def _step_rows(model: Model, one: Spoken, place: int) -> list[dict[str, object]]:
    """The plain continuation word by word, and what the edited model would say there."""
    plain, instead = (token_text(model.tokenizer, ids) for ids in (one.plain, one.led.chosen))
    return [
        {
            "example": place,
            "step": step,
            "plain": plain[step],
            "edited, on the same text": instead[step],
            "kl": float(one.led.kl[step]),
            "lead plain": float(one.lead[step]),
            "lead edited": float(one.led.lead[step]),
        }
        for step in range(len(plain))
    ]


def _control_row(spoken: list[Spoken], moved: Edits, at: int, kl: float) -> dict[str, object]:
    parted = sum(one.controls[at].parts is not None for one in spoken)
    return {"control": at, "edits": _words(moved), "kl": kl, "parted": parted}


def _finding(spoken: list[Spoken], written: Edits, kl: float, by_control: list[float]) -> str:
    places = [one.parts for one in spoken if one.parts is not None]
    where = f", at the earliest at step {min(places)}" if places else ""
    told = (
        f"With {_words(written)}, {len(places)} of {len(spoken)} continuations part from the plain ones{where}; "
        f"along the plain ones KL is {kl:.3g} nats a token"
    )
    if not by_control:
        return f"{told}."
    above = sum(value >= kl for value in by_control)
    return (
        f"{told}, {np.mean(by_control):.3g} for the same edits at other places ({above} of {len(by_control)} "
        "controls reach it)."
    )


def _notes(spoken: list[Spoken], controls: Sequence[Edits], temperature: float) -> tuple[str, ...]:
    notes = []
    if len({len(one.plain) for one in spoken}) > 1:
        notes.append("NaN marks steps beyond the end of a shorter continuation.")
    if not controls:
        notes.append("No control: none was asked for, or the edits have no other place of their kind to go.")
    if temperature > 0:
        notes.append(f"Both runs draw at temperature {temperature:g} with the same noise.")
    tight = sum(bool((one.lead.abs() < _UNSTABLE).any()) for one in spoken)
    if tight:
        notes.append(f"In {tight} of {len(spoken)} plain continuations a token leads by less than {_UNSTABLE:g}.")
    return tuple(notes)


def _checks(spoken: list[Spoken], temperature: float) -> tuple[Check, ...]:
    """Idle edits change nothing; one pass over the words agrees with saying them step by step."""
    checks = [
        Check(
            "edits that change nothing at the same places, largest change of a logit",
            max(one.idle_gap for one in spoken),
            0,
        )
    ]
    if temperature > 0:
        return tuple(checks)
    stable = [one for one in spoken if min(float(part.abs().min()) for part in (one.lead, one.led.lead)) >= _UNSTABLE]
    differing = sum(one.plain_parts is not None or one.led.parts != one.parts for one in stable)
    name = f"of {len(stable)} stable prompts, those that part elsewhere in one pass than step by step"
    return (*checks, Check(name, differing, 0))


def _views(prompts: int, controlled: bool) -> tuple[View, ...]:
    words = Table(
        "continuations",
        columns=("prompt", "plain", "edited", "parts at", "plain token", "edited token", "kl", "kl of controls"),
        title="What is said, plain and edited",
    )
    divergence = Lines(
        ("kl", "kl_control") if controlled else "kl", x="step", title="KL(plain || edited) along the plain continuation"
    )
    lead = Lines(
        ("lead_plain", "lead_edited"),
        x="step",
        title="Lead of the plain token over the best other",
        caption="Below zero the edited model would say something else.",
    )
    strip = (Tokens("kl", axis="step", title="Where the edit is felt"),) if prompts == 1 else ()
    tables = (Table("steps", title="Token by token"), Table("controls", title="The same edits at other places"))
    return (words, *strip, divergence, lead, *(tables if controlled else tables[:1]))
