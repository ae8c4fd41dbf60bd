"""Says so when a training stands still: a loader that hangs, a process that the others wait for.

Every process watches itself, so that with several of them one can see which one holds up the rest.
"""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from phi3v.errors import UserError
from phi3v.training.standstill import Watch


class StallReport(Callback):
    """Reports, from a thread of its own, what the training is doing while nothing gets done.

    Attributes:
        watch: For what is done outside of Lightning's loops.

    Args:
        seconds: After so many without a micro-batch that was completed; 0 for never.
    """

    def __init__(self, seconds: float = 45) -> None:
        if seconds < 0:
            raise UserError(f"callbacks.stall.seconds={seconds}: at least 0, which is never")
        self.watch = Watch(seconds)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch."""
        self.watch.start("before the first batch", trainer.global_rank)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note that the batch has come."""
        self.watch.note(f"in step {trainer.global_step + 1}")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note that the next one has to come."""
        self.watch.note(f"after step {trainer.global_step}, before the next batch")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch where a validation is no part of a training."""
        self.watch.start("before the first batch of a validation", trainer.global_rank)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note that a batch of the validation has begun."""
        self.watch.note(f"in batch {batch_idx + 1} of a validation")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note that it is done."""
        self.watch.note(f"after batch {batch_idx + 1} of a validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the training goes on, or end the watch."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.watch.note(f"after the validation behind step {trainer.global_step}")
        else:
            self.watch.stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the watch."""
        self.watch.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the watch."""
        self.watch.stop()
