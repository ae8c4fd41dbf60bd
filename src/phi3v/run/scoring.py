"""Scores a model on a split: its own answers, the controls, the base, the constant answer.

    scored = score(model, task, data, split="test", base=base, max_new_tokens=96)
    scored.summary      # the content of metrics.json
    scored.predictions  # the rows of predictions.jsonl

Everything is generated: cached, greedy, one answer for every example of the split.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

from phi3v.data import Example, ImageTextDataModule
from phi3v.data.collation import Collator
from phi3v.data.encoding import Picture
from phi3v.data.pictures import open_picture
from phi3v.errors import UserError
from phi3v.evaluation.comparison import compare
from phi3v.evaluation.controls import blank_picture, shuffled_pictures
from phi3v.metric import FieldMetrics, baselines, best_constant, bootstrap
from phi3v.run.answering import answers
from phi3v.task import Task, Value
from phi3v.training.loss import base_of as model_inside

log = logging.getLogger(__name__)

# Enters the base that was there before training, and leaves it again.
Base = Callable[[], AbstractContextManager[nn.Module]]


@dataclass(frozen=True)
class Scored:
    """The outcome of scoring one model on one split."""

    summary: dict[str, Any]
    predictions: list[dict[str, Any]]


def field_values(task: Task, examples: Sequence[Example]) -> dict[str, list[Value]]:
    """The values of every field of the answer, by field."""
    return {name: [example.values[name] for example in examples] for name in task.field_names}


def score(
    model: nn.Module,
    task: Task,
    data: ImageTextDataModule,
    *,
    split: str,
    max_new_tokens: int,
    base: Base | None,
    subject: str = "Fine-tuned",
    limit: int | float = 1.0,
    others: Mapping[str, Callable[[], nn.Module]] | None = None,
) -> Scored:
    """Scores a model beside everything that it must be better than.

    Args:
        model: Phi-3-Vision, with or without adapter, on the device that it shall run on.
        task: What is asked and answered.
        data: After `setup`.
        split: Which examples: "train", "val" or "test".
        max_new_tokens: Longer answers are cut here.
        base: Gives the model as it was before training; None where nothing was trained.
        subject: What the model is called in tables.
        limit: Scores only so many batches (int) or this share of them (float), as Lightning's
            limit_test_batches does.
        others: By the name that it has in tables, what gives another model that answers the same
            examples; each is asked for when its turn comes.

    Raises:
        UserError: When the split is missing or empty, or there is no training split for the
            constant answers.
    """
    for name in (split, "train"):
        if not data.examples.get(name):
            raise UserError(
                f"split={name}: it has no examples, and scoring {split} needs it; there are"
                f" {', '.join(key for key, rows in data.examples.items() if rows)}"
            )
    examples = limited(data.examples[split], limit, data.eval_batch_size)
    if len(examples) < len(data.examples[split]):
        log.info(
            "%s: only the first %d of %d examples, as trainer.limit_test_batches=%s says",
            split, len(examples), len(data.examples[split]), limit,
        )  # fmt: skip
    train_values = field_values(task, data.examples["train"])
    truths = [example.values for example in examples]

    def told(of: nn.Module, what: str, shown: Sequence[Example], picture: Picture) -> list[str]:
        log.info("%s: %d examples, %s", split, len(shown), what)
        return answer_all(of, task, data, shown, max_new_tokens, picture)

    def measured(texts: Sequence[str]) -> dict[str, float]:
        metrics = FieldMetrics(task, train_values)
        metrics.update([example.id for example in examples], texts, truths)
        return metrics.compute()

    own = told(model, subject.lower(), examples, open_picture)
    controls = {"blank": told(model, "blank pictures", examples, blank_picture)}
    if len(examples) > 1:
        strangers = shuffled_pictures(examples, seed=0)
        controls["shuffled"] = told(model, "shuffled pictures", strangers, open_picture)
    before = None
    if base is not None:
        with base() as untrained:
            before = measured(told(untrained, "before training", examples, open_picture))
    compared = {
        name: measured(told(give(), name, examples, open_picture))
        for name, give in (others or {}).items()
    }
    summary = compare(
        task,
        rows={name: len(rows) for name, rows in data.examples.items()} | {split: len(examples)},
        fine_tuned=measured(own),
        baseline=baselines(task, train_values, truths),
        constant=best_constant(task, train_values, truths),
        optimum=data.source.optimum(task),
        base=before,
        controls={name: measured(texts) for name, texts in controls.items()},
        intervals=bootstrap(task, train_values, own, truths),
        subject=subject,
        split=split,
        compared=compared,
    )
    return Scored(summary, _prediction_rows(task, examples, own))


def limited(examples: Sequence[Example], limit: int | float, batch: int) -> Sequence[Example]:
    """The first `limit` batches (int) or the first share of all (float); at least one example."""
    count = limit * batch if isinstance(limit, int) else round(limit * len(examples))
    return examples[: max(1, int(count))]


def answer_all(
    model: nn.Module,
    task: Task,
    data: ImageTextDataModule,
    examples: Sequence[Example],
    max_new_tokens: int,
    picture: Picture = open_picture,
) -> list[str]:
    """The model's answers in the order of the examples; batches hold prompts of similar length."""
    # With another example's picture a prompt may be longer than any of the data's own.
    context = max(data.max_length, int(model_inside(model).config.max_position_embeddings))
    collate = Collator(data.processor, task, context, "prompt", picture)
    order = sorted(range(len(examples)), key=lambda place: data.lengths[examples[place].id].total)
    texts = [""] * len(examples)
    for place, text in answers(
        model, collate, examples, order,
        batch_size=data.eval_batch_size, max_new_tokens=max_new_tokens,
    ):  # fmt: skip
        texts[place] = text
    return texts


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
