"""How W&B is told of a run that did not come to its end."""

import pytest
import wandb

from phi3v.run import wandb_end
from phi3v.run.outcome import Outcome

FAILED = Outcome("failed", reason="the disk is full")


class Run:
    """What is told to W&B."""

    def __init__(self) -> None:
        self.summary: dict[str, str] = {}
        self.exit_code: int | None = None

    def mark_preempting(self) -> None:
        self.summary["marked"] = "preempting"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """One that was begun."""
    one = Run()
    monkeypatch.setattr(wandb, "run", one)
    monkeypatch.setattr(wandb, "finish", lambda exit_code: setattr(one, "exit_code", exit_code))
    return one


def test_the_reason_is_told(run: Run) -> None:
    wandb_end.tell_wandb(FAILED)
    assert run.summary == {"outcome": "failed", "reason": "the disk is full"}
    assert run.exit_code == 1


def test_what_was_interrupted_is_given_to_an_agent_once_more(run: Run) -> None:
    wandb_end.tell_wandb(Outcome("interrupted", reason="SIGTERM"))
    assert run.summary["marked"] == "preempting"


def test_wandb_out_of_reach_does_not_hide_what_the_run_failed_of(monkeypatch, capsys) -> None:
    def unreachable() -> None:
        raise ConnectionError("no answer\nafter 90 s")

    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", unreachable)
    monkeypatch.setattr(wandb_end, "agent_run", lambda: True)
    monkeypatch.setattr(wandb_end, "is_first_process", lambda: True)
    wandb_end.tell_wandb(FAILED)
    said = capsys.readouterr().err
    assert said == "W&B could not be told that this run ended as failed: no answer after 90 s\n"


def test_a_long_reason_of_wandb_is_cut(monkeypatch, capsys) -> None:
    def unreachable() -> None:
        raise ConnectionError("x" * 5000)

    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", unreachable)
    monkeypatch.setattr(wandb_end, "agent_run", lambda: True)
    wandb_end.tell_wandb(FAILED)
    assert capsys.readouterr().err.endswith(f" failed: {'x' * 300}\n")


def test_under_an_agent_a_run_that_was_not_begun_is_begun_to_be_told(monkeypatch) -> None:
    begun, ended = Run(), []
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", lambda: begun)
    monkeypatch.setattr(wandb, "finish", lambda exit_code: ended.append(exit_code))
    monkeypatch.setattr(wandb_end, "agent_run", lambda: "abc")
    wandb_end.tell_wandb(FAILED)
    assert begun.summary == {"outcome": "failed", "reason": "the disk is full"}
    assert ended == [1]


def test_a_run_that_was_begun_is_not_begun_again(run: Run, monkeypatch) -> None:
    monkeypatch.setattr(wandb, "init", lambda: pytest.fail("begun"))
    monkeypatch.setattr(wandb_end, "agent_run", lambda: "abc")
    wandb_end.tell_wandb(FAILED)
    assert run.exit_code == 1


def test_the_other_processes_of_an_agent_begin_no_run(monkeypatch) -> None:
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", lambda: pytest.fail("begun"))
    monkeypatch.setattr(wandb_end, "agent_run", lambda: "abc")
    monkeypatch.setattr(wandb_end, "is_first_process", lambda: False)
    wandb_end.tell_wandb(FAILED)


def test_without_an_agent_no_run_is_begun(monkeypatch) -> None:
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", lambda: pytest.fail("begun"))
    monkeypatch.setattr(wandb_end, "agent_run", lambda: False)
    wandb_end.tell_wandb(FAILED)
