"""Optimizer and schedules as small settings objects that build torch's own.

optimizer = AdamW(lr=2e-4, weight_decay=0.01).build(model)
scheduler = Cosine(warmup=0.05).build(optimizer, total_steps)
"""

from typing import Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from phi3v.optim.adamw import AdamW
from phi3v.optim.schedules import Constant, Cosine, Linear


class OptimizerBuilder(Protocol):
    """What makes an optimizer for a model."""

    def build(self, model: nn.Module) -> Optimizer:
        """Make the optimizer for what trains in the model."""


class SchedulerBuilder(Protocol):
    """What makes a learning-rate schedule for an optimizer."""

    def build(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """Make the scheduler for a training of `total_steps` optimizer steps."""


__all__ = ["AdamW", "Constant", "Cosine", "Linear", "OptimizerBuilder", "SchedulerBuilder"]
