"""Ends a job of a sweep whose validations are worse than those of most other jobs were.

    StopHopeless(folder="<sweep>/3", objective="full_price/mape", jobs=4)

The rule is Optuna's MedianPruner's (Golovin et al., Google Vizier, 2017, section 3.1): a job ends
when the best of its validations so far is worse than the median of what the other jobs had reached
by the same step. The others are read from their metrics.csv, so it does not matter who chose their
values: a grid, a search, or an agent on this machine.
"""

import logging
import math
import statistics
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from phi3v.errors import UserError
from phi3v.task import direction
from phi3v.training.metrics_csv import read_column

log = logging.getLogger(__name__)


class StopHopeless(Callback):
    """Stops a training after a validation that leaves it no hope.

    Attributes:
        reason: Why it was stopped; empty of a training that was not.
        best: The best finite value of its validations so far; None before the first.

    Args:
        folder: The run directory; the other jobs' lie beside it.
        objective: The metric as the task names it.
        jobs: So many others must have come as far before anything is stopped.
        validations: So many are waited for first.
    """

    def __init__(
        self, folder: str | Path, objective: str, jobs: int = 4, validations: int = 1
    ) -> None:
        for name, value in (("jobs", jobs), ("validations", validations)):
            if value < 1:
                raise UserError(f"callbacks.hopeless.{name}={value}: at least 1")
        self.folder = Path(folder)
        self.monitor = f"val/{objective}"
        self.mode = direction(objective)
        self.jobs = jobs
        self.validations = validations
        self.best: float | None = None
        self.seen = 0
        self.reason = ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare this validation with the others; the first process decides for all."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        self.seen += 1
        value = float(trainer.callback_metrics[self.monitor])
        if math.isfinite(value):
            self.best = self._better([*self._own(), value])
        over = trainer.global_step >= trainer.estimated_stepping_batches
        if self.seen < self.validations or over:
            return
        verdict = self._verdict(trainer.global_step) if trainer.is_global_zero else ""
        self.reason = trainer.strategy.broadcast(verdict)
        if self.reason:
            log.info("stopped: %s", self.reason)
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on has to know."""
        return {"best": self.best, "seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what an earlier training knew."""
        self.best, self.seen = state_dict["best"], state_dict["seen"]

    def _verdict(self, step: int) -> str:
        others = [one for file in self._others() if (one := self._reached(file, step)) is not None]
        if len(others) < self.jobs or self.best is None:
            return ""
        median = statistics.median(others)
        if self._better([self.best, median]) == self.best:
            return ""
        return (
            f"{self.monitor} was {self.best:.4g} at best by step {step}, and the median of"
            f" {len(others)} other jobs {median:.4g}"
        )

    def _others(self) -> list[Path]:
        files = self.folder.parent.glob("*/metrics.csv")
        return [file for file in files if file.parent.resolve() != self.folder.resolve()]

    def _reached(self, file: Path, step: int) -> float | None:
        """The best value of another job by a step; None of one that did not come so far."""
        column = read_column(file, self.monitor)
        values = [value for at, value in column if at <= step]
        came = any(at >= step for at, _ in column)
        return self._better(values) if values and came else None

    def _own(self) -> list[float]:
        return [] if self.best is None else [self.best]

    def _better(self, values: list[float]) -> float:
        return min(values) if self.mode == "min" else max(values)
