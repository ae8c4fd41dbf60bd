"""How many parameters of each part train: the rows of the table that is printed before training."""

import math
from dataclasses import dataclass

from torch import nn

from phi3v.model.parts import PARTS, part_of


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part; `total` counts the base and what an adapter added to it."""

    part: str
    trainable: int
    total: int


def trainable_parts(model: nn.Module) -> list[PartCount]:
    """Count the model's parameters by part, in the order decoder, projector, vision."""
    trainable = dict.fromkeys(PARTS, 0)
    total = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        # Four-bit weights are stored two to a byte.
        packed = getattr(parameter, "quant_state", None)
        total[part] += math.prod(packed.shape) if packed is not None else parameter.numel()
        trainable[part] += parameter.numel() if parameter.requires_grad else 0
    return [PartCount(part, trainable[part], total[part]) for part in PARTS]
