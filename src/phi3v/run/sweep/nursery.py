"""Starts the jobs of a sweep as forks of a process that has imported everything already.

    job = ForkedJob(command, environment, preload="phi3v.run.training")
    status = job.wait()

Importing torch and its company takes longer than many a small job. A server process
(multiprocessing's forkserver) imports them once and does nothing else; each job is a fork of it: a
process of its own, with nothing in it of any job before. Only for jobs of one process on the CPU:
Lightning starts further processes by the command line of their parent, and CUDA may be touched by
an import, after which no fork can use it.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from phi3v.config.resolvers import count_devices
from phi3v.run import outcome

#: What each program imports before it does anything.
PRELOAD = {"phi3v.run:train": "phi3v.run.training", "phi3v.run:evaluate": "phi3v.run.evaluation"}


def can_fork(cfg: DictConfig, program: str) -> bool:
    """Whether a job may be a fork."""
    trainer = cfg.trainer
    alone = trainer.accelerator == "cpu" and count_devices(trainer.devices) * trainer.num_nodes == 1
    return alone and program in PRELOAD and "forkserver" in multiprocessing.get_all_start_methods()


class ForkedJob:
    """A job with the few methods of subprocess.Popen that are needed here.

    Args:
        command: Interpreter, script and words.
        environment: All of its variables.
        preload: The module that the server imports first.
        lock: A descriptor that stays open in it.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], preload: str, lock: int
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        arguments = (list(command[1:]), str(Path.cwd()), dict(environment), _Inherited(lock))
        self._process = context.Process(target=_run, args=arguments)
        self._process.start()

    def poll(self) -> int | None:
        """Its status; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: When it takes longer.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("the job", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process.pid is not None and self._process.exitcode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


class _Inherited:
    """A descriptor on its way into a process of the server."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return _received, (reduction.DupFd(self.descriptor),)


def _received(descriptor: Any) -> _Inherited:
    return _Inherited(descriptor.detach())


def _run(words: list[str], folder: str, environment: dict[str, str], lock: _Inherited) -> None:
    """Become `python <words>`, in the process of the job."""
    outcome.begin()
    # As in a new interpreter; or else the data's workers would be children of another such server,
    # which imports everything once more.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)  # as the interpreter does for a script
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a fork ends without
        sys.stdout.flush()
        sys.stderr.flush()
