"""What an answer is worth that never looks: the same one for every picture."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from phi3v.metric.columns import make_columns, require_values
from phi3v.task import Task, Value, normal_label


def baselines(
    task: Task,
    train_values: Mapping[str, Sequence[Value]],
    truths: Sequence[Mapping[str, Value]],
) -> dict[str, float]:
    """Measure the best constant answer: median number, majority label, most frequent text.

    Args:
        task: the declaration.
        train_values: the values of every field in the training split.
        truths: the rows to be answered.

    Returns:
        The metrics of FieldMetrics under the same names.
    """
    answer = {
        name: _constant(task.fields[name].kind, require_values(train_values, name))
        for name in task.field_names
    }
    rows = [task.truth(row, f"row {number}") for number, row in enumerate(truths, start=1)]
    return make_columns(task, train_values, [answer] * len(rows), rows).measure()


def _constant(kind: str, values: Sequence[Value]) -> Value:
    """The value to answer always; of equally frequent ones the first in the alphabet."""
    if kind == "number":
        return statistics.median(float(value) for value in values)
    texts = [normal_label(str(value)) if kind == "label" else str(value) for value in values]
    counts = Counter(texts)
    return min(counts, key=lambda text: (-counts[text], text))
