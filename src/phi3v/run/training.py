"""THE flow of a training: data, model, adapter, fit, test, report.

objective = train(cfg)
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import nn

from phi3v.adapter import Adapter, load_trained_state, round_to_base, save_adapter
from phi3v.config import save_config
from phi3v.config.launchers import is_first_process
from phi3v.errors import PrunedError
from phi3v.files import writing
from phi3v.run.answering import Answers, answer
from phi3v.run.assembly import Pieces, base_again, base_of
from phi3v.run.checks import check_processes, check_step, check_trainer
from phi3v.run.directory import RunDirectory
from phi3v.run.ending import show_results, write_results
from phi3v.run.environment import environment
from phi3v.run.loggers import log_final, make_loggers
from phi3v.run.numerics import repeatable
from phi3v.run.quiet import quiet_libraries
from phi3v.run.ranks import ending_others, ending_together, join_attempt, leave
from phi3v.run.resuming import Begun, goes_on, take_up
from phi3v.run.scoring import score
from phi3v.run.setup import Setup, set_up
from phi3v.run.told_to_end import leaving_when_told
from phi3v.training import BestCheckpoint, StallReport, StopHopeless, Watch, read_weights

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
    check_step(cfg)
    check_trainer(cfg)
    repeatable(cfg.seed)
    begun = take_up(cfg, run) if goes_on(cfg) else Begun()
    if is_first_process():
        if begun.checkpoint is None:
            save_config(cfg, run.path)
        run.write_environment(environment(cfg.seed))
    with leaving_when_told():
        setup = set_up(cfg, run, begun)
        loggers = setup.trainer.loggers = make_loggers(cfg, run, begun.step)
    validated = _fit(cfg, setup, begun)
    kept, answers = _test(cfg, setup, run)
    if not setup.trainer.is_global_zero:
        return None
    with leaving_when_told():
        return _report(cfg, setup, run, answers, validated, kept, loggers)


def _fit(cfg: DictConfig, setup: Setup, begun: Begun) -> Mapping[str, float]:
    """Trains to the end; the validation metrics of what is kept."""
    trainer, data = setup.trainer, setup.pieces.data
    if begun.checkpoint:
        log.info("going on after step %d, from %s", begun.step, begun.checkpoint)
    with ending_others(trainer):
        join_attempt(trainer.strategy)
        trainer.fit(setup.module, datamodule=data, ckpt_path=begun.checkpoint)
    if setup.interruption.agreed(trainer):  # in the very last step
        raise SystemExit(128 + (setup.interruption.received or 0))
    refuse_hopeless(setup.callbacks, cfg.objective)
    validated = best_values(setup.callbacks) or _validated_last(trainer)
    if not validated and trainer.limit_val_batches:
        # The training was shorter than the way to its first validation.
        with ending_together(trainer):
            trainer.validate(setup.module, datamodule=data, verbose=False)
        validated = _validated_last(trainer)
    return validated


def _test(cfg: DictConfig, setup: Setup, run: RunDirectory) -> tuple[Path, Answers]:
    """Keeps the best of what was trained, and lets it answer the test split.

    All processes score what they have trained together; what comes out is told by the first.
    """
    trainer, pieces, model = setup.trainer, setup.pieces, setup.module.model
    watch = watch_of(setup.callbacks)
    with ending_together(trainer), watch.over("keeping the weights", trainer.global_rank):
        use_best(model, setup.callbacks)
        if not setup.divided:
            model.to(trainer.strategy.root_device)
        kept = keep_model(setup.adapter, model, pieces, run, writes=trainer.is_global_zero)
        answers = answer(
            model, pieces.task, pieces.data,
            split="test", max_new_tokens=cfg.max_new_tokens,
            base=base_of(model, lambda: base_again(pieces, trainer)),
            device=trainer.strategy.root_device, limit=trainer.limit_test_batches,
            note=watch.note,
        )  # fmt: skip
        leave()
    return kept, answers


def _report(
    cfg: DictConfig,
    setup: Setup,
    run: RunDirectory,
    answers: Answers,
    validated: Mapping[str, float],
    kept: Path,
    loggers: list[Logger],
) -> float:
    """Writes and shows what came out; the objective."""
    scored = score(answers, setup.pieces.task, setup.pieces.data)
    scored.summary["metrics"] |= {
        name: value if math.isfinite(value) else None for name, value in validated.items()
    }
    write_results(run, scored, setup.pieces.task, cfg, cfg.name)
    objective = _objective(scored.summary["metrics"].get(cfg.objective), validated)
    log_final(loggers, scored, setup.trainer.global_step, (cfg.objective, objective))
    again = f"python eval.py run={run.path}"
    show_results(run, scored.summary, {"adapter": str(kept), "evaluate": again})
    return objective


def _objective(figure: float | None, validated: Mapping[str, float]) -> float:
    """A figure as the program returns it: NaN where there is none, or the training diverged.

    Answers of a model that is no model any more may look like a figure.
    """
    spoilt = not math.isfinite(validated.get("val/loss", 0.0))
    return math.nan if figure is None or spoilt else float(figure)


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


def use_best(model: nn.Module, callbacks: list[Any]) -> None:
    """Puts the best checkpoint's weights into the model, where one was kept."""
    for best in callbacks:
        if isinstance(best, BestCheckpoint) and best.best_model_path:
            load_trained_state(model, read_weights(best.best_model_path))


def watch_of(callbacks: list[Any]) -> Watch:
    """The one that the training had; one that says nothing where it had none."""
    watches = [one.watch for one in callbacks if isinstance(one, StallReport)]
    return watches[0] if watches else Watch(0)


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

    Raises:
        UserError: When it cannot be written, as on a full disk.
    """
    if adapter.kind == "lora":
        round_to_base(model)  # before it is scored: the figures are those of what is kept
        with writing(run.adapter):
            save_adapter(model, run.adapter, writes)
        return run.adapter
    with writing(run.model):
        save_adapter(model, run.model, writes)
        if writes:
            pieces.loaded.processor.save_pretrained(run.model)
    return run.model
