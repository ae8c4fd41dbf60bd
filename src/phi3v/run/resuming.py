"""Goes on with a training that was interrupted: where its directory and its checkpoints leave it.

begun = take_up(cfg, run)
trainer.fit(module, datamodule=data, ckpt_path=begun.checkpoint)
"""

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from phi3v.config import save_config
from phi3v.config.launchers import is_first_process
from phi3v.errors import UserError
from phi3v.run.directory import RunDirectory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begun:
    """What there is of a training already.

    Attributes:
        checkpoint: To go on from; None where nothing was saved yet.
        step: Steps of the optimizer that were taken by then.
    """

    checkpoint: Path | None = None
    step: int = 0


class RecordSettings(Callback):
    """Writes down what a training goes on with, in the place of what it was begun with.

    Not before it has been taken up: settings that are refused must not stay with the run.
    """

    def __init__(self, cfg: DictConfig, run: RunDirectory) -> None:
        self.cfg = cfg
        self.run = run
        self._written = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write them before the first step, for the next one to go on.

        Not when the training starts: callbacks are asked before the module, which may refuse.
        """
        self._write(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them where no step was left, and what is to come are the test figures."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and not self._written:
            save_config(self.cfg, self.run.path)
            self._written = True


def goes_on(cfg: DictConfig) -> bool:
    """Whether this training may be the rest of another one."""
    return bool(cfg.resume or cfg.run)


def take_up(cfg: DictConfig, run: RunDirectory) -> Begun:
    """Finds out where a run was left, and puts aside what is broken there.

    The next checkpoint would otherwise make the broken one the one before, in the place of a good
    one.

    Raises:
        UserError: When `run=` names one without a checkpoint, or none that is there can be read.
    """
    found, broken = _look(run.checkpoints)
    if not found and broken:
        raise UserError(
            f"{run.checkpoints}: none of the {len(broken)} checkpoints there can be read, so there"
            " is nothing to go on from; put back a copy of one, or start anew with resume=false"
        )
    if not found and cfg.run:
        raise UserError(f"run={cfg.run}: there is no checkpoint to go on from; start it anew")
    if is_first_process():
        for file in broken:
            file.replace(file.with_name(f"{file.name}.broken"))
    return found[-1] if found else Begun()


def newest(folder: Path) -> Begun:
    """The checkpoint of the latest step that can be read; broken ones are told."""
    found, _ = _look(folder)
    return found[-1] if found else Begun()


def _look(folder: Path) -> tuple[list[Begun], list[Path]]:
    """The checkpoints by their steps, and the files that cannot be read, which are told."""
    found: list[Begun] = []
    broken: list[Path] = []
    for file in sorted(folder.glob("*.ckpt")):
        try:
            found.append(Begun(file, _step_of(file)))
        except UserError as error:
            log.warning("%s", error)
            broken.append(file)
    # Of equals last.ckpt: it was written after the validation.
    found.sort(
        key=lambda one: (one.step, one.checkpoint is not None and one.checkpoint.stem == "last")
    )
    return found, broken


def _step_of(file: Path) -> int:
    """The step of a checkpoint, every byte of which is compared with its checksum."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        if broken is None:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return int(state["global_step"])
        reason = f"{broken} is damaged"
    except (
        Exception
    ) as error:  # torch and zipfile raise whatever a torn file makes them stumble over
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise UserError(f"{file} cannot be read and is left out: {reason}")
