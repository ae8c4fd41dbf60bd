"""What compared runs are called, and whose examples are whose."""

import json

import pytest

from phi3v.errors import UserError
from phi3v.run.directory import RunDirectory
from phi3v.run.side_by_side import Other, _titles, check_examples

SPLITS = {"train": ["a", "b"], "val": ["c"], "test": ["d", "e"]}


@pytest.fixture
def other(tmp_path):
    """A run that knows the splits above."""
    (tmp_path / "splits.json").write_text(json.dumps(SPLITS))
    return Other(RunDirectory(tmp_path), {}, "other")


def test_the_same_split_is_let_through_in_any_order(other):
    check_examples([other], "test", ["e", "d"])
    check_examples([other], "val", ["c"])


def test_examples_that_a_run_has_never_seen_are_let_through(other):
    check_examples([other], "test", ["x", "y", "z"])


@pytest.mark.parametrize(("ids", "count"), [(["d"], 1), (["d", "a"], 2), (["d", "e", "x"], 1)])
def test_another_split_of_the_same_examples_is_refused(other, ids, count):
    with pytest.raises(UserError, match=rf"its test split is another one, {count} examples"):
        check_examples([other], "test", ids)


@pytest.mark.parametrize(
    ("runs", "titles"),
    [
        ([("r/a/1", "a"), ("r/b/1", "b")], ["a", "b"]),
        ([("r/a/1", "a"), ("r/a/2", "a"), ("r/b/1", "b")], ["a 1", "a 2", "b"]),
        ([("r/x/0", "a"), ("r/y/0", "a")], ["r/x/0", "r/y/0"]),
    ],
)
def test_a_run_is_called_by_the_shortest_name_that_tells_it_from_the_others(runs, titles):
    assert _titles([(RunDirectory(path), {"name": name}) for path, name in runs]) == titles
