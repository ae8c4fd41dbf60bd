"""Keeps two programs from working on one run directory at the same time.

    with only_program_on(folder):
        ...

The operating system ends the lock with the process that holds it, however that ends: nothing stays
locked after a kill. Processes of one run that are started together share the lock of the first.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from phi3v.errors import UserError

FILE = "run.lock"
PATIENCE = 5.0  # seconds for a program that is just ending


@contextlib.contextmanager
def only_program_on(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a directory; others that ask for it meanwhile are told who has it.

    Args:
        folder: The run directory.
        patience: Seconds to wait for another program's end; -1 is without end.

    Raises:
        UserError: When another program has it and goes on.
    """
    file = folder / FILE
    lock = FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        holder = file.read_text(encoding="utf-8").strip() or "another program"
        raise UserError(
            f"{folder}: {holder} is at work on this run; wait for its end, or give another"
            " directory"
        ) from None
    try:
        with contextlib.suppress(OSError):  # on a full disk others are not told who has it
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()
