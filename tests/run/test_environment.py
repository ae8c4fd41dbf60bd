"""What a run says about where it came from."""

import os
import sys

import pytest
from made_run import ROOT, make_run

from phi3v.config.front_door import COMMAND, TYPED, enter
from phi3v.run.environment import environment


def test_the_command_is_what_was_typed_and_not_what_hydra_gets(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "adapter.r=1")
    for name in (COMMAND, TYPED, "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
    words = [f"run={run}", "split=val", "hydra.run.dir=x", "-p", "trainer"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "eval.py"), *words])
    seen = []
    enter(lambda: seen.extend([sys.argv[1:], environment(7)["command"]]), sys.argv[0], "eval")
    assert "--config-name" in seen[0]
    assert seen[1] == ["eval.py", *words]


def test_without_a_program_the_command_is_that_of_the_process(monkeypatch):
    monkeypatch.delenv(TYPED, raising=False)
    monkeypatch.setattr(sys, "argv", ["/a/b.py", "c"])
    assert environment(7)["command"] == ["b.py", "c"]
    assert TYPED not in os.environ


@pytest.fixture(autouse=True)
def no_git(monkeypatch):
    """Asking git takes longer than all the rest."""
    monkeypatch.setattr("phi3v.run.environment._git", lambda: None)
