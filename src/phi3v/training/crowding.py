"""Tells when other programs take the cores from threads that wait for each other.

    crowding = Crowding()
    crowding.start()
    ...                        # some seconds of training
    hint = crowding.hint()     # None where the cores are ours

OpenMP's threads spin at the end of every operation until the last of them is done. One that the
system has put aside for another program holds up the rest, thousands of times a second: beside one
busy program two threads on two cores trained at 1 example a second where one thread had 76 (small
model, 2026-11-26). The system counts how often it puts a process aside against its will.
"""

import resource
import time

import torch

SECONDS = 2.0  # less says nothing
SWITCHES = 60.0  # a second; a program alone on its cores has a few, one with a rival 130 to 200


class Crowding:
    """Watches this process between `start` and `hint`, and says its word once."""

    def __init__(self) -> None:
        self._told = False
        self.start()

    def start(self) -> None:
        """Begin to count anew."""
        self._since, self._switches = time.monotonic(), _switches()

    def hint(self) -> str | None:
        """What the user can do, where there is something; once."""
        seconds = time.monotonic() - self._since
        threads = torch.get_num_threads()
        if self._told or threads < 2 or seconds < SECONDS:
            return None
        if (_switches() - self._switches) / seconds < SWITCHES:
            return None
        self._told = True
        return (
            f"other programs use these cores, and {threads} threads wait for each other: "
            "OMP_NUM_THREADS=1 may train several times as fast"
        )


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
