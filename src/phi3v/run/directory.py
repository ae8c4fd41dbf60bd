"""The run directory: what lies where. Every program that looks at a run reads these files only.

run = RunDirectory("runs/lora_r16/2026-01-01_12-00-00-000000")
run.write_metrics(summary)
run.read_metrics()["metrics"]["test/full_price/mape"]
"""

import contextlib
import csv
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from phi3v.config.launchers import agent_run
from phi3v.errors import UserError
from phi3v.evaluation.comparison import to_json
from phi3v.files import write_whole


class RunDirectory:
    """Names the files of a run and reads and writes them whole."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """The resolved configuration, enough to build the run again."""
        return self.path / "config.yaml"

    @property
    def splits(self) -> Path:
        """Example ids by split."""
        return self.path / "splits.json"

    @property
    def metrics_by_step(self) -> Path:
        """Every logged metric by optimizer step."""
        return self.path / "metrics.csv"

    @property
    def metrics(self) -> Path:
        """Final values, baselines, controls and optimum; equal for equal runs."""
        return self.path / "metrics.json"

    @property
    def predictions(self) -> Path:
        """One line of JSON for each example that was scored."""
        return self.path / "predictions.jsonl"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        """Adapter and training state: best.ckpt and last.ckpt."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """A PEFT folder, when the run trained an adapter."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """A model folder of the published layout, when the run trained whole weights."""
        return self.path / "model"

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Writes environment.json."""
        text = json.dumps(environment, indent=2, ensure_ascii=False) + "\n"
        write_whole(self.path / "environment.json", text)

    def read_environment(self) -> dict[str, Any]:
        """Reads environment.json; {} where there is none."""
        file = self.path / "environment.json"
        return _read(file) if file.is_file() else {}

    def wandb_id(self) -> str:
        """The run's id for Weights & Biases: made once, and the same when the run goes on.

        An agent of W&B has given the run its id already.
        """
        file = self.path / "wandb_id.txt"
        if not file.is_file():
            write_whole(file, f"{agent_run() or uuid.uuid4().hex[:8]}\n")
        return file.read_text(encoding="utf-8").strip()

    def write_metrics(self, summary: Mapping[str, Any]) -> None:
        """Writes metrics.json."""
        write_whole(self.metrics, to_json(summary))

    def read_metrics(self) -> dict[str, Any]:
        """Reads metrics.json.

        Raises:
            UserError: When the run has none, because it did not get that far, or it is torn.
        """
        if not self.metrics.is_file():
            raise UserError(f"{self.path}: there is no {self.metrics.name}; the run did not finish")
        return _read(self.metrics)

    def write_predictions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes predictions.jsonl."""
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_whole(self.predictions, "".join(lines))

    def read_predictions(self) -> list[dict[str, Any]]:
        """Reads predictions.jsonl; [] where there is none.

        Raises:
            UserError: When it is torn.
        """
        if not self.predictions.is_file():
            return []
        try:
            # Not splitlines, which ends lines at more than what JSON has as an escape.
            lines = self.predictions.read_text("utf-8").split("\n")
            return [json.loads(line) for line in lines if line]
        except ValueError as error:
            raise UserError(f"{self.predictions}: cannot be read: {error}") from None

    def read_history(self) -> list[dict[str, float]]:
        """Reads metrics.csv: one dict a row, without the cells that are empty.

        A full disk tears rows: what is no number there is left out, and a row with more cells than
        columns, into which another one was written.
        """
        if not self.metrics_by_step.is_file():
            return []
        with self.metrics_by_step.open(newline="", encoding="utf-8") as file:
            rows = [_numbers(row) for row in csv.DictReader(file) if None not in row]
        return [row for row in rows if "step" in row]


def _read(file: Path) -> dict[str, Any]:
    try:
        loaded: Any = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{file}: cannot be read: it holds no names with values")
    return loaded


def _numbers(row: Mapping[str, str | None]) -> dict[str, float]:
    found = {}
    for name, cell in row.items():
        with contextlib.suppress(ValueError):
            if cell:
                found[name] = float(cell)
    return found
