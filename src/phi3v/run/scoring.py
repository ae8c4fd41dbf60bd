"""Measures what a model answered on a split beside everything that it must be better than.

    scored = score(answers, task, data)
    scored.summary      # the content of metrics.json
    scored.predictions  # the rows of predictions.jsonl

The controls, the base before training, the constant answer and the optimum stand beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phi3v.data import Example, ImageTextDataModule
from phi3v.evaluation.comparison import compare
from phi3v.metric import FieldMetrics, baselines, best_constant, bootstrap
from phi3v.run.answering import Answers
from phi3v.task import Task, Value


@dataclass(frozen=True)
class Scored:
    """The outcome of scoring one model on one split."""

    summary: dict[str, Any]
    predictions: list[dict[str, Any]]


def field_values(task: Task, examples: Sequence[Example]) -> dict[str, list[Value]]:
    """The values of every field of the answer, by field."""
    return {name: [example.values[name] for example in examples] for name in task.field_names}


def score(
    answers: Answers, task: Task, data: ImageTextDataModule, subject: str = "Fine-tuned"
) -> Scored:
    """Scores answers; done by one process, after the group of all has been left.

    Args:
        answers: What was generated.
        task: What was asked.
        data: Where the examples are from.
        subject: What the model is called in tables.
    """
    examples, split = answers.examples, answers.split
    train_values = field_values(task, data.examples["train"])
    truths = [example.values for example in examples]

    def measured(texts: Sequence[str]) -> dict[str, float]:
        metrics = FieldMetrics(task, train_values)
        metrics.update([example.id for example in examples], texts, truths)
        return metrics.compute()

    summary = compare(
        task,
        rows={name: len(rows) for name, rows in data.examples.items()} | {split: len(examples)},
        fine_tuned=measured(answers.own),
        baseline=baselines(task, train_values, truths),
        constant=best_constant(task, train_values, truths),
        optimum=data.source.optimum(task),
        base=None if answers.before is None else measured(answers.before),
        controls={name: measured(texts) for name, texts in answers.controls.items()},
        intervals=bootstrap(task, train_values, answers.own, truths),
        subject=subject,
        split=split,
        compared={name: measured(texts) for name, texts in answers.compared.items()},
    )
    return Scored(summary, _prediction_rows(task, examples, answers.own))


def _prediction_rows(
    task: Task, examples: Sequence[Example], texts: Sequence[str]
) -> list[dict[str, Any]]:
    def fields(values: Mapping[str, Value]) -> dict[str, Value]:
        return {name: values[name] for name in task.field_names}

    return [
        {
            "id": example.id,
            "picture": [str(path) for path in example.images],
            "question": task.write_question(example.values),
            "answer": task.write_answer(example.values),
            "prediction": text,
            "truth": fields(example.values),
            "parsed": task.parse(text),
        }
        for example, text in zip(examples, texts, strict=True)
    ]
