"""Training with Lightning: the module, its loss and generation, callbacks and the metrics file."""

from phi3v.training.callbacks import (
    BestCheckpoint,
    GradientCheck,
    Interruption,
    LastCheckpoint,
    LoggedStep,
    RankGuard,
    SampleTable,
    StallReport,
    StepLines,
    StopHopeless,
    Throughput,
    TrainablePartsTable,
)
from phi3v.training.checkpoint_io import AtomicCheckpointIO
from phi3v.training.generation import generate_answers
from phi3v.training.loss import supervised_loss
from phi3v.training.metrics_csv import StepMetrics
from phi3v.training.module import FineTuning, Prediction, read_weights
from phi3v.training.sharded_strategy import ShardedStrategy
from phi3v.training.standstill import Watch

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "FineTuning",
    "GradientCheck",
    "Interruption",
    "LastCheckpoint",
    "LoggedStep",
    "Prediction",
    "RankGuard",
    "SampleTable",
    "ShardedStrategy",
    "StallReport",
    "StepLines",
    "StepMetrics",
    "StopHopeless",
    "Throughput",
    "TrainablePartsTable",
    "Watch",
    "generate_answers",
    "read_weights",
    "supervised_loss",
]
