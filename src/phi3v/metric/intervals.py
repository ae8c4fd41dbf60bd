"""How sure a figure is: 95 % intervals, by drawing the test rows anew many times.

Three hundred rows leave an accuracy open by several points; a report that says so keeps people
from ranking runs by noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from phi3v.metric.columns import Columns, LabelColumn, NumberColumn, make_columns
from phi3v.task import Task, Value, direction

_Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


def bootstrap(
    task: Task,
    train_values: Mapping[str, Sequence[Value]],
    texts: Sequence[str],
    truths: Sequence[Mapping[str, Value]],
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of every metric, resampled by example.

    A share of exactly 0 or 1 has nothing to resample; it gets Wilson's interval, so that 30 right
    answers of 30 do not look like certainty.

    Args:
        task: the declaration.
        train_values: the values of every field in the training split.
        texts: the generated answers, one for every example.
        truths: their true values.
        samples: how often to draw.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        (low, high) by the names of FieldMetrics.
    """
    rows = [task.truth(row, f"row {number}") for number, row in enumerate(truths, start=1)]
    columns = make_columns(task, train_values, [task.parse(text) for text in texts], rows)
    count = len(rows)
    draws = torch.from_numpy(np.random.default_rng(seed).integers(0, count, (samples, count)))
    intervals = {}
    for name, values in resampled(columns, draws).items():
        low, high = np.percentile(values.numpy(), (2.5, 97.5))
        intervals[name] = (float(low), float(high))
        if low == high and low in (0.0, 1.0) and direction(name) == "max":
            intervals[name] = _wilson(float(low), count)
    return intervals


def resampled(columns: Columns, draws: Tensor) -> dict[str, Tensor]:
    """Every metric on every draw.

    Args:
        columns: the scored rows.
        draws: int64 row numbers, (samples, rows).

    Returns:
        float64 values, (samples,), by the names of FieldMetrics.
    """
    values = {"parse_rate": columns.parsed[""][draws].mean(1)}
    for name, column in columns.fields.items():
        values[f"{name}/parse_rate"] = columns.parsed[name][draws].mean(1)
        if isinstance(column, NumberColumn):
            error = column.relative_error[draws]
            values[f"{name}/mae"] = (column.predicted - column.true).abs()[draws].mean(1)
            values[f"{name}/mape"] = error.mean(1)
            values[f"{name}/median_ape"] = error.quantile(0.5, dim=1)
            values[f"{name}/within_10_percent"] = column.near[draws].mean(1)
        elif isinstance(column, LabelColumn):
            right = (column.predicted == column.true).double()
            values[f"{name}/accuracy"] = right[draws].mean(1)
            values[f"{name}/macro_f1"] = _macro_f1(column, draws)
        else:
            for metric, scores in vars(column).items():
                values[f"{name}/{metric}"] = scores[draws].mean(1)
    return values


def _macro_f1(column: LabelColumn, draws: Tensor) -> Tensor:
    """Macro-F1 on every draw, over the classes that are true or predicted in it."""
    classes = torch.arange(column.classes)
    predicted = (column.predicted[:, None] == classes).double()
    true = (column.true[:, None] == classes).double()
    times = torch.zeros(len(draws), len(true), dtype=torch.float64)
    times.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
    hits, size = times @ (predicted * true), times @ (predicted + true)
    present = size > 0
    f1 = torch.where(present, 2 * hits / size.clamp(min=1), torch.zeros_like(size))
    return f1.sum(1) / present.sum(1)


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share of `count` rows (Wilson, 1927)."""
    squared = _Z**2 / count
    centre = (share + squared / 2) / (1 + squared)
    half = math.sqrt(share * (1 - share) * squared + squared**2 / 4) / (1 + squared)
    return max(0.0, centre - half), min(1.0, centre + half)
