"""Puts Lightning's counters of a checkpoint back to the end of the last step that was taken.

A training that stopped in the middle of a step has counted micro-batches of which nothing was
learned, and Lightning would go on behind them. And a training that goes on with another number of
micro-batches a step is at another count of them after the same steps.
"""

from typing import Any

_STAGES = ("ready", "started", "processed", "completed")


def rewind_to_step(loop: dict[str, Any], before: int, now: int) -> None:
    """Change the state of a fit loop, in place, to that between two steps.

    Args:
        loop: `checkpoint["loops"]["fit_loop"]`.
        before: Micro-batches that made up a step when it was saved.
        now: Micro-batches that make up a step from here on.
    """
    progress = loop["epoch_loop.batch_progress"]
    total, current = progress["total"], progress["current"]
    between = total["ready"] == total["processed"] and total["ready"] % before == 0
    if between and before == now:
        return
    # Callbacks that save behind a step come before Lightning calls its last batch completed.
    counted = "processed" if between else "completed"
    steps = current[counted] // before
    earlier = total[counted] - current[counted]
    for stage in _STAGES:
        current[stage] = steps * now
        total[stage] = round(earlier / before * now) + steps * now
    if not between:
        progress["is_last_batch"] = False
