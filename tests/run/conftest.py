"""Starts a program whose training is a few lines long, with the real configuration."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import hydra
from phi3v.config.front_door import enter


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg):
    from phi3v.run import jobs

    return jobs.start(cfg, "small_program:train")


if __name__ == "__main__":
    enter(main, __file__, "train")
"""
# What a job does depends on the rank of its adapter.
PROGRAM = r"""
import json, os, signal
from pathlib import Path
from phi3v.errors import DivergedError, UserError
from phi3v.run.outcome import Outcome


def train(cfg):
    run = Path(cfg.paths.run)
    seen = {"pid": os.getpid(), "r": cfg.adapter.r, "lr": cfg.optimizer.lr, "cwd": os.getcwd()}
    seen["rank"] = os.environ.get("LOCAL_RANK")
    (run / "seen.json").write_text(json.dumps(seen))
    with Path(os.environ.get("SEEN", os.devnull)).open("a") as file:
        file.write(f"{cfg.adapter.r}\n")
    rows = [f"{step},{1 / (step + cfg.adapter.r)}" for step in range(1, 6)]
    (run / "metrics.csv").write_text("\n".join(["step,val/full_price/mape", *rows]) + "\n")
    if cfg.adapter.r == 13:
        raise UserError("thirteen is bad luck")
    if cfg.adapter.r == 14:
        raise RuntimeError("a bug")
    if cfg.adapter.r == 15:
        os._exit(9)
    if cfg.adapter.r == 17:
        raise DivergedError("the loss is nan")
    if cfg.adapter.r == 18:
        raise MemoryError("there is no more")
    if cfg.adapter.r == 19 and not (run / "once").exists():
        (run / "once").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.adapter.r == 20:  # as Lightning does to the first process when another one has failed
        Outcome("failed", reason="RuntimeError: a bug").write(run, "outcome_rank_1.json")
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.adapter.r == 22:  # what is left for a process when another one has failed
        raise RuntimeError("[third_party/gloo/gloo/pair.cc:1] Connection closed by peer")
    if cfg.adapter.r == 21:
        return float("nan")
    return cfg.adapter.r / 2 + 0.1 * (cfg.seed - 7)
"""
Finished = subprocess.CompletedProcess[str]
Start = Callable[..., Finished]


def jobs_of(sweep: Path) -> list[dict]:
    """The jobs of a sweep, as its directory has them."""
    return json.loads((sweep / "sweep.json").read_text())["jobs"]


def only_sweep(here: Path) -> Path:
    """The directory of the one sweep that was begun from here."""
    [found] = here.glob("runs/*/*_sweep")
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the program lies."""
    folder = tmp_path / "home of it"
    folder.mkdir()
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    (folder / "small_program.py").write_text(PROGRAM, encoding="utf-8")
    return folder


@pytest.fixture
def begins_with(home: Path) -> Callable[..., None]:
    """Lets the small program do something more, before it looks at the rank."""

    def edit(*lines: str) -> None:
        program, mark = home / "small_program.py", "    if cfg.adapter.r == 13:"
        text = program.read_text(encoding="utf-8")
        assert text.count(mark) == 1
        more = "".join(f"    {line}\n" for line in lines)
        program.write_text(text.replace(mark, more + mark), encoding="utf-8")

    return edit


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where it is called from."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def start(home: Path, here: Path) -> Start:
    """Runs the program and waits for it."""
    # A number of threads is something that jobs at once would leave as it is.
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}

    def run(*words: str, environment: Mapping[str, str] | None = None) -> Finished:
        return subprocess.run(
            [sys.executable, str(home / "train.py"), *words],
            cwd=here,
            env={**inherited, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
