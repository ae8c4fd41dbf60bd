"""One job: run here, or under `-m` in a fresh process of its own; its outcome in outcome.json.

    jobs.start(cfg, "phi3v.run:train")

Hydra runs the jobs of a sweep one after the other in one process. Then memory, seeds, loggers and
process groups of one job would leak into the next, and the processes that Lightning starts for DDP
would run the whole sweep again. So under `-m` this only starts `python train.py` with the job's own
overrides and waits. Importing this module imports nothing heavy.
"""

import contextlib
import logging
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from phi3v.config.front_door import refuse
from phi3v.config.launchers import (
    agent_run,
    is_first_process,
    launched_processes,
    process_name,
)
from phi3v.errors import PrunedError, UserError
from phi3v.files import MAKE_SPACE, no_space
from phi3v.run.lock import only_program_on
from phi3v.run.obstacle import obstacle
from phi3v.run.orphans import end_with_parent, known_to_others
from phi3v.run.outcome import (
    GOOD,
    OUT_OF_MEMORY,
    Outcome,
    exit_status,
    out_of_memory_kills,
)
from phi3v.run.rank_outcomes import first_cause, is_consequence, tell
from phi3v.run.sweep.job import run_job

log = logging.getLogger(__name__)


def start(cfg: DictConfig, program: str) -> float | None:
    """Run a program, in a process of its own when Hydra sweeps.

    Args:
        cfg: What the program gets.
        program: Where it is, as "package.module:function"; imported by the job alone.

    Returns:
        The objective that the program returns; NaN for a job of a sweep that failed.

    Raises:
        SystemExit: With status 2 after a UserError was printed, outside of sweeps; with 130 or
            143 after an interruption by Ctrl-C or SIGTERM; with that of the program's own exit.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    goes_on = "resume" in cfg and bool(cfg.resume or cfg.run)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run_job(cfg, folder, program)
    first = is_first_process()
    if first:
        known_to_others()
    else:
        _say_errors_alone()
        if os.environ.get("LOCAL_RANK", "0") != "0" and launched_processes() == 1:
            end_with_parent()
    try:
        with only_program_on(folder) if first else contextlib.nullcontext():
            return _here(cfg, program, folder, goes_on)
    except UserError as error:  # about the directory: nothing is written there, not even an outcome
        refuse(error)


def _here(cfg: DictConfig, program: str, folder: Path, goes_on: bool) -> float | None:
    first, begun, killed = is_first_process(), time.time(), out_of_memory_kills()
    problem = obstacle(cfg, folder, goes_on) if first or goes_on else None
    if problem:
        raise UserError(problem)
    if goes_on and (done := Outcome.read(folder)) and done.status == "ok":
        if first:
            print(f"this run has come to its end already\nrun: {folder}")
        return done.figure
    try:
        with _full_disk_told():
            objective: float | None = pkgutil.resolve_name(program)(cfg)
    except PrunedError as error:
        _end(folder, Outcome.of_error(error))
        if first:
            print(f"run: {folder}")
        return error.objective
    except UserError as error:
        _end(folder, _told(folder, error, begun, killed), log_text=f"error: {error}")
        refuse(error)
    except (KeyboardInterrupt, SystemExit) as error:
        outcome = _told(folder, error, begun, killed)
        _end(folder, outcome)
        if is_first_process():
            what = "interrupted" if outcome.status == "interrupted" else f"error: {outcome.reason}"
            print(f"\n{what}{_way_on(cfg, folder)}", file=sys.stderr)
            print(f"run: {folder}")
        raise SystemExit(exit_status(error)) from None
    except BaseException as error:
        outcome = _told(folder, error, begun, killed)
        _end(folder, outcome, log_text=traceback.format_exc())
        if outcome.status == "out_of_memory" and agent_run():
            # W&B has it as failed; three such ends in a row would end the agent.
            print(f"{outcome.reason}\nrun: {folder}", file=sys.stderr)
            return None
        if is_consequence(error):
            _leave_quietly(outcome, error)
        raise
    _end(folder, Outcome.of_objective(objective))
    return objective


@contextlib.contextmanager
def _full_disk_told() -> Iterator[None]:
    """A disk may be full under whoever writes: that is nothing to look for in a traceback."""
    try:
        yield
    except OSError as error:
        if text := no_space(error):
            raise UserError(f"{text}; a training goes on with resume=true") from error
        raise


def _told(folder: Path, error: BaseException, begun: float, killed: int) -> Outcome:
    """What this run ended of; each process that failed by itself has written that down.

    Args:
        folder: Of the run.
        error: What this process has met.
        begun: When it was started; seconds since the epoch.
        killed: What `out_of_memory_kills` said then.
    """
    outcome = Outcome.of_error(error)
    if not is_first_process():
        try:
            tell(folder, process_name(), outcome, error)
        except UserError as disk:
            print(f"error: {disk}", file=sys.stderr)
    elif is_consequence(error):
        if cause := first_cause(folder, begun):
            return cause
        if outcome.status == "failed" and out_of_memory_kills() > killed:
            return Outcome("out_of_memory", reason=f"{OUT_OF_MEMORY} (another process of this job)")
    return outcome


def _leave_quietly(outcome: Outcome, error: BaseException) -> None:
    """Ends a process that failed because another one had: that one has told its own error.

    The traceback, which is about a lost connection, is in this process's log. Where nobody knows
    a reason the first process tells what it has met.

    Raises:
        SystemExit: Unless this process has to tell its error itself.
    """
    if not is_first_process():
        raise SystemExit(1) from None
    if outcome != Outcome.of_error(error):
        print(f"error: {outcome.reason}", file=sys.stderr)
        raise SystemExit(1) from None


def _say_errors_alone() -> None:
    """What all processes have to say is on the screen once, from the first one."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)


def _way_on(cfg: DictConfig, folder: Path) -> str:
    """How to go on with a training; empty where there is nothing to go on from."""
    saved = "resume" in cfg and any((folder / "checkpoints").glob("*.ckpt"))
    return f"; to go on: python {sys.argv[0]} run={folder}" if saved else ""


def _end(folder: Path, outcome: Outcome, log_text: str = "") -> None:
    """Write the outcome, from the first process alone, and each process's error into its log.

    Raises:
        UserError: When a good outcome cannot be written. With any other, what the run ended of is
            what its user has to see, and that alone where it is the same full disk.
    """
    if is_first_process():
        try:
            outcome.measured().write(folder)
        except UserError as error:
            if outcome.status in GOOD:
                raise
            if MAKE_SPACE not in outcome.reason:
                print(f"error: {error}", file=sys.stderr)
        if outcome.status != "ok" and ("wandb" in sys.modules or agent_run()):
            pkgutil.resolve_name("phi3v.run.wandb_end:tell_wandb")(outcome)
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, log_text, None, None)
    for handler in logging.getLogger().handlers:
        # The screen shows the error by itself.
        if isinstance(handler, logging.FileHandler) and log_text:
            handler.handle(record)
