"""Gives each of several jobs that run at once its share of one machine.

note_threads(os.environ)                                  # where the sweep is started
gpus = gpus_for("gpu", os.environ)                        # ["0", "1"]
with hold_gpus(sweep.path, 1, gpus) as own:               # ["1"]
    environment |= share(4, 1, own, environment)
"""

import contextlib
import functools
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

# Joblib sets these in its processes; torch on the CPU takes its number of threads from MKL's.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_TYPED = "PHI3V_THREADS"
_GPUS = "CUDA_VISIBLE_DEVICES"


@contextlib.contextmanager
def hold_gpus(folder: Path, devices: int, gpus: Sequence[str] | None) -> Iterator[list[str]]:
    """Hold so many GPUs; the operating system frees them when the process is gone.

    Args:
        folder: Where the processes that share the machine meet.
        devices: How many a job takes; of fewer than that it gets all.
        gpus: What `gpus_for` says.

    Yields:
        Their names.
    """
    names = list(gpus or ())
    while names:
        with contextlib.ExitStack() as held:
            own = _taken(folder, min(devices, len(names)), names, held)
            if own is not None:
                yield own
                return
        time.sleep(0.2)  # until a job ends
    yield []


def _taken(
    folder: Path, count: int, names: Sequence[str], held: contextlib.ExitStack
) -> list[str] | None:
    """So many GPUs that nobody has; None, and perhaps some of them held, when there are fewer."""
    own: list[str] = []
    # One process at a time: two that each took a half would wait for each other's.
    with FileLock(folder / "gpus.lock"):
        for name in names:
            if len(own) == count:
                break
            with contextlib.suppress(Timeout):
                lock = FileLock(folder / f"gpu_{name.replace('/', '_')}.lock", timeout=0)
                held.enter_context(lock)
                own.append(name)
    return own if len(own) == count else None


def places(at_once: int, devices: int, gpus: Sequence[str] | None) -> int:
    """How many jobs may run at once, each with GPUs of its own; at least one.

    Args:
        at_once: How many are wanted.
        devices: Those that a job takes.
        gpus: What `gpus_for` says.
    """
    return at_once if gpus is None else max(1, min(at_once, len(gpus) // devices))


def note_threads(environment: MutableMapping[str, str]) -> None:
    """Remember the numbers of threads that the user has set; a launcher sets some of its own.

    Args:
        environment: Of the process that starts the sweep, from which those of the jobs come.
    """
    typed = {name: environment[name] for name in _THREADS if name in environment}
    environment[_TYPED] = json.dumps(typed)


def share(
    at_once: int, devices: int, gpus: Sequence[str], environment: Mapping[str, str]
) -> dict[str, str]:
    """The variables by which a job keeps to its share: threads, and GPUs of its own.

    Args:
        at_once: How many jobs run at the same time.
        devices: Those that a job takes; each has a process with threads of its own.
        gpus: Its own.
        environment: What `note_threads` found in it stays.
    """
    typed = json.loads(environment.get(_TYPED, "{}"))
    threads = typed.get(_THREADS[0], str(max(1, cores() // (at_once * devices))))
    own = {name: typed.get(name, threads) for name in _THREADS}
    if gpus:
        own[_GPUS] = ",".join(gpus)
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
