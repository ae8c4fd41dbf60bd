"""Adapters that build on others, as the programs are called for them."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


def first_loss(run: Path) -> float:
    with (run / "metrics.csv").open(newline="") as file:
        return float(next(csv.DictReader(file))["train/loss"])


def test_a_training_goes_on_from_the_adapter_of_a_run_and_needs_it_no_more(
    small, small_words, program, tmp_path
) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(small.run / "adapter", begun)
    second = program("train.py", *small_words, f"adapter.init_from={begun}", "trainer.max_epochs=1")
    assert second.status == 0, second.err[-3000:]
    assert first_loss(second.run) < 0.8 * first_loss(small.run)
    config = yaml.safe_load((second.run / "config.yaml").read_text())
    assert config["adapter"]["init_from"] == str(begun)
    shutil.rmtree(begun)
    again = program("eval.py", f"run={second.run}")
    assert again.status == 0, again.err[-3000:]
    assert "the run's test figures, exactly" in again.out


def test_on_a_bf16_base_the_figures_are_those_of_the_adapter_that_is_kept(
    small_words, program
) -> None:
    done = program("train.py", *small_words, "model.dtype=bfloat16")
    assert done.status == 0, done.err[-3000:]
    kept = load_file(done.run / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    again = program("eval.py", f"run={done.run}")
    assert again.status == 0, again.err[-3000:]
    assert "the run's test figures, exactly" in again.out
    answers = (each.run / "predictions.jsonl" for each in (done, again))
    one, other = (file.read_text() for file in answers)
    assert one == other
    checkpoint = torch.load(done.run / "checkpoints" / "last.ckpt", weights_only=True)
    exact = checkpoint["state_dict"].values()  # training goes on from every digit
    assert all(tensor.dtype == torch.float32 for tensor in exact)
    assert not all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in exact)


def test_on_a_base_in_four_bits_it_is_scored_as_it_was_trained_and_says_so(
    small_words, program
) -> None:
    done = program("train.py", *small_words, "model.quantization=nf4")
    assert done.status == 0, done.err[-3000:]
    again = program("eval.py", f"run={done.run}")
    assert again.status == 0, again.err[-3000:]
    assert "the run's test figures, exactly" in again.out
    for each in (done, again):
        assert "base: the decoder in four bits (nf4), for training and for scoring" in each.out


def test_an_adapter_of_other_settings_is_told_before_anything_is_loaded(
    small, small_words, program
) -> None:
    words = [f"adapter.init_from={small.run}", "adapter.r=8", "model.path=/nowhere"]
    refused = program("train.py", *small_words, *words)
    assert refused.status == 2
    assert "that adapter has other settings; give adapter.r=16" in refused.err
    assert "Traceback" not in refused.err


def test_runs_are_compared_on_the_same_examples_with_the_figures_that_they_have(
    small, small_words, program
) -> None:
    words = ["adapter.r=8", "name=narrow"]
    narrow = program("train.py", *small_words, *words)
    words = ["adapter.whole=[projector]", "name=beside"]
    beside = program("train.py", *small_words, *words)
    scored = program("eval.py", f"run={small.run}", f"compare=[{narrow.run},{beside.run}]")
    assert scored.status == 0, scored.err[-3000:]
    compared = scored.metrics["compared"]
    assert list(compared) == ["narrow", "beside"]  # as they were named
    assert compared["narrow"] == narrow.metrics["test"]
    assert compared["beside"] == beside.metrics["test"]
    assert scored.metrics["test"] == small.metrics["test"]
    assert scored.metrics["subject"] == "lora_r16"
    for title in ("lora_r16", "narrow", "beside"):
        assert any(line.startswith(f"│ {title} ") for line in scored.out.splitlines())
        assert title in (scored.run / "report.html").read_text()
    assert "<title>lora_r16: test</title>" in (scored.run / "report.html").read_text()
    assert scored.out.count("the run's test figures, exactly") == 3

    # A whole projector is a base of its own; the others go onto one that is loaded for them.
    turned = program("eval.py", f"run={beside.run}", f"compare=[{small.run},{narrow.run}]")
    assert turned.status == 0, turned.err[-3000:]
    assert turned.metrics["compared"]["lora_r16"] == small.metrics["test"]
    assert turned.metrics["compared"]["narrow"] == narrow.metrics["test"]


def other_key(run: Path) -> str:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["dtype"] = "bfloat16"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return "model.dtype is bfloat16 there and float32 here"


def other_splits(run: Path) -> str:
    splits = json.loads((run / "splits.json").read_text())
    splits["test"][0], splits["train"][0] = splits["train"][0], splits["test"][0]
    (run / "splits.json").write_text(json.dumps(splits))
    return "its test split is another one, 2 examples are in one of the two alone"


def unfinished(run: Path) -> str:
    shutil.rmtree(run / "adapter")
    return f"the run did not finish; go on with it: python train.py run={run}"


@pytest.mark.parametrize("spoil", [other_key, other_splits, unfinished])
def test_what_cannot_be_compared_is_refused_by_name(small, program, tmp_path, spoil) -> None:
    other = tmp_path / "other"
    shutil.copytree(small.run, other)
    message = spoil(other)
    refused = program("eval.py", f"run={small.run}", f"compare=[{other}]")
    assert refused.status == 2
    assert f"compare={other}: " in refused.err
    assert message in refused.err
    assert "Traceback" not in refused.err


def test_a_bare_base_is_compared_with_nothing(small, program) -> None:
    refused = program("eval.py", "model=tiny", f"compare=[{small.run}]")
    assert refused.status == 2
    assert "give run=... as well" in refused.err


def test_a_second_adapter_stands_on_a_base_into_which_the_first_is_merged(
    small, small_words, program, tmp_path
) -> None:
    first = tmp_path / "first"
    shutil.copytree(small.run / "adapter", first)
    second = program("train.py", *small_words, f"model.merge=[{first}]")
    assert second.status == 0, second.err[-3000:]
    assert first_loss(second.run) < 0.8 * first_loss(small.run)
    config = yaml.safe_load((second.run / "config.yaml").read_text())
    assert config["model"]["merge"] == [str(first)]
    again = program("eval.py", f"run={second.run}")
    assert again.status == 0, again.err[-3000:]
    assert "the run's test figures, exactly" in again.out
    shutil.rmtree(first)
    refused = program("eval.py", f"run={second.run}")
    assert refused.status == 2
    assert f"model.merge={first}: there is no adapter_config.json in it" in refused.err
