"""Tells W&B how a run ended that did not come to its end.

Apart from the loggers, because importing wandb takes a second that only its users should wait.
"""

import wandb

from phi3v.config.launchers import agent_run, is_first_process
from phi3v.run.outcome import Outcome


def tell_wandb(outcome: Outcome) -> None:
    """Ends a run of W&B that did not come to its end, as failed and with the reason.

    Under an agent of W&B there is a run even where none was begun: what was wrong with it is told
    there too.
    """
    if wandb.run is None:
        if not (agent_run() and is_first_process()):
            return
        wandb.init()  # project, sweep and id come from the agent
    assert wandb.run is not None
    wandb.run.summary.update({"outcome": outcome.status, "reason": outcome.reason})
    if outcome.status == "interrupted":
        wandb.run.mark_preempting()  # a sweep gives it to an agent once more, under its id
    wandb.finish(exit_code=1)
