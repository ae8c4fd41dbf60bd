"""What a training begins with, and what it needs when it goes on."""

from types import SimpleNamespace

import pytest
from full_disk import small_files
from made_run import TINY
from omegaconf import OmegaConf

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.errors import UserError
from phi3v.model import Checkpoint
from phi3v.run.assembly import adapter_of
from phi3v.run.directory import RunDirectory
from phi3v.run.training import keep_model


def test_a_resumed_training_does_without_the_folder_that_it_began_with(tmp_path):
    node = {"_target_": "phi3v.adapter.LoraAdapter", "r": 2, "alpha": 4}
    cfg = OmegaConf.create({"adapter": {**node, "init_from": str(tmp_path / "gone")}})
    with pytest.raises(UserError, match=r"adapter\.init_from=.*gone"):
        adapter_of(cfg, starts=True)
    assert adapter_of(cfg, starts=False) == adapter_of(OmegaConf.create({"adapter": node}), True)


def test_an_adapter_that_can_begin_nowhere_else_is_made_as_it_is():
    cfg = OmegaConf.create({"adapter": {"_target_": "phi3v.adapter.FullFineTuning"}})
    assert adapter_of(cfg, starts=False).kind == "full"


@pytest.mark.parametrize(
    ("adapter", "place"), [(LoraAdapter(r=2, alpha=4), "adapter"), (FullFineTuning(), "model")]
)
def test_a_disk_that_is_full_when_the_training_is_over_is_one_line(tmp_path, adapter, place):
    loaded = Checkpoint(str(TINY)).load()
    model = adapter.attach(loaded.model)
    pieces = SimpleNamespace(loaded=loaded)
    run = RunDirectory(tmp_path)
    with small_files(20_000), pytest.raises(UserError) as caught:
        keep_model(adapter, model, pieces, run, writes=True)
    assert str(caught.value).startswith(f"{tmp_path / place}: it cannot be written, ")
    assert "(File too large): make space; a training goes on with resume=true" in str(caught.value)
    assert keep_model(adapter, model, pieces, run, writes=True) == tmp_path / place
