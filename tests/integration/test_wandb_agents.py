"""The real `wandb sweep` and `wandb agent` against a server on this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wandb_loopback import LoopbackServer

from .conftest import ROOT, SMALL, inherited, read_until, running

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path):
    with LoopbackServer(tmp_path / "server") as one:
        yield one


@pytest.fixture
def env(server, cache, tmp_path) -> dict[str, str]:
    own = {"PHI3V_CACHE": str(cache), "PHI3V_RUNS": str(tmp_path / "runs")}
    # `python` in the command of an agent is the first one of the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**inherited(), **server.client_env(tmp_path / "client"), **own, "PATH": path}


@pytest.fixture
def home(tmp_path) -> Path:
    """A copy of what agents work with: the client leaves files beside the program."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("train.py", "eval.py"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    return folder


def wandb(*words: str, cwd: Path, env: dict[str, str]) -> str:
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


@pytest.mark.parametrize("file", sorted((ROOT / "agent").glob("*.yaml")), ids=lambda one: one.stem)
def test_every_file_is_taken_as_it_is(server, home, env, file: Path) -> None:
    text = wandb("sweep", str(file), cwd=home, env=env)
    record = server.record()
    assert not record["unknown"]
    (made,) = record["sweeps"]
    assert f"wandb agent {made['path']}" in text
    assert made["path"].split("/")[1] == "phi3v"
    assert made["config"] == yaml.safe_load(file.read_text(encoding="utf-8"))
    assert (made["state"], made["runs"]) == ("RUNNING", [])
    assert "warning" not in text.lower()


def test_a_grid_of_three_and_one_that_fails(server, home, env, tmp_path) -> None:
    rates = [1e30, 0.001, 0.002, 0.004]
    sweep = make_sweep(home, env, {"optimizer.lr": rates}, ("trainer.gradient_clip_val=null",))
    wandb("agent", sweep, cwd=home, env=env)
    record = server.record()
    assert not record["unknown"]
    failed, *runs = record["runs"]
    assert failed["state"] == "failed"
    assert failed["summary"]["outcome"] == "diverged"
    assert "step" in failed["summary"]["reason"]
    assert [run["state"] for run in runs] == ["finished"] * 3
    for run, rate in zip(runs, rates[1:], strict=True):
        assert run["config"]["run"]["optimizer"]["lr"] == rate
        assert run["config"]["optimizer.lr"] == rate
        folder = tmp_path / "runs" / "lora_r16" / f"wandb-{run['id']}"
        outcome = yaml.safe_load((folder / "outcome.json").read_text())
        assert run["summary"]["val/full_price/mape"] == pytest.approx(outcome["objective"])
        assert run["summary"]["objective"] == pytest.approx(outcome["objective"])
        assert any("train/loss" in row for row in run["history"])
        assert run["info"]["displayName"] == "lora_r16"


# In the place of a training, which would take its time.
ILL = """
import wandb


def train(cfg):
    if cfg.seed == 13:
        raise MemoryError("there is no more")
    with wandb.init() as run:
        run.summary["objective"] = 0.25
    return 0.25
"""


def test_a_job_without_memory_is_told_and_the_agent_goes_on(server, home, env, tmp_path) -> None:
    program = (home / "train.py").read_text()
    assert program.count('"phi3v.run:train"') == 1
    (home / "train.py").write_text(program.replace('"phi3v.run:train"', '"ill:train"'))
    (home / "ill.py").write_text(ILL)
    sweep = make_sweep(home, env, {"seed": [13, 7]})
    # This agent ends with the first job that ends with an error.
    text = wandb("agent", sweep, cwd=home, env={**env, "WANDB_AGENT_MAX_INITIAL_FAILURES": "1"})
    record = server.record()
    assert not record["unknown"]
    assert [run["state"] for run in record["runs"]] == ["failed", "finished"]
    first, second = record["runs"]
    assert second["summary"]["objective"] == 0.25
    assert first["summary"]["outcome"] == "out_of_memory"
    assert first["summary"]["reason"] == "MemoryError: there is no more"
    assert "MemoryError: there is no more" in text
    folder = tmp_path / "runs" / "lora_r16" / f"wandb-{first['id']}"
    assert yaml.safe_load((folder / "outcome.json").read_text())["status"] == "out_of_memory"


def test_a_run_that_was_killed_goes_on_under_its_id(server, home, env, tmp_path) -> None:
    sweep = make_sweep(home, env, {"seed": [7]}, ("trainer.max_epochs=3",))
    own = {**env, "WANDB_SWEEP_ID": sweep.rpartition("/")[2], "WANDB_RUN_ID": "abcd1234"}
    words = (*SMALL, "trainer.max_epochs=3", "logger=wandb", "logger.offline=false")
    script = str(home / "train.py")
    words = tuple(dict.fromkeys(word for word in words if word != "trainer.max_epochs=1"))
    with running(script, *words, cwd=home, env=own) as process:
        read_until(process, "validation after")
        os.killpg(process.pid, signal.SIGKILL)
    with running(script, *words, cwd=home, env=own) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    assert "going on after step" in out
    (run,) = [run for run in server.record()["runs"] if run["id"] == "abcd1234"]
    assert run["state"] == "finished"
    assert run["sessions"] == 2
    assert (tmp_path / "runs" / "lora_r16" / "wandb-abcd1234" / "adapter").is_dir()


def test_two_processes_of_a_job_make_one_run(server, home, env) -> None:
    words = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4")
    sweep = make_sweep(home, env, {"data.batch_size": [4]}, words[:2])
    wandb("agent", "--count", "1", sweep, cwd=home, env=env)
    (run,) = server.record()["runs"]
    assert run["state"] == "finished"
    assert run["sessions"] == 1
    assert run["config"]["run"]["trainer"]["devices"] == 2


def test_a_sweep_of_hydra_under_an_agent_is_refused(env, home) -> None:
    own = {**env, "WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}
    with running(str(home / "train.py"), "-m", "seed=1,2", cwd=home, env=own) as process:
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "leave out -m" in err
    assert err.count("\n") == 1


def test_what_was_recorded_offline_can_be_sent_later(server, home, env) -> None:
    own = {
        name: value
        for name, value in env.items()
        if name not in ("WANDB_MODE", "WANDB_DIR", "PHI3V_RUNS")
    }
    with running(str(home / "train.py"), *SMALL, "logger=wandb", cwd=home, env=own) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    assert server.record()["runs"] == []
    run = Path(out.strip().splitlines()[-1].removeprefix("run: "))
    (offline,) = (home / run / "wandb").glob("offline-run-*")
    wandb("sync", str(offline), cwd=home, env=env)
    (sent,) = server.record()["runs"]
    assert sent["config"]["run"]["adapter"]["r"] == 16
    assert sent["summary"]["outcome"] == "ok"


def commands_of(page: Path) -> list[str]:
    """The indented lines of a page that are commands."""
    begins = ("    python ", "    wandb ", "    CUDA_VISIBLE_DEVICES=")
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.startswith(begins)]


def test_the_walkthrough_can_be_walked(server, home, env, tmp_path) -> None:
    """Each command of docs/wandb.md as it stands, with small settings of the machine's own."""
    shutil.copytree(ROOT / "agent", home / "agent")
    (home / "runs").mkdir()
    (home / "conf" / "local").mkdir(exist_ok=True)
    small = {"data": {"rows": 40}, "trainer": {"max_epochs": 1}, "max_new_tokens": 24}
    local = f"# @package _global_\n{yaml.safe_dump(small)}"
    (home / "conf" / "local" / "default.yaml").write_text(local)
    apart = ("PHI3V_RUNS", "WANDB_MODE", "WANDB_DIR")
    own = {name: value for name, value in env.items() if name not in apart}
    known: dict[str, str] = {}
    commands = commands_of(ROOT / "docs" / "wandb.md")
    assert len(commands) == 8
    for command in commands:
        for shown, real in known.items():
            command = command.replace(shown, real)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=home, env=own, capture_output=True, text=True, timeout=480, check=False,
        )  # fmt: skip
        text = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{text[-3000:]}"
        if made := re.search(r"wandb agent (\S+/\S+)", text):
            known["<entity>/phi3v/<sweep>"] = made[1]
        if jobs := sorted((home / "runs").glob("lora_*/wandb-*")):
            known["<experiment>/wandb-<id>"] = str(jobs[0].relative_to(home / "runs"))
    record = server.record()
    assert not record["unknown"]
    assert [run["state"] for run in record["runs"]] == ["finished"] * (2 + 2)
