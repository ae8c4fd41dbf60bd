"""THE flow of an evaluation: a run from its directory alone, or a bare base.

objective = evaluate(cfg)
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from phi3v.config import instantiate, instantiate_source, save_config
from phi3v.config.launchers import is_first_process
from phi3v.data import Example, Source
from phi3v.data.splits import ids_in, read_splits
from phi3v.errors import UserError
from phi3v.run.answering import Answers, answer
from phi3v.run.assembly import (
    Pieces,
    adapter_of,
    base_again,
    base_of,
    build,
    remember_pictures,
    restore,
)
from phi3v.run.checks import (
    check_nodes,
    check_objective,
    check_processes,
    make_trainer,
)
from phi3v.run.directory import RunDirectory
from phi3v.run.ending import show_results, write_results
from phi3v.run.environment import environment
from phi3v.run.numerics import repeatable
from phi3v.run.quiet import quiet_libraries
from phi3v.run.ranks import begin, ending_together, leave, place
from phi3v.run.recorded import check_finished
from phi3v.run.scoring import score
from phi3v.run.side_by_side import Beside, Other, check_examples, compared_runs
from phi3v.task import Task
from phi3v.training import ShardedStrategy, Watch
from phi3v.training.sharding import is_sharded

log = logging.getLogger(__name__)

# Overrides of the group `data` that leave the examples the same.
SAME_DATA = {
    *("data.batch_size", "data.eval_batch_size", "data.num_workers", "data.picture_cache_gib"),
    *("data.eval_limit", "data.max_length", "data.image_root"),
}
# Seconds without a batch that was done: a training says as much by callbacks.stall.seconds.
STALLED = 45.0


def evaluate(cfg: DictConfig) -> float | None:
    """Scores what a run left behind, or the bare base that `cfg.model` names.

    Results go to a directory of their own; the run's stay as they are.

    Returns:
        The value of the objective on the split that was scored, on the first process; None on the
        others.
    """
    here = RunDirectory(Path(cfg.paths.run))
    run = RunDirectory(cfg.run) if cfg.run else None
    if run:
        check_finished(run)
    quiet_libraries()
    repeatable(cfg.seed)
    if is_first_process():
        save_config(cfg, here.path)
        here.write_environment(environment(cfg.seed))

    words = list(HydraConfig.get().overrides.task)
    _refuse_an_adapter(run, words)
    check_processes(cfg)
    check_nodes(cfg)
    trainer = make_trainer(cfg, [])
    check_objective(str(cfg.objective), cast(Task, instantiate(cfg.task)))
    if cfg.compare and isinstance(trainer.strategy, ShardedStrategy):
        raise UserError("compare: adapters are changed on a whole model; use another trainer")
    title, others = compared_runs(cfg, run) if cfg.compare else ("Fine-tuned", [])
    subject = title if run else "Base model"
    pieces = _pieces(cfg, run, words, others, trainer)
    answers = _answers(cfg, run, pieces, others, trainer, subject)
    if not trainer.is_global_zero:
        return None

    scored = score(answers, pieces.task, pieces.data, subject)
    page = page_title(cfg.get("name"), subject, str(cfg.split), beside=bool(others))
    write_results(here, scored, pieces.task, cfg, page, run)
    lines = {"repeats": repetition(run, scored.summary)} if run and cfg.split == "test" else {}
    if cfg.split == "test":
        for other in others:
            figures_there = {"test": scored.summary["compared"][other.title]}
            log.info("%s: %s", other.title, repetition(other.run, figures_there))
    show_results(here, scored.summary, lines)
    figures: dict[str, float | None] = scored.summary["systems"]["fine_tuned"]
    return figures.get(cfg.objective.partition("/")[2])


def _refuse_an_adapter(run: RunDirectory | None, words: Sequence[str]) -> None:
    if any(word.lstrip("+~").startswith("adapter") for word in words):
        raise UserError(
            "adapter: with run=... the adapter is the run's own; leave the word out"
            if run
            else "adapter: a bare base has none; leave the word out, or give run=..."
        )


def _pieces(
    cfg: DictConfig,
    run: RunDirectory | None,
    words: Sequence[str],
    others: list[Other],
    trainer: lightning.Trainer,
) -> Pieces:
    """Task, data and base; that other runs have the same examples is checked before and after."""
    divided = isinstance(trainer.strategy, ShardedStrategy)
    splits_file = splits_for(cfg, run, words) if run else None
    if splits_file:  # told before a model is loaded
        check_examples(others, cfg.split, read_splits(splits_file).get(cfg.split, ()))
    pieces = build(
        cfg,
        run=run,
        splits_file=splits_file,
        # An adapter that takes its start out of the weights does so again when it is loaded.
        hollow=divided and not adapter_of(cfg, starts=False).reads_weights,
        device=None if divided else trainer.strategy.root_device,
    )
    check_examples(others, cfg.split, (one.id for one in pieces.data.examples.get(cfg.split, ())))
    log.info(pieces.data.summary())
    return pieces


def _answers(
    cfg: DictConfig,
    run: RunDirectory | None,
    pieces: Pieces,
    others: list[Other],
    trainer: lightning.Trainer,
    subject: str,
) -> Answers:
    """Lets the run's model, the base and the other runs answer, on all processes together."""
    model = restore(run, pieces.loaded) if run else pieces.loaded.model
    begin(trainer)
    watch = Watch(STALLED)
    with ending_together(trainer), watch.over("placing the model", trainer.global_rank):
        place(model.eval(), pieces.loaded.weights, trainer)
        gib = cfg.model.get("vision_cache_gib", 0)
        if not is_sharded(model):  # all processes of a divided model have to look at the same time
            remember_pictures(model, gib)
        answers = answer(
            model, pieces.task, pieces.data,
            split=cfg.split, max_new_tokens=cfg.max_new_tokens,
            base=base_of(model, lambda: base_again(pieces, trainer)) if run else None,
            device=trainer.strategy.root_device, subject=subject,
            limit=trainer.limit_test_batches,
            others=Beside(others, model, pieces, gib).models(),
            note=watch.note,
        )  # fmt: skip
        leave()
    return answers


def page_title(name: str | None, subject: str, split: str, beside: bool) -> str:
    """What the report is called.

    Args:
        name: Of the experiment; a bare base has none.
        subject: What tables call the model.
        split: What was scored.
        beside: Whether other runs are on the page, from which the subject tells this one.
    """
    return f"{subject if beside else name or 'base'}: {split}"


def splits_for(cfg: DictConfig, run: RunDirectory, words: Sequence[str]) -> Path | None:
    """The splits to score: the run's own, or None for other data, which are divided anew.

    Args:
        cfg: The configuration of this evaluation.
        run: The run that is evaluated.
        words: The overrides of the command line; data are the run's unless these name others.

    Raises:
        UserError: When the run does not say which examples it was trained on.
    """
    chosen = [word.lstrip("+~").partition("=")[0] for word in words]
    if "data.splits_file" in chosen and cfg.data.splits_file:
        return None  # as the configuration says
    other = any(name.startswith("data") and name not in SAME_DATA for name in chosen)
    if not run.splits.is_file():
        if other:
            return None
        raise UserError(
            f"{run.splits}: missing, so nobody knows which examples were for testing; give "
            "data.splits_file=..."
        )
    if other:
        source = cast(Source, instantiate_source(cfg.data))
        examples = source.load(cast(Task, instantiate(cfg.task)))
        known = ids_in(run.splits)
        if not any(example.id in known for example in examples) or _are_others(examples, run):
            log.info("these are not the examples of the run: they are divided anew")
            return None
        # Divided anew, examples that the run was trained on would be scored as if they were new.
    return run.splits


def _are_others(examples: Sequence[Example], run: RunDirectory) -> bool:
    """Whether examples only have the names of the run's: every other shop counts its products.

    They are taken for the run's where half of them or more agree in any field, so that corrected
    prices do not make other examples of them.
    """
    rows = {str(row["id"]): row["truth"] for row in run.read_predictions()}
    shared = [(example.values, rows[example.id]) for example in examples if example.id in rows]
    names = {name for _, truth in shared for name in truth}
    agree = [sum(values.get(n) == truth.get(n) for values, truth in shared) for n in names]
    return bool(shared) and all(2 * count < len(shared) for count in agree)


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
