"""`best.ckpt` by a metric of the generated answers, and `last.ckpt` of the latest epoch.

    BestCheckpoint(folder="<run>/checkpoints", objective="full_price/mape")
    LastCheckpoint(folder="<run>/checkpoints")

Both hold the trained weights, optimizer, schedule and loop (see FineTuning), not the base.
"""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from phi3v.metric import direction
from phi3v.training.non_finite import NonFiniteStep


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint that was best on validation, as `<folder>/best.ckpt`.

    Attributes:
        best_values: Every val/ metric of the best validation.

    Args:
        folder: Where it is written.
        objective: The metric as the task names it, "<field>/<metric>" or "parse_rate".
    """

    def __init__(self, folder: str | Path, objective: str) -> None:
        super().__init__(
            dirpath=str(folder),
            filename="best",
            monitor=f"val/{objective}",
            mode=direction(objective),
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # after each validation, also within an epoch
        )
        self.best_values: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save when this validation was the best, and remember all that it measured."""
        before = self.best_model_score
        super().on_validation_end(trainer, pl_module)
        if self.best_model_score is not before:
            self.best_values = {
                name: float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("val/")
            }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know, the best validation's metrics among it."""
        return {**super().state_dict(), "best_values": self.best_values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what an earlier training knew."""
        super().load_state_dict(state_dict)
        self.best_values = state_dict.get("best_values", {})


class LastCheckpoint(ModelCheckpoint):
    """Keeps the state at the end of the latest epoch, as `<folder>/last.ckpt`.

    It is saved when the epoch is complete, after its validation, so that a resumed training
    begins with the next epoch; and when the training is interrupted, so that nothing is lost.

    Args:
        folder: Where it is written.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(
            dirpath=str(folder),
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save where an interruption left the training; an error leaves the last epoch's state.

        A step that is not finite is no such error: it was not taken.
        """
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit | NonFiniteStep)
        if stopped and trainer.global_step > 0:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
