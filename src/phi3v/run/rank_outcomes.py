"""What a process other than the first ended of by itself: outcome_rank_<rank>.json.

    tell(folder, "1", outcome, error)              # in the process that fails
    cause = first_cause(folder, since=begun)       # in the first one, or in who started them all

When one process of a run fails, the others end of that: of a lost connection, of a signal, or
killed before they can say anything. What the first one ended of is no reason then.
"""

import sys
from dataclasses import replace
from pathlib import Path

from phi3v.run.outcome import Outcome, signal_behind

_FILE = "outcome_rank_{}.json"


def tell(folder: Path, rank: str, outcome: Outcome, error: BaseException) -> None:
    """Write down how this process ended, unless it ended because another one had.

    Raises:
        UserError: When it cannot be written, as on a full disk.
    """
    if not is_consequence(error):
        outcome.write(folder, _FILE.format(rank))


def first_cause(folder: Path, since: float) -> Outcome | None:
    """What the first of the other processes that failed ended of, with its rank.

    Args:
        folder: Of the run.
        since: What was written before is about an earlier start; seconds since the epoch.
    """
    found = []
    for file in folder.glob(_FILE.format("*")):
        written = file.stat().st_mtime
        if written >= since and (outcome := Outcome.read(folder, file.name)):
            rank = file.stem.rpartition("_")[2]
            found.append((written, rank, replace(outcome, reason=f"rank {rank}: {outcome.reason}")))
    return min(found)[2] if found else None


def is_consequence(error: BaseException) -> bool:
    """Whether an error says no more than that another process is gone, or has told this to end."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return signal_behind(error) is not None
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and "/gloo/" in str(error)
