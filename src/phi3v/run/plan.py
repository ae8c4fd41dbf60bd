"""How a training is divided: examples of a step over devices and micro-batches, steps of an epoch.

log.info(plan(trainer, data))
8 examples a step = 4 x 2 devices x 1 micro-batch; 6 steps an epoch, 12 in all
"""

import math

import lightning

from phi3v.data import ImageTextDataModule


def plan(trainer: lightning.Trainer, data: ImageTextDataModule) -> str:
    """One line for the terminal; the trainer has to be attached to the data."""
    devices, micro = trainer.world_size, trainer.accumulate_grad_batches
    # The last batch of an epoch ends a step, also one that has too few micro-batches.
    steps = math.ceil(batches_of_an_epoch(trainer, data) / micro)
    ends = [trainer.max_steps] if trainer.max_steps != -1 else []
    if trainer.max_epochs is not None and trainer.max_epochs != -1:
        ends.append(trainer.max_epochs * steps)
    in_all = f", {min(ends):,} in all" if ends else ""
    return (
        f"steps: {data.batch_size * devices * micro} examples each = {data.batch_size} x "
        f"{_counted(devices, 'device')} x {_counted(micro, 'micro-batch', 'es')}; "
        f"{steps:,} an epoch{in_all}"
    )


def batches_of_an_epoch(trainer: lightning.Trainer, data: ImageTextDataModule) -> int:
    """Batches that a rank trains on in an epoch.

    Args:
        trainer: Its limit is a number of batches (int) or a share of them (float), and that of
            `overfit_batches` where there is one.
        data: What the trainer is attached to.
    """
    there, limit = len(data.train_dataloader()), trainer.limit_train_batches
    return min(there, limit) if isinstance(limit, int) else int(there * limit)


def _counted(number: int, name: str, plural: str = "s") -> str:
    return f"{number} {name}{'' if number == 1 else plural}"
