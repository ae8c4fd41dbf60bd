"""Tells W&B how a run ended that did not come to a good end.

Apart from the loggers, because importing wandb takes a second that only its users should wait.
"""

import sys

import wandb

from phi3v.config.launchers import agent_run, is_first_process
from phi3v.run.outcome import Outcome


def tell_wandb(outcome: Outcome) -> None:
    """Ends a run of W&B that did not come to a good end, as failed and with the reason.

    Under an agent of W&B there is a run even where none was begun: what was wrong with it is told
    there too. Where W&B cannot be told, one line on the terminal says so: what the run failed of is
    what its user has to see, and it may well be that W&B did not answer.
    """
    if wandb.run is None and not (agent_run() and is_first_process()):
        return
    try:
        # Project, sweep and id come from the agent.
        run = wandb.run if wandb.run is not None else wandb.init()
        run.summary.update({"outcome": outcome.status, "reason": outcome.reason})
        if outcome.status == "interrupted":
            run.mark_preempting()  # a sweep gives it to an agent once more, under its id
        wandb.finish(exit_code=1)
    except Exception as error:  # wandb's errors have no class in common
        line = " ".join(str(error).split())[:300]
        print(
            f"W&B could not be told that this run ended as {outcome.status}: {line}",
            file=sys.stderr,
        )
