"""Two processes train what one trains, also where some of their rows have no picture."""

import json
import os
import re
import time
from pathlib import Path

import pytest
import torch
from small_model import make_checkpoint
from warm_start import warm_start

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "support" / "mixed_training.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def to_its_end(cwd, *words):
    return warm_start(SCRIPT, [str(word) for word in words], cwd, os.environ, timeout=180)


@pytest.fixture(scope="module")
def train(checkpoint, tmp_path_factory):
    """Runs the script to its end, at most once for the same words; all of its processes end."""
    done = {}

    def run(*words):
        if words not in done:
            result = tmp_path_factory.mktemp("result") / "told.json"
            status, _, err = to_its_end(result.parent, checkpoint, result, *words)
            assert status == 0, err[-3000:]
            done[words] = json.loads(result.read_text()), torch.load(result.with_suffix(".pt"))
        return done[words]

    return run


@pytest.mark.parametrize("words", [("auto", "1", "2"), ("ddp", "2"), ("fsdp", "2")])
def test_the_same_training_with_rows_without_pictures(train, words):
    alone, weights = train("auto", "1")
    told, other = train(*words)
    assert len(told["losses"]) == 10
    assert told["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert other.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_part_that_trains_whole_beside_the_adapters_is_the_same_too(train, strategy):
    beside = ("1", "none", "projector")
    alone, weights = train("auto", "1", *beside)
    told, other = train(strategy, "2", *beside)
    assert any(name.endswith("glb_GN") for name in weights)
    assert told["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert other.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=0)


def test_on_a_divided_bfloat16_base_it_stays_float32(train):
    beside = ("1", "none", "projector", "bfloat16")
    alone, _ = train("auto", "1", *beside)
    told, weights = train("fsdp", "2", *beside)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert told["losses"] == pytest.approx(alone["losses"], abs=0.05)


@pytest.mark.parametrize("words", [("ddp", "2"), ("fsdp", "2")])
def test_the_same_answers_wherever_they_are_generated(train, words):
    alone, _ = train("auto", "1")
    assert len(set(alone["answers"].values())) > 1
    told, _ = train(*words)
    assert told["answers"] == alone["answers"]
    assert told["accuracy"] == alone["accuracy"]


def test_each_process_keeps_half_of_a_divided_model(train):
    told, _ = train("fsdp", "2")
    assert 0.5 <= told["kept"] / told["all"] < 0.52


@pytest.mark.parametrize(("strategy", "rank"), [("ddp", 1), ("fsdp", 0)])
def test_an_error_on_one_rank_ends_all_of_them_and_is_told(checkpoint, tmp_path, strategy, rank):
    told = tmp_path / "told.json"
    status, _, err = to_its_end(tmp_path, checkpoint, told, strategy, "2", "1", f"error:{rank}")
    assert status != 0
    assert f"[rank{rank}]: ArithmeticError: failed on rank {rank}" in err
    failed = float(re.search(r"failing at ([\d.]+)", err).group(1))
    assert time.time() - failed < 30
    assert not told.exists()


def test_a_part_that_is_cut_off_is_told_by_the_rank_without_a_picture_too(checkpoint, tmp_path):
    told = tmp_path / "told.json"
    status, _, err = to_its_end(tmp_path, checkpoint, told, "ddp", "2", "1", "cut:all")
    assert status != 0
    assert len(re.findall(r"UserError: \d+ trainable tensors of the vision got no", err)) == 2, err
