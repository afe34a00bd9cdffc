"""Which token is the most likely, and how far it leads, for many rows at once.

With a large vocabulary most of a decoding step goes into the logits of tokens that are nowhere near the
top. Where the processor is quicker in bfloat16, the vocabulary is screened in it. How far a screened logit
can lie from the true one is bounded, so every token that could come first or second is known, and the
logits of these alone are computed in full: the choice is the one among all logits in full.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.lens import cap, caps_logits, read_out, reads_out, unembedding

_BLOCK = 64
"""Tokens of which only the largest screened logit is looked at first."""

_WIDE = 16_384
"""Smaller vocabularies are not worth a screening."""

_ROWS = 16
"""Nor are fewer rows than this, for which reading the weights takes all the time."""

_CROWD = 512
"""Tokens near the top for each row, on average; if there are more, all logits are computed in full."""

_PAIRS = 16_384
"""Logits computed in full at once: 80 MB for a stream of 640 numbers."""


@dataclass(frozen=True)
class Choice:
    """For each row the most likely token, and how far its logit lies above the second best."""

    ids: Int[Tensor, " row"]
    leads: Float[Tensor, " row"]

    @classmethod
    def among(cls, logits: Float[Tensor, "row vocab"]) -> "Choice":
        """The choice among all tokens."""
        best = logits.topk(2, dim=-1).values
        return cls(logits.argmax(-1), best[:, 0] - best[:, 1])  # of equal logits topk may give any


@dataclass(frozen=True)
class Chooser:
    """Chooses the tokens of one model.

    Attributes:
        bridge: the TransformerBridge.
        screen: the unembedding in bfloat16, filled up to whole blocks; None where screening does not pay.
        longest: the largest norm of a row of the unembedding.
    """

    bridge: Any
    screen: Float[Tensor, "padded d_model"] | None = None
    longest: float = 0.0

    @classmethod
    def of(cls, bridge: Any) -> "Chooser":
        """A chooser that screens, if that pays for this model on this machine."""
        return cls.screening(bridge) if _pays(bridge) else cls(bridge)

    @classmethod
    def screening(cls, bridge: Any) -> "Chooser":
        """A chooser that screens."""
        weight = unembedding(bridge)[0].detach()
        longest = max(float(part.norm(dim=1).max()) for part in weight.split(_WIDE))
        return cls(bridge, torch.nn.functional.pad(weight.bfloat16(), (0, 0, 0, -len(weight) % _BLOCK)), longest)

    @torch.no_grad()
    def choose(self, resid: Float[Tensor, "row d_model"]) -> Choice:
        """The most likely token behind each stream that leaves the last block."""
        if self.screen is not None and len(resid) >= _ROWS:
            hidden = self.bridge.ln_final(resid)
            near = _near(hidden, self.screen, len(unembedding(self.bridge)[0]), self.longest)
            if near is not None:
                return self._decide(hidden, *near)
        return Choice.among(read_out(self.bridge, resid).float())

    def _decide(
        self, hidden: Float[Tensor, "row d_model"], rows: Int[Tensor, " pair"], ids: Int[Tensor, " pair"]
    ) -> Choice:
        """The choice among some tokens of each row, by their logits in full; the pairs stand row by row."""
        weight = unembedding(self.bridge)[0]
        parts = zip(rows.split(_PAIRS), ids.split(_PAIRS), strict=True)
        logits = cap(self.bridge, torch.cat([torch.linalg.vecdot(hidden[row], weight[token]) for row, token in parts]))
        counts = rows.bincount(minlength=len(hidden))
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        table = logits.new_full((len(hidden), int(counts.max())), -torch.inf)
        tokens = ids.new_zeros(table.shape)
        table[rows, place], tokens[rows, place] = logits, ids
        found = Choice.among(table)
        return Choice(tokens.gather(1, found.ids[:, None])[:, 0], found.leads)


def _near(
    hidden: Float[Tensor, "row d_model"], screen: Float[Tensor, "padded d_model"], vocabulary: int, longest: float
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]] | None:
    """Rows and tokens that could come first or second there; None when these are too many."""
    flat = hidden.to(screen.dtype) @ screen.T
    flat[:, vocabulary:] = -torch.inf
    screened = flat.unflatten(1, (-1, _BLOCK))
    tops = screened.amax(-1)
    slack = hidden.norm(dim=1) * longest * _relative_error(screen)
    cut = (tops.topk(2, dim=-1).values[:, 1].float() - 2 * slack)[:, None]
    rows, blocks = (tops >= cut).nonzero().unbind(1)
    if len(rows) > _CROWD * len(hidden) or rows.bincount(minlength=len(hidden)).min() < 2:  # NaN is near nothing
        return None
    pairs, places = (screened[rows, blocks] >= cut[rows]).nonzero().unbind(1)
    return (rows[pairs], blocks[pairs] * _BLOCK + places) if len(pairs) <= _CROWD * len(hidden) else None


def _relative_error(screen: Float[Tensor, "padded d_model"]) -> float:
    """How far a screened logit can be off, over the norms of stream and weight.

    Stream, weight and logit are each rounded once; the sum is carried in float32, and so is the logit that it
    is compared with.
    """
    rounding = torch.finfo(screen.dtype).eps / 2
    return 3.1 * rounding + 2 * screen.shape[1] * torch.finfo(torch.float32).eps


def _pays(bridge: Any) -> bool:
    """Whether screening is exact for this model, and quicker on this machine."""
    if not reads_out(bridge) or caps_logits(bridge):  # a soft cap may round different logits to one
        return False
    try:
        weight, bias = unembedding(bridge)
    except ValueError:  # quantised: it is small already
        return False
    if bias is not None and bias.any():
        return False
    quick = weight.device.type == "cpu" and _halves_are_quick()
    return quick and weight.dtype == torch.float32 and len(weight) >= _WIDE and _is_linear(bridge)


def _halves_are_quick() -> bool:
    """Whether the processor multiplies bfloat16 by itself."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


@torch.no_grad()
def _is_linear(bridge: Any) -> bool:
    """Whether the logits are the unembedding of the normed stream, and the cap of that, and nothing else."""
    weight, _ = unembedding(bridge)
    stream = torch.linspace(-1, 1, weight.shape[1], device=weight.device)[None]
    logits, made = read_out(bridge, stream), cap(bridge, bridge.ln_final(stream) @ weight.T)
    return torch.allclose(logits, made, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))
