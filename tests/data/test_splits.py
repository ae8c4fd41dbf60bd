"""Splits are disjoint, grouped, seeded and independent of the order of the rows."""

import json
import logging
import random
from dataclasses import replace
from pathlib import Path

import pytest

from phi3v.data import Example, load_splits, make_splits, save_splits
from phi3v.errors import UserError

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


@pytest.fixture
def examples(tmp_path):
    """Makes examples of given groups whose picture files all differ."""

    def make(groups) -> list[Example]:
        made = []
        for number, group in enumerate(groups):
            path = tmp_path / f"{number}.bin"
            path.write_bytes(f"{number:06d}".encode())
            made.append(Example(f"e{number:04d}", (path,), {}, str(group), f"row {number + 2}"))
        return made

    return make


def side_of(splits) -> dict[str, str]:
    return {own_id: name for name, ids in splits.items() for own_id in ids}


def test_every_example_is_in_exactly_one_split_of_about_the_wanted_size(examples):
    splits = make_splits(examples(range(300)), FRACTIONS, seed=0)

    assert list(splits) == ["train", "val", "test"]
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 240, "val": 30, "test": 30}
    assert len(side_of(splits)) == 300


def test_groups_never_stand_on_both_sides(examples):
    made = examples([number // 7 for number in range(200)])

    side = side_of(make_splits(made, FRACTIONS, seed=1))

    sides = {example.group: set() for example in made}
    for example in made:
        sides[example.group].add(side[example.id])
    assert all(len(names) == 1 for names in sides.values())
    assert sum(name == "train" for name in side.values()) == pytest.approx(160, abs=7)


def test_the_same_picture_under_two_names_joins_groups_also_through_a_third(examples, tmp_path):
    made = examples(range(60))
    for one, other in [(0, 20), (20, 40)]:
        Path(made[other].images[0]).write_bytes(made[one].images[0].read_bytes())
    made += [Example("extra", made[40].images, {}, "59", "row 99")]

    for seed in range(5):
        side = side_of(make_splits(made, FRACTIONS, seed))
        assert len({side[i] for i in ("e0000", "e0020", "e0040", "extra", "e0059")}) == 1


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does(examples):
    made = examples([number // 3 for number in range(100)])
    mixed = random.Random(5).sample(made, len(made))

    assert make_splits(mixed, FRACTIONS, seed=3) == make_splits(made, FRACTIONS, seed=3)
    assert make_splits(made, FRACTIONS, seed=4) != make_splits(made, FRACTIONS, seed=3)


@pytest.mark.parametrize("count", [3, 4, 7])
def test_no_split_is_empty_while_there_are_groups_enough(examples, count):
    for seed in range(10):
        splits = make_splits(examples(range(count)), FRACTIONS, seed)
        assert all(splits.values())
        assert len(splits["train"]) == count - 2


def test_too_few_groups_are_refused(examples):
    with pytest.raises(UserError, match="10 examples form only 2 groups, too few for 3 splits"):
        make_splits(examples([0, 1] * 5), FRACTIONS, seed=0)


def test_a_picture_that_joins_too_many_rows_is_named(examples):
    rows = examples(range(10))
    shared = [replace(row, images=(*row.images, rows[0].images[0])) for row in rows]
    with pytest.raises(UserError, match=r"1 groups, .*0\.bin is the picture of 10 of them"):
        make_splits(shared, FRACTIONS, seed=0)


@pytest.mark.parametrize(
    "fractions", [{"train": 0.8, "val": 0.1}, {"train": 1.1, "val": -0.1}, {}, {"a": 0.0, "b": 1.0}]
)
def test_fractions_that_are_no_division_are_refused(examples, fractions):
    with pytest.raises(UserError, match="splits: "):
        make_splits(examples(range(9)), fractions, seed=0)


def test_splits_are_read_as_they_were_written(examples, tmp_path):
    made = examples(range(20))
    splits = make_splits(made, FRACTIONS, seed=0)

    save_splits(splits, tmp_path / "splits.json")

    assert load_splits(tmp_path / "splits.json", made) == splits
    assert json.loads((tmp_path / "splits.json").read_text()) == splits


def test_a_file_of_splits_is_whole_at_every_moment(tmp_path):
    file = tmp_path / "splits.json"
    save_splits({"train": ["a"]}, file)
    with file.open() as before:
        save_splits({"train": ["b"]}, file)
        assert json.load(before) == {"train": ["a"]}
    assert [path.name for path in tmp_path.iterdir()] == ["splits.json"]


def test_ids_that_the_data_lacks_are_refused(examples, tmp_path):
    made = examples(range(20))
    save_splits(make_splits(made, FRACTIONS, seed=0), tmp_path / "splits.json")

    with pytest.raises(UserError, match=r"splits.json: 1 of its 20 ids are not in .*'e0007'"):
        load_splits(tmp_path / "splits.json", made[:7] + made[8:])


def test_examples_that_no_split_knows_are_logged(examples, tmp_path, caplog):
    made = examples(range(20))
    save_splits(make_splits(made[:18], FRACTIONS, seed=0), tmp_path / "splits.json")

    with caplog.at_level(logging.WARNING):
        load_splits(tmp_path / "splits.json", made)

    assert "2 newer examples are in no split" in caplog.text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "splits file not found"),
        ("{", "not a JSON file of splits"),
        ("[]", "a list of example ids"),
        ('{"train": ["e0000"], "val": ["e0000"]}', "stand in it twice"),
    ],
)
def test_a_broken_splits_file_is_refused(examples, tmp_path, content, expected):
    if content is not None:
        (tmp_path / "splits.json").write_text(content)

    with pytest.raises(UserError, match=expected):
        load_splits(tmp_path / "splits.json", examples(range(3)))
