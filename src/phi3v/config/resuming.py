"""Which earlier run a training goes on with, decided before anything heavy is imported.

    folder = unfinished_run(Path("runs/lora_r16"), plain)   # the latest of the same training
    key = first_difference(saved, plain)                    # None where it is the same training

A resumed training has to be the training that was begun: what decides its course may not change.
Where it runs, how much of a step a device takes at once, and what is logged may.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from phi3v.config.containers import dotted_keys, value_at
from phi3v.config.saving import FILE, completed, load_config, named_places, relocated
from phi3v.errors import UserError

DECIDING = (
    *("seed", "batch_size", "task", "adapter", "optimizer", "scheduler"),
    *("model", "data", "trainer"),
)
# Of the last three: where and how fast, not what.
FREE = {
    *("model.gradient_checkpointing", "model.vision_cache_gib"),
    *("data.batch_size", "data.eval_batch_size", "data.num_workers", "data.picture_cache_gib"),
    *("data.splits_file", "trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
    *("trainer.strategy", "trainer.accumulate_grad_batches", "trainer.default_root_dir"),
    *("trainer.profiler", "trainer.log_every_n_steps", "trainer.deterministic"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary"),
}
# There is only the second one where the first one was torn and put aside.
KEPT = ("checkpoints/last.ckpt", "checkpoints/previous.ckpt")


def unfinished_run(folder: Path, plain: Mapping[str, Any]) -> Path | None:
    """The latest run of the same training that has not come to its end.

    Args:
        folder: Holds the runs of one experiment.
        plain: The configuration of the training that is to go on.
    """
    files = [(file.stat().st_mtime, file) for file in folder.glob(f"*/{FILE}")]
    for _, file in sorted(files, reverse=True):
        kept = any((file.parent / name).is_file() for name in KEPT)
        if kept and not is_finished(file.parent):
            try:
                saved = load_config(file.parent)
            except UserError:
                continue  # nobody can tell what it was
            if first_difference(saved, plain) is None:
                return file.parent
    return None


def kept_settings(run: str, words: Collection[str]) -> list[str]:
    """What the group `trainer` has to say again when a run goes on with another choice of it.

    Args:
        run: The run directory.
        words: Keys that the command line gives itself.

    Returns:
        Overrides: the run's own values of what decides the training.
    """
    trainer = {"trainer": load_config(run)["trainer"]}
    found = []
    for key in dotted_keys(trainer):
        value = value_at(trainer, key)
        plain = value is None or isinstance(value, bool | int | float | str)
        if plain and not _is_free(key) and key not in words and not key.endswith("_target_"):
            found.append(f"{key}={'null' if value is None else str(value).lower()}")
    return found


def is_finished(run: Path) -> bool:
    """Whether a run has come to its end."""
    try:
        outcome = json.loads((run / "outcome.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return isinstance(outcome, dict) and outcome.get("status") == "ok"


def first_difference(saved: Mapping[str, Any], plain: Mapping[str, Any]) -> str | None:
    """The first key by which two configurations are not the same training.

    Args:
        saved: As a run has it in its directory.
        plain: Another, resolved.
    """
    before, now = dict(_decisive(saved)), dict(_decisive(plain))
    return next((key for key in {**before, **now} if before.get(key) != now.get(key)), None)


def _decisive(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    # A run may have been moved, with all that it refers to.
    places = named_places(plain["paths"])
    chosen = {
        key: relocated(completed(plain[key], key), places) for key in DECIDING if key in plain
    }
    for key in dotted_keys(chosen):
        value = value_at(chosen, key)
        if not _is_free(key) and not isinstance(value, Mapping):
            yield key, value


def _is_free(key: str) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in FREE)
