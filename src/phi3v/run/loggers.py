"""Where a run's metrics go: its own metrics.csv, and the logger that was chosen."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import yaml
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig

from phi3v.config import instantiate, public_config
from phi3v.config.launchers import agent_run, is_first_process
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
        own = {"id": run.wandb_id()} if _wants_id(cfg.logger) else {}
        if agent_run() and cfg.logger.get("name") == cfg.name:  # which all runs of a sweep have
            own["name"] = _name_in_sweep(str(cfg.name))
        chosen = cast(Logger, instantiate(cfg.logger, **own))
        # One key of its own: a sweep agent claims keys of the top level for itself.
        chosen.log_hyperparams({"run": public_config(cfg)})
        loggers.append(chosen)
    return loggers


def _wants_id(logger: DictConfig) -> bool:
    by_wandb = str(logger.get("_target_")).endswith(".WandbLogger")
    return by_wandb and not logger.get("id") and is_first_process()  # the others record nothing


def _name_in_sweep(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """A name that tells the runs of a sweep of W&B apart, by what its agent was given for them."""
    file = Path(environment.get("WANDB_SWEEP_PARAM_PATH", ""))
    given = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    words = [name]
    for key, entry in given.items():
        if isinstance(entry, dict) and "value" in entry and entry["value"] != name:
            value = entry["value"]
            words.append(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}")
    return " ".join(words)


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
