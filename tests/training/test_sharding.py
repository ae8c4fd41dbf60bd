"""What is divided, and what comes to the device of an offloaded model."""

from pathlib import Path

import pytest
import torch

from phi3v.errors import UserError
from phi3v.model import Checkpoint
from phi3v.training.sharding import bring_buffers, shard

TINY = str(Path(__file__).parents[2] / "assets" / "tiny")


def test_buffers_of_an_offloaded_model_go_where_it_computes():
    model = Checkpoint(TINY).load().model
    bring_buffers(model, torch.device("meta"))
    assert {name.rpartition(".")[2] for name, _ in model.named_buffers()} >= {
        "inv_freq",
        "position_ids",
    }
    assert {buffer.device.type for buffer in model.buffers()} == {"meta"}
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}


def test_weights_in_four_bits_are_not_divided():
    model = Checkpoint(TINY, quantization="nf4").load().model
    with pytest.raises(UserError, match="four bits cannot be divided; use trainer=ddp"):
        shard(model, mesh=None)
