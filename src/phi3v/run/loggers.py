"""Where a run's metrics go: its own metrics.csv, and the logger that was chosen."""

import math
from typing import cast

from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig

from phi3v.config import instantiate, public_config
from phi3v.config.launchers import is_first_process
from phi3v.run.directory import RunDirectory
from phi3v.run.scoring import Scored
from phi3v.training import StepMetrics


def make_loggers(cfg: DictConfig, run: RunDirectory, step: int) -> list[Logger]:
    """metrics.csv, and whatever the group `logger` names; that one is told the configuration.

    A run that goes on is the same run for W&B too: its id is kept in the run directory.

    Args:
        cfg: The run's configuration.
        run: Its directory.
        step: Where the training goes on; what metrics.csv has beyond is going to come again.
    """
    by_step = StepMetrics(run.path)
    by_step.rewind(step)
    loggers: list[Logger] = [by_step]
    if cfg.logger:
        same = {"id": run.wandb_id()} if _wants_id(cfg.logger) else {}
        chosen = cast(Logger, instantiate(cfg.logger, **same))
        # One key of its own: a sweep agent claims keys of the top level for itself.
        chosen.log_hyperparams({"run": public_config(cfg)})
        loggers.append(chosen)
    return loggers


def _wants_id(logger: DictConfig) -> bool:
    by_wandb = str(logger.get("_target_")).endswith(".WandbLogger")
    return by_wandb and not logger.get("id") and is_first_process()  # the others record nothing


def log_final(
    loggers: list[Logger], scored: Scored, step: int, objective: tuple[str, float]
) -> None:
    """Tells the chosen logger the final figures, and ends it where the run has come to a good end.

    W&B's summary gets the objective as the program returns it, under its own name and as
    "objective": its sweeps go by the summary, which would else hold the last validation's. A run
    that diverged has none; it is ended with its reason, as every other that came to no good end.

    Args:
        loggers: Of the run.
        scored: What was found on the test split.
        step: The last one.
        objective: Its name and value, NaN where the run diverged.
    """
    name, value = objective
    final = {
        metric: figure
        for metric, figure in scored.summary["metrics"].items()
        if metric.startswith("test/") and figure is not None
    }
    for logger in loggers:
        if not isinstance(logger, StepMetrics):
            logger.log_metrics(final, step)
            logger.finalize("success")
        if isinstance(logger, WandbLogger) and math.isfinite(value):
            # The reason may be there from an interruption that is over.
            good = {"objective": value, "outcome": "ok", "reason": ""}
            logger.experiment.summary.update({name: value, **good})
            logger.experiment.finish()
