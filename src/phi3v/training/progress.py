"""Puts Lightning's counters of a checkpoint back to the end of the last step that was taken.

A training that stopped in the middle of a step has counted micro-batches of which nothing was
learned, and Lightning would go on behind them. And a training that goes on with another number of
micro-batches a step is at another count of them after the same steps.
"""

import math
from typing import Any

from lightning.pytorch import Trainer

from phi3v.errors import UserError

# Steps of an epoch, and from one validation to the next.
Pace = list[int | None]
_STAGES = ("ready", "started", "processed", "completed")


def rewind_to_step(loop: dict[str, Any], before: int, now: int) -> None:
    """Change the state of a fit loop, in place, to that between two steps.

    Args:
        loop: `checkpoint["loops"]["fit_loop"]`.
        before: Micro-batches that made up a step when it was saved.
        now: Micro-batches that make up a step from here on.
    """
    progress = loop["epoch_loop.batch_progress"]
    total, current = progress["total"], progress["current"]
    between = total["ready"] == total["processed"] and total["ready"] % before == 0
    if between and before == now:
        return
    # Callbacks that save behind a step come before Lightning calls its last batch completed.
    counted = "processed" if between else "completed"
    steps = current[counted] // before
    earlier = total[counted] - current[counted]
    for stage in _STAGES:
        current[stage] = steps * now
        total[stage] = round(earlier / before * now) + steps * now
    if not between:
        progress["is_last_batch"] = False


def pace_of(trainer: Trainer) -> Pace:
    """How often a trainer comes to the end of an epoch and to a validation, once it has its data.

    A number is None where there is no end of an epoch, or where validations come by the clock.
    """
    batches = (trainer.num_training_batches, trainer.val_check_batch)
    return [_steps(number, trainer.accumulate_grad_batches) for number in batches]


def check_pace(before: Pace, now: Pace) -> None:
    """Refuse to go on with a training at another pace.

    Raises:
        UserError: When epochs or the ways between validations have another number of steps.
    """
    if before != now:
        raise UserError(
            f"the checkpoint is of a training with {before[0]} steps an epoch and a validation "
            f"after {before[1]}, here it would be {now[0]} and {now[1]}: with other portions, "
            "whole numbers of batches in trainer.limit_train_batches and "
            "trainer.val_check_interval mean other steps; go on with as many devices and the "
            "data.batch_size that it had"
        )


def _steps(batches: float | None, micro_batches: int) -> int | None:
    if batches is None or not math.isfinite(batches):
        return None
    return math.ceil(batches / micro_batches)
