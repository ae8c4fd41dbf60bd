"""One job: run here, or under `-m` in a fresh process of its own; its outcome in outcome.json.

    jobs.start(cfg, "phi3v.run:train")

Hydra runs the jobs of a sweep one after the other in one process. Then memory, seeds, loggers and
process groups of one job would leak into the next, and the processes that Lightning starts for DDP
would run the whole sweep again. So under `-m` this only starts `python train.py` with the job's own
overrides and waits. Importing this module imports nothing heavy.
"""

import contextlib
import json
import logging
import math
import os
import pkgutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from phi3v.config import load_config, public_config
from phi3v.config.front_door import COMMAND, refuse
from phi3v.config.launchers import is_first_process
from phi3v.config.resuming import first_difference
from phi3v.config.saving import FILE as CONFIG
from phi3v.errors import UserError

OUTCOME = "outcome.json"
RESULTS = ("metrics.csv", "metrics.json", "checkpoints")  # what a run leaves, soonest first
GRACE = 60.0  # seconds that an interrupted job has to save what it has
# What would tell a job that it is a part of something it is not: ranks, ports, seeds, run ids.
_INHERITED = {
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "ROLE_RANK"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "WANDB_RUN_ID"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: "ok", "interrupted" by a signal, or "failed" for whatever other reason.
        objective: What the program returned; None when it failed, or that is no finite number.
        reason: One line on what went wrong; empty when nothing did.
    """

    status: Literal["ok", "failed", "interrupted"]
    objective: float | None = None
    reason: str = ""

    def write(self, folder: Path) -> None:
        """Write it in one go, so that nobody ever reads a half of it."""
        part = folder / f"{OUTCOME}.part"
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.replace(folder / OUTCOME)

    @classmethod
    def read(cls, folder: Path) -> "Outcome | None":
        """The outcome in a run directory; None when the job did not get that far."""
        file = folder / OUTCOME
        return cls(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def start(cfg: DictConfig, program: str) -> float | None:
    """Run a program, in a process of its own when Hydra sweeps.

    Args:
        cfg: What the program gets.
        program: Where it is, as "package.module:function"; imported by the job alone.

    Returns:
        The objective that the program returns; NaN for a job of a sweep that failed.

    Raises:
        SystemExit: With status 2 after a UserError was printed, outside of sweeps; with 130 or
            143 after an interruption by Ctrl-C or SIGTERM.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    goes_on = "resume" in cfg and bool(cfg.resume or cfg.run)
    first = is_first_process()
    if not first:
        _say_errors_alone()
    problem = _obstacle(cfg, folder, goes_on) if first or goes_on else None
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        if problem:
            log.error("job %s is not started: %s", HydraConfig.get().job.num, problem)
            return math.nan
        done = _finished(folder) if goes_on else None
        return _figure(done) if done else _elsewhere(folder)
    if problem:
        refuse(UserError(problem))  # and writes nothing there, not even an outcome
    if goes_on and (done := _finished(folder)):
        if first:
            print(f"this run has come to its end already\nrun: {folder}")
        return _figure(done)
    try:
        objective: float | None = pkgutil.resolve_name(program)(cfg)
    except UserError as error:
        line = f"error: {error}"
        _end(folder, Outcome("failed", reason=line), log_text=line)
        refuse(error)
    except (KeyboardInterrupt, SystemExit) as error:
        status = _interrupted_by(error)
        _end(folder, Outcome("interrupted", reason=f"ended by {status}"))
        if is_first_process():
            print(f"\ninterrupted{_way_on(cfg, folder)}", file=sys.stderr)
            print(f"run: {folder}")
        raise SystemExit(128 + status) from None
    except BaseException as error:
        outcome = Outcome("failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])
        _end(folder, outcome, log_text=traceback.format_exc())
        raise
    finite = objective is not None and math.isfinite(objective)
    _end(folder, Outcome("ok", objective if finite else None))
    return objective


def _say_errors_alone() -> None:
    """What all processes have to say is on the screen once, from the first one."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)


def _way_on(cfg: DictConfig, folder: Path) -> str:
    """How to go on with a training; empty where there is nothing to go on from."""
    saved = "resume" in cfg and any((folder / "checkpoints").glob("*.ckpt"))
    return f"; to go on: python {sys.argv[0]} run={folder}" if saved else ""


def _finished(folder: Path) -> Outcome | None:
    """The outcome of a run that has come to its end."""
    outcome = Outcome.read(folder)
    return outcome if outcome and outcome.status == "ok" else None


def _figure(outcome: Outcome) -> float:
    return math.nan if outcome.objective is None else outcome.objective


def _obstacle(cfg: DictConfig, folder: Path, goes_on: bool) -> str | None:
    """Why nothing may be written into a directory: another run would get mixed with this one."""
    if not goes_on:
        left = next((name for name in RESULTS if (folder / name).exists()), None)
        return left and (
            f"{folder}: there is a run in it already ({left}); go on with it with resume=true, "
            "give another directory, or remove it"
        )
    if (folder / CONFIG).is_file():
        key = first_difference(load_config(folder), public_config(cfg))
        return key and (
            f"{folder}: this is another training, {key} differs; a training goes on as it was "
            "begun: leave the override out, or start a run of its own"
        )
    return None


def _interrupted_by(error: BaseException) -> signal.Signals:
    """The signal behind an interruption; Lightning turns SIGTERM into a SystemExit of its own."""
    code = getattr(error, "code", None)
    if isinstance(code, int) and code > 128:
        return signal.Signals(code - 128)
    return signal.SIGTERM if "SIGTERM" in type(error).__name__ else signal.SIGINT


def _end(folder: Path, outcome: Outcome, log_text: str = "") -> None:
    """Write the outcome, from the first process alone, and each process's error into its log."""
    if is_first_process():
        outcome.write(folder)
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, log_text, None, None)
    for handler in logging.getLogger().handlers:
        # The screen shows the error by itself.
        if isinstance(handler, logging.FileHandler) and log_text:
            handler.handle(record)


def _elsewhere(folder: Path) -> float:
    hydra = HydraConfig.get()
    (folder / OUTCOME).unlink(missing_ok=True)
    argv = json.loads(os.environ[COMMAND])
    command = job_command(argv, hydra.overrides.task, hydra.overrides.hydra, folder)
    # Hydra has opened the log file of the job already and its process goes on writing there.
    status = _wait_for(subprocess.Popen(command, env=clean_environment(os.environ)))
    outcome = Outcome.read(folder)
    if outcome is None or (status != 0 and outcome.status == "ok"):
        outcome = Outcome("failed", reason=f"the process ended with status {status}")
        outcome.write(folder)
    if outcome.status != "ok":
        log.error("job %s failed: %s (see %s)", hydra.job.num, outcome.reason, folder)
    return _figure(outcome)


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a job; on Ctrl-C, which reaches the job as well, let it save what it has first."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def job_command(argv: list[str], task: list[str], hydra: list[str], folder: Path) -> list[str]:
    """The command line of one job of a sweep.

    Args:
        argv: Of the sweep; its script and flags other than `-m` are kept.
        task: The job's own overrides.
        hydra: The overrides of Hydra's settings; those of the sweep itself are left out.
        folder: The job's directory.
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
        "hydra.mode=RUN",
        f"hydra.run.dir='{quoted}'",
    ]


_OF_THE_SWEEP = (
    *("hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher"),
    *("hydra.mode", "hydra.run.", "hydra.callbacks"),
)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what belongs to the process that starts the job."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _INHERITED and not name.startswith("TORCHELASTIC_")
    }


class SweepEnd(Callback):
    """Hydra's callback that makes a sweep end with status 1 when one of its jobs failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Count the outcomes in the directory of the sweep."""
        folder = Path(config.hydra.sweep.dir)
        outcomes = {
            file.parent.name: Outcome.read(file.parent) for file in folder.glob(f"*/{OUTCOME}")
        }
        failed = [name for name, outcome in outcomes.items() if outcome and outcome.status != "ok"]
        print(f"sweep: {folder}")
        if failed:
            print(f"error: {len(failed)} of {len(outcomes)} jobs failed", file=sys.stderr)
            raise SystemExit(1)
