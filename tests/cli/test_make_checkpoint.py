"""`phi3v make-checkpoint`: a folder that is whole or not there."""

import pytest
from full_disk import small_files
from made_run import TINY

from phi3v.model import Checkpoint


def test_what_it_makes_is_a_checkpoint(phi3v, tmp_path):
    words = ("--like", TINY, "--max-shard-size", "2MB", "--dtype", "float32", "--seed", "3")
    ended = phi3v("make-checkpoint", *words, tmp_path / "made")
    assert ended.status == 0, ended.err
    *files, told, where = ended.out.splitlines()
    assert where == str(tmp_path / "made")
    loaded = Checkpoint(where).load()
    count = sum(value.numel() for value in loaded.model.parameters())
    assert told.startswith(f"{count:,} parameters")
    assert len(files) == len(list((tmp_path / "made").glob("*.safetensors"))) > 1


def test_what_is_interrupted_leaves_nothing(phi3v, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("phi3v.model.stand_in.save_file", interrupted)
    assert phi3v("make-checkpoint", "--like", TINY, tmp_path / "made").status == 130
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_in_the_middle_is_one_line(phi3v, tmp_path):
    with small_files():
        ended = phi3v("make-checkpoint", "--like", TINY, tmp_path / "made")
    assert ended.status == 2
    assert ended.err == f"error: {tmp_path / 'made'}: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "its config.json describes no Phi-3-Vision ("),
        ('{"model_type": "llama"}', "its config.json is of model type llama, not phi3_v"),
        ("{}", "its config.json is of model type None, not phi3_v"),
        ("[]", "its config.json describes no Phi-3-Vision ("),
        ('{"model_type": "phi3_v", "hidden_size": "x"}', "describes no Phi-3-Vision ("),
    ],
)
def test_a_model_that_is_none_is_one_line(phi3v, tmp_path, content, told):
    like, out = tmp_path / "like", tmp_path / "out"
    like.mkdir()
    (like / "config.json").write_text(content)
    ended = phi3v("make-checkpoint", "--like", like, out)
    assert ended.status == 2, ended.out
    assert ended.err.startswith(f"error: --like {like}: its config.json ")
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert str(out) not in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["like"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--like", "phi4", "new"], "--like phi4: neither phi3_vision nor phi35_vision nor"),
        (["--like", "phi3_vision", "--max-shard-size", "1", "new"], "give a size such as 500MB"),
        (["--like", "phi3_vision", "there"], "there is a folder that is not empty already"),
        (["new"], "--like"),
    ],
)
def test_what_cannot_be_is_one_line(phi3v, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    ended = phi3v("make-checkpoint", *words)
    assert ended.status == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
