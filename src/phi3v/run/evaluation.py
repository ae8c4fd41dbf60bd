"""THE flow of an evaluation: a run from its directory alone, or a bare base.

objective = evaluate(cfg)
"""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from phi3v.config import instantiate, save_config
from phi3v.run.assembly import base_of, build, restore
from phi3v.run.directory import RunDirectory
from phi3v.run.ending import show_results, write_results
from phi3v.run.environment import environment
from phi3v.run.numerics import repeatable
from phi3v.run.quiet import quiet_libraries
from phi3v.run.scoring import score

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> float | None:
    """Scores what a run left behind, or the bare base that `cfg.model` names.

    Results go to a directory of their own; the run's stay as they are.

    Returns:
        The value of the objective on the split that was scored.
    """
    here = RunDirectory(Path(cfg.paths.run))
    run = RunDirectory(cfg.run) if cfg.run else None
    quiet_libraries()
    repeatable(cfg.seed)
    save_config(cfg, here.path)
    here.write_environment(environment(cfg.seed))

    same_data = run is not None and run.splits.is_file() and not cfg.data.get("splits_file")
    pieces = build(cfg, splits_file=run.splits if run and same_data else None)
    log.info(pieces.data.summary())
    model = restore(cfg, run, pieces) if run else pieces.loaded.model
    trainer = instantiate(cfg.trainer, logger=False, callbacks=[])
    model.eval().to(trainer.strategy.root_device)
    scored = score(
        model, pieces.task, pieces.data,
        split=cfg.split, max_new_tokens=cfg.max_new_tokens,
        base=base_of(model, pieces.reload) if run else None,
        subject="Fine-tuned" if run else "Base model",
    )  # fmt: skip
    write_results(here, scored, pieces.task, cfg, f"{cfg.get('name') or 'base'}: {cfg.split}")
    lines = {"repeats": repetition(run, scored.summary)} if run and cfg.split == "test" else {}
    show_results(here, scored.summary, lines)
    figures: dict[str, float | None] = scored.summary["systems"]["fine_tuned"]
    return figures.get(cfg.objective.partition("/")[2])


def repetition(run: RunDirectory, summary: dict[str, Any]) -> str:
    """One line on whether the figures of the run's own evaluation came out again."""
    if not run.metrics.is_file():
        return "the run has no metrics.json to compare with"
    before, now = run.read_metrics()["test"], summary["test"]
    other = [name for name in before if before[name] != now.get(name)]
    if not other:
        return "the run's test figures, exactly"
    shown = ", ".join(f"{name} {before[name]} -> {now.get(name)}" for name in other[:3])
    return f"not the run's figures: {len(other)} of {len(before)} differ ({shown})"
