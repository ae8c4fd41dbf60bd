"""What a run refuses before it loads a model."""

import pytest
from omegaconf import OmegaConf

from phi3v.adapter import FullFineTuning, LoraAdapter, NoAdapter
from phi3v.errors import UserError
from phi3v.run.checks import check_lora_plus


@pytest.mark.parametrize("adapter", [FullFineTuning(), NoAdapter()], ids=["full", "none"])
def test_lora_plus_without_lora_is_refused(adapter):
    check_lora_plus(OmegaConf.create({"optimizer": {"lora_plus_ratio": 1}}), adapter)
    with pytest.raises(UserError, match=r"lora_plus_ratio=16: there is no LoRA"):
        check_lora_plus(OmegaConf.create({"optimizer": {"lora_plus_ratio": 16}}), adapter)


def test_lora_plus_with_lora_is_let_through():
    check_lora_plus(
        OmegaConf.create({"optimizer": {"lora_plus_ratio": 16}}), LoraAdapter(r=2, alpha=4)
    )
