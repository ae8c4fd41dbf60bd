"""Says so when a training stands still: a loader that hangs, a process that the others wait for.

Every process watches itself, so that with several of them one can see which one holds up the rest.
"""

import logging
import sys
import threading
import time
import traceback
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from phi3v.errors import UserError

log = logging.getLogger(__name__)


class StallReport(Callback):
    """Reports, from a thread of its own, what the training is doing while nothing gets done.

    It says so again each time that the wait has doubled, and ends nothing: a step may be slow.

    Args:
        seconds: After so many without a micro-batch that was completed; 0 for never.
    """

    def __init__(self, seconds: float = 45) -> None:
        if seconds < 0:
            raise UserError(f"callbacks.stall.seconds={seconds}: at least 0, which is never")
        self.seconds = seconds
        self._doing = ""
        self._since = 0.0
        self._rank = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch."""
        if not self.seconds:
            return
        self._rank = trainer.global_rank
        self._begin("before the first batch")
        self._stop = threading.Event()
        main = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(main, self._stop), daemon=True)
        self._thread.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note that the batch has come."""
        self._begin(f"in step {trainer.global_step + 1}")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note that the next one has to come."""
        self._begin(f"after step {trainer.global_step}, before the next batch")

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note that a batch of the validation has begun."""
        self._begin(f"in batch {batch_idx + 1} of a validation")

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
        self._begin(f"after batch {batch_idx + 1} of a validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the watch."""
        self._stop.set()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the watch."""
        self._stop.set()

    def _begin(self, doing: str) -> None:
        self._doing, self._since = doing, time.monotonic()

    def _watch(self, main: int, stop: threading.Event) -> None:
        since, limit = self._since, self.seconds
        while not stop.wait(min(1.0, max(0.05, self.seconds / 4))):
            if self._since != since:
                since, limit = self._since, self.seconds
            if (waited := time.monotonic() - since) >= limit:
                limit = 2 * waited
                log.error(
                    "rank %d: nothing done for %.0f s, %s (%s)",
                    self._rank, waited, self._doing, place_of(main),
                )  # fmt: skip


def place_of(thread: int) -> str:
    """Where a thread is, as "function, file:line" of its innermost frame."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "it has ended"
    inner = traceback.extract_stack(frame)[-1]
    return f"{inner.name}, {inner.filename}:{inner.lineno}"
