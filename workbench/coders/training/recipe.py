"""What to train: the kind of coder, its size, and how it learns."""

from dataclasses import dataclass

from workbench.coders.coder import Activation


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; two trainings of one recipe on the same texts give the same coders.

    Attributes:
        width: features of each layer.
        activation: "topk" holds sparsity at k; "relu" pays for the sum of feature values, each times the length
            of its decoder; "jumprelu" pays for the number of active features.
        k: features that "topk" keeps, behind a ReLU.
        skip: whether a linear path from input to output is learnt too.
        sparsity: what one unit of that payment costs, where the error costs its share of the variance.
        bandwidth: how far around a threshold "jumprelu" feels it, in units of a pre-activation.
        steps: how many batches are learnt from.
        batch: tokens in a batch.
        buffer: tokens that are shuffled together; held in memory for all layers at once.
        rate: the largest learning rate of Adam; it rises over the first twentieth and falls over the last fifth.
        dead_after: a feature that was active on none of this many tokens is dead, and is taught what the others miss.
        context: tokens in the rows that documents are cut into.
        spare_first: leave out the first position of every text.
        seed: of the first weights, and of the order of the texts.
    """

    width: int = 4096
    activation: Activation = "topk"
    k: int = 32
    skip: bool = False
    sparsity: float = 1e-3
    bandwidth: float = 0.1
    steps: int = 2000
    batch: int = 1024
    buffer: int = 65_536
    rate: float = 1e-3
    dead_after: int = 200_000
    context: int = 128
    spare_first: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("width", "k", "steps", "batch", "buffer", "dead_after")
        low = [f"{name} {getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        if low:
            raise ValueError(f"a recipe needs 1 or more everywhere, found {', '.join(low)}")
        if self.context < 2:
            raise ValueError(f"a recipe needs a context of 2 tokens or more, found {self.context}")
        if self.activation == "topk" and self.k > self.width:
            raise ValueError(f"top-{self.k} of {self.width} features is not sparse: make k smaller")
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
