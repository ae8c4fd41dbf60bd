"""A run's configuration: written for others, read back for eval.py."""

import shutil
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from phi3v.config import instantiate, load_config, public_config, save_config
from phi3v.config.secrets import HIDDEN
from phi3v.errors import UserError

from .conftest import ROOT, messages


def test_what_was_saved_is_read_back_and_builds_the_same_objects(composed, tmp_path: Path) -> None:
    cfg = composed("experiment=lora_r8", "optimizer.lr=0.25", "data.rows=64")
    save_config(cfg, tmp_path)
    loaded = load_config(tmp_path)
    assert loaded == public_config(cfg)
    assert "${" not in (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert instantiate(loaded["adapter"]) == instantiate(cfg.adapter)
    assert instantiate(loaded["optimizer"]) == instantiate(cfg.optimizer)
    assert loaded["optimizer"]["parts"]["vision"]["lr"] == 0.25


def test_the_file_is_whole_at_every_moment(composed, tmp_path: Path) -> None:
    file = save_config(composed("seed=1"), tmp_path)
    with file.open(encoding="utf-8") as before:
        save_config(composed("seed=2"), tmp_path)
        assert yaml.safe_load(before)["seed"] == 1
    assert load_config(tmp_path)["seed"] == 2


def test_secrets_are_hidden_and_ordinary_words_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abc123")
    monkeypatch.setenv("PLACE", "here")
    cfg = OmegaConf.create(
        {
            "api_key": "abc123",
            "nested": [{"hub_token": "abc123", "db_password": "abc123"}],
            "notes": "${oc.env:WANDB_API_KEY}",
            "where": "${oc.env:PLACE}",
            "max_new_tokens": 96,
            "tokenizer": "small",
            "empty_token": None,
        }
    )
    public = public_config(cfg)
    assert "abc123" not in str(public)
    assert public["nested"] == [{"hub_token": HIDDEN, "db_password": HIDDEN}]
    assert (public["where"], public["max_new_tokens"]) == ("here", 96)
    assert (public["tokenizer"], public["empty_token"]) == ("small", None)


def test_a_secret_is_hidden_wherever_interpolations_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3c")
    monkeypatch.setenv("OTHER_PASSWORD", "long-enough-to-be-known")
    cfg = OmegaConf.create(
        {
            "a": "${oc.env:MY_TOKEN}",
            "b": "${a}",
            "c": {"d": "${b}", "e": "${.d}", "f": "x-${..b}"},
            "whole": "${c}",
            "list": ["${c.e}", "${list.0}"],
            "fallback": "${oc.env:NOT_THERE,${oc.env:MY_TOKEN}}",
            "note": "typed by hand: long-enough-to-be-known",
            "plain": "text with s3 in it",
            "seed": "${oc.env:NOT_THERE,7}",
        }
    )
    public = public_config(cfg)
    assert "s3c" not in str(public)
    assert "long-enough" not in str(public)
    assert public["whole"] == {"d": HIDDEN, "e": HIDDEN, "f": HIDDEN}
    assert public["plain"] == "text with s3 in it"
    assert str(public["seed"]) == "7"


def test_all_below_a_telling_key_is_hidden_and_logins_are_cut_out_of_addresses() -> None:
    cfg = OmegaConf.create(
        {
            "credentials": {"user": "me", "pins": [1234, {"x": "y"}], "on": True, "none": None},
            "wandb_key": "w",
            "passphrase": "p",
            "password": 1234,
            "where": "https://user:pw@host.org/a@b, s3://bucket/key",
            "with_token": "https://ghp123@host.org",
            "columns": {"product_key": "sku", "style_keys": "style"},
        }
    )
    public = public_config(cfg)
    below = {"user": HIDDEN, "pins": [HIDDEN, {"x": HIDDEN}], "on": True, "none": None}
    assert public["credentials"] == below
    assert (public["wandb_key"], public["passphrase"], public["password"]) == (HIDDEN,) * 3
    assert public["where"] == f"https://{HIDDEN}@host.org/a@b, s3://bucket/key"
    assert public["columns"] == {"product_key": "sku", "style_keys": "style"}


def test_no_shipped_configuration_has_anything_to_hide(
    composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWD", str(ROOT))  # not a password
    for words in (["logger=wandb"], ["model=tiny_scratch"], ["data=csv", "data.path=a.csv"]):
        assert HIDDEN not in str(public_config(composed(*words)))


def test_relative_paths_of_what_exists_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("x")
    cfg = OmegaConf.create({"path": "a.csv", "model": {"path": "microsoft/Phi-3.5"}, "x": "a.csv"})
    public = public_config(cfg)
    assert public["path"] == str(tmp_path / "a.csv")
    assert public["model"]["path"] == "microsoft/Phi-3.5"
    assert public["x"] == "a.csv"


@pytest.fixture
def run(composed, tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    cfg = composed("adapter.r=3", "data=csv", "data.path=a.csv", "seed=11", "model.num_crops=2")
    cfg.paths.run = str(folder)
    save_config(cfg, folder)
    return folder


def printed(program, *words: str) -> dict:
    done = program("eval.py", *words, "--cfg", "job")
    assert done.returncode == 0, messages(done.stderr)
    return yaml.safe_load(done.stdout)


def test_eval_of_a_run_takes_the_runs_configuration(program, run: Path) -> None:
    cfg = printed(program, f"run={run}")
    assert cfg["adapter"]["r"] == 3
    assert (cfg["seed"], cfg["model"]["num_crops"], cfg["data"]["path"]) == (11, 2, "a.csv")
    assert cfg["run"] == str(run)
    assert cfg["split"] == "test"


def test_what_is_given_on_the_command_line_wins_over_the_run(program, run: Path) -> None:
    cfg = printed(program, "data.path=b.csv", f"run={run}", "trainer=gpu", "split=val")
    assert (cfg["data"]["path"], cfg["split"]) == ("b.csv", "val")
    assert cfg["trainer"]["accelerator"] == "gpu"
    cfg = printed(program, f"run={run}", "data=catalogue", "data.rows=5")
    assert cfg["data"]["rows"] == 5
    assert "path" not in cfg["data"]
    assert cfg["adapter"]["r"] == 3


def test_paths_of_the_old_place_follow_a_run_that_was_moved(program, run: Path) -> None:
    moved = run.parent / "moved"
    shutil.move(run, moved)
    text = (moved / "config.yaml").read_text(encoding="utf-8")
    assets = load_config(moved)["paths"]["assets"]
    (moved / "config.yaml").write_text(text.replace(assets, "/elsewhere/assets"))
    cfg = printed(program, f"run={moved}")
    assert cfg["model"]["path"] == "${paths.assets}/tiny"
    assert cfg["trainer"]["default_root_dir"] == "${paths.run}"


def test_a_run_of_somebody_else_passes_the_same_gate(program, run: Path) -> None:
    config = load_config(run)
    config["adapter"] = {"_target_": "os.system", "command": "touch broken"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    done = program("eval.py", f"run={run}")
    assert done.returncode == 2
    assert messages(done.stderr)[-1].startswith("error: ")
    assert "adapter._target_=os.system is not allowed" in done.stderr


def test_interpolations_in_somebody_elses_run_are_text(program, run: Path) -> None:
    config = load_config(run)
    config["task"]["question"] = "${oc.env:HOME}"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "oc.env:HOME" in printed(program, f"run={run}", "--resolve")["task"]["question"]


BROKEN = {
    b"seed: [1\nname: a": "config.yaml line 2: expected ',' or ']', but got ':'",
    b"seed: 1\nseed: 2": "config.yaml line 2: found duplicate key seed",
    b"seed: 1\nname: \xff": "config.yaml line 2: not UTF-8",
    b"": "config.yaml has no mapping 'model', so it is not the configuration of a run",
    b"- a": "config.yaml has no mapping 'model'",
    b"model: tiny": "config.yaml has no mapping 'model'",
    b"seed: ${nope": "config.yaml: seed: ",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_of_a_run_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(f"run={tmp_path}: {tmp_path}")
    assert BROKEN[content] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["model", "adapter", "task", "data", "trainer", "paths"])
def test_what_a_run_does_not_say_is_not_taken_from_elsewhere(run: Path, key: str) -> None:
    config = load_config(run)
    del config[key]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=rf"config\.yaml has no mapping '{key}'"):
        load_config(run)


def test_a_list_for_a_mapping_in_a_run_is_refused_with_the_runs_file(program, run: Path) -> None:
    config = load_config(run)
    config["task"]["fields"] = ["title"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    done = program("eval.py", f"run={run}")
    assert done.returncode == 2
    [line] = messages(done.stderr)
    assert line.startswith(f"error: {run}/config.yaml: task.fields=['title']: expected a mapping")


def test_hydras_settings_in_somebody_elses_run_are_refused(program, run: Path) -> None:
    config = load_config(run)
    config["hydra"] = {"callbacks": {"x": {"_target_": "os.system"}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    done = program("eval.py", f"run={run}")
    assert done.returncode == 2
    assert "hydra" in messages(done.stderr)[-1]


def test_a_directory_that_is_no_run_is_refused_with_the_nearest(run: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.yaml in it.*did you mean '.*first'"):
        load_config(run.parent / "frst")
