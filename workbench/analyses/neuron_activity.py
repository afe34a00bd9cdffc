"""Neuron activity: on which tokens one neuron of an MLP fires, beside all other neurons of its layer.

Idea. What a neuron's weights promise (see `neuron_vocabulary`) it does only where it fires. Its activation is read at
every token, and told beside what the other neurons of the layer do there, since any neuron is active somewhere.
Score. Activation (mlp_post), any sign; for a gated MLP the product of act(gate) and up. `usual` is the median size of
all neurons of the layer at the same token. `rank` counts neurons that are larger in size at that token, 0 up.
`share_as_large`: the share of neurons of the layer whose largest size on these prompts is at least this one's, 0 to 1.
Differs from the paper. Geva et al. look at the texts of a corpus on which a neuron is largest; here at given prompts.
Beware. Sizes of neurons are not comparable by what they write: a neuron with a short column does little. A few neurons
of many models are huge at the first token, which is left out of the ranking unless `skip_first` is off. A neuron
that fires on one word in three prompts may fire on others elsewhere.
Reference: Geva et al. 2021, arXiv:2012.14913; authors' code: not consulted.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.neurons import norm_behind
from workbench.prompts import Prompts
from workbench.result import Check, Named, Result
from workbench.tokens import Tokens
from workbench.tracer import Trace, trace
from workbench.views import Lines, Table
from workbench.views import Tokens as Strip
from workbench.words import Site

NEEDS = ("mlp_post", "mlp_out")
TOUR = {"layer": 3, "neuron": 11}


@analysis(title="Neuron activity", family="neurons", reference="arXiv:2012.14913")
def neuron_activity(
    model: Model,
    prompts: Prompts,
    *,
    layer: int = 0,
    neuron: int = 0,
    example: int = 0,
    top: int = 20,
    skip_first: bool = True,
) -> Result:
    """Show on which tokens one neuron fires.

    Args:
        model: a loaded model.
        prompts: texts of two tokens or more.
        layer: layer of the neuron, counted from 0.
        neuron: which neuron of that layer, counted from 0.
        example: which prompt is drawn, counted from 0.
        top: how many tokens to list, largest size first, 1 or more.
        skip_first: leave the first position of each prompt out of the list and of the share.

    Returns:
        Result with `activation`, `size` and `usual` ([pos], of the drawn prompt) and the table `tokens` over all
        prompts.

    Example:
        >>> neuron_activity(model, prompts, layer=3, neuron=11).arrays["activation"].axes
        ('pos',)
    """
    if top < 1:
        raise ValueError(f"top must be 1 or more, found {top}")
    if not 0 <= example < len(prompts):
        raise ValueError(f"example {example}: there are {len(prompts)} prompts (0-{len(prompts) - 1})")
    model.check_site(Site("mlp_post", layer, neuron=neuron))
    traced = trace(model, prompts, [Site("mlp_post", layer), Site("mlp_out", layer, pos=-1)])
    if min(traced.tokens.lengths) < 2:
        raise ValueError("a prompt is a single token: two are needed, since the first position is a place of its own")
    seen = _look(traced[Site("mlp_post", layer)].float(), traced.tokens, neuron, skip_first)
    rows = _rows(seen, traced.tokens, top)
    return Result(
        arrays=_arrays(seen, traced.tokens, example),
        tables={"tokens": rows},
        scalars={
            "neuron": f"L{layer}.N{neuron}",
            "largest": rows[0]["activation"],
            "on": rows[0]["token"],
            "share_as_large": seen.share_as_large,
        },
        views=(
            Strip("activation", diverging=True, title=f"Where L{layer}.N{neuron} fires"),
            Lines(("size", "usual"), x="pos", title="Its size, and the median of its layer"),
            Table("tokens", rows=50, title="Tokens on which it is largest"),
        ),
        finding=_finding(f"L{layer}.N{neuron}", rows, seen),
        notes=_notes(skip_first),
        checks=_checks(model, traced, layer),
    )


def cost(model: Model, prompts: Prompts, **_others: object) -> Cost:
    """One pass up to the layer, and the activations of all its neurons."""
    lengths = model.tokens(prompts).lengths
    return Cost(passes=1, tokens=sum(lengths), bytes=12 * len(lengths) * max(lengths) * model.shape.d_mlp)


@dataclass(frozen=True)
class _Seen:
    """One neuron at every token, and how it stands among its layer; NaN at padding."""

    activation: Float[Tensor, "batch pos"]
    usual: Float[Tensor, "batch pos"]
    rank: Int[Tensor, "batch pos"]
    ranked: Float[Tensor, "batch pos"]
    share_as_large: float


def _look(post: Float[Tensor, "batch pos d_mlp"], tokens: Tokens, neuron: int, skip_first: bool) -> _Seen:
    sizes = post.abs()
    own = sizes[..., neuron]
    counted = tokens.mask.clone().to(post.device)
    counted[:, 0] &= not skip_first
    largest = sizes.masked_fill(~counted[..., None], -1).amax((0, 1))
    return _Seen(
        activation=post[..., neuron].cpu(),
        usual=sizes.median(-1).values.cpu(),
        rank=(sizes > own[..., None]).sum(-1).cpu(),
        ranked=own.masked_fill(~counted, -1).cpu(),
        share_as_large=float((largest >= largest[neuron]).float().mean()),
    )


def _arrays(seen: _Seen, tokens: Tokens, example: int) -> dict[str, Named]:
    length = tokens.lengths[example]
    own = {"activation": seen.activation, "size": seen.activation.abs(), "usual": seen.usual}
    labels = {"pos": tokens.text[example]}
    return {name: Named(one[example, :length].numpy(), ("pos",), "activation", labels) for name, one in own.items()}


def _rows(seen: _Seen, tokens: Tokens, top: int) -> list[dict[str, object]]:
    """The tokens on which the neuron is largest, with the text before them."""
    order = seen.ranked.flatten().argsort(descending=True, stable=True).tolist()
    places = [divmod(one, seen.ranked.shape[1]) for one in order]
    counted = [(row, pos) for row, pos in places if seen.ranked[row, pos] >= 0][:top]
    return [
        {
            "token": tokens.text[row][pos],
            "activation": float(seen.activation[row, pos]),
            "usual": float(seen.usual[row, pos]),
            "rank": int(seen.rank[row, pos]),
            "before": "".join(tokens.text[row][max(0, pos - 8) : pos]),
            "example": row,
            "pos": pos,
        }
        for row, pos in counted
    ]


def _finding(name: str, rows: list[dict], seen: _Seen) -> str:
    first = rows[0]
    return (
        f"{name} is largest on {first['token']!r} ({first['activation']:+.3g}; the median size of its layer there is "
        f"{first['usual']:.2g}, {first['rank']} neurons are larger); {100 * seen.share_as_large:.1f}% of the neurons "
        "of its layer reach its size somewhere on these prompts."
    )


def _notes(skip_first: bool) -> tuple[str, ...]:
    if not skip_first:
        return ()
    return ("The first position of each prompt is drawn, but left out of the list and of the share.",)


def _checks(model: Model, traced: Trace, layer: int) -> tuple[Check, ...]:
    """All neurons together give what the MLP writes, through a plain factor or the norm behind it."""
    allowed = 1e-4 if model.dtype in (torch.float32, torch.float64) else 5e-2
    gap = norm_behind(model, traced, layer).gap
    return (Check("the layer's neurons sum to what its MLP writes, at the last token, relative", float(gap), allowed),)
