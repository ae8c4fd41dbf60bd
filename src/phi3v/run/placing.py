"""A folder that is there as a whole or not at all.

with placed(Path("my-model")) as draft:
    write_everything_into(draft)
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phi3v.errors import UserError
from phi3v.files import UNWRITTEN, as_open_as_folder, said


def check_free(out: Path) -> None:
    """Refuse a place where something would be overwritten.

    Raises:
        UserError: When there is a file or a folder that is not empty, or it is the folder that the
            program was called from: a shell would be left in what is gone.
    """
    if out.is_dir() and not any(out.iterdir()):
        if out.resolve() == Path.cwd().resolve():
            raise UserError(f"{out}: that is the folder you are in; give a name for one inside it")
        return
    if out.exists() or out.is_symlink():
        kind = "a folder that is not empty" if out.is_dir() else "a file"
        raise UserError(f"{out}: there is {kind} already; give another name, or remove it first")


def check_room(out: Path, size: int) -> None:
    """Refuse a disk that cannot hold what is to be written.

    Args:
        out: Where; it need not be there.
        size: Bytes.

    Raises:
        UserError: When less is free.
    """
    folder = next(place for place in out.absolute().parents if place.is_dir())
    if size > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"{out}: {size / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB free; make"
            " space, or give a place on another disk"
        )


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """Gives a hidden folder beside `out` that becomes `out` when nothing went wrong inside.

    Otherwise it is removed again, also when the program is interrupted.

    Raises:
        UserError: When `out` is taken, or cannot be written.
    """
    check_free(out)
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
        yield draft
        as_open_as_folder(draft)
        check_free(out)  # it may have taken minutes
        draft.replace(out)
    except UNWRITTEN as error:
        raise UserError(f"{out}: cannot be written: {said(error)}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
