"""The flow of a run and of an evaluation, and the directory that each leaves behind.

    objective = train(cfg)
    objective = evaluate(cfg)

Importing this is cheap; torch is loaded when one of them is called.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from phi3v.run.told_to_end import leaving_when_told

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(cfg: "DictConfig") -> float | None:
    """Trains, evaluates and reports one run; see phi3v.run.training."""
    with _importing(), leaving_when_told():
        from phi3v.run.training import train as run_training

    return run_training(cfg)


def evaluate(cfg: "DictConfig") -> float | None:
    """Scores a run or a bare base; see phi3v.run.evaluation."""
    with _importing(), leaving_when_told():
        from phi3v.run.evaluation import evaluate as run_evaluation

    return run_evaluation(cfg)


@contextmanager
def _importing() -> Iterator[None]:
    """Lets nobody look for garbage among the objects that imports make, for all of them stay.

    Python would look through them again and again while they come, which is a seventh of the time
    that these imports take, and whenever the program makes some itself.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
