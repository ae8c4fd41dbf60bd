"""Which splits an evaluation of other data takes, its page's title, and where it stands still."""

import csv
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from PIL import Image

from phi3v.config.composing import check_command_line
from phi3v.data import save_splits
from phi3v.run import evaluation
from phi3v.run.directory import RunDirectory
from phi3v.run.evaluation import page_title, splits_for

ROOT = Path(__file__).parents[2]


def shop(folder: Path, titles: list[str], factor: float = 1.0) -> Path:
    """A CSV whose products are called 1, 2, 3, ... as in any other shop."""
    folder.mkdir()
    rows = []
    for number, title in enumerate(titles, start=1):
        Image.new("RGB", (40, 40), (number, 90, 90)).save(folder / f"{number}.png")
        price = factor * (10 * number + len(title))
        rows.append([number, title, "Things", price, f"{number}.png"])
    with (folder / "shop.csv").open("w", newline="", encoding="utf-8") as file:
        head = ["product_code", "title", "category3_code", "full_price", "local_image_path"]
        csv.writer(file).writerows([head, *rows])
    return folder / "shop.csv"


def run_on(folder: Path, titles: list[str]) -> RunDirectory:
    """What a run on such a shop left, scored on its first two products."""
    run = RunDirectory(folder)
    folder.mkdir()
    names = [str(number) for number in range(1, len(titles) + 1)]
    save_splits({"train": names[2:], "val": [], "test": names[:2]}, run.splits)
    truths = [
        {"title": title, "category3_code": "Things", "full_price": 10.0 * number + len(title)}
        for number, title in enumerate(titles[:2], start=1)
    ]
    run.write_predictions({"id": name, "truth": t} for name, t in zip(names, truths, strict=False))
    return run


def splits(run: RunDirectory, path: Path) -> Path | None:
    words = ["data=csv", f"data.path={path}"]
    composed = check_command_line(ROOT / "conf", "train", words, config_name="train")
    return splits_for(OmegaConf.create(composed.plain), run, words)


def test_other_products_under_the_same_numbers_are_divided_anew(tmp_path) -> None:
    run = run_on(tmp_path / "run", ["Boots", "Rope", "Tent", "Lamp"])
    other = shop(tmp_path / "other", ["Violin", "Trombone", "Bassoon", "Oboe", "Viola"])
    rows = run.read_predictions()
    for row in rows:  # a label that all share would make them alike
        row["truth"]["category3_code"] = "Camping"
    run.write_predictions(rows)
    assert splits(run, other) is None


def test_corrected_prices_and_new_rows_leave_the_run_its_splits(tmp_path) -> None:
    titles = ["Boots", "Rope", "Tent", "Lamp"]
    run = run_on(tmp_path / "run", titles)
    assert splits(run, shop(tmp_path / "dearer", [*titles, "Map"], factor=1.2)) == run.splits


def test_without_predictions_the_names_decide(tmp_path) -> None:
    run = run_on(tmp_path / "run", ["Boots", "Rope", "Tent"])
    run.predictions.unlink()
    assert splits(run, shop(tmp_path / "other", ["Violin", "Trombone", "Oboe"])) == run.splits


def test_a_page_is_called_by_what_tells_its_subject_from_the_others_on_it() -> None:
    assert page_title("lora_r16", "Fine-tuned", "test", beside=False) == "lora_r16: test"
    assert page_title(None, "Base model", "val", beside=False) == "base: val"
    both = page_title("lora_r16", "lora_r16 2026-01-01", "test", beside=True)
    assert both == "lora_r16 2026-01-01: test"


def test_an_evaluation_that_stands_still_says_where(monkeypatch, caplog):
    def answer(*_, note, **__):
        note("in batch 2 of 3, blank pictures")
        time.sleep(1)

    monkeypatch.setattr(evaluation, "STALLED", 0.3)
    monkeypatch.setattr(evaluation, "answer", answer)
    for name in ("begin", "place", "remember_pictures", "leave"):
        monkeypatch.setattr(evaluation, name, lambda *_, **__: None)
    strategy = SimpleNamespace(root_device=torch.device("cpu"), launcher=None)
    trainer = SimpleNamespace(strategy=strategy, global_rank=3, limit_test_batches=1.0)
    loaded = SimpleNamespace(model=torch.nn.Linear(1, 1), weights=None)
    pieces = SimpleNamespace(task=None, data=None, loaded=loaded)
    cfg = OmegaConf.create({"model": {}, "split": "test", "max_new_tokens": 8})
    evaluation._answers(cfg, None, pieces, [], trainer, "Base model")
    told = "rank 3: nothing done for 0 s, in batch 2 of 3, blank pictures (answer, "
    assert told in caplog.text
