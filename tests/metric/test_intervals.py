"""Bootstrap intervals: the same figures as FieldMetrics, resampled."""

import random

import pytest
import torch

from phi3v.metric import FieldMetrics, bootstrap
from phi3v.metric.columns import make_columns
from phi3v.metric.intervals import resampled
from phi3v.task import Task

TASK = Task(
    "products",
    "?",
    "{title}; {kind}; {price}",
    {"title": "text", "kind": "label", "price": "number"},
    "price/mape",
)


def rows(count, seed=0):
    """Answers of which about a fifth is wrong in each field, and a tenth is not read at all."""
    draw = random.Random(seed)
    kinds = ["a", "b", "c"]
    truths = [
        {
            "title": f"the {draw.choice('pqrs')} x",
            "kind": draw.choice(kinds),
            "price": draw.uniform(5, 50),
        }
        for _ in range(count)
    ]
    texts = []
    for truth in truths:
        kind = truth["kind"] if draw.random() < 0.8 else draw.choice([*kinds, "z"])
        price = truth["price"] * draw.lognormvariate(0, 0.15)
        title = truth["title"] if draw.random() < 0.8 else "y"
        answer = TASK.write_answer({"title": title, "kind": kind, "price": price})
        texts.append(answer if draw.random() < 0.9 else "nothing")
    return texts, truths


TEXTS, TRUTHS = rows(120)
TRAIN = {name: [truth[name] for truth in TRUTHS] for name in TASK.field_names}


def test_the_resampled_figures_of_the_rows_as_they_are_equal_the_metrics():
    metrics = FieldMetrics(TASK, TRAIN)
    metrics.update([f"{i:03}" for i in range(120)], TEXTS, TRUTHS)
    columns = make_columns(TASK, TRAIN, [TASK.parse(text) for text in TEXTS], TRUTHS)
    once = resampled(columns, torch.arange(120)[None])
    values = metrics.compute()
    assert list(once) == list(values)
    for name, value in values.items():
        assert once[name].item() == pytest.approx(value, rel=1e-6), name


def test_the_interval_of_an_accuracy_is_that_of_a_binomial():
    low, high = bootstrap(TASK, TRAIN, TEXTS, TRUTHS)["kind/accuracy"]
    columns = make_columns(TASK, TRAIN, [TASK.parse(text) for text in TEXTS], TRUTHS)
    share = columns.measure()["kind/accuracy"]
    half = 1.96 * (share * (1 - share) / 120) ** 0.5
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.02)


def test_intervals_hold_the_figure_and_narrow_with_more_rows():
    few = bootstrap(TASK, TRAIN, TEXTS[:30], TRUTHS[:30])
    texts, truths = rows(480, seed=1)
    many = bootstrap(TASK, TRAIN, texts, truths)
    parsed = [TASK.parse(text) for text in texts]
    for name, value in make_columns(TASK, TRAIN, parsed, truths).measure().items():
        assert many[name][0] <= value <= many[name][1], name
        assert many[name][1] - many[name][0] < few[name][1] - few[name][0], name


def test_the_seed_decides_the_draws():
    same = [bootstrap(TASK, TRAIN, TEXTS, TRUTHS, seed=seed) for seed in (0, 0, 1)]
    assert same[0] == same[1] != same[2]


def test_all_right_is_not_certainty():
    texts = [TASK.write_answer(truth) for truth in TRUTHS[:30]]
    intervals = bootstrap(TASK, TRAIN, texts, TRUTHS[:30])
    assert intervals["kind/accuracy"] == pytest.approx((0.8865, 1.0), abs=1e-3)  # Wilson, 30 of 30
    assert intervals["price/mape"] == (0.0, 0.0)


def test_one_row_has_an_interval():
    intervals = bootstrap(TASK, TRAIN, TEXTS[:1], TRUTHS[:1])
    assert all(low <= high for low, high in intervals.values())
