"""Where a run was left, whatever of it is broken, and what stays with a run that went on."""

from types import SimpleNamespace

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from phi3v.config import save_config
from phi3v.errors import UserError
from phi3v.run.directory import RunDirectory
from phi3v.run.recorded import check_finished
from phi3v.run.resuming import Begun, RecordSettings, take_up
from phi3v.training import LastCheckpoint

TORN = b"PK\x03\x04 and no more"
ANEW = OmegaConf.create({"resume": True, "run": None})


@pytest.mark.parametrize(
    ("when", "of"), [("on_train_batch_start", (None, None, 0)), ("on_fit_end", (None,))]
)
def test_what_a_run_went_on_with_is_in_its_configuration(tmp_path, when, of) -> None:
    save_config(OmegaConf.create({"max_new_tokens": 8}), tmp_path)
    record = RecordSettings(OmegaConf.create({"max_new_tokens": 96}), RunDirectory(tmp_path))
    told = getattr(record, when)
    for first, longest in ((False, 8), (True, 96)):
        told(SimpleNamespace(is_global_zero=first), *of)
        assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"max_new_tokens": longest}


@pytest.fixture
def left(tmp_path) -> RunDirectory:
    """A run whose last checkpoint is torn, and the one before is of its third step."""
    run = RunDirectory(tmp_path)
    run.checkpoints.mkdir()
    torch.save({"global_step": 3}, run.checkpoints / "previous.ckpt")
    (run.checkpoints / "last.ckpt").write_bytes(TORN)
    return run


def test_a_torn_checkpoint_never_takes_the_place_of_a_good_one(left) -> None:
    def fill_up(path, weights_only) -> None:
        raise UserError("cannot be written")

    good = Begun(left.checkpoints / "previous.ckpt", 3)
    assert take_up(ANEW, left) == good
    trainer = SimpleNamespace(is_global_zero=True, save_checkpoint=fill_up)
    with pytest.raises(UserError, match="cannot be written"):
        LastCheckpoint(left.checkpoints)._save_checkpoint(
            trainer, str(left.checkpoints / "last.ckpt")
        )
    assert take_up(ANEW, left) == good
    assert (left.checkpoints / "last.ckpt.broken").read_bytes() == TORN


def test_only_the_first_process_puts_aside_what_is_torn(left, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert take_up(ANEW, left).step == 3
    assert {file.name for file in left.checkpoints.iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_a_run_with_a_checkpoint_put_aside_is_told_to_go_on(left) -> None:
    take_up(ANEW, left)
    with pytest.raises(UserError, match=r"go on with it: python train\.py run="):
        check_finished(left)


@pytest.mark.parametrize("run", [None, "runs/begun"])
def test_a_training_of_which_nothing_can_be_read_is_not_begun_anew(left, run) -> None:
    (left.checkpoints / "previous.ckpt").write_bytes(TORN)
    cfg = OmegaConf.create({"resume": True, "run": run})
    for _ in range(2):
        with pytest.raises(UserError, match=r"none of the 2 checkpoints .+ resume=false") as told:
            take_up(cfg, left)
        assert "\n" not in str(told.value)


def test_a_run_without_any_checkpoint_begins_anew_unless_it_was_named(tmp_path) -> None:
    assert take_up(ANEW, RunDirectory(tmp_path)) == Begun()
    with pytest.raises(UserError, match="run=begun: there is no checkpoint to go on from"):
        take_up(OmegaConf.create({"resume": False, "run": "begun"}), RunDirectory(tmp_path))
