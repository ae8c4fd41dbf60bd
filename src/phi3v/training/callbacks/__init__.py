"""What happens around the steps of a training, one callback a file."""

from phi3v.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from phi3v.training.callbacks.gradients import GradientCheck
from phi3v.training.callbacks.hopeless import StopHopeless
from phi3v.training.callbacks.interruption import Interruption
from phi3v.training.callbacks.logged_step import LoggedStep
from phi3v.training.callbacks.parts_table import TrainablePartsTable
from phi3v.training.callbacks.rank_guard import RankGuard
from phi3v.training.callbacks.samples import SampleTable
from phi3v.training.callbacks.stall import StallReport
from phi3v.training.callbacks.step_lines import StepLines
from phi3v.training.callbacks.throughput import Throughput

__all__ = [
    "BestCheckpoint",
    "GradientCheck",
    "Interruption",
    "LastCheckpoint",
    "LoggedStep",
    "RankGuard",
    "SampleTable",
    "StallReport",
    "StepLines",
    "StopHopeless",
    "Throughput",
    "TrainablePartsTable",
]
