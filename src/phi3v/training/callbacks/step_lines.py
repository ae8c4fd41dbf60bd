"""Progress as plain lines, readable on a terminal, in a log file and in a CI log alike.

    step 12/228 loss 1.234 lr 3.9e-03 41 examples/s 4.1k tokens/s 1.2 GiB
    validation after step 76: loss 0.4321 parse_rate 0.99 full_price/mape 0.2134

Lines go to the log; the program decides where the log goes.
"""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from phi3v.training.crowding import Crowding
from phi3v.training.module import FineTuning

log = logging.getLogger(__name__)

MUCH_WAITING = 0.2  # of a step: more data.num_workers may help


class StepLines(Callback):
    """Logs a line for the first step at once, then one whenever enough time or steps passed.

    Args:
        seconds: A line after so many seconds.
        steps: A line after so many optimizer steps, 0 for none.
    """

    def __init__(self, seconds: float = 5.0, steps: int = 0) -> None:
        self.seconds = seconds
        self.steps = steps
        self._examples = 0
        self._tokens = 0.0
        self._counted = 0  # the step whose tokens are among them
        self._step = -1
        self._total = 0
        self._since = 0.0
        self._crowding = Crowding()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a resumed training goes on counting from its step."""
        self._total = int(trainer.estimated_stepping_batches)
        self._step = -1
        self._start()

    @rank_zero_only
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the batch's examples and say so when a line is due."""
        self._examples += len(batch["ids"]) * trainer.world_size
        step = trainer.global_step
        if step != self._counted:
            self._counted = step
            assert isinstance(pl_module, FineTuning)
            self._tokens += pl_module.last_step.tokens
        if step == self._step or not self._due(step):
            return
        now = time.monotonic()
        speed = self._examples / max(now - self._since, 1e-9)
        loss = float(trainer.callback_metrics.get("train/loss", math.nan))
        lr = self._learning_rate(trainer)
        tokens = self._tokens / max(now - self._since, 1e-9)
        log.info(
            f"step {step}/{self._total} loss {loss:.3f} lr {lr:.1e} {_short(speed)} examples/s"
            f" {_thousands(tokens)} tokens/s{_device(trainer.callback_metrics)}"
        )
        if pl_module.device.type == "cpu" and (hint := self._crowding.hint()):
            log.warning(hint)
        self._step = step
        self._start()

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log loss, parse rate and what selects the checkpoint; start the clock anew."""
        if trainer.sanity_checking:
            return
        chosen = [getattr(one, "monitor", None) for one in trainer.checkpoint_callbacks]
        names = dict.fromkeys(["val/loss", "val/parse_rate", *filter(None, chosen)])
        found = [(name, trainer.callback_metrics.get(name)) for name in names]
        values = [f"{n.removeprefix('val/')} {float(v):.4g}" for n, v in found if v is not None]
        log.info(f"validation after step {trainer.global_step}: {' '.join(values)}")
        self._start()

    def _start(self) -> None:
        self._examples, self._tokens, self._since = 0, 0.0, time.monotonic()
        self._crowding.start()

    def _learning_rate(self, trainer: Trainer) -> float:
        """That of the step just done, of the first parameter group."""
        group = trainer.optimizers[0].param_groups[0]
        return float(trainer.callback_metrics.get(f"lr/{group['name']}", group["lr"]))

    def _due(self, step: int) -> bool:
        if step < 1:
            return False  # still gathering gradients for the first step
        if self._step < 0 or step >= self._total:
            return True
        enough_steps = self.steps > 0 and step - self._step >= self.steps
        return enough_steps or time.monotonic() - self._since >= self.seconds


def _short(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"


def _thousands(number: float) -> str:
    return f"{number / 1000:.1f}k" if number >= 1000 else f"{number:.0f}"


def _device(metrics: Mapping[str, Tensor]) -> str:
    """Memory, use of the device and, where it is much, the wait for data in the latest step."""
    memory, mfu = metrics.get("memory/peak_gib"), metrics.get("speed/mfu")
    wait = float(metrics.get("speed/data_wait", 0.0))
    return (
        (f" {memory:.1f} GiB" if memory is not None else "")
        + (f" mfu {mfu:.0%}" if mfu is not None else "")
        + (f" {wait:.0%} waiting for data" if wait >= MUCH_WAITING else "")
    )
