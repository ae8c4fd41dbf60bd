"""What holds for files that any room writes.

write_whole(run / "splits.json", text)
with writing(run / "metrics.csv"):
    append_a_row()
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phi3v.errors import UserError


def write_whole(file: Path, text: str) -> None:
    """Write a file in one go: a reader, or a crash, never meets half of it.

    Args:
        file: It and its folder need not be there.
        text: All that it will hold; lines end as they do here.

    Raises:
        UserError: When it cannot be written; an earlier file of that name stays as it was.
    """
    part = file.with_name(f"{file.name}.part")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(text, encoding="utf-8", newline="")
            part.replace(file)
        except OSError:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Say in one line what keeps a file from being written, as a full disk does.

    Raises:
        UserError: In the place of the system's error.
    """
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(file.parent).free if file.parent.is_dir() else 0
        raise UserError(
            f"{file}: it cannot be written, {free / 2**20:,.1f} MiB were free there"
            f" ({error.strerror or error}): make space; a training goes on with resume=true, a"
            " sweep with the same command"
        ) from error


def no_space(error: BaseException) -> str:
    """What the system's error says of a full disk, or of a quota, in one line; else nothing."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}: make space"


def as_open_as_folder(folder: str | Path) -> None:
    """Let whoever may read a folder read its files; safetensors writes them for one user alone."""
    mode = Path(folder).stat().st_mode & 0o666
    for file in Path(folder).iterdir():
        if file.is_file():
            file.chmod(mode)
