"""Edit distance against torchmetrics' and by hand."""

import random

import pytest
from torchmetrics.functional.text import edit_distance as reference

from phi3v.metric.edits import edit_distance, edit_similarity


def test_the_distance_is_that_of_torchmetrics():
    draw = random.Random(0)
    for _ in range(200):
        left, right = ("".join(draw.choices("abcé ", k=draw.randrange(12))) for _ in range(2))
        assert edit_distance(left, right) == reference([left], [right], reduction="sum").item()


@pytest.mark.parametrize(
    ("left", "right", "similarity"),
    [("", "", 1.0), ("", "ab", 0.0), ("rain", "shine", 1 - 3 / 5), ("same", "same", 1.0)],
)
def test_similarity_is_a_share_of_the_longer_text(left, right, similarity):
    assert edit_similarity(left, right) == edit_similarity(right, left) == similarity
