"""The flow of a run and of an evaluation, and the directory that each leaves behind.

    objective = train(cfg)
    objective = evaluate(cfg)

Importing this is cheap; torch is loaded when one of them is called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(cfg: "DictConfig") -> float | None:
    """Trains, evaluates and reports one run; see phi3v.run.training."""
    from phi3v.run.training import train as run_training

    return run_training(cfg)


def evaluate(cfg: "DictConfig") -> float | None:
    """Scores a run or a bare base; see phi3v.run.evaluation."""
    from phi3v.run.evaluation import evaluate as run_evaluation

    return run_evaluation(cfg)
