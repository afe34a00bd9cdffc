"""What is lost on each kind of text when a head writes nothing."""

from collections.abc import Mapping, Sequence

import torch

from workbench.analyses.attention_sinks.texts import Ids, Texts
from workbench.edit import edited, zero
from workbench.model import Model
from workbench.progress import track
from workbench.words import Site

Head = tuple[int, int]


Changes = Mapping[Head, Mapping[str, float]]


def loss_changes(model: Model, texts: Texts, heads: Sequence[Head]) -> Changes:
    """The rise of the loss, in nats for each token, by head and kind of text."""
    plain = [_loss(model, row) for _, row in texts.plain]
    found = {}
    for layer, head in track(heads, "heads set to zero"):
        with edited(model, [(Site("z", layer, head=head), zero())]):
            without = [_loss(model, row) for _, row in texts.plain]
        found[layer, head] = {
            kind: sum(
                after - before
                for (one, _), after, before in zip(texts.plain, without, plain, strict=True)
                if one == kind
            )
            / sum(one == kind for one, _ in texts.plain)
            for kind in texts.kinds
        }
    return found


@torch.no_grad()
def _loss(model: Model, row: Ids) -> float:
    """The mean loss of the tokens of a text but the first."""
    ids = torch.tensor([row], device=model.device)
    logits = model.forward(ids)[0, :-1].float()
    own = logits.gather(-1, ids[0, 1:, None])[:, 0]
    return float((logits.logsumexp(-1) - own).mean())
