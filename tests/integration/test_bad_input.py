"""Whatever is wrong with the data is said in one line, before anything is trained."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

COLUMNS = ["product_code", "title", "category3_code", "full_price", "local_image_path"]
Rows = list[dict[str, str]]


def good_rows(folder: Path) -> Rows:
    rows = []
    for number in range(8):
        name = f"{number}.png"
        Image.new("RGB", (60, 50), (30 * number, 90, 90)).save(folder / name)
        values = [str(number), f"Thing {number}", "Things", f"{10 + number}.0", name]
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def write(rows: Rows, folder: Path, columns: list[str] = COLUMNS) -> None:
    with (folder / "things.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def no_file(rows: Rows, folder: Path) -> None:
    """The CSV is not written at all."""


def no_column(rows: Rows, folder: Path) -> None:
    write(rows, folder, [name for name in COLUMNS if name != "full_price"])


def no_rows(rows: Rows, folder: Path) -> None:
    write([], folder)


def nothing(rows: Rows, folder: Path) -> None:
    (folder / "things.csv").write_text("")


def corrupt_picture(rows: Rows, folder: Path) -> None:
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[: len(data) // 2])
    write(rows, folder)


def no_picture(rows: Rows, folder: Path) -> None:
    (folder / "3.png").unlink()
    write(rows, folder)


def no_number(rows: Rows, folder: Path) -> None:
    rows[3]["full_price"] = "on request"
    write(rows, folder)


def too_long(rows: Rows, folder: Path) -> None:
    rows[3]["title"] = "very " * 3000
    write(rows, folder)


# What is broken, and what the line must name; row 5 is what a spreadsheet shows for the fourth.
CASES = [
    (no_file, ["things.csv"]),
    (no_column, ["things.csv", "full_price"]),
    (no_rows, ["things.csv"]),
    (nothing, ["things.csv"]),
    (corrupt_picture, ["things.csv", "row 5", "3.png"]),
    (no_picture, ["things.csv", "row 5", "3.png"]),
    (no_number, ["things.csv", "row 5", "full_price", "on request"]),
    (too_long, ["things.csv", "row 5", "token"]),
]


@pytest.mark.parametrize(("spoil", "named"), CASES, ids=[case[0].__name__ for case in CASES])
def test_bad_input_is_one_line_that_names_file_and_row(
    spoil: Callable[[Rows, Path], None], named: list[str], program, tmp_path: Path
) -> None:
    spoil(good_rows(tmp_path), tmp_path)
    done = program(
        "train.py", "experiment=lora_r16", "data=csv", f"data.path={tmp_path}/things.csv"
    )
    assert done.status == 2
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in named), lines[0]


def test_bad_rows_are_left_out_and_listed_on_request(program, tmp_path: Path) -> None:
    no_number(good_rows(tmp_path), tmp_path)
    done = program(
        "train.py", "experiment=lora_r16", "data=csv", f"data.path={tmp_path}/things.csv",
        "data.on_error=skip", "debug=step", "max_new_tokens=8",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "row 5" in done.out + done.err
    assert sum(done.metrics["rows"].values()) == 7


def test_shares_that_do_not_make_up_the_step_are_refused(program) -> None:
    done = program("train.py", "experiment=lora_r16", "trainer.accumulate_grad_batches=3")
    assert done.status == 2
    assert done.err.startswith("error: trainer.accumulate_grad_batches=3: a step would have 24")
