"""Ends a process that Lightning has started when the one that started it is gone.

    known_to_others()     # in the one that starts others
    end_with_parent()     # in the others

Whoever is killed ends nobody; the others of its run would keep their devices until their next
exchange, or for as long as that may take. What torchrun and srun start, they end.
"""

import os
import threading
import time

INTERVAL = 1.0
GRACE = 3.0  # seconds for what is just ending by itself, and has something to say
# Who started this process, as it says itself: it may be gone before this one asks for its parent.
STARTER = "PHI3V_STARTER"
_GONE = -1


def known_to_others() -> None:
    """Tell the processes that this one starts which one it is."""
    os.environ[STARTER] = str(os.getpid())


def end_with_parent() -> None:
    """Watch for the end of the process that has started this one, and end with it."""
    parent, starter = os.getppid(), os.environ.get(STARTER)
    if starter and not _runs(int(starter)):
        parent = _GONE
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there it is, and somebody else's
        return True
    return True


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    time.sleep(GRACE)
    os._exit(1)
