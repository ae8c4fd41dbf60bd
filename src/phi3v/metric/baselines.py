"""What an answer is worth that never looks: the same one for every picture.

Two of them. The usual one is the median of the numbers; but a relative error forgives low guesses
more than high ones, so a constant below the median does better on MAPE. A model that has not seen
its pictures can learn that one, and must not be praised for it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from phi3v.metric.columns import make_columns, require_values
from phi3v.task import Task, Value, normal_label


def baselines(
    task: Task,
    train_values: Mapping[str, Sequence[Value]],
    truths: Sequence[Mapping[str, Value]],
) -> dict[str, float]:
    """Measure the usual constant answer: median number, majority label, most frequent text.

    Args:
        task: the declaration.
        train_values: the values of every field in the training split.
        truths: the rows to be answered.

    Returns:
        The metrics of FieldMetrics under the same names.
    """
    return _measure(task, train_values, truths, statistics.median)


def best_constant(
    task: Task,
    train_values: Mapping[str, Sequence[Value]],
    truths: Sequence[Mapping[str, Value]],
) -> dict[str, float]:
    """Measure the constant answer whose numbers have the least MAPE on the training split.

    Args:
        task: the declaration.
        train_values: the values of every field in the training split.
        truths: the rows to be answered.

    Returns:
        As `baselines`; empty for a task without numbers, where it is the same answer.
    """
    if all(field.kind != "number" for field in task.fields.values()):
        return {}
    return _measure(task, train_values, truths, least_mape)


def least_mape(values: Sequence[float]) -> float:
    """The constant c with the least mean of |c - v| / v: the median of v weighted by 1 / v."""
    ordered = sorted(values)
    half = sum(1 / value for value in ordered) / 2
    weight = 0.0
    for value in ordered:
        weight += 1 / value
        if weight >= half:
            return value
    raise ValueError("there are no values")


def _measure(
    task: Task,
    train_values: Mapping[str, Sequence[Value]],
    truths: Sequence[Mapping[str, Value]],
    centre: Callable[[Sequence[float]], float],
) -> dict[str, float]:
    answer = {
        name: _constant(task.fields[name].kind, require_values(train_values, name), centre)
        for name in task.field_names
    }
    rows = [task.truth(row, f"row {number}") for number, row in enumerate(truths, start=1)]
    return make_columns(task, train_values, [answer] * len(rows), rows).measure()


def _constant(
    kind: str, values: Sequence[Value], centre: Callable[[Sequence[float]], float]
) -> Value:
    """The value to answer always; of equally frequent ones the first in the alphabet."""
    if kind == "number":
        return centre([float(value) for value in values])
    texts = [normal_label(str(value)) if kind == "label" else str(value) for value in values]
    counts = Counter(texts)
    return min(counts, key=lambda text: (-counts[text], text))
