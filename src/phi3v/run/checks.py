"""What can be told before anything heavy is loaded, or before the first step.

trainer = make_trainer(cfg, callbacks)
check_objective(cfg.objective, task)
check_splits(pieces)
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from omegaconf import DictConfig

from phi3v.adapter import Adapter
from phi3v.config import instantiate
from phi3v.config.launchers import launched_processes
from phi3v.config.resolvers import count_devices
from phi3v.data import Example, ImageTextDataModule, LengthBatchSampler, make_splits
from phi3v.data.splits import read_splits
from phi3v.errors import UserError
from phi3v.optim.adamw import no_lora_to_speed_up
from phi3v.run.assembly import Pieces
from phi3v.run.plan import batches_of_an_epoch
from phi3v.task import Task
from phi3v.training import AtomicCheckpointIO


def make_trainer(cfg: DictConfig, callbacks: list[Any]) -> lightning.Trainer:
    """Lightning's Trainer as the group `trainer` says; its loggers come later.

    Raises:
        UserError: When this machine cannot do it: no GPU, fewer devices, another precision; or
            when its strategy would copy this process.
    """
    try:
        trainer: lightning.Trainer = instantiate(
            cfg.trainer,
            logger=False,
            callbacks=callbacks,
            # Lightning adds a checkpoint callback of its own where none is given.
            enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
            plugins=[AtomicCheckpointIO()],
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"trainer: {reason[:300]} (trainer=cpu runs on any machine)") from error
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        # What its copies learn, or answer, stays with them.
        raise UserError(
            f"trainer.strategy={cfg.trainer.strategy}: it copies this process instead of starting "
            "others like it; give trainer.strategy=ddp"
        )
    return trainer


def check_processes(cfg: DictConfig) -> None:
    """Refuses another number of processes than the configuration is made for.

    Raises:
        UserError: When torchrun or SLURM has started too few or too many.
    """
    started = launched_processes()
    planned = cfg.trainer.num_nodes * count_devices(cfg.trainer.devices)
    if started not in (1, planned):
        raise UserError(
            f"{started} processes were started, and trainer.devices={cfg.trainer.devices} with "
            f"trainer.num_nodes={cfg.trainer.num_nodes} makes {planned}: give numbers that fit"
        )


def check_nodes(cfg: DictConfig) -> None:
    """Refuses to wait for other nodes where nobody has started anything on them.

    Raises:
        UserError: When an evaluation is for several nodes and was started by hand.
    """
    if cfg.trainer.num_nodes > 1 and launched_processes() == 1:
        raise UserError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}: this is one process on one node; give "
            "trainer.num_nodes=1 and what fits there, or start it with torchrun or srun"
        )


def check_trainer(cfg: DictConfig) -> None:
    """Refuses what Lightning's Trainer takes and cannot mean.

    Raises:
        UserError: For numbers out of their range, and for nodes that nobody has started.
    """
    trainer = cfg.trainer
    least = {"max_epochs": (1, -1), "check_val_every_n_epoch": (1,), "log_every_n_steps": (0,)}
    for name, (lowest, *others) in {**least, "gradient_clip_val": (0,)}.items():
        value = trainer.get(name)
        if isinstance(value, int | float) and value < lowest and value not in others:
            raise UserError(f"trainer.{name}={value}: at least {lowest}")
    if trainer.num_nodes > 1 and launched_processes() == 1 and "NODE_RANK" not in os.environ:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: this is one process on one node, which would "
            "wait for the others; start it on each of them with torchrun or srun"
        )


def check_step(cfg: DictConfig) -> None:
    """Refuses shares of a step that do not make up the step.

    Raises:
        UserError: When a step would have another number of examples than `batch_size`.
    """
    together = count_devices(cfg.trainer.devices) * cfg.trainer.num_nodes * cfg.data.batch_size
    examples = together * cfg.trainer.accumulate_grad_batches
    if examples != cfg.batch_size:
        raise UserError(
            f"trainer.accumulate_grad_batches={cfg.trainer.accumulate_grad_batches}: a step would "
            f"have {examples} examples, and batch_size={cfg.batch_size}; leave it out, it follows "
            "from batch_size and data.batch_size"
        )


def check_lora_plus(cfg: DictConfig, adapter: Adapter) -> None:
    """Refuses LoRA+ where no LoRA trains, before a model is loaded.

    Raises:
        UserError: When it is asked for and the adapter is another.
    """
    ratio = cfg.optimizer.get("lora_plus_ratio", 1)
    if ratio != 1 and adapter.kind != "lora":
        raise UserError(no_lora_to_speed_up(ratio))


def check_objective(objective: str, task: Task) -> None:
    """Refuses an objective that nothing will measure.

    Raises:
        UserError: When it is no metric of the task on "val" or "test".
    """
    split, _, metric = objective.partition("/")
    if split not in ("val", "test") or metric not in task.metric_names:
        raise UserError(
            f"objective={objective}: give val/ or test/ and one of {', '.join(task.metric_names)}"
        )


def check_monitored(cfg: DictConfig, task: Task, callbacks: list[Any]) -> None:
    """Refuses what would wait for a validation that never comes or never measures it.

    Raises:
        UserError: When nothing is validated, or a callback watches a metric that does not exist.
    """
    split, _, metric = str(cfg.objective).partition("/")
    if split == "val" and not cfg.trainer.limit_val_batches:
        raise UserError(
            f"objective={cfg.objective}: nothing is validated with trainer.limit_val_batches=0; "
            f"give objective=test/{metric}"
        )
    known = {"train/loss", "val/loss", *(f"val/{name}" for name in task.metric_names)}
    for callback in callbacks:
        monitored = getattr(callback, "monitor", None)
        if monitored is not None and monitored not in known:
            raise UserError(
                f"{type(callback).__name__} watches {monitored!r}, which nothing measures; there"
                f" are {', '.join(sorted(known))}"
            )


def check_shares(trainer: lightning.Trainer, batches: Callable[[str], int]) -> None:
    """Refuses a share of the batches that is none of them, where something has to be done with one.

    Args:
        trainer: Its limits are numbers of batches (int) or shares of them (float).
        batches: How many there are, by split; asked only for what a share is taken of.

    Raises:
        UserError: When nothing would be trained, or a validation that is wanted would be empty.
    """
    if not trainer.limit_train_batches:
        raise UserError(
            "trainer.limit_train_batches=0: nothing would be trained; give at least 1, or score"
            " the base as it is with python eval.py"
        )
    overfits = bool(getattr(trainer, "overfit_batches", 0))  # which goes before the limits
    for split in ("train", "val"):
        share = getattr(trainer, f"limit_{split}_batches")
        if not isinstance(share, float) or share in (0.0, 1.0):
            continue
        if int((number := batches(split)) * share) < 1:
            key = "overfit_batches" if overfits else f"limit_{split}_batches"
            least = math.ceil(1e4 / number) / 1e4
            raise UserError(
                f"trainer.{key}={share:g}: of the {number} batches of {split} that is none; give at"
                f" least {least:g}, or a number of batches such as 1"
            )


def batches_planned(
    cfg: DictConfig,
    trainer: lightning.Trainer,
    examples: Sequence[Example],
    splits_file: Path | None,
    split: str,
) -> int:
    """How many batches a rank has of a split, told before the examples are measured.

    Args:
        cfg: The configuration; its data may still be left out where they turn out unusable.
        trainer: Knows how many processes there are.
        examples: All that the source has.
        splits_file: Says which of them are whose; None divides them as the configuration says.
        split: "train" or "val".
    """
    data, training = cfg.data, split == "train"
    file = splits_file or (Path(data.splits_file) if data.get("splits_file") else None)
    shares, seed = dict(data.splits), data.get("seed", 0)
    splits = read_splits(file) if file else make_splits(examples, shares, seed)
    count = len(splits.get(split, ()))
    if not training and (most := data.get("eval_limit")) is not None:
        count = min(count, most)
    sampler = LengthBatchSampler(
        [1] * count,
        batch_size=data.batch_size if training else data.get("eval_batch_size") or data.batch_size,
        drop_last=training and bool(data.get("drop_last")),
        num_replicas=trainer.world_size,
        accumulate=trainer.accumulate_grad_batches if training else 1,
    )
    return len(sampler)


def check_intervals(trainer: lightning.Trainer, data: ImageTextDataModule) -> None:
    """Refuses a validation that comes after more batches than an epoch has, or within a step.

    Raises:
        UserError: When it would never come, or come where no training can be saved before it.
    """
    interval = getattr(trainer, "val_check_interval", None)  # none where it is a time
    batches = batches_of_an_epoch(trainer, data) if trainer.limit_val_batches else 0
    if interval is None or not batches:
        return
    every = max(1, int(batches * interval)) if isinstance(interval, float) else interval
    if every < 1:
        raise UserError(
            f"trainer.val_check_interval={interval}: at least 1; trainer.limit_val_batches=0 "
            "validates nothing"
        )
    if trainer.check_val_every_n_epoch is not None and batches < every:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches; give at most "
            "that, or trainer.check_val_every_n_epoch=null to count on over the epochs"
        )
    _check_between_steps(trainer, every, batches)


def _check_between_steps(trainer: lightning.Trainer, every: int, batches: int) -> None:
    """Refuses a validation that comes while the micro-batches of a step are gathered."""
    step = trainer.accumulate_grad_batches
    by_epoch = trainer.check_val_every_n_epoch is not None
    if not by_epoch and batches % step:
        raise UserError(
            f"trainer.check_val_every_n_epoch=null: the last step of an epoch of {batches} batches "
            f"has fewer than accumulate_grad_batches={step}, so that none can be counted on over "
            "the epochs; give a multiple as trainer.limit_train_batches, or a number for null"
        )
    if every % step and every != batches:
        whole = f", or {batches} for the end of each epoch" if by_epoch else ""
        raise UserError(
            f"trainer.val_check_interval={trainer.val_check_interval}: after {every} batches, that "
            f"is in the middle of a step of accumulate_grad_batches={step}; give a multiple{whole}"
        )


def check_splits(pieces: Pieces) -> None:
    """Refuses data without the splits that a training needs, before it begins.

    Raises:
        UserError: When "train", "val" or "test" is missing or empty.
    """
    for split in ("train", "val", "test"):
        if not pieces.data.examples.get(split):
            raise UserError(
                f"split={split}: it has no examples; a training needs train, val and test (see"
                " data.splits and data.splits_file)"
            )
