"""Any CSV file of pictures and texts as a source of examples.

    source = CsvSource("products.csv", group_by=["title"])
    examples = source.load(task)

In a config: `data=csv data.path=products.csv`. Every row is checked when the file is loaded, and
all bad rows are reported in one message; `on_error="skip"` leaves them out and logs each.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from phi3v.data.csv_table import Row, Table, read_table
from phi3v.data.example import Example
from phi3v.data.grouping import united
from phi3v.data.pictures import open_picture, picture_size
from phi3v.data.refusal import refusal
from phi3v.errors import UserError
from phi3v.task import Task

log = logging.getLogger(__name__)

_AT_ONCE = min(8, (os.cpu_count() or 1) + 4)  # pictures that are decoded at loading
_DEFAULT_ID_COLUMN = "product_code"
Values = Mapping[str, str | float]


class CsvSource:
    """Reads examples from a CSV file with a header.

    Attributes:
        skipped: After `load`, the reason for each row that `on_error="skip"` left out.
    """

    def __init__(
        self,
        path: str | Path,
        image_column: str = "local_image_path",
        id_column: str | None = None,
        group_by: Sequence[str] | None = None,
        image_root: str | Path | None = None,
        columns: dict[str, str] | None = None,
        delimiter: str = ",",
        on_error: Literal["raise", "skip"] = "raise",
        verify_up_to: int = 5000,
    ) -> None:
        """Keeps the settings; nothing is read before `load`.

        Args:
            path: The CSV file, UTF-8.
            image_column: Holds the picture's path, or several separated by ";".
            id_column: Names the examples; default `product_code` where there is one, otherwise
                the cell of the picture, which stays when rows are sorted or added. Equal ids get a
                suffix and stay in one group.
            group_by: Columns whose equal values (in any case and spacing) also join rows into
                one group, so that they never stand on both sides of a split.
            image_root: What relative picture paths start from; default the CSV file's folder.
            columns: The CSV column of a task's field, where their names differ.
            delimiter: What separates the cells.
            on_error: "raise" refuses bad rows, "skip" leaves them out and logs every one.
            verify_up_to: Sets with at most so many rows have every picture decoded at loading;
                of larger ones only the headers are read, and the pixels when their turn comes.
                Where bad rows are skipped all are decoded, since later none can be left out.
        """
        if on_error not in ("raise", "skip"):
            raise UserError(f"data.on_error must be 'raise' or 'skip', got {on_error!r}")
        self.path = Path(path)
        self.image_column = image_column
        self.id_column = id_column
        self.group_by = tuple(group_by or ())
        self.image_root = Path(image_root) if image_root is not None else self.path.parent
        self.columns = dict(columns or {})
        self.delimiter = delimiter
        self.on_error = on_error
        self.verify_up_to = verify_up_to
        self.skipped: list[str] = []

    def load(self, task: Task) -> list[Example]:
        """Reads and checks the whole file.

        Raises:
            UserError: For a missing, empty or malformed file, a missing column, and, unless rows
                are skipped, for bad rows: one line with the first of them.
        """
        table = read_table(self.path, self.delimiter)
        fields = self._fields(task)
        id_columns = [self.id_column] if self.id_column is not None else []
        table.require([*fields.values(), self.image_column, *self.group_by, *id_columns])
        good = self._good_rows(table, task, fields)
        ids = _made_unique([self._id(row) for row, _ in good])
        groups = united([self._group_keys(row) for row, _ in good])
        return [
            Example(own_id, self._images(row), values, ids[group], self._origin(row))
            for (row, values), own_id, group in zip(good, ids, groups, strict=True)
        ]

    def describe(self) -> str:
        """Returns the file's path, and how many rows were skipped."""
        many = len(self.skipped)
        skipped = f", {many} bad row{'s' * (many != 1)} skipped" if many else ""
        return f"{self.path}{skipped}"

    def optimum(self, task: Task) -> dict[str, float]:
        """Returns {}: nobody knows the best attainable error on real data."""
        return {}

    def _fields(self, task: Task) -> dict[str, str]:
        """Returns the CSV column of each field that question and answer need."""
        unknown = [name for name in self.columns if name not in task.columns]
        if unknown:
            raise UserError(
                f"data.columns names {unknown[0]!r}, but the task needs only "
                f"{', '.join(task.columns)}"
            )
        return {name: self.columns.get(name, name) for name in task.columns}

    def _good_rows(
        self, table: Table, task: Task, fields: dict[str, str]
    ) -> list[tuple[Row, Values]]:
        """Returns the good rows with their values, and deals with the others."""
        total = len(table.rows) + len(table.malformed)
        decodes = len(table.rows) <= self.verify_up_to or self.on_error == "skip"
        look = open_picture if decodes else picture_size

        def check(row: Row) -> Values | UserError:
            try:
                return self._checked(row, task, fields, look)
            except UserError as error:
                return error

        # Pillow decodes outside the interpreter lock; a photo may take a gigabyte while it does.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            checked = list(zip(table.rows, pool.map(check, table.rows), strict=True))
        refused = [str(result) for _, result in checked if isinstance(result, UserError)]
        malformed = [f"row {number}: {reason}" for number, reason in table.malformed.items()]
        self.skipped = [*malformed, *refused]
        good = [(row, result) for row, result in checked if not isinstance(result, UserError)]
        if self.skipped and (self.on_error == "raise" or not good):
            raise UserError(f"{self.path}: {refusal(self.skipped, total)}")
        for reason in self.skipped:
            log.warning("%s: skipped %s", self.path, reason)
        if self.skipped:
            log.warning("%s: skipped %d of %d rows", self.path, len(self.skipped), total)
        return good

    def _checked(
        self,
        row: Row,
        task: Task,
        fields: dict[str, str],
        look: Callable[[Path, str], object],
    ) -> Values:
        """Returns the values of a good row.

        Raises:
            UserError: What is wrong with the row, beginning with its number.
        """
        origin = f"row {row.number}"
        if self.id_column is not None and not row.cells[self.id_column]:
            raise UserError(f"{origin}: the id column {self.id_column!r} is empty")
        cells = {name: row.cells[column] for name, column in fields.items()}
        values = task.check_values(cells, origin)
        images = self._images(row)
        if not images:
            raise UserError(f"{origin}: no picture in column {self.image_column!r}")
        if "://" in row.cells[self.image_column]:
            raise UserError(
                f"{origin}: column {self.image_column!r} holds an address, not a file; fetch the "
                "pictures first with phi3v.data.fetch_pictures"
            )
        for path in images:
            look(path, origin)
        return values

    def _id(self, row: Row) -> str:
        column = self.id_column or _DEFAULT_ID_COLUMN
        return row.cells.get(column, "") or row.cells[self.image_column]

    def _group_keys(self, row: Row) -> list[Hashable]:
        """Returns what joins rows: the id, and the columns to group by unless all are empty."""
        keys: list[Hashable] = [("id", self._id(row))]
        named = tuple(" ".join(row.cells[column].casefold().split()) for column in self.group_by)
        if any(named):
            keys.append(("group_by", named))
        return keys

    def _images(self, row: Row) -> tuple[Path, ...]:
        names = (name.strip() for name in row.cells[self.image_column].split(";"))
        return tuple(self.image_root / name for name in names if name)

    def _origin(self, row: Row) -> str:
        return f"{self.path.name} row {row.number}"


def _made_unique(wanted: Sequence[str]) -> list[str]:
    """Returns one id a row; what repeats gets the first free suffix -2, -3, ..."""
    taken = set(wanted)
    seen: Counter[str] = Counter()
    ids = []
    for name in wanted:
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        while unique != name and unique in taken:
            seen[name] += 1
            unique = f"{name}-{seen[name]}"
        taken.add(unique)
        ids.append(unique)
    return ids
