"""A run as its directory records it, read and checked without loading anything.

recorded = read_run("runs/lora_r16/2026-01-01_12-00-00-000000")
recorded.config["model"], recorded.directory.adapter
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from phi3v.config import instantiate
from phi3v.config.reading import config_of_run, task_node
from phi3v.errors import UserError
from phi3v.run.directory import RunDirectory
from phi3v.task import Task


@dataclass(frozen=True)
class Recorded:
    """A run that left weights behind.

    Attributes:
        directory: Its files.
        config: Its resolved configuration, which has passed the gate.
    """

    directory: RunDirectory
    config: dict[str, Any]

    @property
    def task(self) -> Task:
        """What it was trained to answer."""
        return cast(Task, instantiate(self.config["task"]))

    @property
    def trained_whole(self) -> bool:
        """Whether it trained whole weights, and not an adapter."""
        return self.directory.model.is_dir()

    def first_prediction(self) -> dict[str, Any] | None:
        """The first row of predictions.jsonl; None where there is none."""
        file = self.directory.predictions
        if not file.is_file():
            return None
        with file.open(encoding="utf-8") as lines:
            line = lines.readline().strip()
        row = json.loads(line) if line else None
        return row if isinstance(row, dict) else None

    def most_pictures(self) -> int:
        """The most pictures that a row of predictions.jsonl has; 0 where nothing tells."""
        file = self.directory.predictions
        if not file.is_file():
            return 0
        with file.open(encoding="utf-8", errors="replace") as lines:
            return max(map(_counted_pictures, lines), default=0)


def read_run(run: str | Path) -> Recorded:
    """Read a run's directory.

    Raises:
        UserError: When it is no run's, its configuration does not pass the gate, or the run did
            not get as far as leaving weights.
    """
    config = config_of_run(run)
    directory = RunDirectory(run)
    check_finished(directory)
    return Recorded(directory, config)


def check_finished(run: RunDirectory, key: str = "run") -> None:
    """Refuse a run that has left no weights yet.

    Args:
        run: The run.
        key: What the command line named it by.

    Raises:
        UserError: When there are none; it says how the run goes on.
    """
    if (run.adapter / "adapter_config.json").is_file() or run.model.is_dir():
        return
    begun = any(run.checkpoints.glob("*.ckpt"))
    advice = f"go on with it: python train.py run={run.path}" if begun else "train it again"
    raise UserError(
        f"{key}={run.path}: there is neither adapter/ nor model/ in it, the run did not finish; "
        f"{advice}"
    )


def _counted_pictures(line: str) -> int:
    """How many pictures a row names; 0 for what is no row."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return 0
    pictures = row.get("picture") if isinstance(row, dict) else None
    return len(pictures) if isinstance(pictures, list) else 0


def read_task(task: str) -> Task:
    """The task of that name in conf/task, or that a YAML file describes.

    Raises:
        UserError: When there is none, or it is no valid task.
    """
    return cast(Task, instantiate(task_node(task)))
