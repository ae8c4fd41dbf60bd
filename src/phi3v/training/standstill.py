"""Tells, from a thread of its own, what a process is doing while nothing gets done.

    watch = Watch(seconds=45)
    with watch.over("in batch 1", rank=0):
        ...
        watch.note("in batch 2")        # something was done; this comes next

It says so again each time that the wait has doubled, and ends nothing: a step may be slow.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Watch:
    """Watches the thread that starts it.

    Args:
        seconds: Tells after so many without a `note`; 0 for never.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._doing = ""
        self._since = 0.0
        self._rank = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, doing: str, rank: int) -> None:
        """Begin to watch, or go on.

        Args:
            doing: What comes first.
            rank: Of this process.
        """
        self._rank = rank
        self.note(doing)
        if not self.seconds or (self._thread and not self._stop.is_set()):
            return
        self._stop = threading.Event()
        watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, args=(watched, self._stop), daemon=True)
        self._thread.start()

    def note(self, doing: str) -> None:
        """Something was done; `doing` is what comes next."""
        self._doing, self._since = doing, time.monotonic()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()

    @contextmanager
    def over(self, doing: str, rank: int) -> Iterator[None]:
        """Watch what happens within."""
        self.start(doing, rank)
        try:
            yield
        finally:
            self.stop()

    def _watch(self, watched: int, stop: threading.Event) -> None:
        since, limit = self._since, self.seconds
        while not stop.wait(min(1.0, max(0.05, self.seconds / 4))):
            if self._since != since:
                since, limit = self._since, self.seconds
            if (waited := time.monotonic() - since) >= limit:
                limit = 2 * waited
                log.error(
                    "rank %d: nothing done for %.0f s, %s (%s)",
                    self._rank, waited, self._doing, place_of(watched),
                )  # fmt: skip


def place_of(thread: int) -> str:
    """Where a thread is, as "function, file:line" of its innermost frame."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "it has ended"
    inner = traceback.extract_stack(frame)[-1]
    return f"{inner.name}, {inner.filename}:{inner.lineno}"
