"""Fetches the pictures of a CSV file that has their addresses, such as the Burberry sample set.

    report = fetch_pictures("burberry.csv", "data/burberry")
    print(report)                         # then: data=csv data.path=<report.table>

Running it again fetches only what is not there yet. Every row of the input ends up in exactly
one of two tables: the rows with a picture, and the failures with their reasons.
"""

import hashlib
import http.client
import logging
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from PIL import Image

from phi3v import __version__
from phi3v.data.csv_table import Row, Table, read_table, write_table
from phi3v.data.pictures import open_picture, picture_size
from phi3v.errors import UserError

log = logging.getLogger(__name__)

_PATH_COLUMN = "local_image_path"
_MOST_BYTES = 100_000_000
_MOST_PIXELS = 179_000_000  # of a stranger's picture: a few bytes may unpack to gigabytes
_CHUNK = 65_536
_AGENT = f"phi3v/{__version__}"


@dataclass(frozen=True)
class FetchReport:
    """What came of a download.

    Attributes:
        table: CSV of the rows that have a picture, with `local_image_path` filled in.
        failures: CSV of the other rows, with `row` and `reason`.
        fetched: Rows whose picture was fetched now.
        present: Rows whose picture was there from an earlier call.
        failed: Rows in `failures`.
    """

    table: Path
    failures: Path
    fetched: int
    present: int
    failed: int

    def __str__(self) -> str:
        """Returns one line for people."""
        return (
            f"{self.fetched} fetched, {self.present} already there: {self.table}; "
            f"{self.failed} failed: {self.failures}"
        )


@dataclass(frozen=True)
class _Outcome:
    """The picture of one row, or why there is none."""

    path: Path | None
    was_there: bool = False
    reason: str = ""


def fetch_pictures(
    csv_path: str | Path,
    folder: str | Path,
    url_column: str = "imageurl",
    name_column: str = "product_code",
    workers: int = 8,
    timeout: float = 20,
    retries: int = 2,
    delimiter: str = ",",
) -> FetchReport:
    """Fetches one picture for every row.

    Files are named after the row's name and a digest of its address, and keep the bytes that
    came: `open_picture` turns every mode into RGB when it reads them.

    Args:
        csv_path: The CSV file with a column of http or https addresses.
        folder: Gets `images/` and the two tables.
        url_column: Holds the addresses.
        name_column: Names the files where the CSV file has it; otherwise the row numbers do.
        workers: Downloads at a time.
        timeout: Seconds that a server may stay silent, and that a whole picture may take.
        retries: Further attempts after a failure that may pass (not after "404 Not Found").
        delimiter: What separates the cells of the CSV file; the two tables have commas.

    Raises:
        UserError: When the CSV file is missing, malformed or lacks the column.
    """
    csv_path, folder = Path(csv_path), Path(folder)
    source = read_table(csv_path, delimiter)
    source.require([url_column])
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)

    there = {path.stem: path for path in images.iterdir() if path.suffix != ".part"}

    def fetch(item: tuple[str, str]) -> _Outcome:
        if item[1] in there:
            return _Outcome(there[item[1]], was_there=True)
        return _fetch(item[0], images / item[1], timeout, retries)

    items = {
        row.number: (row.cells[url_column], _stem(row, url_column, name_column))
        for row in source.rows
    }
    unique = list(dict.fromkeys(items.values()))  # rows with the same name and address share it
    with ThreadPoolExecutor(workers) as pool:
        outcomes = dict(zip(unique, _logged(pool.map(fetch, unique), len(unique)), strict=True))
    by_row = [(row, outcomes[items[row.number]]) for row in source.rows]
    return _write(source, folder, by_row)


def _stem(row: Row, url_column: str, name_column: str) -> str:
    """Returns a file name without suffix that depends on the row's content, not on its place."""
    name = row.cells.get(name_column, "") or f"row-{row.number}"
    digest = hashlib.sha256(row.cells[url_column].encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:80]}-{digest}"


def _logged(outcomes: Iterator[_Outcome], total: int) -> Iterator[_Outcome]:
    for number, outcome in enumerate(outcomes, start=1):
        if number % 100 == 0 or number == total:
            log.info("pictures: %d of %d", number, total)
        yield outcome


def _fetch(url: str, target: Path, timeout: float, retries: int) -> _Outcome:
    """Fetches one picture to `target` with the suffix of its format."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:  # such as http://[x
        scheme = ""
    if scheme not in ("http", "https"):
        return _Outcome(None, reason=f"not an http address: {url!r}")
    reason = ""
    for attempt in range(retries + 1):
        time.sleep(min(8.0, 0.5 * 2**attempt) if attempt else 0)
        try:
            return _Outcome(_keep(_download(url, timeout), target))
        except UserError as error:
            return _Outcome(None, reason=str(error))
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
    return _Outcome(None, reason=reason)


def _download(url: str, timeout: float) -> bytes:
    """Returns the body; a server that trickles is cut off after `timeout` as well."""
    deadline = time.monotonic() + timeout
    # Blanks and letters beyond ASCII, as browsers send them; what is encoded already stays.
    address = quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    request = urllib.request.Request(address, headers={"User-Agent": _AGENT})
    content = bytearray()
    with urllib.request.urlopen(request, timeout=timeout) as response:
        expected = response.headers.get("Content-Length")
        while chunk := response.read1(_CHUNK):
            content += chunk
            if len(content) > _MOST_BYTES:
                raise UserError(f"larger than {_MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {timeout:g} s")
    if expected is not None and len(content) < int(expected):
        raise ConnectionError(f"{len(content)} of {expected} bytes came")
    return bytes(content)


def _keep(content: bytes, target: Path) -> Path:
    """Writes a picture under the suffix of its format, complete or not at all.

    Raises:
        UserError: When the bytes are not a picture that can be decoded.
    """
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(content)
    try:
        if math.prod(picture_size(part, "download")) > _MOST_PIXELS:
            raise UserError("too large")
        open_picture(part, "download")
        with Image.open(part) as image:
            suffix = (image.format or "picture").lower()
    except UserError:
        part.unlink()
        raise UserError(f"not a picture ({len(content)} bytes)") from None
    return part.replace(target.with_name(f"{target.name}.{suffix}"))


def _write(source: Table, folder: Path, by_row: Sequence[tuple[Row, _Outcome]]) -> FetchReport:
    """Writes both tables; a failed row keeps its cells where they fit the header."""
    table = folder / f"{source.path.stem}_with_pictures.csv"
    failures = folder / f"{source.path.stem}_failures.csv"
    good = [
        row.cells | {_PATH_COLUMN: outcome.path.relative_to(folder).as_posix()}
        for row, outcome in by_row
        if outcome.path
    ]
    bad = [
        row.cells | {"row": str(row.number), "reason": outcome.reason}
        for row, outcome in by_row
        if not outcome.path
    ]
    bad += [{"row": str(row), "reason": reason} for row, reason in source.malformed.items()]
    kept = [column for column in source.columns if column != _PATH_COLUMN]
    write_table(table, [*kept, _PATH_COLUMN], good)
    write_table(failures, [*source.columns, "row", "reason"], bad)
    present = sum(outcome.was_there for _, outcome in by_row)
    return FetchReport(table, failures, len(good) - present, present, len(bad))
