"""Which runs are compared, what they are called, and whose examples are whose."""

import json

import pytest
from made_run import make_run
from omegaconf import OmegaConf

from phi3v.errors import UserError
from phi3v.run.directory import RunDirectory
from phi3v.run.evaluation import evaluate
from phi3v.run.recorded import read_run
from phi3v.run.side_by_side import Other, _titles, check_examples, compared_runs

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with three runs, one of which did not come to its end."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("a", "begun", "own"):
        make_run(folder / name, "adapter.r=1", f"name={name}")
    (folder / "begun" / "adapter" / "adapter_config.json").unlink()
    (folder / "begun" / "checkpoints").mkdir()
    (folder / "begun" / "checkpoints" / "last.ckpt").touch()
    return folder


def refused(runs, *names):
    own = runs / "own"
    plain = {**read_run(own).config, "compare": [f"{runs}/{name}" for name in names]}
    with pytest.raises(UserError) as caught:
        compared_runs(OmegaConf.create(plain), RunDirectory(own))
    return str(caught.value)


def test_a_directory_that_is_no_run_is_refused_under_the_word_that_named_it(runs):
    assert refused(runs, "nope").startswith(f"compare={runs}/nope: there is no config.yaml in it")


@pytest.mark.parametrize("other", ["a", "a/", "own/../a"])
def test_a_run_that_is_named_twice_is_refused_however_it_is_written(runs, other):
    assert refused(runs, "a", other) == f"compare={runs}/{other}: named twice"


def test_a_run_is_not_compared_with_itself_however_it_is_written(runs):
    assert "that is the run it would be compared with" in refused(runs, "a/../own/")


def test_a_run_that_did_not_finish_says_how_it_goes_on_to_whoever_asks(runs):
    begun = runs / "begun"
    told = (
        f"={begun}: there is neither adapter/ nor model/ in it, the run did not finish; go on with"
        f" it: python train.py run={begun}"
    )
    assert refused(runs, "begun") == f"compare{told}"
    with pytest.raises(UserError) as caught:
        read_run(begun)
    assert str(caught.value) == f"run{told}"
    cfg = OmegaConf.create({"run": str(begun), "paths": {"run": str(runs / "scored")}})
    with pytest.raises(UserError) as caught:
        evaluate(cfg)
    assert str(caught.value) == f"run{told}"
    assert not (runs / "scored").exists()  # told before anything is written or loaded
