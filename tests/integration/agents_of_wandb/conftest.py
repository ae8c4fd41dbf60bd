"""What tests of agents of W&B work with: the real programs, and a stand-in for the server."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from wandb_loopback import LoopbackServer

from ..conftest import ROOT, SMALL, inherited


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    """A server of this test's own."""
    with LoopbackServer(tmp_path / "server") as one:
        yield one


@pytest.fixture
def env(server: LoopbackServer, cache: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of an agent, which keeps all that it writes with the test."""
    own = {"PHI3V_CACHE": str(cache), "PHI3V_RUNS": str(tmp_path / "runs")}
    # `python` in the command of an agent is the first one of the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**inherited(), **server.client_env(tmp_path / "client"), **own, "PATH": path}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of what agents work with: the client leaves files beside the program."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("train.py", "eval.py"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    return folder


def wandb(*words: str, cwd: Path, env: dict[str, str]) -> str:
    """Runs a command of the client to its end; what it has said."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", *words],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=480, check=False,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    return text


def make_sweep(home: Path, env: dict[str, str], parameters: dict, words: tuple = ()) -> str:
    """Makes a sweep like agent/grid.yaml with other parameters; returns its path."""
    spec = yaml.safe_load((ROOT / "agent" / "grid.yaml").read_text())
    spec["parameters"] = {name: {"values": values} for name, values in parameters.items()}
    given = [word for word in (*SMALL, *words) if word.partition("=")[0] not in parameters]
    spec["command"] = [*spec["command"][:-1], *given, spec["command"][-1]]
    (home / "sweep.yaml").write_text(yaml.safe_dump(spec))
    text = wandb("sweep", "sweep.yaml", cwd=home, env=env)
    return re.search(r"wandb agent (\S+)", text)[1]


def replace_training(home: Path, by: str) -> None:
    """Lets a home's train.py call a function of another module, of the given source."""
    program = (home / "train.py").read_text()
    assert program.count('"phi3v.run:train"') == 1
    (home / "train.py").write_text(program.replace('"phi3v.run:train"', '"ill:train"'))
    (home / "ill.py").write_text(by)
