"""What a coder that learns can do, whoever wrote its algorithm."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from workbench.coders.coder import Transcoder
from workbench.coders.training.buffer import Pairs


@runtime_checkable
class Learning(Protocol):
    """A coder that learns; all that its next step depends on can be written down and read back."""

    layer: int

    @property
    def step(self) -> int:
        """How many steps were taken."""
        ...

    def learn(self, pairs: Pairs) -> Float[Tensor, ""]:
        """Take one step on a batch; returns the share of the output's variance that was missed before it."""
        ...

    def seen(self) -> dict[str, float]:
        """Since this was last asked for: means of `missed` and `l0`, perhaps of more; and the share `dead` now."""
        ...

    def finished(self) -> Transcoder:
        """The coder as it is now, on activations as they are."""
        ...

    def dump(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `dump` was called."""
        ...
