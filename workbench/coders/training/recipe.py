"""What to train: the kind of coder, its size, and how it learns."""

from dataclasses import dataclass
from typing import Literal

from workbench.coders.coder import Activation
from workbench.coders.hooks import hook_of

Architecture = Literal["topk", "batchtopk", "jumprelu", "standard"]


@dataclass(frozen=True)
class Course:
    """How long a coder learns and in which order; two trainings of one course on the same texts give the same coders.

    Attributes:
        steps: how many batches are learnt from.
        batch: tokens in a batch.
        buffer: tokens that are shuffled together; held in memory for all layers at once.
        rate: the largest learning rate of Adam; it rises over the first twentieth and falls over the last fifth.
        dead_after: a feature that was active on none of this many tokens is dead, and is taught what the others miss.
        context: tokens in the rows that documents are cut into.
        spare_first: leave out the first position of every text.
        seed: of the first weights, and of the order of the texts.
    """

    steps: int = 2000
    batch: int = 1024
    buffer: int = 65_536
    rate: float = 1e-3
    dead_after: int = 200_000
    context: int = 128
    spare_first: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _refuse_low(self, "steps", "batch", "buffer", "dead_after")
        if self.context < 2:
            raise ValueError(f"a recipe needs a context of 2 tokens or more, found {self.context}")
        if self.buffer < self.batch:
            raise ValueError(f"a buffer of {self.buffer} tokens holds no batch of {self.batch}")

    @property
    def batches(self) -> int:
        """How many batches a buffer gives."""
        return self.buffer // self.batch

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        rising = (step + 1) / max(1, self.steps // 20)
        falling = (self.steps - step) / max(1, self.steps // 5)
        return self.rate * min(1.0, rising, falling)


@dataclass(frozen=True)
class Recipe(Course):
    """A transcoder and how it learns.

    Attributes:
        width: features of each layer.
        activation: "topk" holds sparsity at k; "relu" pays for the sum of feature values, each times the length
            of its decoder; "jumprelu" pays for the number of active features.
        k: features that "topk" keeps, behind a ReLU.
        skip: whether a linear path from input to output is learnt too.
        sparsity: what one unit of that payment costs, where the error costs its share of the variance.
        bandwidth: how far around a threshold "jumprelu" feels it, in units of a pre-activation.
    """

    width: int = 4096
    activation: Activation = "topk"
    k: int = 32
    skip: bool = False
    sparsity: float = 1e-3
    bandwidth: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_low(self, "width", "k")
        if self.activation == "topk":
            _refuse_dense(self.k, self.width)


@dataclass(frozen=True)
class SAERecipe(Course):
    """A sparse autoencoder and how SAELens trains it; what is not named here is as SAELens has it.

    Attributes:
        site: the kind of site that it reads and rebuilds, such as "resid_post", "mlp_out" or "attn_out".
        architecture: "topk" keeps the k largest pre-activations of a token, and "batchtopk" k a token on average over
            a batch; "standard" (a ReLU) pays for the sum of feature values, each times the length of its decoder;
            "jumprelu" pays for the number of active features.
        width: features of each layer.
        k: features that "topk" and "batchtopk" keep.
        sparsity: what one unit of that payment costs (SAELens' `l1_coefficient` or `l0_coefficient`), where the error
            is a sum of squares, and what is read has, about its mean, a mean length of the root of its width. It is
            reached over the first twentieth of the steps.
    """

    site: str = "resid_post"
    architecture: Architecture = "topk"
    width: int = 4096
    k: int = 32
    sparsity: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        hook_of(self.site)  # refuses what SAELens has no name for
        _refuse_low(self, "width", "k")
        if self.architecture in ("topk", "batchtopk"):
            _refuse_dense(self.k, self.width)


def _refuse_low(recipe: Course, *names: str) -> None:
    low = [f"{name} {getattr(recipe, name)}" for name in names if getattr(recipe, name) < 1]
    if low:
        raise ValueError(f"a recipe needs 1 or more everywhere, found {', '.join(low)}")


def _refuse_dense(k: int, width: int) -> None:
    if k > width:
        raise ValueError(f"top-{k} of {width} features is not sparse: make k smaller")
