"""Ends the jobs of a sweep that run at the same time: each saves first, and no other begins.

    begin(sweep.path)                                    # in the sweep's own program
    with ending_jobs_on_signals(sweep.path): ...
    if is_stopping(sweep.path): ...                      # in a launcher's: begin nothing
    note_process(lock, process.pid)                      # there: whom a signal is passed on to
    end_jobs(sweep.path, but=folder)

A launcher that is interrupted kills its processes with all that they have started.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from phi3v.errors import UserError
from phi3v.run.lock import JOB, held_with_heirs
from phi3v.run.sweep.directory import SweepDirectory
from phi3v.run.sweep.process import GRACE, handling

FILE = "stopping"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_RECORDING = 10.0  # seconds for a launcher's process to write down what became of a killed job


@contextlib.contextmanager
def ending_jobs_on_signals(sweep: Path) -> Iterator[None]:
    """End the jobs, and then this program, when it is told to end.

    Args:
        sweep: The directory of the sweep.
    """
    told = False

    def end(number: int, frame: object) -> None:
        nonlocal told
        if told:
            return
        told = True
        end_jobs(sweep)
        with contextlib.suppress(UserError):  # a full disk: the next start finds it out
            SweepDirectory(sweep).update()
        print(f"\ninterrupted; the same command goes on\nsweep: {sweep}", file=sys.stderr)
        raise SystemExit(128 + number)

    heard = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    with handling(heard, end):
        yield


def begin(sweep: Path) -> None:
    """Let jobs begin, whatever a program that has ended wanted.

    Args:
        sweep: The directory of the sweep, on which no other program is at work.
    """
    (sweep / FILE).unlink(missing_ok=True)


def is_stopping(sweep: Path) -> bool:
    """Whether no other job is to begin; so until the next program is at work on the sweep."""
    return (sweep / FILE).exists()


def begin_no_other(sweep: Path) -> None:
    """Let those that run come to their end, and no other begin."""
    (sweep / FILE).touch()


def leave_ctrl_c_to_the_sweep() -> None:
    """In a launcher's process, which a terminal tells as well: its job ends first.

    Nothing is ignored, for a job would inherit that.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)


def note_process(lock: int, pid: int | None) -> None:
    """Write down which process a job is.

    Args:
        lock: The descriptor by which the job is held.
        pid: None when it has ended.
    """
    os.ftruncate(lock, 0)
    if pid is not None:
        os.write(lock, str(pid).encode())


def end_jobs(sweep: Path, but: Path | None = None) -> None:
    """Tell all jobs that run on this machine to end, and wait until that is written down.

    Args:
        sweep: The directory of the sweep.
        but: The directory of the job that asks, an absolute path.

    Raises:
        FileExistsError: When a job asks, and they are being ended already.
    """
    (sweep / FILE).touch(exist_ok=but is None)
    told: set[int] = set()
    until = time.monotonic() + GRACE
    while running := [
        file for file in sweep.resolve().glob(f"*/{JOB}") if file.parent != but and _held(file)
    ]:
        late = time.monotonic() > until
        for process in filter(None, map(_process, running)):
            if late or process not in told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL if late else signal.SIGTERM)
                told.add(process)
        if time.monotonic() > until + _RECORDING:
            return
        time.sleep(0.05)


def _held(file: Path) -> bool:
    try:
        with held_with_heirs(file.parent, wait=False):
            return False
    except BlockingIOError:
        return True


def _process(file: Path) -> int | None:
    return int(file.read_text(encoding="utf-8") or 0) or None
