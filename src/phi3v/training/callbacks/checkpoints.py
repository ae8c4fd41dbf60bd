"""`best.ckpt` by a metric of the generated answers, and `last.ckpt` to go on from.

    BestCheckpoint(folder="<run>/checkpoints", objective="full_price/mape")
    LastCheckpoint(folder="<run>/checkpoints")

Both hold the trained weights, optimizer, schedule and loop (see FineTuning), not the base.
"""

import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from phi3v.errors import UserError
from phi3v.task import direction
from phi3v.training.non_finite import NonFiniteStep

PREVIOUS = "previous.ckpt"
log = logging.getLogger(__name__)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint that was best on validation, as `<folder>/best.ckpt`.

    Attributes:
        best_values: Every val/ metric of the best validation.

    Args:
        folder: Where it is written.
        objective: The metric as the task names it, "<field>/<metric>" or "parse_rate".
        keep: So many of the best are kept; more than one are named by their step,
            `best-step=<n>.ckpt`.
    """

    def __init__(self, folder: str | Path, objective: str, keep: int = 1) -> None:
        if keep < 1:
            raise UserError(f"callbacks.best.keep={keep}: at least 1; or leave out callbacks.best")
        super().__init__(
            dirpath=str(folder),
            filename="best" if keep == 1 else "best-{step}",
            monitor=f"val/{objective}",
            mode=direction(objective),
            save_top_k=keep,
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # after each validation, also within an epoch
        )
        self.best_values: dict[str, float] = {}

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        # A training that goes on from this very file has to find its own values in it.
        if filepath == self.best_model_path:
            self.best_values = {
                name: float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("val/")
            }
        super()._save_checkpoint(trainer, filepath)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know, the best validation's metrics among it."""
        return {**super().state_dict(), "best_values": self.best_values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what an earlier training knew, also where its folder has been moved."""
        super().load_state_dict(_moved(state_dict, str(self.dirpath)))
        self.best_values = state_dict.get("best_values", {})
        self._forget_what_is_gone()
        self._keep_no_more()

    def _forget_what_is_gone(self) -> None:
        """Keep no score of a file that is not there: its weights could not be used at the end."""
        gone = [path for path in self.best_k_models if not Path(path).is_file()]
        if self.best_model_path in gone:
            log.warning(
                "%s is gone or broken: the best is looked for anew from here", self.best_model_path
            )
            gone = list(self.best_k_models)
            self.best_model_path, self.best_model_score, self.best_values = "", None, {}
        for path in gone:
            del self.best_k_models[path]

    def _keep_no_more(self) -> None:
        """Take the best of them for those that are kept; an earlier part may have kept others."""
        order = sorted(
            self.best_k_models,
            key=lambda path: float(self.best_k_models[path]),
            reverse=self.mode == "max",
        )
        for path in order[self.save_top_k :]:
            log.warning("%s stays, but is kept no longer: callbacks.best.keep", path)
            del self.best_k_models[path]
        worst = max if self.mode == "min" else min
        self.kth_best_model_path = (
            worst(self.best_k_models, key=lambda path: float(self.best_k_models[path]))
            if len(self.best_k_models) == self.save_top_k
            else ""
        )


class LastCheckpoint(ModelCheckpoint):
    """Keeps the latest state from which a training can go on exactly, as `<folder>/last.ckpt`.

    It is saved when an epoch is complete, after its validation; within an epoch whenever enough
    time or steps have passed, between two steps, and one step before a validation and behind it;
    and when the training is interrupted or is about to take a step that is not finite. What is
    interrupted in the middle of a step or of a validation is not saved: nothing can go on exactly
    from there. The one before is kept as `<folder>/previous.ckpt`, in case that the last one cannot
    be read.

    Args:
        folder: Where it is written.
        minutes: Saves within an epoch after so many minutes.
        steps: Saves within an epoch after every so many steps, 0 for by time alone.
    """

    def __init__(self, folder: str | Path, minutes: float = 10, steps: int = 0) -> None:
        super().__init__(
            dirpath=str(folder),
            filename="last",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
        for name, value in {"minutes": minutes, "steps": steps}.items():
            if value < 0:
                raise UserError(f"callbacks.last.{name}={value}: at least 0")
        self.minutes = minutes
        self.steps = steps
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save between two steps when it is time, unless a validation comes first.

        Lightning would leave out that validation when it goes on from there. Before the step that
        comes before a validation it is always time: that may be interrupted, and take long.
        """
        done, micro_batches = batch_idx + 1, trainer.accumulate_grad_batches
        late = trainer.strategy.broadcast(self._is_late())
        due = late or (self.steps > 0 and trainer.global_step % self.steps == 0)
        due = due or _validates(trainer, done, micro_batches)
        if done % micro_batches == 0 and due and not _validates(trainer, done):
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save behind a validation within an epoch; the one at its end has the epoch's own save."""
        within = not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if trainer.state.fn == TrainerFn.FITTING and within and not trainer.sanity_checking:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save where an interruption between steps left the training, and nothing else.

        What was told to end before its first step has nothing to save.
        """
        told = isinstance(exception, SystemExit) and trainer.global_step > 0
        if (told or isinstance(exception, NonFiniteStep)) and not trainer.validating:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what an earlier training knew, also where its folder has been moved."""
        super().load_state_dict(_moved(state_dict, str(self.dirpath)))

    def _is_late(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.minutes

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if trainer.is_global_zero and Path(filepath).exists():
            _keep(Path(filepath))
        super()._save_checkpoint(trainer, filepath)
        self._saved_at = time.monotonic()


def _validates(trainer: Trainer, done: int, ahead: int = 0) -> bool:
    """Whether a validation follows, so many micro-batches ahead of those done of this epoch."""
    last = done + ahead >= trainer.num_training_batches
    if trainer.check_val_every_n_epoch is None:  # Lightning counts on over the epochs
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
    return last or (done + ahead) % (trainer.val_check_batch or math.inf) == 0


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """A checkpoint callback's state with the paths that it has in this folder.

    Lightning would forget the best score otherwise, and look for the best file at the old place.
    """

    def here(path: str) -> str:
        return str(Path(folder) / Path(path).name) if path else path

    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    return {
        **state,
        "dirpath": folder,
        **{name: here(state[name]) for name in names},
        "best_k_models": {here(path): score for path, score in state["best_k_models"].items()},
    }


def _keep(last: Path) -> None:
    """Give the latest checkpoint a second name; there is one of its own name at every moment."""
    link = last.with_name(f"{PREVIOUS}.part")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(last)
    except OSError:  # not every file system has hard links
        shutil.copyfile(last, link)
    link.replace(last.with_name(PREVIOUS))
