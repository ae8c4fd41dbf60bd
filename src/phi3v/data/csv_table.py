"""Reading a CSV file strictly: rows keep the number that a spreadsheet shows for them.

    table = read_table(Path("products.csv"))
    for row in table.rows:
        row.number, row.cells["title"]

The header is row 1. Quoted line breaks do not count as rows; empty lines do, and are left out.
"""

import csv
import difflib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phi3v.errors import UserError

# The shell takes the outer quotes away, Hydra the inner ones.
_GIVE_DELIMITER = """give the delimiter, as "data.delimiter=';'" or data.delimiter=tab"""


@dataclass(frozen=True)
class Row:
    """One row: its number in the file and its cells by column, without surrounding space."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file in memory.

    Attributes:
        path: The file.
        columns: The header.
        rows: What stands below it, empty lines left out.
        malformed: By number, what is wrong with a row that has not as many cells as the header.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    malformed: dict[int, str] = field(default_factory=dict)

    def require(self, columns: Iterable[str]) -> None:
        """Checks that the table has these columns.

        Raises:
            UserError: Names a missing column, the nearest ones there are, and all of them.
        """
        for column in columns:
            if self.columns.count(column) > 1:
                raise UserError(f"{self.path}: column {column!r} stands twice in the header")
            if column not in self.columns:
                raise UserError(f"{self.path}: no column {column!r}{self._hint(column)}")

    def _hint(self, column: str) -> str:
        near = difflib.get_close_matches(column, self.columns, n=2, cutoff=0.5)
        did_you_mean = f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
        if len(self.columns) == 1 and any(mark in self.columns[0] for mark in ";\t|"):
            return f"; the header is one column, {self.columns[0]!r}: {_GIVE_DELIMITER}"
        return f"{did_you_mean} the columns are {', '.join(self.columns)}"


def read_table(path: Path, delimiter: str = ",") -> Table:
    """Reads a CSV file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: When the file is missing, empty or not UTF-8, its quotes do not match, or the
            delimiter is no single character.
    """
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise UserError(f"data.delimiter={delimiter!r} is not one character: {_GIVE_DELIMITER}")
    records = [
        (number, record)
        for number, record in enumerate(_records(path, delimiter), start=1)
        if any(cell.strip() for cell in record)
    ]
    if not records:
        raise UserError(f"{path}: the file is empty; its first row must name the columns")
    columns = tuple(name.strip() for name in records[0][1])
    rows: list[Row] = []
    malformed: dict[int, str] = {}
    for number, record in records[1:]:
        if len(record) != len(columns):
            malformed[number] = (
                f"{len(record)} cells where the header has {len(columns)}; quote cells that "
                f"contain {delimiter!r}"
            )
            continue
        cells = (cell.strip() for cell in record)
        rows.append(Row(number, dict(zip(columns, cells, strict=True))))
    if not rows and not malformed:
        raise UserError(f"{path}: there is a header but no rows")
    return Table(path, columns, tuple(rows), malformed)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, str]]) -> None:
    """Writes rows as CSV in UTF-8; cells of columns that a row lacks stay empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _records(path: Path, delimiter: str) -> Iterable[list[str]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    number = 1
    try:
        for record in reader:
            yield record
            number += 1
    except csv.Error as error:
        raise UserError(f"{path}: row {number}: malformed CSV ({error})") from None


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"data file not found: {path}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: line {line}: not UTF-8 text; save the file as CSV UTF-8"
        ) from None
