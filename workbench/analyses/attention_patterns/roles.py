"""Which keys count for each role of a head, and what a row of attention says of them. Pure tensor maths."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROLES = ("previous token", "first token", "self", "duplicate token", "induction")
"""The roles of a head, by the key that its queries attend to."""

CONTENT = (3, 4)
"""The places in ROLES of those that depend on which tokens are alike."""

_NOTHING = 1e-6


def role_keys(ids: Int[Tensor, "batch pos"], start: int, end: int) -> Bool[Tensor, "batch role query key"]:
    """Which keys count for each role, for the queries from `start` up to `end`.

    The token before; the first; the query's own; every earlier token that is the query's; every token right
    behind one of those, but for the query itself. The first query, which sees only itself, has none.

    Example:
        >>> role_keys(torch.tensor([[7, 8, 9, 8]]), 3, 4)[0, :, 0].int().tolist()
        [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]
    """
    queries = torch.arange(start, end, device=ids.device)[:, None]
    keys = torch.arange(end, device=ids.device)[None]
    duplicate = (ids[:, start:end, None] == ids[:, None, :end]) & (keys < queries)
    behind = torch.nn.functional.pad(duplicate, (1, 0))[..., :-1] & (keys < queries)
    fixed = [(place == keys).expand_as(duplicate) for place in (queries - 1, torch.zeros_like(queries), queries)]
    return torch.stack([*fixed, duplicate, behind], dim=1) & (queries > 0)


@dataclass(frozen=True)
class Rows:
    """Sums over some queries of one layer: of attention on the roles' keys, and of entropy.

    Attributes:
        mass: attention on the keys of each role.
        weighted: value-weighted attention on them.
        even: what attention that is spread evenly over all reachable keys would put there.
        counted: how many queries have a reachable key of the role.
        entropy: of the rows, in nats.
        even_entropy: of evenly spread rows, in nats.
        queries: how many rows the entropies are summed over.
    """

    mass: Float[Tensor, "batch role head"]
    weighted: Float[Tensor, "batch role head"]
    even: Float[Tensor, "batch role"]
    counted: Float[Tensor, "batch role"]
    entropy: Float[Tensor, "batch head"]
    even_entropy: Float[Tensor, " batch"]
    queries: Float[Tensor, " batch"]


def sum_rows(
    pattern: Float[Tensor, "batch head query key"],
    sizes: Float[Tensor, "batch head key"] | None,
    keys: Bool[Tensor, "batch role query key"],
    reach: Bool[Tensor, "batch query key"],
    real: Bool[Tensor, "batch query"],
) -> Rows:
    """Sum rows of attention over the queries that count.

    Args:
        pattern: the rows.
        sizes: how large a vector each head would write if it attended to one key alone; None for none.
        keys: the keys of each role.
        reach: the keys that a query can see in this layer.
        real: the queries to count.
    """
    counted = keys & (reach & real[..., None])[:, None]
    weights = counted.to(pattern.dtype)
    visible = reach.sum(-1).clamp_min(1).to(pattern.dtype)
    scaled = torch.zeros_like(pattern) if sizes is None else value_weighted(pattern, sizes)
    return Rows(
        mass=torch.einsum("bhqk,brqk->brh", pattern, weights),
        weighted=torch.einsum("bhqk,brqk->brh", scaled, weights),
        even=(weights.sum(-1) / visible[:, None]).sum(-1),
        counted=counted.any(-1).sum(-1).to(pattern.dtype),
        entropy=(torch.special.entr(pattern).sum(-1) * real[:, None]).sum(-1),
        even_entropy=(visible.log() * real).sum(-1),
        queries=real.sum(-1).to(pattern.dtype),
    )


def value_weighted(
    pattern: Float[Tensor, "... query key"], sizes: Float[Tensor, "... key"]
) -> Float[Tensor, "... query key"]:
    """Attention times the size of what is fetched at each key, every row over its sum.

    A row that writes less than a millionth of what its head can write is 0: it rests, and where the last crumbs
    come from means nothing.
    """
    written = pattern * sizes[..., None, :]
    total = written.sum(-1, keepdim=True)
    rests = total <= _NOTHING * sizes.amax(-1)[..., None, None]
    return (written / total).masked_fill(rests, 0.0)
