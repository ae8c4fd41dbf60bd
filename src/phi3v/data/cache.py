"""Folders that are made once and then reused, by any number of processes at the same time."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

log = logging.getLogger(__name__)


def write_once(folder: Path, write: Callable[[Path], None], what: str) -> None:
    """Makes `folder` by `write`, unless it is there.

    The content is written beside it and renamed when complete, so that a folder of that name is
    always whole: an interrupted run leaves nothing behind that a later one would take for data.

    Args:
        folder: the folder to make.
        write: fills an empty folder.
        what: what is being done, for the log, for example "drawing 3,040 product pictures".
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    started = time.perf_counter()
    log.info("%s into %s", what, folder)
    try:
        write(draft)
        draft.chmod(0o755)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker, with the same content
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    log.info("%s took %.1f s", what, time.perf_counter() - started)
