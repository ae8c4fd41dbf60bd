"""What happens between the command line and the first heavy import.

    if __name__ == "__main__":
        enter(main, __file__, "train")

Wrong input is refused in one line with exit status 2 while nothing but Hydra has been imported.
"""

import argparse
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from phi3v.config import resolvers
from phi3v.config.composed import Composed
from phi3v.config.composing import check_command_line
from phi3v.config.help import help_page
from phi3v.config.launchers import (
    agent_run,
    launched_job,
    launched_processes,
    launched_rank,
    process_name,
)
from phi3v.config.overrides import chosen, read_overrides, without_null
from phi3v.config.resuming import is_finished, kept_settings, unfinished_run
from phi3v.config.saving import FILE as CONFIG
from phi3v.config.saving import base_on_run
from phi3v.config.sweeps import config_flags, mode_as_flag, sweep_folder, sweep_words
from phi3v.crashes import tell_crashes
from phi3v.errors import UserError
from phi3v.files import no_space

WRONG_INPUT = 2
DRY_RUN = "--dry-run"
# Variables that hold the command line of this program: as Hydra gets it, and as it was typed.
COMMAND, TYPED = "PHI3V_COMMAND", "PHI3V_TYPED"
# What Optuna's storages say, in memory and in a database.
_NO_BEST_TRIAL = ("No trials are completed yet", "Record does not exist")
_FOLDERS = ("sweep_dir", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")


def enter(program: Callable[[], Any], script: str, name: str) -> None:
    """Check the command line, then let Hydra run the program.

    Args:
        program: The function under `@hydra.main`.
        script: The script's `__file__`; conf/ lies beside it.
        name: "train" or "eval".
    """
    tell_crashes()
    resolvers.register()
    conf = Path(script).resolve().parent / "conf"
    try:
        arguments = read_arguments(sys.argv[1:])
        if arguments.help:
            print(help_page(conf, name))
            return
        given, arguments.overrides = arguments.overrides, without_null(arguments.overrides, conf)
        mode = mode_as_flag(arguments)
        files = config_flags(arguments)
        _follow_run(arguments, conf, name)
        _place(arguments)
        if not (arguments.hydra_help or arguments.info or arguments.shell_completion):
            composed = _check(arguments, conf, name)
            if name == "train" and composed.plain.get("resume") is True:
                _find_run(arguments, composed)
            if arguments.multirun:
                _find_sweep(arguments, composed.plain, name, Path(script).name, files)
        _join_others(arguments, name)
    except UserError as error:
        refuse(error, to_agent=True)
    except HydraException as error:  # what is not put into better words anywhere
        refuse(UserError(str(error).strip().splitlines()[0]), to_agent=True)
    os.environ[TYPED] = json.dumps([Path(script).name, *sys.argv[1:]])
    # Flags first: Hydra's parser does not find overrides behind a flag that follows overrides.
    flags = [word for word in sys.argv[1:] if word != DRY_RUN]
    for word in given:
        flags.remove(word)
    flags += mode
    if arguments.config_name:
        flags += ["--config-name", arguments.config_name]
    sys.argv[1:] = [*flags, *arguments.overrides]
    # A launcher may run the jobs of a sweep in processes with another command line.
    os.environ[COMMAND] = json.dumps([str(Path(script).resolve()), *sys.argv[1:]])
    # An error of the program is shown with its own traceback, not with Hydra's summary of it.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        program()
    except KeyboardInterrupt:  # in whatever a launcher was just doing
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except (OmegaConfBaseException, OSError) as error:
        # The jobs of a sweep are processes of their own: this comes from between them.
        if arguments.multirun and (disk := _full_disk(error)):
            refuse(disk)
        raise
    except ValueError as error:
        # With jobs at once Optuna's sweeper asks for the best one also where there is none.
        if not arguments.multirun or str(error).strip(".") not in _NO_BEST_TRIAL:
            raise
        print("error: no job of this search came to a figure", file=sys.stderr)
        raise SystemExit(1) from None


def read_arguments(words: list[str]) -> argparse.Namespace:
    """Divide a command line into Hydra's flags and overrides, in whatever order they come.

    Raises:
        UserError: When there is a flag that Hydra does not know, or flags exclude each other.
    """

    def fail(message: str) -> NoReturn:
        raise UserError(f"{message} (--help says what there is)")

    parser = get_args_parser()
    parser.allow_abbrev = False  # Hydra would not know a short one of ours
    parser.add_argument(DRY_RUN, action="store_true")
    parser.error = fail  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(words)
    modes = ("run", "multirun", "cfg", "shell_completion", "info")
    given = [f"--{mode.replace('_', '-')}" for mode in modes if getattr(arguments, mode)]
    if len(given) > 1:
        fail(f"{' and '.join(given)} exclude each other")
    if arguments.dry_run and not arguments.multirun:
        fail(f"{DRY_RUN} lists the jobs of a sweep: add -m; --cfg job shows what a run would be")
    return arguments


def _full_disk(error: BaseException | None) -> UserError | None:
    """What is to be told of an error of Hydra's, or of a resolver's, where a disk is full."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        if text := no_space(error):
            return UserError(f"{text}; the same command goes on")
        error = error.__cause__ or error.__context__
    return None


def refuse(error: UserError, to_agent: bool = False) -> NoReturn:
    """Print what the user has to put right, and leave.

    Args:
        error: What is wrong.
        to_agent: Under an agent of W&B there is a run even now; whether it is told.
    """
    print(f"error: {error}", file=sys.stderr)
    if to_agent and agent_run():
        pkgutil.resolve_name("phi3v.run.wandb_end:tell_refused")(error)
    raise SystemExit(WRONG_INPUT)


def _follow_run(arguments: argparse.Namespace, conf: Path, name: str) -> None:
    """Put the configuration of the run that `run=` names in the place of the program's own."""
    words = read_overrides(arguments.overrides)
    runs = [value for word in words if word.key_or_group == "run" for value in chosen(word)]
    if not runs or not runs[0]:
        return
    run = str(runs[0])
    if name == "train" and arguments.multirun:
        raise UserError(
            f"run={run}: the jobs of -m are new runs, and none goes on with an earlier one; type"
            f" python train.py run={run}, and so for one run after the other"
        )
    groups = {word.key_or_group for word in words if (conf / word.key_or_group).is_dir()}
    arguments.config_name = base_on_run(run, groups, name)
    if name == "train":
        if is_finished(Path(run)):
            raise UserError(f"run={run}: this run has come to its end; python eval.py run={run}")
        if "trainer" in groups:
            arguments.overrides += kept_settings(run, {word.key_or_group for word in words})
        arguments.overrides.append(_run_dir(run))


def _find_run(arguments: argparse.Namespace, composed: Composed) -> None:
    """Give the directory of the latest unfinished run of the same training to this one.

    The processes of a launcher each look for themselves and have to find the same. They do: before
    all of them have come together, the first one writes no checkpoint and ends no run; and where it
    has found none, and begun one under the launcher's name, that one comes first.
    """
    given = [word.lstrip("+") for word in arguments.overrides]
    fixed = any(word.startswith(("hydra.run.dir=", "hydra.mode=")) for word in given)
    if arguments.multirun or arguments.cfg or fixed:
        return  # a sweep's jobs and a run with a directory of its own know where they are
    plain = composed.plain
    runs = Path(plain["paths"]["runs"]) / str(plain["name"])
    if job := launched_job():
        asked = composed.written["resume"] is True  # on the command line or in a file
        if not asked or agent_run() or (runs / job / CONFIG).is_file():
            return
    if found := unfinished_run(runs, plain):
        arguments.overrides.append(_run_dir(str(found)))


def _place(arguments: argparse.Namespace) -> None:
    """Refuse directories without a name, and a sweep without -m.

    `sweep_dir=` and `--dry-run` are put into the words that Hydra has for them.
    """
    words = []
    swept = arguments.multirun or "hydra.mode=RUN" in arguments.overrides  # or one of its jobs
    for word in arguments.overrides:
        key, _, value = word.partition("=")
        if key.lstrip("+") in _FOLDERS and value.strip(" '\"").lower() in ("", "null"):
            raise UserError(f"{word}: empty; give a directory, or leave the word out")
        if key in ("sweep", "sweep_dir") and value and not swept:
            raise UserError(f"{word}: that is for a sweep; add -m")
        words.append(f"hydra.sweep.dir={value}" if key == "sweep_dir" else word)
    if arguments.dry_run:
        words.append("hydra.callbacks.sweep.dry_run=true")
    arguments.overrides = words


def _find_sweep(
    arguments: argparse.Namespace,
    plain: dict[str, Any],
    program: str,
    script: str,
    flags: Sequence[str],
) -> None:
    """Give the directory of the same sweep, where one was begun, to this one."""
    words = arguments.overrides
    if arguments.cfg or any(word.startswith("hydra.sweep.dir=") for word in words):
        return
    folder = sweep_folder(
        Path(plain["paths"]["runs"]),
        "eval" if program == "eval" else _sweep_name(words, plain),
        script,
        sweep_words(words, flags),
        anew="resume=false" in words,
        claim=not arguments.dry_run,
    )
    quoted = str(folder).replace("'", "\\'")
    arguments.overrides.append(f"hydra.sweep.dir='{quoted}'")


def _sweep_name(words: Sequence[str], plain: Mapping[str, Any]) -> str:
    """What a sweep's directory lies under: its own name, or that of the experiment it is about."""
    parsed = read_overrides(words)
    named = [str(word.value()) for word in parsed if word.key_or_group == "sweep"]
    swept = {word.key_or_group for word in parsed if word.is_sweep_override()}
    if named:
        return named[0]
    return "sweeps" if swept & {"experiment", "name"} else str(plain["name"])


def _join_others(arguments: argparse.Namespace, name: str) -> None:
    """Keep the processes of a launcher from writing into each other's files."""
    if launched_processes() > 1 and arguments.multirun:
        raise UserError(
            f"-m: {launched_processes()} processes were started, and each would do the whole"
            f" sweep; start it with python {name}.py -m, its jobs start their own processes"
        )
    if arguments.multirun and agent_run():
        raise UserError(
            "-m: an agent of W&B has started this program for one run, and all jobs of a sweep"
            " would be written into it; leave out -m, the agent starts one job after the other"
        )
    # Lightning gives those that it starts a name for their log.
    lightnings, ours = "hydra.job.name=train_ddp_process_", f"hydra.job.name={name}_rank_"
    arguments.overrides = [
        f"{ours}{process_name()}" if word.startswith(lightnings) else word
        for word in arguments.overrides
    ]
    if rank := launched_rank():
        arguments.overrides += ["hydra.output_subdir=null", f"{ours}{rank}"]


def _run_dir(folder: str) -> str:
    quoted = folder.replace("'", "\\'")
    return f"hydra.run.dir='{quoted}'"


def _check(arguments: argparse.Namespace, conf: Path, name: str) -> Composed:
    words = list(arguments.overrides)
    if arguments.config_dir:
        words.append(f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]")
    if arguments.config_path:
        conf = (conf.parent / arguments.config_path).resolve()
    return check_command_line(
        conf,
        name,
        words,
        config_name=arguments.config_name or name,
        multirun=arguments.multirun,
        allow_missing=bool(arguments.cfg),
    )
