"""What the micro-batches of a step add up to, on this rank and over all of them.

sums = StepSums(model)
sums.add(batch, loss_sum, supervised)       # every micro-batch
whole = sums.take(strategy)                 # once a step, on every rank
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn

from phi3v.training.flops import cost_of
from phi3v.training.loss import IGNORED, base_of

TERA = 1e12


@dataclass(frozen=True)
class StepTotal:
    """Of one step.

    Attributes:
        loss: Summed over the supervised tokens.
        supervised: Tokens whose prediction counts.
        examples: Rows, without those that only fill up a rank: nothing is supervised in them.
        tokens: Of these rows, without padding.
        places: Of all rows, with padding.
        tflop: Operations of the model for all rows, see `phi3v.training.flops`, in units of 1e12.
            Tokens of pictures that the model remembers are counted as given.
    """

    loss: float = 0.0
    supervised: float = 0.0
    examples: float = 0.0
    tokens: float = 0.0
    places: float = 0.0
    tflop: float = 0.0

    def __add__(self, other: "StepTotal") -> "StepTotal":
        """Of several steps."""
        return StepTotal(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class StepSums(nn.Module):
    """Gathers, on the device, where asking for a number would wait for it.

    Args:
        model: Phi-3-Vision with its adapter attached.
    """

    sums: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._vision = [base_of(model).model.vision_embed_tokens]  # a list, for it is not a part
        self.cost = cost_of(model)
        self.register_buffer("sums", torch.zeros(len(fields(StepTotal))), persistent=False)

    def add(self, batch: Mapping[str, Any], loss: Tensor, supervised: int) -> None:
        """Add a micro-batch.

        Args:
            batch: As the model got it.
            loss: Its summed loss.
            supervised: Its supervised tokens.
        """
        mask = batch["attention_mask"]
        lengths = mask.sum(1).tolist()
        learns = (batch["labels"] != IGNORED).any(1).tolist()
        learned = [length for length, some in zip(lengths, learns, strict=True) if some]
        work = self.cost.of(lengths, supervised, *self._looked_at(batch.get("image_sizes")))
        total = StepTotal(0, supervised, len(learned), sum(learned), mask.numel(), work / TERA)
        self.sums += self.sums.new_tensor(astuple(total))
        self.sums[0] += loss.detach().to(self.sums.device)  # which stays on an offloaded CPU

    def take(self, strategy: Strategy) -> StepTotal:
        """The sums over all ranks; the next step begins at nothing."""
        together: Any = strategy.reduce(self.sums.clone(), reduce_op="sum")
        self.sums.zero_()
        return StepTotal(*together.tolist())

    def _looked_at(self, image_sizes: Tensor | None) -> tuple[int, int]:
        """Crops and tokens of pictures that have to be computed."""
        (vision,) = self._vision
        if image_sizes is None or vision.memory is not None:
            return 0, 0
        crops = int((image_sizes // vision.crop_size).prod(1).sum()) + len(image_sizes)
        return crops, sum(vision.count_tokens(image_sizes))
