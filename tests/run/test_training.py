"""What a training begins with, and what it needs when it goes on."""

import pytest
from omegaconf import OmegaConf

from phi3v.errors import UserError
from phi3v.run.assembly import adapter_of


def test_a_resumed_training_does_without_the_folder_that_it_began_with(tmp_path):
    node = {"_target_": "phi3v.adapter.LoraAdapter", "r": 2, "alpha": 4}
    cfg = OmegaConf.create({"adapter": {**node, "init_from": str(tmp_path / "gone")}})
    with pytest.raises(UserError, match=r"adapter\.init_from=.*gone"):
        adapter_of(cfg, starts=True)
    assert adapter_of(cfg, starts=False) == adapter_of(OmegaConf.create({"adapter": node}), True)


def test_an_adapter_that_can_begin_nowhere_else_is_made_as_it_is():
    cfg = OmegaConf.create({"adapter": {"_target_": "phi3v.adapter.FullFineTuning"}})
    assert adapter_of(cfg, starts=False).kind == "full"
