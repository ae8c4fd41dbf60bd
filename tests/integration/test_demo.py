"""The README's first command does what the README promises.

It takes two minutes and is not marked slow: whoever runs the quick tests has to know that it holds.
"""

import csv
import json

import pytest

from phi3v.cli import main

FILES = {
    "config.yaml", "environment.json", "splits.json", "metrics.csv", "metrics.json",
    "predictions.jsonl", "report.html", "checkpoints", "adapter", "train.log", "outcome.json",
}  # fmt: skip

# Measured with two threads: 1.15 with this seed, 1.12 and 1.20 with two others.
LIMIT = 1.25


def test_it_leaves_the_whole_run_directory(demo) -> None:
    assert {path.name for path in demo.run.iterdir()} >= FILES
    kept = {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert {p.name for p in (demo.run / "checkpoints").iterdir()} == kept
    assert {p.name for p in (demo.run / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_nearly_every_answer_can_be_read(demo) -> None:
    assert demo.metrics["metrics"]["test/parse_rate"] >= 0.99


def test_nearly_every_category_is_right(demo) -> None:
    assert demo.metrics["metrics"]["test/category3_code/accuracy"] >= 0.97


def test_prices_come_near_the_best_possible_error(demo) -> None:
    systems = demo.metrics["systems"]
    optimum, own = (systems[name]["full_price/mape"] for name in ("optimum", "fine_tuned"))
    assert own <= LIMIT * optimum
    assert own <= 0.5 * systems["constant"]["full_price/mape"]


def test_the_base_before_training_parses_nothing(demo) -> None:
    assert demo.metrics["systems"]["base"]["parse_rate"] == 0


@pytest.mark.parametrize("control", ["blank", "shuffled"])
def test_without_the_right_picture_it_is_no_better_than_a_constant(demo, control: str) -> None:
    systems = demo.metrics["systems"]
    baseline, blind = systems["baseline"], systems[control]
    assert blind["category3_code/accuracy"] <= baseline["category3_code/accuracy"] + 0.05
    assert blind["full_price/mape"] > systems["fine_tuned"]["full_price/mape"]
    # No answer that does not look beats the constant that is best for this metric.
    assert blind["full_price/mape"] >= 0.95 * systems["constant"]["full_price/mape"]
    assert demo.metrics["looks"] is True


def test_every_row_of_the_test_split_is_counted_once(demo) -> None:
    lines = (demo.run / "predictions.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert sorted(ids) == sorted(json.loads((demo.run / "splits.json").read_text())["test"])
    assert demo.metrics["rows"]["test"] == len(ids)
    assert sum(demo.metrics["rows"].values()) == 3040


def test_no_title_stands_on_both_sides_of_a_split(demo, cache) -> None:
    (table,) = cache.glob("catalogue-*-rows3040-*/catalogue.csv")
    with table.open(newline="") as file:
        titles = {row["product_code"]: row["title"] for row in csv.DictReader(file)}
    splits = json.loads((demo.run / "splits.json").read_text())
    sides = [{titles[i] for i in ids} for ids in splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_eval_repeats_the_test_figures_exactly(demo, program) -> None:
    again = program("eval.py", f"run={demo.run}")
    assert again.status == 0, again.err[-3000:]
    assert again.metrics["test"] == demo.metrics["test"]
    assert again.metrics["systems"] == demo.metrics["systems"]
    assert "the run's test figures, exactly" in again.out
    assert again.run.parent == demo.run / "eval"


def test_predict_repeats_its_answers_field_by_field(demo, capsys) -> None:
    lines = (demo.run / "predictions.jsonl").read_text().splitlines()[:40]
    rows = [json.loads(line) for line in lines]
    pictures = [row["picture"][0] for row in rows]
    words = ["predict", str(demo.run), *pictures, "--json", "--batch-size", "16"]
    assert main(words) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prediction"] for row in found] == [row["prediction"] for row in rows]
    assert [row["parsed"] for row in found] == [row["parsed"] for row in rows]
    assert all(row["parsed"]["full_price"] for row in rows)


def test_the_terminal_ends_with_table_places_and_directory(demo) -> None:
    for word in ("Before training", "Fine-tuned", "blank picture", "report.html", "eval.py run="):
        assert word in demo.out
    assert "Traceback" not in demo.err
    # Wide tables break on a terminal of 80 columns; paths are left whole.
    assert all(len(line) <= 80 for line in demo.out.splitlines() if line.startswith(("│", "┃")))
