"""All that a training is made of, built from its configuration and checked against each other.

setup = set_up(cfg, run, begun)
setup.trainer.fit(setup.module, datamodule=setup.pieces.data)
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import lightning
from lightning.pytorch import Callback
from omegaconf import DictConfig

from phi3v.adapter import Adapter
from phi3v.adapter.merging import takes_from_base
from phi3v.config import instantiate, public_config
from phi3v.config.containers import dotted_keys, value_at
from phi3v.config.launchers import is_first_process
from phi3v.data import Example
from phi3v.data.splits import save_splits
from phi3v.metric import FieldMetrics
from phi3v.run.assembly import Pieces, adapter_of, build, remember_pictures
from phi3v.run.checks import (
    batches_planned,
    check_intervals,
    check_lora_plus,
    check_monitored,
    check_objective,
    check_shares,
    check_splits,
    make_trainer,
)
from phi3v.run.directory import RunDirectory
from phi3v.run.plan import plan
from phi3v.run.resuming import Begun, RecordSettings
from phi3v.run.scoring import field_values
from phi3v.task import Task
from phi3v.training import FineTuning, Interruption, LoggedStep, RankGuard, ShardedStrategy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """A training that can begin.

    Attributes:
        trainer: Has the callbacks already.
        callbacks: Those of the configuration and the house's own.
        interruption: Knows whether the training was told to end.
        adapter: What trains.
        pieces: Task, data and base.
        module: The model with its adapter, and how it learns.
    """

    trainer: lightning.Trainer
    callbacks: list[Callback]
    interruption: Interruption
    adapter: Adapter
    pieces: Pieces
    module: FineTuning

    @property
    def divided(self) -> bool:
        """Whether processes share the weights."""
        return isinstance(self.trainer.strategy, ShardedStrategy)


def set_up(cfg: DictConfig, run: RunDirectory, begun: Begun) -> Setup:
    """Build a training, what is cheap first: mistakes are told before a large model is loaded.

    Args:
        cfg: The configuration.
        run: Gets the splits; has them already where the training goes on.
        begun: What there is of the training.

    Raises:
        UserError: For whatever the user has to put right.
    """
    adapter = adapter_of(cfg, starts=begun.checkpoint is None)
    optimizer, scheduler = instantiate(cfg.optimizer), instantiate(cfg.scheduler)
    check_lora_plus(cfg, adapter)
    interruption = Interruption()
    callbacks = [instantiate(node) for node in (cfg.callbacks or {}).values()]
    same = {**settings_of(cfg), "the checkpoint's step": begun.step}
    callbacks += [RankGuard(same), interruption, LoggedStep()]
    if begun.checkpoint:
        callbacks.append(RecordSettings(cfg, run))
    trainer = make_trainer(cfg, callbacks)
    task = cast(Task, instantiate(cfg.task))
    check_objective(cfg.objective, task)
    check_monitored(cfg, task, callbacks)
    if note := _unlike_peft(cfg):
        log.info(note)
    pieces = _pieces(cfg, run, begun, adapter, trainer)

    model = adapter.attach(pieces.loaded.model)
    if not isinstance(trainer.strategy, ShardedStrategy):
        # All processes of a divided model have to look at the same time.
        remember_pictures(model, cfg.model.get("vision_cache_gib", 0))
    module = FineTuning(
        model,
        pieces.loaded.processor,
        pieces.task,
        optimizer=optimizer,
        scheduler=scheduler,
        metrics=FieldMetrics(pieces.task, field_values(pieces.task, pieces.data.examples["train"])),
        max_new_tokens=cfg.max_new_tokens,
        seed=cfg.seed,
        max_skipped_steps=cfg.max_skipped_steps,
        weights=pieces.loaded.weights,
    )
    return Setup(trainer, callbacks, interruption, adapter, pieces, module)


def _pieces(
    cfg: DictConfig, run: RunDirectory, begun: Begun, adapter: Adapter, trainer: lightning.Trainer
) -> Pieces:
    """Loads data and base, and tells what there is; the splits are written down."""
    divided = isinstance(trainer.strategy, ShardedStrategy)
    # The examples that the run was begun with keep their places.
    splits_file = run.splits if begun.checkpoint else None

    def check_early(examples: Sequence[Example]) -> None:
        check_shares(trainer, partial(batches_planned, cfg, trainer, examples, splits_file))

    pieces = build(
        cfg,
        splits_file=splits_file,
        hollow=divided and not adapter.reads_weights,
        device=None if divided else trainer.strategy.root_device,
        check=check_early,
    )
    check_splits(pieces)
    data = pieces.data
    data.trainer = trainer  # which decides how many batches an epoch has on this rank
    loaders = {"train": data.train_dataloader, "val": data.val_dataloader}
    check_shares(trainer, lambda split: len(loaders[split]()))  # without what was left out
    check_intervals(trainer, data)
    if is_first_process() and begun.checkpoint is None:  # else they have come from there
        save_splits(pieces.data.splits, run.splits)
    log.info(pieces.data.summary())
    log.info(plan(trainer, pieces.data))
    return pieces


def _unlike_peft(cfg: DictConfig) -> str | None:
    """What there is to know of an adapter with which PEFT alone computes something else."""
    dtype, init = cfg.model.get("dtype", "float32"), cfg.adapter.get("init")
    takes = takes_from_base({"init_lora_weights": init})
    if dtype == "float32" or not (takes or cfg.adapter.get("whole")):
        return None
    what = f"adapter.init={init}" if takes else "adapter.whole"
    return (
        f"{what} on a base in {dtype}: with PEFT alone this adapter will give other logits; take "
        "the model elsewhere by phi3v export --merge, or give model.dtype=float32"
    )


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """Every value of a configuration by its dotted key."""
    plain = public_config(cfg)
    values = {key: value_at(plain, key) for key in dotted_keys(plain)}
    return {key: value for key, value in values.items() if not isinstance(value, Mapping)}
