"""Lets a training that is told to end finish its step, so that it can go on exactly from there.

A validation is not finished: it may take longer than a cluster waits, and what was saved before the
step that it followed is close.

Ctrl-C, SIGTERM, and SIGUSR1 and SIGUSR2, which clusters send before they take a machine away.
"""

import signal
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Interruption(Callback):
    """Ends the training between two steps after the first signal, at once after a second Ctrl-C.

    The program's status tells which signal it was: 128 plus its number.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, which would leave a step in its middle."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.received is signal.SIGINT and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.received = self.received or signal.Signals(number)

        handlers = {one: signal.getsignal(one) for one in SIGNALS}
        # What is ignored stays so: a script's background jobs do not mean its Ctrl-C.
        self._before = {one: old for one, old in handlers.items() if old != signal.SIG_IGN}
        for one in self._before:
            signal.signal(one, note)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Let all ranks leave after this step when one of them was told to end."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # in the middle of a step
        if self._agreed(trainer, pl_module):
            # Lightning looks at this when the step, and the validation behind it, is complete.
            trainer._signal_connector.received_sigterm = True

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Let all ranks leave a validation within the training."""
        if self._before and self._agreed(trainer, pl_module):
            raise SystemExit  # on_exception knows the status

    def _agreed(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Whether any rank was told to end; every one of them knows it then."""
        number = torch.tensor(self.received or 0, device=pl_module.device)
        agreed = int(trainer.strategy.reduce(number, reduce_op="max"))
        if agreed:
            self.received = signal.Signals(agreed)
        return bool(agreed)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the exception the status of the signal, and the signals back."""
        if self.received and isinstance(exception, SystemExit):
            exception.code = 128 + self.received
        self._give_back()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}
