"""An exported folder is whole, right, and nobody else's, or it is not there."""

import os
import shutil

import pytest
from full_disk import small_files
from made_run import make_run
from safetensors.torch import load_file, save_file

from phi3v.errors import UserError
from phi3v.model import Checkpoint
from phi3v.run import export as subject
from phi3v.run.assembly import trained_whole
from phi3v.run.recorded import read_run

SPOILT = "model.vision_embed_tokens.img_projection.2.weight"


def test_a_folder_with_something_in_it_is_never_written_to(phi3v, lora_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("out", "file"):
        for kind in ("--merge", "--adapter"):
            ended = phi3v("export", lora_run, kind, tmp_path / name)
            assert ended.status == 2
            assert "already" in ended.err
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["--merge", "--adapter"])
@pytest.mark.parametrize("file", ["metrics.json", "environment.json"])
def test_what_the_card_cannot_read_is_told_before_a_model_is_loaded(
    phi3v, tmp_path, monkeypatch, kind, file
):
    run = make_run(tmp_path / "run")
    (run / file).write_text('{"test": ')
    monkeypatch.setattr(subject, "load_trained", None)  # calling it would be another error
    ended = phi3v("export", run, kind, tmp_path / "out")
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert f"{file}: " in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("export", "no-run", "--merge"),
        ("export", "no-run", "--adapter"),
        ("make-checkpoint", "--like", "phi3_vision"),
    ],
)
def test_the_folder_one_is_in_is_refused_before_anything_is_read(
    phi3v, tmp_path, monkeypatch, words
):
    monkeypatch.chdir(tmp_path)
    for out in (".", tmp_path):
        ended = phi3v(*words, out)
        assert ended.status == 2
        assert ended.err.startswith(f"error: {out}: that is the folder you are in;")
        assert ended.err.count("\n") == 1
    assert tmp_path.is_dir()


def test_an_empty_folder_is_filled(phi3v, lora_run, tmp_path):
    (tmp_path / "out").mkdir()
    assert phi3v("export", lora_run, "--merge", tmp_path / "out").status == 0
    Checkpoint(str(tmp_path / "out")).load()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, os.strerror(28))])
def test_an_interrupted_export_leaves_nothing(phi3v, lora_run, tmp_path, monkeypatch, error):
    def fails(*words):
        (draft,) = tmp_path.iterdir()
        assert (draft / "model.safetensors").is_file()
        raise error

    monkeypatch.setattr(subject, "_as_written", fails)
    ended = phi3v("export", lora_run, "--merge", tmp_path / "out")
    assert ended.status == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert ended.err.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["--merge", "--adapter"])
def test_a_disk_that_is_full_in_the_middle_is_one_line_and_leaves_nothing(
    phi3v, lora_run, tmp_path, kind
):
    out = tmp_path / "out"
    with small_files(20_000):  # raised by safetensors, whose errors are none of the system's
        ended = phi3v("export", lora_run, kind, out)
    assert ended.status == 2
    assert ended.err == f"error: {out}: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_hold_the_model_is_told_before_anything_is_computed(
    phi3v, lora_run, tmp_path, monkeypatch
):
    full = shutil.disk_usage(tmp_path)._replace(free=6_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    ended = phi3v("export", lora_run, "--merge", tmp_path / "new" / "out")
    assert ended.status == 2
    assert "0.0 GB are to be written and 0.0 GB free; make space" in ended.err
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []
    words = ("--merge", tmp_path / "out", "--dtype", "bfloat16")  # half the size
    assert phi3v("export", lora_run, *words).status == 0


@pytest.mark.parametrize("option", [("--dtype", "float16"), ("--max-shard-size", "1GB")])
def test_what_an_adapter_has_no_use_for_is_refused(phi3v, lora_run, tmp_path, option):
    ended = phi3v("export", lora_run, "--adapter", tmp_path / "out", *option)
    assert ended.status == 2
    assert ended.err == f"error: {option[0]}: an adapter is written as it is; this is for --merge\n"
    assert list(tmp_path.iterdir()) == []


def test_a_merge_that_changes_logits_is_refused(phi3v, lora_run, tmp_path, monkeypatch):
    true_merge = subject.merge

    def wrong(model):
        merged = true_merge(model)
        merged.lm_head.weight.data += 1e-3
        return merged

    monkeypatch.setattr(subject, "merge", wrong)
    ended = phi3v("export", lora_run, "--merge", tmp_path / "out")
    assert ended.status == 2
    assert "merging changes logits by up to" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_files_that_give_other_logits_are_refused(phi3v, lora_run, tmp_path, monkeypatch):
    true_write = subject._write

    def wrong(model, *rest):
        model.model.norm.weight.data *= 1.01
        true_write(model, *rest)

    monkeypatch.setattr(subject, "_write", wrong)
    ended = phi3v("export", lora_run, "--merge", tmp_path / "out")
    assert ended.status == 2
    assert "the files give other logits" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers_are_refused(phi3v, lora_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run)
    file = run / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file)
    ended = phi3v("export", run, "--merge", tmp_path / "out")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def spoilt_whole(tmp_path_factory):
    """A run that trained every weight of the projector until one was no number any more."""
    run = make_run(tmp_path_factory.mktemp("runs") / "run", "adapter=full", "batch_size=8")
    file = run / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors[SPOILT][1, 2] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    return run


def test_a_whole_model_that_is_no_numbers_is_refused_by_whoever_reads_it(
    phi3v, spoilt_whole, pictures, tmp_path
):
    told = f"error: {spoilt_whole}/model: {SPOILT} holds numbers that are not finite\n"
    out = tmp_path / "out"
    for words in (("predict", spoilt_whole, pictures[0]), ("export", spoilt_whole, "--merge", out)):
        ended = phi3v(*words)
        assert (ended.status, ended.err) == (2, told), words
    assert not out.exists()


@pytest.mark.parametrize("hollow", [False, True])
def test_it_is_refused_where_it_is_evaluated_also_where_its_weights_stay_in_their_files(
    spoilt_whole, hollow
):
    recorded = read_run(spoilt_whole)
    with pytest.raises(UserError, match=f"model: {SPOILT} holds numbers that are not finite"):
        trained_whole(recorded.config["model"], recorded.directory, hollow=hollow)
