"""THE flow of a training: data, model, adapter, fit, test, report.

objective = train(cfg)
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning
from omegaconf import DictConfig
from torch import nn

from phi3v.adapter import Adapter, load_trained_state, round_to_base, save_adapter
from phi3v.config import instantiate, public_config, save_config
from phi3v.config.containers import dotted_keys, value_at
from phi3v.config.launchers import is_first_process
from phi3v.data.splits import save_splits
from phi3v.errors import PrunedError
from phi3v.metric import FieldMetrics
from phi3v.run.answering import answer
from phi3v.run.assembly import Pieces, adapter_of, base_again, base_of, build, remember_pictures
from phi3v.run.checks import (
    check_intervals,
    check_lora_plus,
    check_monitored,
    check_numbers,
    check_objective,
    check_processes,
    check_splits,
    check_step,
    make_trainer,
)
from phi3v.run.directory import RunDirectory
from phi3v.run.ending import show_results, write_results
from phi3v.run.environment import environment
from phi3v.run.loggers import log_final, make_loggers
from phi3v.run.numerics import repeatable
from phi3v.run.plan import plan
from phi3v.run.quiet import quiet_libraries
from phi3v.run.ranks import ending_together, leave
from phi3v.run.resuming import Begun, goes_on, take_up
from phi3v.run.scoring import field_values, score
from phi3v.task import Task
from phi3v.training import (
    BestCheckpoint,
    FineTuning,
    Interruption,
    RankGuard,
    ShardedStrategy,
    StopHopeless,
    read_weights,
)

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Trains, evaluates and reports one run.

    Returns:
        The value of `cfg.objective`, on the first process; None on the others.

    Raises:
        UserError: For whatever the user has to put right.
    """
    run = RunDirectory(Path(cfg.paths.run))
    quiet_libraries()
    check_processes(cfg)
    check_numbers(cfg)
    check_step(cfg)
    repeatable(cfg.seed)
    begun = take_up(cfg, run) if goes_on(cfg) else Begun()
    writes = is_first_process()
    if writes and begun.checkpoint is None:
        save_config(cfg, run.path)
    if writes:
        run.write_environment(environment(cfg.seed))

    # What is cheap comes first: its mistakes are told before a large model is loaded.
    adapter = adapter_of(cfg, starts=begun.checkpoint is None)
    optimizer, scheduler = instantiate(cfg.optimizer), instantiate(cfg.scheduler)
    check_lora_plus(cfg, adapter)
    callbacks = [instantiate(node) for node in (cfg.callbacks or {}).values()]
    interruption = Interruption()
    callbacks += [RankGuard(settings_of(cfg)), interruption]
    trainer = make_trainer(cfg, callbacks)
    task = cast(Task, instantiate(cfg.task))
    check_objective(cfg.objective, task)
    check_monitored(cfg, task, callbacks)

    # The examples that the run was begun with keep their places.
    divided = isinstance(trainer.strategy, ShardedStrategy)
    pieces = build(
        cfg,
        splits_file=run.splits if begun.checkpoint else None,
        hollow=divided and not adapter.reads_weights,
        device=None if divided else trainer.strategy.root_device,
    )
    check_splits(pieces)
    pieces.data.trainer = trainer  # which decides how many batches an epoch has on this rank
    check_intervals(cfg, pieces)
    if writes:
        save_splits(pieces.data.splits, run.splits)
    log.info(pieces.data.summary())
    log.info(plan(trainer, pieces.data))

    model = adapter.attach(pieces.loaded.model)
    if not divided:  # all processes of a divided model have to look at the same time
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
    loggers = trainer.loggers = make_loggers(cfg, run, begun.step)
    if begun.checkpoint:
        log.info("going on after step %d, from %s", begun.step, begun.checkpoint)
    trainer.fit(module, datamodule=pieces.data, ckpt_path=begun.checkpoint)
    if interruption.received:  # in the very last step
        raise SystemExit(128 + interruption.received)
    refuse_hopeless(callbacks, cfg.objective)
    validated = best_values(callbacks) or _validated_last(trainer)
    if not validated and trainer.limit_val_batches:
        # The training was shorter than the way to its first validation.
        trainer.validate(module, datamodule=pieces.data, verbose=False)
        validated = _validated_last(trainer)

    # All processes score what they have trained together; what comes out is told by the first.
    with ending_together(trainer):
        use_best(model, callbacks)
        if not divided:
            model.to(trainer.strategy.root_device)
        kept = keep_model(adapter, model, pieces, run, writes=trainer.is_global_zero)
        answers = answer(
            model, pieces.task, pieces.data,
            split="test", max_new_tokens=cfg.max_new_tokens,
            base=base_of(model, lambda: base_again(pieces, trainer)),
            device=trainer.strategy.root_device, limit=cfg.trainer.limit_test_batches,
        )  # fmt: skip
        leave()
    if not trainer.is_global_zero:
        return None

    scored = score(answers, pieces.task, pieces.data)
    scored.summary["metrics"] |= {
        name: value if math.isfinite(value) else None for name, value in validated.items()
    }
    write_results(run, scored, pieces.task, cfg, cfg.name)
    objective = scored.summary["metrics"].get(cfg.objective)
    log_final(loggers, scored, trainer.global_step, (cfg.objective, objective))
    again = f"python eval.py run={run.path}"
    show_results(run, scored.summary, {"adapter": str(kept), "evaluate": again})
    # Answers of a model that is no model any more may look like a figure.
    spoilt = not math.isfinite(validated.get("val/loss", 0.0))
    return math.nan if objective is None or spoilt else float(objective)


def refuse_hopeless(callbacks: list[Any], objective: str) -> None:
    """Ends a job of a sweep here whose training was stopped: its test figures help nobody.

    Raises:
        PrunedError: When it was.
    """
    for callback in callbacks:
        if isinstance(callback, StopHopeless) and callback.reason:
            leave()
            reached = callback.best if callback.monitor == objective else None
            raise PrunedError(callback.reason, reached)


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """Every value of a configuration by its dotted key."""
    plain = public_config(cfg)
    values = {key: value_at(plain, key) for key in dotted_keys(plain)}
    return {key: value for key, value in values.items() if not isinstance(value, Mapping)}


def use_best(model: nn.Module, callbacks: list[Any]) -> None:
    """Puts the best checkpoint's weights into the model, where one was kept."""
    for best in callbacks:
        if isinstance(best, BestCheckpoint) and best.best_model_path:
            load_trained_state(model, read_weights(best.best_model_path))


def best_values(callbacks: list[Any]) -> dict[str, float]:
    """The validation metrics of the best checkpoint; {} where none was kept."""
    kept = [one for one in callbacks if isinstance(one, BestCheckpoint) and one.best_model_path]
    return kept[0].best_values if kept else {}


def _validated_last(trainer: lightning.Trainer) -> dict[str, float]:
    """The metrics of the last validation."""
    return {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("val/")
    }


def keep_model(
    adapter: Adapter, model: nn.Module, pieces: Pieces, run: RunDirectory, writes: bool
) -> Path:
    """Writes what was trained: a PEFT folder, or a complete model folder.

    Args:
        adapter: Says which.
        model: What was trained; where it is divided, all processes have to call this.
        pieces: Whose processor goes with a model.
        run: Where it is written.
        writes: Whether this process writes.

    Returns:
        The folder.
    """
    if adapter.kind == "lora":
        round_to_base(model)  # before it is scored: the figures are those of what is kept
        save_adapter(model, run.adapter, writes)
        return run.adapter
    save_adapter(model, run.model, writes)
    if writes:
        pieces.loaded.processor.save_pretrained(run.model)
    return run.model
