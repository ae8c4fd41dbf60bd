"""Learning-rate schedules by optimizer step: warm up linearly, then cosine, linear or constant.

    scheduler = Cosine(warmup=0.05, min_ratio=0.1).build(optimizer, total_steps=228)

They multiply the learning rate of every parameter group, so parts keep their proportions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from phi3v.errors import UserError


def warmup_steps(warmup: float, total_steps: int) -> int:
    """Steps of the warm-up: a number of steps, or a share of all steps when it is below 1.

    Raises:
        UserError: When it is negative, not whole, or as long as the training.
    """
    if warmup < 0 or (warmup >= 1 and warmup != int(warmup)):
        raise UserError(f"scheduler warmup={warmup}: give a share below 1 or a number of steps")
    if warmup < 1:
        return min(round(warmup * total_steps), total_steps - 1)
    if warmup >= total_steps:
        raise UserError(f"scheduler warmup={warmup}: the training has only {total_steps} steps")
    return int(warmup)


def _build(
    optimizer: Optimizer, total_steps: int, warmup: float, after: Callable[[float], float]
) -> LambdaLR:
    """Warm up, then follow `after`, which maps progress from 0 to 1 to a factor."""
    if total_steps < 1:
        raise UserError(f"scheduler: {total_steps} training steps; at least one is needed")
    warm = warmup_steps(warmup, total_steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)  # never zero: the first step counts too
        return after(min(1.0, (step - warm) / (total_steps - warm)))

    return LambdaLR(optimizer, factor)


def _check_ratio(min_ratio: float) -> None:
    if not 0 <= min_ratio <= 1:
        raise UserError(f"scheduler min_ratio={min_ratio}: must be from 0 to 1")


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the full learning rate down to `min_ratio` times it.

    Attributes:
        warmup: Share of the steps when below 1, otherwise a number of steps.
        min_ratio: Factor at the end.
        cycles: How often it goes down; each time it starts from the full learning rate again
            (SGDR, Loshchilov and Hutter, 2017).
    """

    warmup: float = 0.0
    min_ratio: float = 0.0
    cycles: int = 1

    def __post_init__(self) -> None:
        _check_ratio(self.min_ratio)
        if self.cycles < 1:
            raise UserError(f"scheduler cycles={self.cycles}: at least one is needed")

    def build(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """Make the scheduler for a training of `total_steps` optimizer steps."""

        def after(progress: float) -> float:
            way = 1.0 if progress >= 1 else progress * self.cycles % 1.0
            wave = 0.5 * (1 + math.cos(math.pi * way))
            return self.min_ratio + (1 - self.min_ratio) * wave

        return _build(optimizer, total_steps, self.warmup, after)


@dataclass(frozen=True)
class Linear:
    """A straight line from the full learning rate down to `min_ratio` times it.

    Attributes:
        warmup: Share of the steps when below 1, otherwise a number of steps.
        min_ratio: Factor at the end.
    """

    warmup: float = 0.0
    min_ratio: float = 0.0

    def __post_init__(self) -> None:
        _check_ratio(self.min_ratio)

    def build(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """Make the scheduler for a training of `total_steps` optimizer steps."""

        def after(progress: float) -> float:
            return 1 - (1 - self.min_ratio) * progress

        return _build(optimizer, total_steps, self.warmup, after)


@dataclass(frozen=True)
class Constant:
    """The full learning rate to the end.

    Attributes:
        warmup: Share of the steps when below 1, otherwise a number of steps.
    """

    warmup: float = 0.0

    def build(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """Make the scheduler for a training of `total_steps` optimizer steps."""
        return _build(optimizer, total_steps, self.warmup, lambda _: 1.0)
