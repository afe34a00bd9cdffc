"""Neuron overlap: how many neurons keep their top token after tuning, and how many would after mere noise.

Idea. Base and tuned model are decoded alike, and neuron by neuron the top tokens are compared. Tokens also stay
on top when a row is only shaken a little, so next to it each base row is decoded with random noise exactly as
long as its change in tuning: only what differs from that says something about tuning.
Score. Share of neurons whose top promoted token is the same, and mean share of the same tokens among the top
ones, both from 0 to 1; in all, by layer, and by how far out the token was in the base model (against random
directions), since the top token of a neuron that stands for nothing is easily lost.
Differs from the paper. The noise and the strata are ours; it reports the share alone (75.4% from Llama 3.1 8B to
its Instruct version).
Beware. A large overlap may mean that the weights hardly moved: look at `change`. Only the neurons' rows are
shaken, while in `own` the tuned unembedding differs too. Both models need the same shape and vocabulary.
Reference: Flash Interpretability, arXiv 2501.02688; authors' code: not published.
"""

from typing import Literal

from workbench.analyses.neuron_overlap.comparing import Pair, compare
from workbench.analyses.neuron_overlap.telling import tell
from workbench.catalog import Cost, analysis
from workbench.model import Model
from workbench.neurons import usual_fold
from workbench.result import Result

NEEDS = ("mlp_post",)
TOUR = {"direction": "write"}


@analysis(title="Neuron overlap", family="neurons", reference="arXiv:2501.02688")
def neuron_overlap(
    model: Model,
    *,
    other: str = "",
    noise: float = 0.1,
    through: Literal["own", "base"] = "own",
    direction: Literal["read", "gate", "write"] = "read",
    fold: Literal["usual", "none", "final", "all"] = "usual",
    layers: tuple[int, ...] = (),
    top: int = 10,
    draws: int = 2000,
    seed: int = 0,
) -> Result:
    """Compare what neurons decode to in two models, or in one model and the same with noise.

    Args:
        model: the base model.
        other: the tuned model, named as for load; empty to look at noise alone.
        noise: without another model, the length of the noise as a share of each row, above 0.
        through: decode the tuned rows through the tuned model's own unembedding and norms, as in the paper,
            or through the base model's.
        direction: what each neuron reads (the up row), what opens it (the gate row), or what it writes.
        fold: the norms between the direction and the unembedding: none, the final one, or all (also the
            MLP's own); usual is none for read and gate, and all for write.
        layers: the layers to compare, such as 0-5; empty for all.
        top: how many top tokens to compare, 1 or more.
        draws: random directions by which the strata are cut, 100 or more.
        seed: seed of the noise and of the random directions.

    Returns:
        Result with `kept` and `shared` ([component, layer]: tuned and noise; same top token, same among the
        top ones), `kept_by_stratum` and `shared_by_stratum` ([component, step]), `change` ([layer, neuron]:
        length of the change over the row's), and the tables `strata`, `layers` and `changed`.

    Example:
        >>> neuron_overlap(model, layers=(3,), direction="write", draws=200).arrays["kept"].axes
        ('component', 'layer')
    """
    for name, value, least in (("top", top, 1), ("draws", draws, 100)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, found {value}")
    if noise <= 0:
        raise ValueError(f"noise must be above 0, found {noise}")
    pair = Pair.of(model, other, through, direction, usual_fold(direction) if fold == "usual" else fold, layers)
    return tell(compare(pair, noise, top, draws, seed))


def cost(model: Model, *, other: str, layers: tuple[int, ...], draws: int, **_others: object) -> Cost:
    """The products of all rows with the unembedding, two or three times, and a second model."""
    shape = model.shape
    count = (len(layers) or shape.n_layers) * shape.d_mlp * (3 if other else 2) + draws
    weights = model.parameters * model.dtype.itemsize if other else 0
    return Cost(
        passes=2 if other else 1,
        tokens=count * shape.d_vocab * shape.d_model // model.parameters,
        bytes=weights + 16 * shape.d_mlp * shape.d_model + 16 * shape.d_model**2 + 100_000_000,
    )
