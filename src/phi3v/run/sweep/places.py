"""Gives each of several jobs that run at once its share of one machine.

gpus = gpus_for("gpu", os.environ)                        # ["0", "1"]
with place(sweep.path, places(4, 1, gpus)) as number:
    environment |= share(number, 4, 1, gpus, environment)
"""

import contextlib
import functools
import itertools
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

_THREADS = "OMP_NUM_THREADS"
_GPUS = "CUDA_VISIBLE_DEVICES"


@contextlib.contextmanager
def place(folder: Path, count: int) -> Iterator[int]:
    """Hold one of so many places; the operating system frees it when the process is gone.

    Args:
        folder: Where the processes that share the machine meet.
        count: How many places there are.

    Yields:
        The number of the place, from 0.
    """
    locks = [FileLock(folder / f"place_{number}.lock") for number in range(count)]
    while True:
        for number, lock in enumerate(locks):
            with contextlib.suppress(Timeout), lock.acquire(timeout=0):
                yield number
                return
        time.sleep(0.2)  # a job that is just ending


def places(at_once: int, devices: int, gpus: Sequence[str] | None) -> int:
    """How many jobs may run at once, each with GPUs of its own; at least one.

    Args:
        at_once: How many are wanted.
        devices: Those that a job takes.
        gpus: What `gpus_for` says.
    """
    return at_once if gpus is None else max(1, min(at_once, len(gpus) // devices))


def share(
    number: int,
    at_once: int,
    devices: int,
    gpus: Sequence[str] | None,
    environment: Mapping[str, str],
) -> dict[str, str]:
    """The variables by which a process keeps to its place: threads, and GPUs of its own.

    Args:
        number: Of the place.
        at_once: How many jobs run at the same time.
        devices: Those that a job takes; each has a process with threads of its own.
        gpus: What `gpus_for` says.
        environment: What is set already; a number of threads in it stays.
    """
    threads = max(1, cores() // (at_once * devices))
    own = {_THREADS: str(threads)} if _THREADS not in environment else {}
    if gpus:
        own[_GPUS] = ",".join(gpus[number * devices : (number + 1) * devices])
    return own


def gpus_for(accelerator: str, environment: Mapping[str, str]) -> list[str] | None:
    """The GPUs that jobs share, by the names that CUDA has for them; None of jobs on the CPU.

    Args:
        accelerator: Of the trainer; "auto" is the CPU where there is no GPU.
        environment: Its CUDA_VISIBLE_DEVICES says which there are; else nvidia-smi does.
    """
    if accelerator == "cpu":
        return None
    known = environment.get(_GPUS)
    names = _listed() if known is None else [name.strip() for name in known.split(",")]
    found = list(itertools.takewhile(lambda name: name not in ("", "-1"), names))
    return found if found or accelerator != "auto" else None


@functools.cache
def _listed() -> tuple[str, ...]:
    """The NVIDIA GPUs of this machine, as numbers."""
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ()
    count = sum(line.startswith("GPU ") for line in told.stdout.splitlines())
    return tuple(str(number) for number in range(count))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
