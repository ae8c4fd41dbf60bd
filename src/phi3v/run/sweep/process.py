"""The process of one job: its command line, its environment, and its end.

job = subprocess.Popen(job_command(argv, task, hydra, folder), env=clean_environment(os.environ))
status = wait_for(job)
"""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hydra._internal.utils import get_args_parser

from phi3v.run.outcome import signal_behind


class Job(Protocol):
    """What a job has in common with subprocess.Popen."""

    def poll(self) -> int | None:
        """Its status; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """End it at once."""


GRACE = 60.0  # seconds that an interrupted job has to save what it has
# What would tell a job that it is a part of something it is not: ranks, ports, seeds, run ids.
_INHERITED = {
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "ROLE_RANK"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "WANDB_RUN_ID"),
}
# What makes a process one of a SLURM step's; a job that submitit starts is a process beside those.
_OF_THE_STEP = (
    *("SLURM_STEP", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_TASK", "SLURM_PROCID"),
    *("SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_NAME"),
)
_OF_THE_SWEEP = (
    *("hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher"),
    *("hydra.mode", "hydra.run.", "hydra.callbacks"),
)


def wait_for(process: Job) -> int:
    """Wait for a job; let it save what it has first when this program is told to end.

    Ctrl-C reaches the job as well; other signals are passed on, however often they come.
    """
    told: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        process.send_signal(number)
        told.append(number)
        if len(told) == 1:
            raise SystemExit(128 + number)

    with handling((signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2), pass_on):
        try:
            return process.wait()
        except (KeyboardInterrupt, SystemExit) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            # Told to end by SLURM it is told twice, and one of the two asks for the job again.
            asked = next((number for number in told if number != signal.SIGTERM), None)
            number = asked or signal_behind(error) or signal.SIGINT
            raise SystemExit(128 + number) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def handling(numbers: Sequence[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Have signals handled, where this is the thread that may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def job_command(
    argv: list[str], task: list[str], hydra: list[str], folder: Path, goes_on: bool = False
) -> list[str]:
    """The command line of one job of a sweep.

    Args:
        argv: Of the sweep; its script and flags other than `-m` are kept.
        task: The job's own overrides.
        hydra: The overrides of Hydra's settings; those of the sweep itself are left out.
        folder: The job's directory.
        goes_on: Whether it is to go on with what lies there.
    """
    flags = get_args_parser().parse_args(argv[1:])
    kept = {
        "--config-path": flags.config_path,
        "--config-name": flags.config_name,
        "--config-dir": flags.config_dir,
    }
    own = [word for word in hydra if not word.lstrip("+~").startswith(_OF_THE_SWEEP)]
    quoted = str(folder).replace("'", "\\'")
    return [
        sys.executable,
        argv[0],
        *(part for flag, value in kept.items() if value for part in (flag, value)),
        *task,
        *own,
        *(["resume=true"] if goes_on else []),
        "hydra.mode=RUN",
        f"hydra.run.dir='{quoted}'",
    ]


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what belongs to the process that starts the job."""
    theirs = ("TORCHELASTIC_", *(_OF_THE_STEP if submitit_of(environment) else ()))
    return {
        name: value
        for name, value in environment.items()
        if name not in _INHERITED and not name.startswith(theirs)
    }


def submitit_of(environment: Mapping[str, str]) -> str | None:
    """Where submitit runs this process, "slurm" or "local"; None where it does not."""
    return environment.get("SUBMITIT_EXECUTOR")


def hand_on(end: SystemExit) -> None:
    """Let submitit do what it does when its process is told to end, now that the job has saved.

    Args:
        end: As `wait_for` raises it.

    Raises:
        SystemExit: When it has asked for the job again.
        Exception: When it will not, because that was too often.
    """
    number = signal_behind(end)
    if number and callable(signal.getsignal(number)):
        signal.raise_signal(number)
