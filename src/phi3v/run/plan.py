"""How a training is divided: examples of a step over devices and micro-batches, steps of an epoch.

log.info(plan(trainer, data))
8 examples a step = 4 x 2 devices x 1 micro-batch; 6 steps an epoch, 12 in all
"""

import lightning

from phi3v.data import ImageTextDataModule


def plan(trainer: lightning.Trainer, data: ImageTextDataModule) -> str:
    """One line for the terminal; the trainer has to be attached to the data."""
    devices, micro = trainer.world_size, trainer.accumulate_grad_batches
    steps = len(data.train_dataloader()) // micro
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs and trainer.max_epochs > 0:
        ends.append(trainer.max_epochs * steps)
    in_all = f", {min(ends):,} in all" if ends else ""
    return (
        f"steps: {data.batch_size * devices * micro} examples each = {data.batch_size} x "
        f"{_counted(devices, 'device')} x {_counted(micro, 'micro-batch', 'es')}; "
        f"{steps:,} an epoch{in_all}"
    )


def _counted(number: int, name: str, plural: str = "s") -> str:
    return f"{number} {name}{'' if number == 1 else plural}"
