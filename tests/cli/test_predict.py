"""`phi3v predict` says what the run's model says, whatever else stands in the list."""

import io
import json
import os
import shutil
import sys

import pytest
import torch
import yaml
from made_run import TINY, loaded_run, make_run, told_by

from phi3v.cli.progress import Progress
from phi3v.run.recorded import read_run


@pytest.mark.parametrize("at_a_time", [2, 3])
def test_answers_are_those_of_the_run_in_the_order_of_the_pictures(
    phi3v, lora_run, pictures, at_a_time
):
    model, processor = loaded_run(lora_run)
    task = read_run(lora_run).task
    ended = phi3v(
        "predict", lora_run, *pictures, "--json", "--batch-size", at_a_time, "--max-new-tokens", 24
    )
    assert ended.status == 0, ended.err
    assert [row["picture"] for row in ended.rows] == [str(picture) for picture in pictures]
    wanted = [told_by(model, processor, task, picture) for picture in pictures]
    assert [row["prediction"] for row in ended.rows] == wanted
    assert len(set(wanted)) == len(wanted)  # or any order would do
    assert [row["parsed"] for row in ended.rows] == [task.parse(text) for text in wanted]
    assert ended.err == ""


def test_a_run_that_trained_whole_weights_answers_too(phi3v, pictures, tmp_path):
    run = make_run(tmp_path / "run", "adapter=full", "batch_size=8")
    model, processor = loaded_run(run)
    wanted = told_by(model, processor, read_run(run).task, pictures[0])
    ended = phi3v("predict", run, pictures[0], "--json", "--max-new-tokens", 24)
    assert ended.rows[0]["prediction"] == wanted


def test_a_model_that_is_too_large_for_the_gpu_is_one_line(phi3v, lora_run, pictures, monkeypatch):
    def loaded(*words, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB.")

    monkeypatch.setattr("phi3v.run.trained.load_trained", loaded)
    ended = phi3v("predict", lora_run, pictures[0])
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("error: the GPU has too little memory free for the model")
    assert ended.err.count("\n") == 1


def test_a_broken_picture_is_told_and_the_others_are_answered(phi3v, lora_run, pictures, tmp_path):
    torn, text, gone = tmp_path / "torn.png", tmp_path / "notes.txt", tmp_path / "gone.png"
    torn.write_bytes(pictures[0].read_bytes()[:60])
    text.write_text("no picture")
    words = [torn, pictures[0], text, gone, pictures[1]]
    alone = phi3v("predict", lora_run, *pictures[:2], "--json", "--max-new-tokens", 24)
    ended = phi3v("predict", lora_run, *words, "--json", "--max-new-tokens", 24)
    assert ended.status == 1
    assert [row["picture"] for row in ended.rows] == [str(word) for word in words]
    assert [ended.rows[1], ended.rows[4]] == alone.rows
    errors = {row["picture"]: row["error"] for row in ended.rows if "error" in row}
    assert errors[str(text)] == "picture cannot be read (not a picture)"
    assert errors[str(gone)] == "picture not found"
    assert "cannot be read" in errors[str(torn)]
    assert "3 of 5 pictures could not be used" in ended.err


def test_as_text_a_broken_picture_is_an_error_on_the_other_stream(phi3v, lora_run, pictures):
    ended = phi3v("predict", lora_run, "gone.png", pictures[0], "--max-new-tokens", 24)
    assert ended.status == 1
    assert ended.err.startswith("error: gone.png: picture not found\n")
    assert "gone" not in ended.out


def test_without_one_picture_that_can_be_read_no_model_is_loaded(phi3v, lora_run, monkeypatch):
    def loaded(*words, **settings):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("phi3v.run.trained.load_trained", loaded)
    ended = phi3v("predict", lora_run, "gone.png")
    assert (ended.status, ended.out) == (1, "")


def test_a_field_that_the_answer_lacks_is_told(phi3v, lora_run, pictures):
    ended = phi3v("predict", lora_run, pictures[0], "--max-new-tokens", 2)
    assert ended.out.count("(not in the answer)") == 3
    assert phi3v(
        "predict", lora_run, pictures[0], "--max-new-tokens", 2, "--json"
    ).rows[0]["parsed"] == {"title": None, "category3_code": None, "full_price": None}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN"], "no pictures"),
        (["RUN", "a.png", "--question", "x"], "a run has its own"),
        (["RUN", "a.png", "b.png", "c.png", "--together", "2"], "--together 2: of 3 pictures the"),
        (["RUN", "a.png", "--together", "0"], "'0' is not a whole number of at least 1"),
        (["RUN", "a.png", "--task", "product"], "a run has its own"),
        (["--model", "TINY", "a.png"], "either --question or --task"),
        (["--model", "TINY", "a.png", "--question", " "], "it is empty"),
        (["--model", "TINY", "a.png", "--task", "prodct"], "did you mean 'product'"),
        (["--model", "TINY", "a.png", "--task", "none.yaml"], "there is no such file"),
        (["--model", "nowhere", "a.png", "--question", "x"], "no config.json in it"),
        (["TINY", "a.png"], "predict --model"),
        (["nowhere", "a.png"], "there is no config.yaml in it"),
        ([], "name a run's directory"),
    ],
)
def test_what_does_not_fit_together_is_one_line(phi3v, lora_run, words, told):
    places = {"RUN": lora_run, "TINY": TINY}
    ended = phi3v("predict", *(places.get(word, word) for word in words))
    assert ended.status == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == ""


def test_a_run_of_somebody_else_passes_the_gate(phi3v, tmp_path, pictures):
    run = make_run(tmp_path / "run", "adapter.r=1")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["_target_"] = "os.system"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    ended = phi3v("predict", run, pictures[0])
    assert ended.status == 2
    assert "os.system" in ended.err


def test_a_run_that_did_not_finish_says_how_it_goes_on(phi3v, tmp_path, pictures):
    run = make_run(tmp_path / "run", "adapter.r=1")
    (run / "adapter" / "adapter_config.json").unlink()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    for command in (("predict", run, pictures[0]), ("export", run, "--merge", tmp_path / "out")):
        ended = phi3v(*command)
        assert ended.status == 2
        assert f"python train.py run={run}" in ended.err


def test_a_moved_run_is_found_with_this_machines_base(phi3v, tmp_path, pictures):
    run = make_run(tmp_path / "run", "adapter.r=1")
    text = (run / "config.yaml").read_text().replace(str(TINY.parents[1]), "/somewhere/else")
    (run / "config.yaml").write_text(text)
    ended = phi3v("predict", run, pictures[0], "--max-new-tokens", 2, "--json")
    assert ended.status == 0, ended.err


def test_a_run_with_flash_attention_answers_on_a_cpu_too(phi3v, lora_run, pictures, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run)
    text = (run / "config.yaml").read_text()
    text = text.replace("attn_implementation: sdpa", "attn_implementation: flash_attention_2")
    (run / "config.yaml").write_text(text)
    options = (pictures[0], "--device", "cpu", "--json", "--max-new-tokens", 8)
    ended = phi3v("predict", run, *options)
    assert "flash_attention_2 needs a GPU" in ended.err
    assert ended.rows == phi3v("predict", lora_run, *options).rows


def test_progress_is_told_of_long_lists_only():
    for total, lines in ((5, 0), (40, 39)):
        stream = io.StringIO()
        progress = Progress(total, "pictures", stream)
        for _ in range(total):
            progress._last = -1e9  # a long time ago
            progress.step()
        assert stream.getvalue().count("\n") == lines
    assert stream.getvalue().splitlines()[0].startswith("1 of 40 pictures, ")


def test_progress_goes_on_while_the_first_answers_are_waited_for(
    phi3v, lora_run, pictures, monkeypatch
):
    for pause in ("LINES", "CHANGES"):
        monkeypatch.setattr(f"phi3v.cli.progress._SECONDS_BETWEEN_{pause}", 0.0)
    many = [pictures[0].with_name(f"{number:02}.png") for number in range(19)]
    for file in many:
        file.write_bytes(pictures[0].read_bytes())
    monkeypatch.setattr("sys.stderr", sys.stdout)  # in the order in which both are written
    words = ("predict", lora_run, "gone.png", *many, "--batch-size", 2, "--max-new-tokens", 1)
    lines = phi3v(*words, "--json").out.splitlines()
    steps = [line for line in lines if " of 20 pictures, " in line]
    assert [int(line.split()[0]) for line in steps] == [1, 3, 5, 7, 9, 11, 13, 15, 16, 18]
    assert next(place for place, line in enumerate(lines) if line.startswith("{")) == 9


def test_what_can_be_no_file_is_a_row_and_the_others_are_answered(phi3v, lora_run, pictures):
    address, long = "https://shop.example/a.jpg?width=9", "a" * 5000
    words = ("predict", lora_run, address, pictures[0], long, "--max-new-tokens", 2)
    ended = phi3v(*words, "--json")
    assert ended.status == 1
    first, second, third = ended.rows
    assert first == {"picture": address, "error": "a web address: download it first"}
    assert second["picture"] == str(pictures[0])
    assert third == {"picture": long, "error": "picture cannot be read (File name too long)"}
    assert phi3v(*words).err.startswith(f"error: {address}: a web address: download it first\n")


def test_a_run_that_can_be_no_folder_is_one_line(phi3v):
    ended = phi3v("predict", "a" * 5000, "b.png")
    assert (ended.status, ended.out) == (2, "")
    assert "File name too long" in ended.err
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 400


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_no_text_can_be_printed(
    phi3v, lora_run, pictures, tmp_path, monkeypatch, encoding
):
    named = tmp_path / os.fsdecode(b"caf\xe9 \xc3\xa4.png")
    named.write_bytes(pictures[0].read_bytes())
    output = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", output)
    words = ("predict", lora_run, named, pictures[1], "--max-new-tokens", 2)
    for more in ((), ("--json",)):
        assert phi3v(*words, *more).status == 0
    output.flush()
    text = output.buffer.getvalue().decode(encoding)
    assert "caf\\udce9 " in text
    rows = [json.loads(line) for line in text.splitlines()[-2:]]
    assert [row["picture"] for row in rows] == [str(named), str(pictures[1])]


def test_json_lines_keep_letters_as_they_are(phi3v, lora_run, pictures, tmp_path):
    named = tmp_path / "Käse 茶.png"
    named.write_bytes(pictures[0].read_bytes())
    ended = phi3v("predict", lora_run, named, "--json", "--max-new-tokens", 2)
    assert "Käse 茶.png" in ended.out
    assert json.loads(ended.out)["picture"] == str(named)
