"""What holds for files that any room writes.

write_whole(run / "splits.json", text)
with writing(run / "metrics.csv"):
    append_a_row()
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from phi3v.errors import UserError

#: What is raised where something cannot be written: safetensors puts the system's error into words.
UNWRITTEN = (OSError, SafetensorError)
#: What there is to do about a full disk.
MAKE_SPACE = "make space"
_NUMBER = re.compile(r"\(os error (\d+)\)")


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
    """Say in one line what keeps a file, or a folder, from being written, as a full disk does.

    Raises:
        UserError: In the place of the system's error.
    """
    try:
        yield
    except UNWRITTEN as error:
        free = shutil.disk_usage(file.parent).free if file.parent.is_dir() else 0
        raise UserError(
            f"{file}: it cannot be written, {free / 2**20:,.1f} MiB were free there"
            f" ({said(error)}): {MAKE_SPACE}; a training goes on with resume=true, a sweep with the"
            " same command"
        ) from error


def no_space(error: BaseException) -> str:
    """What the system's error says of a full disk, or of a quota, in one line; else nothing."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}: {MAKE_SPACE}"


def said(error: Exception) -> str:
    """What the system says of one of `UNWRITTEN`."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    number = _NUMBER.search(str(error))
    return os.strerror(int(number[1])) if number else " ".join(str(error).split())


def as_open_as_folder(folder: str | Path) -> None:
    """Let whoever may read a folder read its files; safetensors writes them for one user alone."""
    mode = Path(folder).stat().st_mode & 0o666
    for file in Path(folder).iterdir():
        if file.is_file():
            file.chmod(mode)
