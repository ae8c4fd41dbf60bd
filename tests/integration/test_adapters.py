"""Adapters that build on others, as the programs are called for them."""

import csv
import shutil
from pathlib import Path

import pytest
import yaml

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


def test_an_adapter_of_other_settings_is_told_before_anything_is_loaded(
    small, small_words, program
) -> None:
    words = [f"adapter.init_from={small.run}", "adapter.r=8", "model.path=/nowhere"]
    refused = program("train.py", *small_words, *words)
    assert refused.status == 2
    assert "that adapter has other settings; give adapter.r=16" in refused.err
    assert "Traceback" not in refused.err
