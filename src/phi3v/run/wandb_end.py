"""Tells W&B how a run ended that did not come to its end.

Apart from the loggers, because importing wandb takes a second that only its users should wait.
"""

import contextlib
import sys
from typing import Any

import wandb
from wandb.proto import wandb_internal_pb2

from phi3v.config.launchers import agent_run, is_first_process
from phi3v.run.outcome import GOOD, Outcome

STOPPED = "stopped at W&B"
ANSWER = 5  # seconds for W&B to say whether it has stopped a run
_STOP = """
query RunStopped($entity: String, $project: String, $run: String!) {
    project(name: $project, entityName: $entity) { run(name: $run) { stopped shouldStop } }
}
"""


def tell_wandb(outcome: Outcome) -> None:
    """Ends a run of W&B that did not come to its end, with the reason; as failed if it is that.

    Under an agent of W&B there is a run even where none was begun: what was wrong with it is told
    there too. Where W&B cannot be told, one line on the terminal says so: what the run failed of is
    what its user has to see, and it may well be that W&B did not answer.
    """
    if wandb.run is None and not (agent_run() and is_first_process()):
        return
    try:
        run = wandb.run if wandb.run is not None else _begin()
        interrupted = outcome.status == "interrupted"
        stopped = interrupted and is_stopped(run)
        reason = STOPPED if stopped else outcome.reason
        told = {"outcome": outcome.status, "reason": reason, "objective": outcome.objective}
        run.summary.update({name: one for name, one in told.items() if one is not None})
        if interrupted and not stopped:
            run.mark_preempting()  # a sweep gives it to an agent once more, under its id
        wandb.finish(exit_code=0 if outcome.status in GOOD else 1)
    except Exception as error:  # wandb's errors have no class in common
        line = " ".join(str(error).split())[:300]
        print(
            f"W&B could not be told that this run ended as {outcome.status}: {line}",
            file=sys.stderr,
        )


def tell_refused(error: Exception) -> None:
    """The same for a command line that was refused, for who knows of no outcomes."""
    tell_wandb(Outcome.of_error(error))


def _begin() -> Any:
    """A run that is begun for a reason alone, which is on the screen already."""
    wandb.setup(wandb.Settings(silent=True))
    return wandb.init()  # project, sweep and id come from the agent


def is_stopped(run: Any) -> bool:
    """Whether W&B has told a run to end: a person with its Stop button, or its sweep, early.

    That comes as a signal too. The client knows what the server has answered to the last metrics,
    some seconds ago; the server itself knows better. Both ways are the client's own ones, and
    another version may not have them: what cannot be asked was not stopped.
    """
    if run.offline or run.disabled:
        return False
    for ask in (_client_says, _server_says):
        with contextlib.suppress(Exception):  # wandb's errors have no class in common
            if ask(run):
                return True
    return False


def _client_says(run: Any) -> bool:
    records: Any = wandb_internal_pb2
    request = records.Request(stop_status=records.StopStatusRequest())
    asked = run._interface._deliver(records.Record(request=request))
    response = asked.wait_or(timeout=ANSWER).response
    return bool(response.stop_status_response.run_should_stop)


def _server_says(run: Any) -> bool:
    names = {"entity": run.entity, "project": run.project, "run": run.id}
    server: Any = wandb.Api(timeout=ANSWER)._service_api
    known = server.execute_graphql(_STOP, variables=names, timeout=ANSWER)["project"]["run"]
    return bool(known["stopped"] or known["shouldStop"])
