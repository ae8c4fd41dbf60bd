"""Gives each of several jobs that run at once its share of one machine.

with place(sweep.path, at_once=4) as number:
    environment |= share(number, 4, gpus=1, environment)
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

_THREADS = "OMP_NUM_THREADS"
_GPUS = "CUDA_VISIBLE_DEVICES"


@contextlib.contextmanager
def place(folder: Path, at_once: int) -> Iterator[int]:
    """Hold one of so many places; the operating system frees it when the process is gone.

    Args:
        folder: Where the processes that share the machine meet.
        at_once: How many places there are.

    Yields:
        The number of the place, from 0.
    """
    locks = [FileLock(folder / f"place_{number}.lock") for number in range(at_once)]
    while True:
        for number, lock in enumerate(locks):
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                yield number
                return
        time.sleep(0.2)  # a job that is just ending


def share(number: int, at_once: int, gpus: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which a process keeps to its place: threads, and GPUs of its own.

    Args:
        number: Of the place.
        at_once: How many places there are.
        gpus: GPUs that a job needs; 0 on the CPU.
        environment: What is set already; a number of threads in it stays.
    """
    own = {_THREADS: str(max(1, cores() // at_once))} if _THREADS not in environment else {}
    if gpus:
        known = environment.get(_GPUS)
        first = number * gpus
        devices = known.split(",") if known else [str(one) for one in range(at_once * gpus)]
        own[_GPUS] = ",".join(devices[first : first + gpus])
    return own


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
