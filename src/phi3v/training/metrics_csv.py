"""`metrics.csv` of a run: every logged metric by optimizer step, as a Lightning logger.

    Trainer(logger=[StepMetrics("runs/lora_r16/2026-01-01"), ...])

One row per logging event; the columns are step (optimizer steps done), epoch (from 0) and every
metric seen so far. A metric that first appears later becomes a new last column and the rows
before it stay empty there. An existing file is continued, so a resumed run has one file.
"""

import csv
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from phi3v.files import write_whole, writing

FIRST = ["step", "epoch"]


class StepMetrics(Logger):
    """Writes metrics to `<folder>/metrics.csv` as they come; only global rank zero writes."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.path = self.folder / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Lightning's name of the logger's experiment: the folder's."""
        return self.folder.name

    @property
    def version(self) -> str:
        """Always empty: the folder belongs to one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder as text."""
        return str(self.folder)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Nothing to do: the run directory has the configuration in a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Append one row.

        Args:
            metrics: Name -> value; "epoch" is among them when Lightning calls.
            step: The step that was just done, counted from 0 as Lightning does.

        Raises:
            UserError: When it cannot be written, as on a full disk.
        """
        row = {name: _text(value) for name, value in metrics.items()}
        if step is not None:
            row["step"] = str(step + 1)
        columns = self._columns_with(row)
        with writing(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns, restval="").writerow(row)

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget the rows of later steps, which a resumed training is going to log again."""
        if self.path.is_file():
            self._rewrite(self._existing_columns(), last_step=step)

    def lacks(self, metrics: Iterable[str], step: int) -> bool:
        """Whether no row of this step, counted from 1, has all of these metrics."""
        rows = [row for row in self._rows() if row["step"] == str(step)]
        return not any(all(row.get(name) for name in metrics) for row in rows)

    def _columns_with(self, row: Mapping[str, str]) -> list[str]:
        """The file's columns after making room for the row's new ones."""
        columns = self._columns if self._columns is not None else self._existing_columns()
        new = [name for name in row if name not in columns]
        if new or self._columns is None:
            self._rewrite(columns + new)
        self._columns = columns + new
        return self._columns

    def _existing_columns(self) -> list[str]:
        if not self.path.is_file():
            return list(FIRST)
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), list(FIRST))

    def _rewrite(self, columns: list[str], last_step: int | None = None) -> None:
        """Write the file anew with these columns; it is whole at every moment."""
        rows = self._rows()
        if last_step is not None:
            rows = [row for row in rows if row["step"].isdigit() and int(row["step"]) <= last_step]
        text = StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path, text.getvalue())

    def _rows(self) -> list[dict[str, str]]:
        """Those that are whole: a program that is killed may have torn the last one."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            lines = file.readlines()
        return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def read_column(file: Path, name: str) -> list[tuple[int, float]]:
    """The finite values of one metric by step, of a file that somebody may be writing."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    found = []
    for row in rows:
        step, cell = row.get("step") or "", row.get(name) or ""
        try:
            value = float(cell)
        except ValueError:
            continue  # empty, or the torn end of the file
        if step.isdigit() and math.isfinite(value):
            found.append((int(step), value))
    return found


def _text(value: float | Tensor) -> str:
    number = value.item() if isinstance(value, Tensor) else value
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)
