"""FieldMetrics on rows whose figures can be worked out by hand."""

import json
import math

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from phi3v.errors import UserError
from phi3v.metric import FieldMetrics
from phi3v.task import Task

TASK = Task(
    "products",
    "What is shown in this image?",
    "Product: {title}, Category: {kind}, Full Price: {price}",
    {"title": "text", "kind": "label", "price": "number"},
    "price/mape",
)
TRAIN = {"title": ["Red scarf"], "kind": ["Scarf", "Shoe", "Bag"], "price": [100.0, 200.0, 600.0]}
TRUTHS = [
    {"title": "Red scarf", "kind": "Scarf", "price": 100.0},
    {"title": "The blue shoe", "kind": "Shoe", "price": 100.0},
    {"title": "Big bag", "kind": "Bag", "price": 400.0},
    {"title": "Red scarf", "kind": "Scarf", "price": 80.0},
]
TEXTS = [
    "Product: Red scarf, Category: scarf, Full Price: 110",
    "Product: blue shoe!, Category: Boot, Full Price: 50",
    "Product: Big box, Category: Shoe, Full Price: n/a",
    "I see a scarf.",
]
IDS = ["a", "b", "c", "d"]


def measured(texts=TEXTS, truths=TRUTHS, ids=IDS, task=TASK, train=TRAIN):
    metrics = FieldMetrics(task, train)
    metrics.update(ids, texts, truths)
    return metrics.compute()


def test_the_names_are_those_that_the_task_announces():
    assert tuple(measured()) == TASK.metric_names


def test_parse_rates_count_every_row():
    values = measured()
    assert values["title/parse_rate"] == values["kind/parse_rate"] == 0.75
    assert values["price/parse_rate"] == values["parse_rate"] == 0.5


def test_a_number_that_was_not_read_scores_as_the_training_median():
    values = measured()
    errors = [10 / 100, 50 / 100, abs(200 - 400) / 400, abs(200 - 80) / 80]
    assert values["price/mae"] == pytest.approx((10 + 50 + 200 + 120) / 4, rel=1e-12)
    assert values["price/mape"] == pytest.approx(sum(errors) / 4, rel=1e-12)
    assert values["price/median_ape"] == pytest.approx(0.5, rel=1e-12)
    assert values["price/within_10_percent"] == 0.25


def test_texts_score_by_words_and_by_edits_and_not_at_all_when_unparsed():
    values = measured()
    assert values["title/exact_match"] == pytest.approx(2 / 4)  # SQuAD ignores "The" and "!"
    assert values["title/token_f1"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    similar = [1, 1 - 5 / 13, 1 - 2 / 7, 0]  # edits over the longer text
    assert values["title/edit_similarity"] == pytest.approx(sum(similar) / 4)


def test_labels_of_no_known_class_and_unparsed_ones_fall_into_one_class_of_their_own():
    values = measured()
    classes = {"bag": 0, "scarf": 1, "shoe": 2, "unparsed": 3}
    predicted = torch.tensor([classes[c] for c in ("scarf", "unparsed", "shoe", "unparsed")])
    true = torch.tensor([classes[c] for c in ("scarf", "shoe", "bag", "scarf")])
    accuracy = MulticlassAccuracy(4, average="micro")(predicted, true).item()
    assert values["kind/accuracy"] == pytest.approx(accuracy) == pytest.approx(0.25)
    assert values["kind/macro_f1"] == pytest.approx(MulticlassF1Score(4)(predicted, true).item())
    assert values["kind/macro_f1"] == pytest.approx((2 / 3 + 0 + 0 + 0) / 4)


def test_perfect_answers_score_perfectly():
    values = measured([TASK.write_answer(row) for row in TRUTHS])
    for name, value in values.items():
        assert value == (0.0 if name.endswith(("mae", "mape", "ape")) else 1.0), name


def test_an_unparsed_text_matches_nothing_not_even_a_truth_that_squad_reads_as_empty():
    task = Task("t", "?", "It is {title}", {"title": "text"}, "title/token_f1")
    values = measured(["no"], [{"title": "The"}], ["a"], task, {"title": ["x"]})
    assert set(values.values()) == {0.0}


def test_an_example_that_comes_twice_is_counted_once():
    twice = measured([*TEXTS, TEXTS[0]], [*TRUTHS, TRUTHS[0]], [*IDS, "a"])
    assert twice == measured()


def test_batches_and_their_order_change_nothing():
    metrics = FieldMetrics(TASK, TRAIN)
    for index in (3, 1, 0, 2):
        metrics.update([IDS[index]], [TEXTS[index]], [TRUTHS[index]])
    assert metrics.compute() == measured()


def test_ranks_are_gathered_and_their_padding_is_dropped():
    """Two ranks as the distributed sampler makes them: the second one repeats an example."""
    ranks = [FieldMetrics(TASK, TRAIN) for _ in range(3)]
    ranks[0].update(IDS[:2], TEXTS[:2], TRUTHS[:2])
    ranks[1].update([*IDS[2:], "a"], [*TEXTS[2:], "x"], [*TRUTHS[2:], TRUTHS[0]])
    # The third has no rows: what it sends must have the type of the others' bytes.
    sent = [
        torch.cat(rank.rows) if rank.rows else torch.tensor([], dtype=rank.dtype) for rank in ranks
    ]
    assert {tensor.dtype for tensor in sent} == {torch.uint8}
    metrics = ranks[0]
    metrics.dist_sync_fn = lambda tensor, group: sent
    metrics.distributed_available_fn = lambda: True
    assert metrics.compute() == measured()
    metrics.reset()
    assert metrics.rows == []


def test_reset_forgets_the_rows():
    metrics = FieldMetrics(TASK, TRAIN)
    metrics.update(IDS, ["wrong"] * 4, TRUTHS)
    metrics.reset()
    metrics.update(IDS, TEXTS, TRUTHS)
    assert metrics.compute() == measured()


def test_any_text_survives_the_state():
    truth = {"title": 'tab\t "quote" \u2028 line\nbreak \U0001f9e3', "kind": "Bag", "price": 1.0}
    values = measured([TASK.write_answer(truth)], [truth], ["ü"])
    assert values["title/edit_similarity"] == 1.0


def test_values_are_plain_finite_floats_that_json_can_hold():
    values = measured([*TEXTS[:3], "Product: a, Category: b, Full Price: " + "9" * 60])
    assert all(type(value) is float and math.isfinite(value) for value in values.values())
    assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(UserError, match="no rows to measure"):
        FieldMetrics(TASK, TRAIN).compute()
    with pytest.raises(UserError, match="'kind': the training split has no values"):
        measured(train={**TRAIN, "kind": []})
    with pytest.raises(UserError, match="example a: price 'n/a' is not a number"):
        measured(["x"], [{**TRUTHS[0], "price": "n/a"}], ["a"])
