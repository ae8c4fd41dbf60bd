"""How a run ended: outcome.json in its directory, written by the first of its processes.

Outcome("ok", 0.145).write(folder)
failed = Outcome.of(error)
"""

import json
import math
import resource
import signal
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from phi3v.errors import DivergedError, PrunedError, UserError
from phi3v.files import write_whole

FILE = "outcome.json"
Status = Literal["ok", "pruned", "diverged", "out_of_memory", "failed", "interrupted"]
#: What will not end in another way when it is run again.
SETTLED = ("ok", "pruned", "diverged")
#: What is no failure.
GOOD = ("ok", "pruned")
#: Why Linux kills the largest process.
OUT_OF_MEMORY = "killed by the system, which had no memory left"
GIB = 2**30
_OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory")
_ENDING_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2}
_CGROUP = Path("/sys/fs/cgroup/memory.events")
_clock = {"begun": time.monotonic()}


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: "ok"; "pruned" when it was ended for want of hope; "diverged" when loss, gradient
            or objective were no finite numbers; "out_of_memory"; "interrupted" by a signal;
            "failed" for whatever other reason.
        objective: What the program returned; None when it failed, or that is no finite number.
        reason: One line on what went wrong; empty when nothing did.
        seconds: From the start of the process.
        peak_memory_gib: What was in use at most in the first process: on the GPU where there is
            one, else by the process.
    """

    status: Status
    objective: float | None = None
    reason: str = ""
    seconds: float | None = field(default=None, compare=False)
    peak_memory_gib: float | None = field(default=None, compare=False)

    @classmethod
    def of_objective(cls, objective: float | None) -> "Outcome":
        """The outcome of a program that came to its end."""
        if objective is not None and not math.isfinite(objective):
            return cls("diverged", reason=f"the objective is {objective}")
        return cls("ok", objective)

    @classmethod
    def of_error(cls, error: BaseException) -> "Outcome":
        """The outcome of a program that raised an error."""
        if (number := signal_behind(error)) is not None:
            return cls("interrupted", reason=f"ended by {number.name}")
        if isinstance(error, SystemExit):
            said = f": {' '.join(error.code.split())}" if isinstance(error.code, str) else ""
            return cls("failed", reason=f"the program ended with status {exit_status(error)}{said}")
        text = (" ".join(str(error).split()) or "no reason was given")[:500]
        if isinstance(error, PrunedError):
            return cls("pruned", error.objective, text)
        if isinstance(error, UserError):
            return cls("diverged" if isinstance(error, DivergedError) else "failed", reason=text)
        line = f"{type(error).__name__}: {text}"
        if is_out_of_memory(error):
            return cls("out_of_memory", reason=line)
        return cls("failed", reason=line)

    @classmethod
    def of_status(cls, status: int, out_of_memory: bool = False) -> "Outcome":
        """The outcome of a process that could not say anything itself.

        Args:
            status: As subprocess has it: negative for a signal.
            out_of_memory: Whether the system has killed a process for want of memory meanwhile.
        """
        if status == -signal.SIGKILL and out_of_memory:
            return cls("out_of_memory", reason=OUT_OF_MEMORY)
        number = -status if status < 0 else status - 128  # as a shell has it
        if number in _ENDING_SIGNALS:
            return cls("interrupted", reason=f"ended by {signal.Signals(number).name}")
        if status < 0:
            return cls("failed", reason=f"the process ended with {signal.Signals(-status).name}")
        return cls("failed", reason=f"the process ended with status {status}")

    @property
    def figure(self) -> float:
        """The objective for a sweeper: NaN where there is none."""
        return math.nan if self.objective is None else self.objective

    def measured(self) -> "Outcome":
        """The same with the time and the memory that this process took."""
        return replace(
            self,
            seconds=round(time.monotonic() - _clock["begun"], 1),
            peak_memory_gib=round(_peak_memory() / GIB, 2),
        )

    def write(self, folder: Path, file: str = FILE) -> None:
        """Write it in one go, so that nobody ever reads a half of it.

        Raises:
            UserError: When it cannot be written, as on a full disk.
        """
        write_whole(folder / file, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path, file: str = FILE) -> "Outcome | None":
        """The outcome in a run directory; None when the job did not get that far."""
        path = folder / file
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def begin() -> None:
    """Start the clock, in a process that is older than its job."""
    _clock["begun"] = time.monotonic()


def signal_behind(error: BaseException) -> signal.Signals | None:
    """The signal behind an interruption; None of a program that ended by itself.

    Lightning turns SIGTERM into a SystemExit of its own, and Ctrl-C into status 1.
    """
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if not isinstance(error, SystemExit):
        return None
    if isinstance(error.code, int) and error.code - 128 in set(signal.Signals):
        return signal.Signals(error.code - 128)
    if "SIGTERM" in type(error).__name__:
        return signal.SIGTERM
    return signal.SIGINT if isinstance(error.__context__, KeyboardInterrupt) else None


def exit_status(error: KeyboardInterrupt | SystemExit) -> int:
    """The status of a program that left before its end: never that of a good one."""
    if number := signal_behind(error):
        return 128 + number
    code = getattr(error, "code", None)
    return code if isinstance(code, int) and code else 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of whichever device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(one in text for one in _OUT_OF_MEMORY)


def out_of_memory_kills() -> int:
    """How many processes of this container Linux has killed for want of memory; 0 if unknown."""
    try:
        lines = _CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    counts = dict(line.split() for line in lines)
    return int(counts.get("oom_kill", 0))


def _peak_memory() -> int:
    """Bytes; torch is asked only where the program has imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # which counts in KiB elsewhere
