"""What the clamps say: arrays, tables, views, checks and the finding."""

import numpy as np
import torch
from jaxtyping import Float

from workbench.analyses.neuron_clamp.choosing import Chosen
from workbench.analyses.neuron_clamp.clamping import NUMBERS, Clamped
from workbench.lens import caps_logits
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.stats import bootstrap_mean
from workbench.views import Heatmap, Lines, Scatter, Table, View

_UNITS = {"said": "share of prompts", "log_probability": "nats", "kl": "nats"}
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def tell(model: Model, chosen: list[Chosen], clamped: Clamped, seed: int) -> Result:
    """The result of all clamps."""
    arrays = _arrays(model, chosen, clamped, seed)
    scalars = _scalars(chosen, clamped)
    tolerance = _TOLERANCE[model.dtype]
    checks = [Check("held at its own value a neuron changes no logit, relative", clamped.same_gap, tolerance)]
    if clamped.gates is not None:
        checks.append(Check("gate times up is the activation, relative", clamped.product_gap, tolerance))
    return Result(
        arrays=arrays,
        tables={"neurons": _neuron_rows(model, chosen, clamped), "controls": _control_rows(chosen, clamped)},
        scalars=scalars,
        views=_views(clamped),
        finding=_finding(chosen, clamped, scalars),
        notes=_notes(model, clamped),
        checks=tuple(checks),
    )


def _text(model: Model, index: int) -> str:
    return repr(model.tokenizer.decode([index]))


def _arrays(model: Model, chosen: list[Chosen], clamped: Clamped, seed: int) -> dict[str, Named]:
    """Means over the prompts; the controls' is a root mean square over prompts and neurons."""
    axes = ("component", "neuron", "step")
    labels = {
        "component": clamped.kinds,
        "neuron": tuple(f"{one.name} {_text(model, one.write)}" for one in chosen),
        "step": tuple(f"{step:+d}x" for step in clamped.steps),
    }
    values = {name: clamped.numbers[name][:, :, :, 0].mean(0) for name in NUMBERS}
    values["control_neurons"] = _control_size(clamped)
    if len(clamped.numbers["write"]) > 1:
        values["lower"], values["upper"] = bootstrap_mean(clamped.numbers["write"][:, :, :, 0], seed=seed)
    return {name: Named(value, axes, _UNITS.get(name, "logits"), labels) for name, value in values.items()}


def _control_size(clamped: Clamped) -> Float[np.ndarray, "kind chosen step"]:
    return np.sqrt(np.square(clamped.numbers["write"][:, :, :, 1:]).mean((0, 3)))


def _neuron_rows(model: Model, chosen: list[Chosen], clamped: Clamped) -> list[dict[str, object]]:
    """Each neuron and kind of clamp, at the largest multiples."""
    means = {name: clamped.numbers[name][:, :, :, 0].mean(0) for name in NUMBERS}
    controls = _control_size(clamped)
    rows: list[dict[str, object]] = []
    for row, one in enumerate(chosen):
        for kind, clamp in enumerate(clamped.kinds):
            low, high = (kind, row, 0), (kind, row, -1)
            rows.append(
                {
                    "neuron": one.name,
                    "clamped": clamp,
                    "writes": _text(model, one.write),
                    "write_z": one.write_z,
                    "reads": _text(model, one.read),
                    "read_z": one.read_z,
                    "gate": None if clamped.gates is None else float(clamped.gates[:, row].mean()),
                    "unit": float(clamped.units[kind, row, 0]),
                    "write_down": float(means["write"][low]),
                    "write_up": float(means["write"][high]),
                    "read_down": float(means["read"][low]),
                    "read_up": float(means["read"][high]),
                    "control_neurons": float(controls[high]),
                    "random_tokens": float(means["random_tokens"][high]),
                    "log_probability_down": float(means["log_probability"][low]),
                    "log_probability_up": float(means["log_probability"][high]),
                    "said_down": float(means["said"][low]),
                    "said_up": float(means["said"][high]),
                }
            )
    return rows


def _control_rows(chosen: list[Chosen], clamped: Clamped) -> list[dict[str, object]]:
    """What each control neuron does to the token of the neuron that it stands beside."""
    write = clamped.numbers["write"].mean(0)
    return [
        {
            "neuron": f"L{one.layer}.N{other}",
            "beside": one.name,
            "clamped": clamp,
            "unit": float(clamped.units[kind, row, member]),
            "write_down": float(write[kind, row, member, 0]),
            "write_up": float(write[kind, row, member, -1]),
        }
        for row, one in enumerate(chosen)
        for member, other in enumerate(one.controls, start=1)
        for kind, clamp in enumerate(clamped.kinds)
    ]


def _scalars(chosen: list[Chosen], clamped: Clamped) -> dict[str, object]:
    """Over all neurons, where the activation itself is held at the largest multiples."""
    write, read = (clamped.numbers[name][:, :, :, 0].mean(0) for name in ("write", "read"))
    up = np.array([one.write_z >= 0 for one in chosen])
    toward, away = np.where(up, write[0, :, -1], write[0, :, 0]), np.where(up, write[0, :, 0], write[0, :, -1])
    controls = _control_size(clamped)[0][:, [0, -1]].max(1)
    predicted, actual = (clamped.numbers[name][:, :, :, 0].ravel() for name in ("predicted", "write"))
    moved = np.abs(predicted) > 1e-6
    agreeing = np.sign(predicted[moved]) == np.sign(actual[moved])
    spread = predicted.std() * actual.std()
    return {
        "neurons": len(chosen),
        "largest": clamped.steps[-1],
        "toward": float(toward.mean()),
        "away": float(away.mean()),
        "opposite": int(((toward > 0) & (away < 0)).sum()),
        "beyond_controls": int((np.abs(write[0][:, [0, -1]]).max(1) > controls).sum()),
        "control_neurons": float(controls.mean()),
        "random_tokens": float(clamped.numbers["random_tokens"][:, 0, :, 0][..., [0, -1]].mean()),
        "read": float(np.abs(read[0][:, [0, -1]]).mean()),
        "sign_agreement": float(agreeing.mean()) if moved.any() else None,
        "correlation": float(np.corrcoef(predicted, actual)[0, 1]) if spread > 0 else None,
    }


def _finding(chosen: list[Chosen], clamped: Clamped, scalars: dict[str, object]) -> str:
    count, multiple = len(chosen), clamped.steps[-1]
    said = (
        f"Held at {multiple} times their size, {scalars['opposite']} of {count} neurons raise the token that they "
        f"write with one sign and lower it with the other (on average {scalars['toward']:+.2f} and "
        f"{scalars['away']:+.2f} logits; other neurons {scalars['control_neurons']:.2f}, random tokens "
        f"{scalars['random_tokens']:.2f}); the token that they read moves by {scalars['read']:.2f}"
    )
    if scalars["sign_agreement"] is None:
        return f"{said}."
    return f"{said}; the direct way predicts the sign in {100 * float(str(scalars['sign_agreement'])):.0f}% of clamps."


def _notes(model: Model, clamped: Clamped) -> tuple[str, ...]:
    notes = [
        "Multiples are of the neuron's largest size on these prompts, the first position aside; with few prompts "
        "that is a small part of its range.",
        "write, read: mean change of the logit above the mean logit; predicted: that of write by the direct way with "
        "frozen norms; control_neurons: its root mean square when neurons of the same layer are clamped; "
        "random_tokens: that of random tokens under the same clamp.",
    ]
    if clamped.gates is not None:
        notes.append("An `up` clamp acts with the sign of act(gate) at the position; the column `gate` is its mean.")
    if caps_logits(model.bridge):
        notes.append("The model's soft cap bends the logits: what is predicted is before it.")
    if clamped.quiet:
        notes.append(f"{clamped.quiet} neurons are silent on these prompts: their unit is the largest of their layer.")
    return tuple(notes)


def _views(clamped: Clamped) -> tuple[View, ...]:
    bounds = ("lower", "upper") if len(clamped.numbers["write"]) > 1 else ((), ())
    views: list[View] = [
        Lines(
            "write",
            x="step",
            series="neuron",
            lower=bounds[0],
            upper=bounds[1],
            select={"component": place},
            title=f"The token that each neuron writes, with its {kind} clamped",
        )
        for place, kind in enumerate(clamped.kinds)
    ]
    return (
        *views,
        Lines(
            ("write", "read", "random_tokens", "control_neurons"),
            x="step",
            title="Written and read token of one neuron, and the controls",
        ),
        Scatter("predicted", "write", title="What the direct way predicts, and what happens"),
        Table("neurons", title="Each neuron at the largest multiples"),
        Heatmap("kl", x="step", y="neuron", title="How far the whole prediction moves: KL(plain || clamped)"),
        Table("controls", title="Control neurons on the same token"),
    )
