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
from lightning.pytorch.trainer.states import TrainerFn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Interruption(Callback):
    """Ends the training between two steps after the first signal, at once after a second Ctrl-C.

    The program's status tells which signal it was: 128 plus its number. Further signals change
    nothing as long as what there is is being saved. Lightning gives the signals back, as they were
    before the training, when it clears up behind that.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, which would leave a step in its middle."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.received is signal.SIGINT and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.received = self.received or signal.Signals(number)

        for one in SIGNALS:
            # What is ignored stays so: a script's background jobs do not mean its Ctrl-C.
            if signal.getsignal(one) != signal.SIG_IGN:
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
        if self.agreed(trainer):
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
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and self.agreed(trainer):
            raise SystemExit  # on_exception knows the status

    def agreed(self, trainer: Trainer) -> bool:
        """Whether any rank was told to end; all of them ask together, and know it then."""
        number = torch.tensor(self.received or 0, device=trainer.strategy.root_device)
        agreed = int(trainer.strategy.reduce(number, reduce_op="max"))
        if agreed:
            self.received = signal.Signals(agreed)
        return bool(agreed)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the exception the status of the signal."""
        if self.received and isinstance(exception, SystemExit):
            exception.code = 128 + self.received
