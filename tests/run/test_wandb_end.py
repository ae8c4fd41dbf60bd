"""How W&B is told of a run that did not come to its end."""

import pytest
import wandb

from phi3v.run import jobs, wandb_end
from phi3v.run.outcome import Outcome

FAILED = Outcome("failed", reason="the disk is full")
INTERRUPTED = Outcome("interrupted", reason="ended by SIGTERM")


class Run:
    """What is told to W&B."""

    def __init__(self) -> None:
        self.summary: dict[str, object] = {}
        self.exit_code: int | None = None
        self.offline = self.disabled = False

    def mark_preempting(self) -> None:
        self.summary["marked"] = "preempting"


@pytest.fixture(autouse=True)
def no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sets the client up for all that follow."""
    monkeypatch.setattr(wandb, "setup", lambda settings: None)


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


def test_a_run_without_hope_is_no_failure(run: Run) -> None:
    wandb_end.tell_wandb(Outcome("pruned", 0.5, "worse than half of the others"))
    said = {"outcome": "pruned", "reason": "worse than half of the others", "objective": 0.5}
    assert (run.summary, run.exit_code) == (said, 0)


@pytest.mark.parametrize("status", ["ok", "pruned", "diverged", "failed"])
def test_all_but_a_good_end_is_told_here(monkeypatch, tmp_path, status) -> None:
    told: list[Outcome] = []
    monkeypatch.setattr(wandb_end, "tell_wandb", told.append)
    jobs._end(tmp_path, Outcome(status))
    assert [one.status for one in told] == [one for one in [status] if one != "ok"]


@pytest.fixture
def unknown_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cannot ask whether a run was stopped."""

    def missing(timeout: int) -> None:
        raise AttributeError("Api")

    monkeypatch.setattr(wandb, "Api", missing)


@pytest.mark.usefixtures("unknown_server")
def test_what_was_interrupted_is_given_to_an_agent_once_more(run: Run) -> None:
    wandb_end.tell_wandb(INTERRUPTED)
    assert run.summary["marked"] == "preempting"
    assert run.summary["reason"] == "ended by SIGTERM"


@pytest.mark.parametrize("one", ["_client_says", "_server_says"])
@pytest.mark.usefixtures("unknown_server")
def test_what_was_stopped_at_wandb_is_not(run: Run, monkeypatch, one: str) -> None:
    monkeypatch.setattr(wandb_end, one, lambda run: True)
    wandb_end.tell_wandb(INTERRUPTED)
    assert run.summary == {"outcome": "interrupted", "reason": "stopped at W&B"}
    assert run.exit_code == 1


@pytest.mark.parametrize("kind", ["offline", "disabled"])
def test_nobody_is_asked_about_a_run_that_no_server_knows(run: Run, monkeypatch, kind) -> None:
    monkeypatch.setattr(wandb_end, "_client_says", lambda run: pytest.fail("asked"))
    setattr(run, kind, True)
    wandb_end.tell_wandb(INTERRUPTED)
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
