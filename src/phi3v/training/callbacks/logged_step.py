"""Loses no row of metrics.csv to a training that is killed between a checkpoint and its log.

Lightning logs a step behind its callbacks, so that a checkpoint of that step is there before the
row is. Whoever goes on from it does not take the step again, and nobody would log it.
"""

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from phi3v.training.metrics_csv import StepMetrics

KEY = "logged_step"


class LoggedStep(Callback):
    """Carries what is to be logged of a step in the step's checkpoint."""

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put it in; behind a validation that is the validation's, which is logged by then."""
        every = cast(Any, trainer).log_every_n_steps  # of which Lightning's types know nothing
        if every and trainer.global_step % every == 0:
            # logged_metrics would be those of all steps so far, each one's latest.
            metrics = trainer._logger_connector.metrics["log"]
            checkpoint[KEY] = {name: float(cast(Any, value)) for name, value in metrics.items()}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log it where metrics.csv lacks it."""
        step, metrics = checkpoint["global_step"], checkpoint.get(KEY)
        files = [one for one in trainer.loggers if isinstance(one, StepMetrics)]
        if metrics and any(file.lacks(metrics, step) for file in files):
            for logger in trainer.loggers:
                logger.log_metrics({**metrics, "epoch": checkpoint["epoch"]}, step - 1)
