"""The constant answer: its figures by hand, and the direction of every metric."""

import pytest

from phi3v.errors import UserError
from phi3v.metric import baselines, direction
from phi3v.task import METRICS, Task

TASK = Task(
    "products",
    "?",
    "{title}; {kind}; {price}",
    {"title": "text", "kind": "label", "price": "number"},
    "price/mape",
)
TRAIN = {
    "title": ["b", "b", "c"],
    "kind": ["Shoe", "shoe ", "Bag", "Hat"],
    "price": [10.0, 30.0, 20.0, 1000.0],
}
TRUTHS = [
    {"title": "b", "kind": "Shoe", "price": 50.0},
    {"title": "b", "kind": "SHOE", "price": 25.0},
    {"title": "d", "kind": "Bag", "price": 12.5},
]


def test_the_constant_answer_is_median_majority_and_most_frequent_text():
    values = baselines(TASK, TRAIN, TRUTHS)
    assert tuple(values) == TASK.metric_names
    assert values["parse_rate"] == 1.0
    assert values["price/mape"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert values["kind/accuracy"] == pytest.approx(2 / 3)
    assert values["title/exact_match"] == pytest.approx(2 / 3)


def test_of_equally_frequent_values_the_first_in_the_alphabet_answers():
    train = {"title": ["b", "a"], "kind": ["z", "shoe"], "price": [1.0]}
    values = baselines(TASK, train, TRUTHS)
    assert values["kind/accuracy"] == pytest.approx(2 / 3)
    assert values["title/exact_match"] == 0.0


def test_a_title_that_holds_a_separator_does_no_harm():
    values = baselines(TASK, {**TRAIN, "title": ["a; b"]}, TRUTHS)
    assert values["parse_rate"] == 1.0


def test_less_is_better_for_errors_and_losses_and_more_for_the_rest():
    less = {"mae", "mape", "median_ape", "loss"}
    for metric in ("loss", "parse_rate", *(name for names in METRICS.values() for name in names)):
        for name in (metric, f"field/{metric}", f"val/field/{metric}"):
            assert direction(name) == ("min" if metric in less else "max")


def test_an_unknown_metric_has_no_direction():
    with pytest.raises(UserError, match="no metric 'mpae'; did you mean"):
        direction("val/price/mpae")
