"""Puts Lightning's counters of a checkpoint back to the end of the last step that was taken.

A training that stopped in the middle of a step has counted micro-batches of which nothing was
learned, and Lightning would go on behind them.
"""

from typing import Any

_STAGES = ("ready", "started", "processed", "completed")


def rewind_to_step(loop: dict[str, Any], micro_batches: int) -> None:
    """Change the state of a fit loop, in place, where a step was begun and not taken.

    Args:
        loop: `checkpoint["loops"]["fit_loop"]`.
        micro_batches: That make up a step.
    """
    progress = loop["epoch_loop.batch_progress"]
    total, current = progress["total"], progress["current"]
    if total["ready"] == total["processed"] and total["ready"] % micro_batches == 0:
        return
    before = current["completed"]
    kept = before // micro_batches * micro_batches
    in_all = total["completed"] - (before - kept)
    for stage in _STAGES:
        total[stage], current[stage] = in_all, kept
    progress["is_last_batch"] = False
