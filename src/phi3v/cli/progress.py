"""How far a long list has come, on standard error: a line that changes, or one now and then.

progress = Progress(total=500, name="pictures")
progress.clear()      # before something else is printed
progress.step()
"""

import sys
import time
from typing import TextIO

_SECONDS_BETWEEN_LINES = 30.0  # in a log file
_SECONDS_BETWEEN_CHANGES = 0.2  # on a screen
_SHORT_LIST = 10


class Progress:
    """Counts to a total; says nothing of short lists.

    Args:
        total: Steps that will be taken.
        name: What is counted.
        stream: Where it is written; by default standard error.
    """

    def __init__(self, total: int, name: str, stream: TextIO | None = None) -> None:
        self._total = total
        self._name = name
        self._stream = sys.stderr if stream is None else stream
        self._shows = total > _SHORT_LIST
        self._changes = self._stream.isatty()
        self._begun = self._last = time.monotonic()
        self._done = 0

    def step(self, count: int = 1) -> None:
        """Count so many more."""
        self._done += count
        now = time.monotonic()
        pause = _SECONDS_BETWEEN_CHANGES if self._changes else _SECONDS_BETWEEN_LINES
        if not self._shows or self._done == self._total or now - self._last < pause:
            return
        self._last = now
        left = (now - self._begun) / self._done * (self._total - self._done)
        line = f"{self._done} of {self._total} {self._name}, {_clock(left)} left"
        print(f"\r{line}\033[K" if self._changes else line,
              end="" if self._changes else "\n", file=self._stream, flush=True)  # fmt: skip

    def clear(self) -> None:
        """Take the line off the screen, where it is one that changes."""
        if self._shows and self._changes:
            print("\r\033[K", end="", file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
