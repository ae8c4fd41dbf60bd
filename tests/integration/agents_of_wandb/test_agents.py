"""The real `wandb sweep` and `wandb agent` against a server on this machine."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest
import yaml

from ..conftest import ROOT, SMALL, running
from .conftest import make_sweep, wandb

pytestmark = pytest.mark.slow


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
    sweep = make_sweep(
        home, env, {"optimizer.lr": rates}, ("trainer.gradient_clip_val=null", "tags=[mine]")
    )
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
        assert run["info"]["displayName"] == f"lora_r16 optimizer.lr={rate}"
        assert run["info"]["tags"] == ["mine"]


def test_two_processes_of_a_job_make_one_run(server, home, env) -> None:
    words = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4")
    sweep = make_sweep(home, env, {"data.batch_size": [4]}, words[:2])
    wandb("agent", "--count", "1", sweep, cwd=home, env=env)
    record = server.record()
    assert not record["unknown"]
    (run,) = record["runs"]
    assert run["state"] == "finished"
    assert run["sessions"] == 1
    assert run["config"]["run"]["trainer"]["devices"] == 2


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
    record = server.record()
    assert not record["unknown"]
    (sent,) = record["runs"]
    assert sent["config"]["run"]["adapter"]["r"] == 16
    assert sent["summary"]["outcome"] == "ok"


# `running` starts Python; this lets a shell take its place.
AS_TYPED = ("-c", "import os, sys; os.execvp('bash', ['bash', '-c', sys.argv[1]])")


def commands_of(page: Path) -> list[str]:
    """The indented lines of a page that are commands."""
    begins = ("    python ", "    wandb ", "    CUDA_VISIBLE_DEVICES=")
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.startswith(begins)]


def at_once(commands: list[str], home: Path, env: dict[str, str]) -> str:
    """Runs commands side by side, and waits until all have done well; what they have said."""
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(running(*AS_TYPED, one, cwd=home, env=env)) for one in commands
        ]
        said = [process.communicate(timeout=480) for process in started]
    for command, process, (out, err) in zip(commands, started, said, strict=True):
        assert process.returncode == 0, f"{command}\n{(out + err)[-3000:]}"
    return "".join(out + err for out, err in said)


def test_the_walkthrough_can_be_walked(server, home, env, tmp_path) -> None:
    """Each command of docs/wandb.md as it stands, with small settings of the machine's own."""
    shutil.copytree(ROOT / "agent", home / "agent")
    (home / "runs").mkdir()
    (home / "conf" / "local").mkdir(exist_ok=True)
    small = {"data": {"rows": 40}, "trainer": {"max_epochs": 1}, "max_new_tokens": 8}
    local = f"# @package _global_\n{yaml.safe_dump(small)}"
    (home / "conf" / "local" / "default.yaml").write_text(local)
    apart = ("PHI3V_RUNS", "WANDB_MODE", "WANDB_DIR")
    own = {name: value for name, value in env.items() if name not in apart}
    known: dict[str, str] = {}
    commands = commands_of(ROOT / "docs" / "wandb.md")
    assert len(commands) == 8
    agents = [command for command in commands if command.startswith("CUDA_VISIBLE_DEVICES=")]
    assert len(agents) == 2
    for command in commands:
        if command == agents[1]:
            continue
        # The agents work at the same time.
        together = agents if command == agents[0] else [command]
        for shown, real in known.items():
            together = [one.replace(shown, real) for one in together]
        text = at_once(together, home, own)
        if made := re.search(r"wandb agent (\S+/\S+)", text):
            known["<entity>/phi3v/<sweep>"] = made[1]
        if jobs := sorted((home / "runs").glob("lora_*/wandb-*")):
            known["<experiment>/wandb-<id>"] = str(jobs[0].relative_to(home / "runs"))
    record = server.record()
    assert not record["unknown"]
    assert [run["state"] for run in record["runs"]] == ["finished"] * (2 + 2)
