"""The command line of a sweep: its jobs, and which earlier sweep it goes on with.

jobs = grid(["adapter.r=8,16", "seed=1"], params={})   # (("adapter.r=8", "seed=1"), ...)
folder = sweep_folder(Path("runs"), "lora_r16", "train.py", sweep_words(words))
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra

from phi3v.config.composed import loader as loader_at_work
from phi3v.config.overrides import read_overrides
from phi3v.files import write_whole

FILE = "sweep.json"
JOB = "job.json"
_PLACES = ("hydra.sweep.dir=", "hydra.sweep.subdir=", "resume=")
_HOW = (
    *("hydra/launcher=", "hydra.launcher.", "hydra.mode=", "hydra.callbacks.", "fail_fast="),
    *("hydra.sweeper.n_jobs=", "hydra.sweeper.n_trials="),  # more trials go on with the study
)


def sweep_words(words: Sequence[str], flags: Sequence[str] = ()) -> tuple[str, ...]:
    """What makes a sweep that sweep: its overrides, without where it lies and how it is launched.

    Args:
        words: The overrides of the command line, Hydra's own included.
        flags: What `config_flags` says of it.
    """
    own = [word for word in words if not word.lstrip("+").startswith(_PLACES + _HOW)]
    return (*flags, *sorted(own))


def config_flags(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The flags by which a command line chooses other configuration files, as words of it.

    Args:
        arguments: The command line as it was typed, before a run takes the configuration's place.
    """
    names = ("config_path", "config_name", "config_dir")
    given = {name: getattr(arguments, name) for name in names}
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value)


def mode_as_flag(arguments: argparse.Namespace) -> list[str]:
    """Put -m in the place of Hydra's other word for it, so that it is -m to everyone.

    Args:
        arguments: The command line; it is a sweep afterwards where the word says so.

    Returns:
        The flag, where the command line has to get it.
    """
    words = [word for word in arguments.overrides if word.lstrip("+") == "hydra.mode=MULTIRUN"]
    if arguments.multirun or not words:
        return []
    arguments.multirun = True
    if arguments.run or arguments.cfg or arguments.info or arguments.shell_completion:
        return []  # flags that exclude -m, but not the word
    arguments.overrides = [word for word in arguments.overrides if word not in words]
    return ["--multirun"]


def sweep_folder(
    runs: Path,
    name: str,
    program: str,
    words: Sequence[str],
    anew: bool = False,
    claim: bool = True,
) -> Path:
    """The directory of a sweep: that of the latest one of the same command, or a new one.

    Two programs that ask at the same moment get the same directory, which only one of them will
    get to work in.

    Args:
        runs: The folder of all runs.
        name: Of the experiment.
        program: The script, "train.py" or "eval.py".
        words: What `sweep_words` says of the command line.
        anew: Whether a new one is wanted in any case.
        claim: Make the directory, so that the next one who asks finds it.

    Raises:
        UserError: When it cannot be made, as on a full disk.
    """
    folder = runs / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}_sweep"
    if not claim:
        return (None if anew else begun_sweep(runs, program, words)) or folder
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / "sweeps.lock"):
        found = None if anew else begun_sweep(runs, program, words)
        if found:
            return found
        begun = json.dumps({"plan": {"program": program, "words": list(words)}})
        write_whole(folder / FILE, begun)
        return folder


def begun_sweep(runs: Path, program: str, words: Sequence[str]) -> Path | None:
    """The latest sweep of the same command."""
    for file in sorted(runs.glob(f"*/*/{FILE}"), key=lambda one: one.parent.name, reverse=True):
        try:
            plan = json.loads(file.read_text(encoding="utf-8"))["plan"]
            known = plan["program"], plan["words"]
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # nobody can tell what it was
        if known == (program, list(words)):
            return file.parent
    return None


def job_overrides(words: Sequence[str]) -> list[str]:
    """What makes a job that job."""
    return [word for word in words if not word.startswith("resume=")]


def job_folder(sweep: Path, number: int, words: Sequence[str]) -> str:
    """The name of a job's directory: the one that it has already, or a new number.

    So a sweep may get more values, or a search go on, and no job takes the place of another.

    Args:
        sweep: The directory of the sweep; a new number in it is taken at once.
        number: The job's number in this run of the sweep, its own where that is free.
        words: The job's overrides.

    Raises:
        UserError: When its directory cannot be made, as on a full disk.
    """
    own = job_overrides(words)
    if not sweep.is_dir():
        return str(number)
    with FileLock(sweep / "jobs.lock"):
        known = job_folders(sweep)
        same = [name for name, overrides in known.items() if overrides == own]
        earlier = _earlier(sweep, number, own)
        if earlier < len(same):
            return str(same[earlier])
        free = number if number not in known else max(known) + 1
        write_whole(sweep / str(free) / JOB, json.dumps({"overrides": own}))
    return str(free)


def _earlier(sweep: Path, number: int, own: list[str]) -> int:
    """How many jobs before this one have the same overrides, as in `trainer.devices=1,2,1`.

    Of a search that chooses its values there is no plan: what it asks twice is the same job.
    """
    try:
        plan = json.loads((sweep / FILE).read_text(encoding="utf-8"))["plan"]
    except FileNotFoundError:
        return 0
    return sum(job_overrides(job) == own for job in plan.get("jobs", [])[:number])


def job_folders(sweep: Path) -> dict[int, list[str]]:
    """The jobs of a sweep that have a directory: their overrides by number."""
    files = [file for file in sweep.glob(f"*/{JOB}") if file.parent.name.isdigit()]
    return {
        int(file.parent.name): json.loads(file.read_text(encoding="utf-8"))["overrides"]
        for file in sorted(files, key=lambda one: int(one.parent.name))
    }


def grid(words: Sequence[str], params: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """The overrides of each job of a sweep over all combinations, in Hydra's order.

    Args:
        words: The overrides of the command line, without Hydra's own.
        params: What `hydra.sweeper.params` adds.
    """
    hydra = GlobalHydra.instance()
    loader = hydra.config_loader() if hydra.is_initialized() else None
    added = [f"{key}={value}" for key, value in params.items()]
    parsed = read_overrides([*added, *words], loader)  # as BasicSweeper has them
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return tuple(tuple(job) for job in jobs)


def objective_of(cfg: Mapping[Any, Any]) -> str:
    """The name of what a program returns: an evaluation's is of the split that it scores.

    Args:
        cfg: Of train.py or eval.py. An evaluation has the objective of its run, which names the
            split that decided there.
    """
    objective = str(cfg["objective"])
    return f"{cfg['split']}/{objective.partition('/')[2]}" if "split" in cfg else objective


def fixes_settings(name: str) -> bool:
    """Whether a file of the group `sweep` sets more than what jobs choose from, and how.

    Args:
        name: Of the file, among those that Hydra is composing from.
    """
    loaded = loader_at_work().repository.load_config(f"sweep/{name}")
    if loaded is None:  # it comes over hydra.searchpath
        return True
    chosen = [default for default in loaded.defaults_list or () if not default.is_self()]
    groups = [str(getattr(default, "group", None) or "").lstrip("/") for default in chosen]
    return bool({*loaded.config} - {"hydra"}) or not all(g.startswith("hydra/") for g in groups)
