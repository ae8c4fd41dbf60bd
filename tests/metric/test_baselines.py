"""The constant answer: its figures by hand, and the direction of every metric."""

import numpy as np
import pytest

from phi3v.errors import UserError
from phi3v.metric import baselines, best_constant
from phi3v.metric.baselines import least_mape
from phi3v.task import METRICS, Task, direction

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


def test_the_best_constant_has_the_least_mape_that_any_constant_has():
    prices = np.random.default_rng(0).lognormal(5, 1, 501)
    best = least_mape(list(prices))
    errors = [np.mean(np.abs(c - prices) / prices) for c in np.linspace(1, 400, 4000)]
    assert np.mean(np.abs(best - prices) / prices) <= min(errors)
    assert best < np.median(prices)


def test_the_best_constant_is_measured_beside_the_median():
    values = best_constant(TASK, TRAIN, TRUTHS)
    # Weights 1/10, 1/20, 1/30, 1/1000: half of them are reached at 10.
    assert values["price/mape"] == pytest.approx((0.8 + 0.6 + 0.2) / 3)
    assert values["kind/accuracy"] == baselines(TASK, TRAIN, TRUTHS)["kind/accuracy"]


def test_without_numbers_there_is_one_constant_answer_only():
    words = Task("words", "?", "{title}", {"title": "text"}, "title/token_f1")
    assert best_constant(words, {"title": ["a"]}, [{"title": "a"}]) == {}
