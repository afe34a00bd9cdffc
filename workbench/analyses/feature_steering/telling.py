"""What steering did: dose curves beside their controls, continuations, checks and the finding."""

import numpy as np
import torch
from jaxtyping import Float

from workbench.analyses.feature_steering.doses import Plan
from workbench.analyses.feature_steering.steering import Spoken, Steered
from workbench.lens import caps_logits
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Heatmap, Lines, Scatter, Table, View

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_DID = {"clamp": "held at {} of its largest activation", "add": "raised by {}", "ablate": "with {} of it taken away"}

Rows = list[dict[str, object]]


def tell(model: Model, plan: Plan, steered: Steered) -> Result:
    """The result of one plan."""
    kinds = _kinds(steered)
    return Result(
        arrays=_arrays(plan, steered, kinds),
        tables={
            "doses": _dose_rows(plan, steered, kinds),
            "controls": _control_rows(plan, steered),
            **({"continuations": _spoken_rows(model, plan, steered)} if steered.spoken else {}),
        },
        scalars=_scalars(model, plan, steered, kinds),
        views=_views(steered),
        finding=_finding(model, plan, steered, kinds),
        notes=_notes(model, plan, steered),
        checks=_checks(model, steered),
    )


def _kinds(steered: Steered) -> dict[str, Float[np.ndarray, "prompt dose direction"]]:
    """The logit's change and KL of the feature, of random directions, and of other features."""
    count = (steered.logit.shape[2] - 1) // 2
    parts = {"": slice(0, 1), "_random": slice(1, 1 + count), "_others": slice(1 + count, None)}
    found = {f"logit{name}": steered.logit[..., part] for name, part in parts.items()}
    return found | {f"kl{name}": steered.kl[..., part] for name, part in parts.items()}


def _curve(name: str, values: Float[np.ndarray, "prompt dose direction"]) -> Float[np.ndarray, " dose"]:
    """One number a dose: a mean, or for the logit of controls, whose sign is chance, a root mean square."""
    if name in ("logit_random", "logit_others"):
        return np.sqrt(np.square(values).mean((0, 2)))
    return values.mean((0, 2))


def _arrays(plan: Plan, steered: Steered, kinds: dict[str, np.ndarray]) -> dict[str, Named]:
    labels = {"step": tuple(f"{dose} %" for dose in plan.doses)}
    arrays = {
        name: Named(_curve(name, values), ("step",), "nats" if name.startswith("kl") else "logits", labels)
        for name, values in kinds.items()
    }
    arrays["predicted"] = Named(steered.predicted.mean(0), ("step",), "logits", labels)
    texts = {"example": tuple(prompt.text for prompt in steered.prompts)}
    arrays["by_prompt"] = Named(steered.logit[..., 0], ("example", "step"), "logits", labels | texts)
    return arrays


def _dose_rows(plan: Plan, steered: Steered, kinds: dict[str, np.ndarray]) -> Rows:
    curves = {name: _curve(name, values) for name, values in kinds.items()}
    beyond = (np.abs(curves["logit"])[:, None] > np.abs(steered.logit[..., 1:].mean(0))).mean(1)
    return [
        {
            "dose": f"{dose} %",
            "length written": float(steered.lengths[row]),
            **{name: float(values[row]) for name, values in curves.items()},
            "predicted": float(steered.predicted[:, row].mean()),
            "probability": float(steered.probability[:, 1 + row].mean()),
            "plain probability": float(steered.probability[:, 0].mean()),
            "controls that it beats": float(beyond[row]),
        }
        for row, dose in enumerate(plan.doses)
    ]


def _control_rows(plan: Plan, steered: Steered) -> Rows:
    """Every control at the last dose."""
    count = (steered.logit.shape[2] - 1) // 2
    names = [plan.name, *(f"random direction {n}" for n in range(count)), *(f"other feature {n}" for n in range(count))]
    return [
        {"direction": name, "logit": float(steered.logit[:, -1, at].mean()), "kl": float(steered.kl[:, -1, at].mean())}
        for at, name in enumerate(names)
    ]


def _spoken_rows(model: Model, plan: Plan, steered: Steered) -> Rows:
    say = model.tokenizer.decode
    rows: Rows = []
    for example, one in enumerate(steered.spoken):
        texts = {"plain": one.plain}
        texts |= {f"{plan.way} {dose} %": ids for dose, ids in zip(plan.doses, one.steered, strict=True)}
        texts[f"random direction, {plan.doses[-1]} %"] = one.random
        rows += [
            {"example": example, "prompt": one.prompt.text, "run": run, "text": say(ids), "as plain": ids == one.plain}
            for run, ids in texts.items()
        ]
    return rows


def _changed(spoken: list[Spoken]) -> tuple[int, int]:
    """How many continuations the last dose changes, and how many the random direction."""
    return sum(one.steered[-1] != one.plain for one in spoken), sum(one.random != one.plain for one in spoken)


def _scalars(model: Model, plan: Plan, steered: Steered, kinds: dict[str, np.ndarray]) -> dict[str, object]:
    changed, by_random = _changed(steered.spoken)
    last = {name: float(_curve(name, values)[-1]) for name, values in kinds.items()}
    return {
        "feature": plan.name,
        "token": model.tokenizer.decode([steered.token]),
        "unit": plan.unit,
        "prompts": len(steered.prompts),
        "active at the end of": int((steered.active != 0).sum()),
        **last,
        "continuations": len(steered.spoken),
        "changed": changed,
        "changed by a random direction": by_random,
        "fingerprint of coders": plan.coders.fingerprint,
    }


def _finding(model: Model, plan: Plan, steered: Steered, kinds: dict[str, np.ndarray]) -> str:
    last = {name: float(_curve(name, values)[-1]) for name, values in kinds.items()}
    token = model.tokenizer.decode([steered.token])
    said = (
        f"{plan.name} {_DID[plan.way].format(f'{plan.doses[-1]} %')} moves the logit of {token!r} by "
        f"{last['logit']:+.2f} (pushes of the same length: random directions {last['logit_random']:.2f}, other "
        f"features {last['logit_others']:.2f}) and the prediction by {last['kl']:.3g} nats ({last['kl_random']:.3g}, "
        f"{last['kl_others']:.3g})"
    )
    if not steered.spoken:
        return f"{said}."
    changed, by_random = _changed(steered.spoken)
    return (
        f"{said}; it changes {changed} of {len(steered.spoken)} continuations, a random direction changes {by_random}."
    )


def _notes(model: Model, plan: Plan, steered: Steered) -> tuple[str, ...]:
    notes = ["Changes are of the logit above the mean logit, at the last position; controls write as much there."]
    if plan.way != "ablate":
        notes.append(f"100 % is an activation of {plan.unit:.4g}.")
    silent = int((steered.active == 0).sum())
    if plan.way == "ablate" and silent:
        notes.append(f"The feature is silent at the end of {silent} of {len(steered.prompts)} prompts.")
    if caps_logits(model.bridge):
        notes.append("The model's soft cap bends the logits: what is predicted is before it.")
    return tuple(notes)


def _checks(model: Model, steered: Steered) -> tuple[Check, ...]:
    return (
        Check("logits with the feature set to its own value, against the plain ones", steered.idle_gap, 0),
        Check(
            "logits of steering in the coder against pushing the stream, relative",
            steered.road_gap,
            _TOLERANCE[model.dtype],
        ),
        Check(
            "continuations that differ although the feature was set to its own value",
            sum(one.idle != one.plain for one in steered.spoken),
            0,
        ),
    )


def _views(steered: Steered) -> tuple[View, ...]:
    views: list[View] = [
        Lines(
            ("logit", "logit_random", "logit_others", "predicted"),
            x="step",
            title="The token's logit by dose, beside pushes of the same length",
        ),
        Lines(("kl", "kl_random", "kl_others"), x="step", title="How far the whole prediction moves"),
    ]
    if steered.spoken:
        columns = ("prompt", "run", "text", "as plain")
        views.append(Table("continuations", columns=columns, rows=60, title="What is said, plain and steered"))
    views += [
        Table("doses", title="Every dose"),
        Scatter("logit", "kl", table="controls", label="direction", title="The feature among its controls, last dose"),
    ]
    if len(steered.prompts) > 1:
        views.append(Heatmap("by_prompt", x="step", y="example", diverging=True, title="The token's logit by prompt"))
    return tuple(views)
