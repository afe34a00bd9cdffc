"""What the coder shows of the texts: features, strips, losses, checks and the finding."""

import numpy as np
import torch

from workbench.analyses.sae_features.substituting import RANDOM, REBUILT, WAYS, Plan, Substituted
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.tokens import token_text
from workbench.views import Bars, Heatmap, Lines, Table, Tokens, View

_HARMLESS = 1e-3
"""Where zero ablation costs less than this many nats, the share of it that is recovered says nothing."""
_AT_A_TOKEN = 4

Rows = list[dict[str, object]]


def tell(model: Model, plan: Plan, found: Substituted, top: int) -> Result:
    """The result; the features that write most are shown."""
    loss, kl = (found.loss / found.scored).numpy(), (found.kl / found.scored).numpy()
    order = [at for at in found.written.argsort(descending=True, stable=True)[:top].tolist() if found.written[at] > 0]
    text = token_text(model.tokenizer, found.first.tokens.ids[0].tolist())
    return Result(
        arrays=_arrays(plan, found, loss, kl, order, text),
        tables={
            name: rows
            for name, rows in {
                "features": _feature_rows(model, plan, found, order),
                "tokens": _token_rows(plan, found, text),
                "losses": _loss_rows(loss, kl),
            }.items()
            if rows
        },
        scalars=_scalars(plan, found, loss, kl),
        views=_views(bool(order)),
        finding=_finding(plan, found, loss, kl),
        notes=_notes(plan, found, loss),
        checks=(
            Check("logits with the coder attached and its error kept, against the plain ones", found.kept_gap, 0),
            Check(
                "prediction against the sum of what its active features write, relative",
                found.sum_gap,
                1e-4 if plan.coder.w_dec.dtype in (torch.float32, torch.float64) else 5e-2,
            ),
        ),
    )


def _name(plan: Plan, feature: int) -> str:
    return f"L{plan.layer}.F{feature}"


def _arrays(
    plan: Plan, found: Substituted, loss: np.ndarray, kl: np.ndarray, order: list[int], text: tuple[str, ...]
) -> dict[str, Named]:
    first, labels = found.first, {"pos": text}
    since = plan.since

    def strip(values: torch.Tensor, unit: str) -> Named:
        shown = values.float().cpu().clone()
        shown[:since] = torch.nan
        return Named(shown.numpy(), ("pos",), unit, labels)

    sizes = first.wanted.norm(dim=1).clamp_min(1e-30)
    arrays = {
        "l0": strip((first.z != 0).sum(1), "features"),
        "error": strip(first.missed.norm(dim=1) / sizes, "share of length"),
        "cross_entropy": Named(loss, ("component",), "nats", {"component": WAYS}),
        "kl_mean": Named(kl, ("component",), "nats", {"component": WAYS}),
    }
    if found.first_kl.shape[1]:
        arrays |= {"kl": strip(found.first_kl[0], "nats"), "kl_random": strip(found.first_kl[1], "nats")}
    if order:
        values = first.z[:, order].T.cpu().clone()
        values[:, :since] = torch.nan
        names = tuple(_name(plan, feature) for feature in order)
        arrays["activations"] = Named(values.numpy(), ("feature", "pos"), "activation", {"feature": names, **labels})
    return arrays


def _feature_rows(model: Model, plan: Plan, found: Substituted, order: list[int]) -> Rows:
    """The features that write most over all texts."""
    every = float(found.written.sum())
    rows: Rows = []
    for feature in order:
        number, at = found.where[feature].tolist()
        count = int(found.tally.active[feature])
        rows.append(
            {
                "feature": _name(plan, feature),
                "share of what is written": float(found.written[feature]) / every,
                "active on": count,
                "of tokens": found.tally.tokens,
                "mean activation": float(found.total[feature]) / count,
                "largest": float(found.largest[feature]),
                "at": token_text(model.tokenizer, [int(found.texts[number].ids[0, at])])[0],
                "text": number,
                "position": at,
                "number": feature,
            }
        )
    return rows


def _token_rows(plan: Plan, found: Substituted, text: tuple[str, ...]) -> Rows:
    """The first text token by token, with the features that write most there."""
    first, lengths = found.first, plan.coder.w_dec.float().norm(dim=1)
    sizes = first.wanted.norm(dim=1).clamp_min(1e-30)
    rows: Rows = []
    for at in range(plan.since, len(text)):
        written = first.z[at].abs() * lengths
        best = [one for one in written.topk(min(_AT_A_TOKEN, len(written))).indices.tolist() if written[one] > 0]
        rows.append(
            {
                "position": at,
                "token": text[at],
                "l0": int((first.z[at] != 0).sum()),
                "error": float(first.missed[at].norm() / sizes[at]),
                "features": ", ".join(f"{_name(plan, one)} {float(first.z[at, one]):.3g}" for one in best),
            }
        )
    return rows


def _recovered(loss: np.ndarray) -> list[float | None]:
    """The share of what zero ablation costs that each way recovers; None where there is nothing to lose."""
    harm = loss[-1] - loss[0]
    return [float((loss[-1] - one) / harm) if harm > _HARMLESS else None for one in loss]


def _loss_rows(loss: np.ndarray, kl: np.ndarray) -> Rows:
    return [
        {"run": way, "cross_entropy": float(loss[at]), "kl": float(kl[at]), "loss_recovered": _recovered(loss)[at]}
        for at, way in enumerate(WAYS)
    ]


def _scalars(plan: Plan, found: Substituted, loss: np.ndarray, kl: np.ndarray) -> dict[str, object]:
    unexplained = found.tally.unexplained
    return {
        "site": str(plan.site),
        "l0": found.tally.l0,
        "explained_variance": None if np.isnan(unexplained) else 1 - unexplained,
        "features used": int((found.tally.active > 0).sum()),
        "features": plan.coder.width,
        "tokens": found.tally.tokens,
        "loss_recovered": _recovered(loss)[WAYS.index(REBUILT)],
        "loss_recovered by random errors": _recovered(loss)[WAYS.index(RANDOM)],
        **{f"cross_entropy, {way}": float(loss[at]) for at, way in enumerate(WAYS)},
        "kl": float(kl[WAYS.index(REBUILT)]),
        "kl of random errors": float(kl[WAYS.index(RANDOM)]),
        "fingerprint of coders": plan.coders.fingerprint,
    }


def _finding(plan: Plan, found: Substituted, loss: np.ndarray, kl: np.ndarray) -> str:
    unexplained, recovered = found.tally.unexplained, _recovered(loss)[WAYS.index(REBUILT)]
    share = "" if np.isnan(unexplained) else f" explain {100 * (1 - unexplained):.1f} % of the variance of {plan.site}"
    back = "" if recovered is None else f", {100 * recovered:.1f} % of the loss recovered"
    rebuilt, random = WAYS.index(REBUILT), WAYS.index(RANDOM)
    return (
        f"{found.tally.l0:.1f} of {plan.coder.width:,} features a token{share}; with only them in place the "
        f"cross-entropy goes from {loss[0]:.3f} to {loss[rebuilt]:.3f} nats (mean ablation {loss[3]:.3f}, "
        f"zero ablation {loss[4]:.3f}){back}; KL is {kl[rebuilt]:.3g} nats, "
        f"{kl[random]:.3g} for random errors of the same length."
    )


def _notes(plan: Plan, found: Substituted, loss: np.ndarray) -> tuple[str, ...]:
    notes = [f"Losses are over {found.scored} tokens that have a next one."]
    if plan.since:
        notes.append("The first position of every text is left as it is and not scored: NaN stands there.")
    if plan.coder.read != plan.coder.write:
        notes.append(f"The coder is a transcoder: it reads {plan.coder.read} and predicts {plan.coder.write}.")
    if loss[-1] - loss[0] <= _HARMLESS:
        notes.append("Zero ablation hardly costs anything here, so there is no loss to recover.")
    return tuple(notes)


def _views(any_active: bool) -> tuple[View, ...]:
    views: list[View] = []
    if any_active:
        views += [
            Heatmap("activations", x="pos", y="feature", title="The features that write most, on the first text"),
            Table("features", title="The features that write most, over all texts"),
        ]
    return (
        *views,
        Tokens("error", title="What the features miss at each token, as a share of its length"),
        Tokens("l0", title="How many features are active at each token"),
        Bars("cross_entropy", x="component", title="Cross-entropy with the place rebuilt, moved at random, or gone"),
        Bars("kl_mean", x="component", title="How far the prediction moves: KL(original || run)"),
        Lines(("kl", "kl_random"), x="pos", title="KL at each token of the first text, and for random errors"),
        Table("tokens", title="The first text token by token"),
        Table("losses", title="All losses"),
    )
