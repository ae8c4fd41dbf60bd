"""Keeps two programs from working on one run directory at the same time.

    with only_program_on(folder):
        ...

The operating system ends the lock with the process that holds it, however that ends: nothing stays
locked after a kill. Processes of one run that are started together share the lock of the first.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from phi3v.errors import UserError

FILE, JOB = "run.lock", "job.lock"
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


@contextlib.contextmanager
def held_with_heirs(folder: Path, wait: bool = True) -> Iterator[int]:
    """Hold the job in a directory from before its process begins until that has ended.

    A process that is started with the descriptor holds it as well, for as long as it lives and
    whatever becomes of this one. It is closed and never unlocked, which would be for all of them.

    Args:
        folder: The job's directory.
        wait: Until nobody else has it.

    Yields:
        The descriptor.

    Raises:
        BlockingIOError: When somebody else has it, unless this waits.
    """
    with (folder / JOB).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        file.truncate(0)
        yield file.fileno()
