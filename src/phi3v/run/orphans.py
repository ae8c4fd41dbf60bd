"""Ends a process that Lightning has started when the one that started it is gone.

    end_with_parent()

Whoever is killed ends nobody; the others of its run would keep their devices until their next
exchange, or for as long as that may take. What torchrun and srun start, they end.
"""

import os
import threading
import time

INTERVAL = 1.0
GRACE = 3.0  # seconds for what is just ending by itself, and has something to say


def end_with_parent() -> None:
    """Watch for the end of the process that has started this one, and end with it."""
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    time.sleep(GRACE)
    os._exit(1)
