"""Answers become columns: for every field one value a row, ready to be averaged or resampled.

`make_columns` is the one place where an answer is compared with the truth. FieldMetrics and the
baselines average its columns, the bootstrap resamples them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score
from torchmetrics.functional.regression import (
    mean_absolute_error,
    mean_absolute_percentage_error,
)
from torchmetrics.functional.text import squad

from phi3v.errors import UserError
from phi3v.metric.edits import edit_similarity
from phi3v.task import Task, Value, normal_label, read_number

# Stands for an unparsed text: a private character that no text contains, so nothing matches it.
_UNPARSED_TEXT = "\ue000"


@dataclass(frozen=True)
class NumberColumn:
    """A number field: predictions with the fallback filled in, and truths, float64, (rows,)."""

    predicted: Tensor
    true: Tensor

    @property
    def relative_error(self) -> Tensor:
        """Absolute error as a share of the truth, (rows,)."""
        return (self.predicted - self.true).abs() / self.true

    @property
    def near(self) -> Tensor:
        """1.0 where the prediction is within 10 % of the truth, (rows,)."""
        return (self.relative_error <= 0.1 + 1e-9).double()

    def measure(self) -> dict[str, float]:
        """The metrics of a number field over all rows."""
        return {
            "mae": mean_absolute_error(self.predicted, self.true).item(),
            "mape": mean_absolute_percentage_error(self.predicted, self.true).item(),
            "median_ape": statistics.median(self.relative_error.tolist()),
            "within_10_percent": self.near.mean().item(),
        }


@dataclass(frozen=True)
class LabelColumn:
    """A label field: class numbers, int64, (rows,). The last class is "unparsed or unknown"."""

    predicted: Tensor
    true: Tensor
    classes: int

    def measure(self) -> dict[str, float]:
        """The metrics of a label field; the last class counts in macro-F1 once it is predicted."""
        pair = (self.predicted, self.true)
        accuracy = multiclass_accuracy(*pair, num_classes=self.classes, average="micro")
        macro_f1 = multiclass_f1_score(*pair, num_classes=self.classes, average="macro")
        return {"accuracy": accuracy.item(), "macro_f1": macro_f1.item()}


@dataclass(frozen=True)
class TextColumn:
    """A text field: scores between 0 and 1, float64, (rows,)."""

    exact_match: Tensor
    token_f1: Tensor
    edit_similarity: Tensor

    def measure(self) -> dict[str, float]:
        """The metrics of a text field over all rows."""
        return {name: column.mean().item() for name, column in vars(self).items()}


FieldColumn = NumberColumn | LabelColumn | TextColumn


@dataclass(frozen=True)
class Columns:
    """Everything that the metrics of one set of answers need.

    Attributes:
        parsed: 1.0 where a field was read, (rows,), by field, and under "" where all were.
        fields: the scored column of every field.
    """

    parsed: dict[str, Tensor]
    fields: dict[str, FieldColumn]

    def measure(self) -> dict[str, float]:
        """Every metric of the task, by name."""
        measured = {"parse_rate": self.parsed[""].mean().item()}
        for name, column in self.fields.items():
            measured[f"{name}/parse_rate"] = self.parsed[name].mean().item()
            measured |= {f"{name}/{metric}": v for metric, v in column.measure().items()}
        return measured


def make_columns(
    task: Task,
    train_values: Mapping[str, Sequence[Value]],
    parsed: Sequence[Mapping[str, Value | None]],
    truths: Sequence[Mapping[str, Value]],
) -> Columns:
    """Compare answers with truths.

    Args:
        task: says what kind each field is.
        train_values: the field's values in the training split: the classes of a label, and the
            median that an unparsed number scores as.
        parsed: what was read from each answer, None where nothing was.
        truths: the true values, numbers as floats.

    Raises:
        UserError: there is no row, or no training value for a field.
    """
    if not truths:
        raise UserError(f"task {task.name!r}: there are no rows to measure")
    read: dict[str, Tensor] = {}
    fields: dict[str, FieldColumn] = {}
    for name in task.field_names:
        known = require_values(train_values, name)
        answers = [row[name] for row in parsed]
        read[name] = _flags(answer is not None for answer in answers)
        make = _COLUMNS[task.fields[name].kind]
        fields[name] = make(answers, [row[name] for row in truths], known)
    read[""] = torch.stack(list(read.values())).amin(0)
    return Columns(read, fields)


def require_values(train_values: Mapping[str, Sequence[Value]], name: str) -> Sequence[Value]:
    """The training values of a field, of which there must be some."""
    values = train_values.get(name)
    if not values:
        raise UserError(f"field {name!r}: the training split has no values to compare with")
    return values


def number_column(
    answers: Sequence[Value | None], truths: Sequence[Value], known: Sequence[Value]
) -> NumberColumn:
    """An unparsed number scores as the median of the training values."""
    fallback = statistics.median(_number(value) for value in known)
    predicted = [fallback if answer is None else _number(answer) for answer in answers]
    true = [_number(value) for value in truths]
    return NumberColumn(
        torch.tensor(predicted, dtype=torch.float64), torch.tensor(true, dtype=torch.float64)
    )


def label_column(
    answers: Sequence[Value | None], truths: Sequence[Value], known: Sequence[Value]
) -> LabelColumn:
    """Classes are the labels of training split and truths; any other answer is the last class."""
    labels = sorted({normal_label(str(value)) for value in (*known, *truths)})
    index = {label: number for number, label in enumerate(labels)}
    unknown = len(labels)
    predicted = [
        unknown if answer is None else index.get(normal_label(str(answer)), unknown)
        for answer in answers
    ]
    true = [index[normal_label(str(value))] for value in truths]
    return LabelColumn(torch.tensor(predicted), torch.tensor(true), unknown + 1)


def text_column(
    answers: Sequence[Value | None], truths: Sequence[Value], known: Sequence[Value]
) -> TextColumn:
    """Exact match and token F1 as SQuAD defines them; similarity is 1 - edits / longer length."""
    predicted = [_UNPARSED_TEXT if answer is None else str(answer) for answer in answers]
    true = [str(value) for value in truths]
    pairs = list(zip(predicted, true, strict=True))
    words = [_squad(*pair) for pair in pairs]
    return TextColumn(
        exact_match=torch.tensor([match for match, _ in words], dtype=torch.float64),
        token_f1=torch.tensor([f1 for _, f1 in words], dtype=torch.float64),
        edit_similarity=torch.tensor([edit_similarity(*p) for p in pairs], dtype=torch.float64),
    )


def _squad(predicted: str, true: str) -> tuple[float, float]:
    """Exact match and token F1 of one text: no case, punctuation or English articles."""
    scores = squad(
        {"prediction_text": predicted, "id": ""},
        {"answers": {"answer_start": [0], "text": [true]}, "id": ""},
    )
    return scores["exact_match"].item() / 100, scores["f1"].item() / 100


def _number(value: Value) -> float:
    number = read_number(str(value))
    if number is None:
        raise UserError(f"{value!r} is not a number")
    return number


def _flags(flags: Iterable[bool]) -> Tensor:
    return torch.tensor(list(flags), dtype=torch.float64)


_COLUMNS: dict[
    str, Callable[[Sequence[Value | None], Sequence[Value], Sequence[Value]], FieldColumn]
] = {"number": number_column, "label": label_column, "text": text_column}
