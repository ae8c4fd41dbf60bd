"""What a process does that is told to end where there is nothing to save: it says so, and ends.

with leaving_when_told():
    load_a_large_model()
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def leaving_when_told() -> Iterator[None]:
    """Turn the signals by which clusters end a process into a SystemExit of 128 plus the number.

    They would end it without a word otherwise. Where somebody else listens to one, that stays.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {one: signal.getsignal(one) for one in SIGNALS}
    try:
        for one in SIGNALS:
            if before[one] == signal.SIG_DFL:
                signal.signal(one, end)
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
