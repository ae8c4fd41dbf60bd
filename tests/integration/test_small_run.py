"""What holds for every run, shown on one that takes seconds."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file

from phi3v.cli import main
from phi3v.model import Checkpoint

ROOT = Path(__file__).parents[2]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    small, small_words, program
) -> None:
    again = program("train.py", *small_words)
    other = program("train.py", *small_words, "seed=8")
    own = (small.run / "metrics.json").read_bytes()
    assert (again.run / "metrics.json").read_bytes() == own
    assert again.run != small.run
    weights = "adapter/adapter_model.safetensors"
    assert (again.run / weights).read_bytes() == (small.run / weights).read_bytes()
    assert (other.run / weights).read_bytes() != (small.run / weights).read_bytes()


def test_metrics_hold_neither_times_nor_paths(small) -> None:
    text = (small.run / "metrics.json").read_text()
    assert str(small.run.parent) not in text
    assert "/" not in "".join(small.metrics["verdict"])


def test_a_run_can_be_moved_and_still_be_evaluated(small, program, tmp_path) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(small.run, moved)
    again = program("eval.py", f"run={moved}")
    assert again.status == 0, again.err[-3000:]
    assert again.metrics["test"] == small.metrics["test"]


def test_another_split_can_be_scored(small, program) -> None:
    scored = program("eval.py", f"run={small.run}", "split=val")
    names = [name for name in small.metrics["metrics"] if name.startswith("val/full_price")]
    assert names
    assert {name: scored.metrics["metrics"][name] for name in names} == pytest.approx(
        {name: small.metrics["metrics"][name] for name in names}
    )


def test_the_checkpoint_holds_the_adapter_and_not_the_base(small) -> None:
    checkpoint = torch.load(small.run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["state_dict"]
    assert all("lora_" in name for name in checkpoint["state_dict"])
    assert checkpoint["optimizer_states"]


def test_the_adapter_is_a_folder_that_peft_reads(small) -> None:
    base = Checkpoint(path=str(ROOT / "assets" / "tiny")).load()
    model = PeftModel.from_pretrained(base.model, small.run / "adapter")
    saved = load_file(small.run / "adapter" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_B.weight"
    own = dict(model.named_parameters())[name.replace(".weight", ".default.weight")]
    assert torch.equal(own, saved[name])


def test_metrics_by_step_cover_every_step(small) -> None:
    with (small.run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    steps = json.loads((small.run / "splits.json").read_text())
    assert len(losses) == -(-len(steps["train"]) // 8)
    assert any(row["val/full_price/mape"] for row in rows)
    assert all(row["lr/decoder"] for row in rows if row["train/grad_norm"])


def test_the_configuration_is_resolved_and_enough(small) -> None:
    config = yaml.safe_load((small.run / "config.yaml").read_text())
    assert "${" not in (small.run / "config.yaml").read_text()
    assert config["adapter"]["r"] == 16
    assert config["data"]["rows"] == 40
    environment = json.loads((small.run / "environment.json").read_text())
    assert environment["seed"] == config["seed"]
    assert environment["packages"]["torch"] == torch.__version__


def test_the_outcome_tells_the_objective(small) -> None:
    outcome = json.loads((small.run / "outcome.json").read_text())
    assert outcome["status"] == "ok"
    assert outcome["objective"] == small.metrics["metrics"]["val/full_price/mape"]


def test_a_bare_base_can_be_scored(program) -> None:
    scored = program("eval.py", "model=tiny", "data.rows=40", "max_new_tokens=8")
    assert scored.status == 0, scored.err[-3000:]
    assert "Base model" in scored.out
    assert "base" not in scored.metrics["systems"]


def test_predict_repeats_the_predictions_of_the_test_split(small, capsys) -> None:
    rows = [json.loads(line) for line in (small.run / "predictions.jsonl").read_text().splitlines()]
    pictures = [picture for row in rows for picture in row["picture"]]
    assert main(["predict", str(small.run), *pictures, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for name in ("prediction", "parsed"):
        assert [row[name] for row in found] == [row[name] for row in rows]
    assert [row["picture"] for row in found] == pictures
    assert any(row["prediction"] for row in rows)


def test_a_small_run_is_exported_with_its_figures(small, tmp_path, capsys) -> None:
    assert main(["export", str(small.run), "--merge", str(tmp_path / "model")]) == 0
    assert "merged against adapter, float32" in capsys.readouterr().out
    card = (tmp_path / "model" / "README.md").read_text()
    systems = "Before training | Fine-tuned | blank picture | shuffled picture |"
    assert systems in card
    assert f"Answers to {small.metrics['rows']['test']} examples of the test split" in card
    Checkpoint(str(tmp_path / "model")).load()
