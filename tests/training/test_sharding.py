"""What is divided, and what comes to the device of an offloaded model."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from left_behind import moved
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule
from torch.distributed.tensor import DTensor

from phi3v.adapter import LoraAdapter, load_adapter, save_adapter
from phi3v.errors import UserError
from phi3v.model import Checkpoint
from phi3v.model.divided import whole
from phi3v.model.finite import check_finite
from phi3v.training.sharding import bring_buffers, is_sharded, shard

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


@pytest.fixture
def mesh():
    """Of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_every_layer_comes_together_by_itself_and_parts_again(mesh):
    model = LoraAdapter(r=2, alpha=4).attach(Checkpoint(TINY).load().model)
    count = sum(weight.numel() for weight in model.parameters())
    assert not is_sharded(model)
    shard(model, mesh)
    assert is_sharded(model)
    units = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules() if isinstance(module, FSDPModule)
    }  # fmt: skip
    base = model.get_base_model()
    tower = "model.vision_embed_tokens.img_processor.vision_model.encoder.layers"
    layers = [f"model.layers.{number}" for number in range(len(base.model.layers))]
    layers += [f"{tower}.{n}" for n in range(base.config.vision_config.num_hidden_layers)]
    assert units.keys() == {*layers, "model", "model.embed_tokens", "lm_head"}
    for module in units.values():
        group = module._get_fsdp_state()._fsdp_param_group
        assert group.post_forward_mesh_info is not None  # it parts after the forward pass
        assert not isinstance(group.offload_policy, CPUOffloadPolicy)
    assert base.model.always_looks
    assert all(isinstance(weight, DTensor) for weight in model.parameters())
    assert sum(weight.numel() for weight in model.parameters()) == count


def test_offloaded_slices_are_offloaded_in_every_layer(mesh):
    model = Checkpoint(TINY).load().model
    shard(model, mesh, cpu_offload=True)
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    policies = [module._get_fsdp_state()._fsdp_param_group.offload_policy for module in units]
    assert policies
    assert all(isinstance(policy, CPUOffloadPolicy) for policy in policies)


def test_what_an_adapter_replaces_of_weights_that_are_read_later_stays(mesh, tmp_path):
    words = {"scope": ["decoder", "vision"], "whole": ["projector"], "bias": "lora_only"}
    model = moved(LoraAdapter(r=2, alpha=4, **words).attach(Checkpoint(TINY).load().model))
    save_adapter(model, tmp_path)
    loaded = Checkpoint(TINY).load(hollow=True)
    again = load_adapter(loaded.model, tmp_path)
    loaded.weights.vacate(again)
    shard(again, mesh)
    loaded.weights.read_into(again, torch.device("cpu"))
    own = dict(model.named_parameters())
    assert all(isinstance(weight, DTensor) for weight in again.parameters())
    different = [n for n, w in again.named_parameters() if not torch.equal(whole(w), own[n])]
    assert different == []


def test_a_slice_that_is_no_number_is_named(mesh):
    model = Checkpoint(TINY).load().model
    model.lm_head.weight.data[0, 0] = torch.nan
    shard(model, mesh)
    with pytest.raises(
        UserError, match=r"^here: lm_head\.weight holds numbers that are not finite"
    ):
        check_finite("here", model.named_parameters())
    model.lm_head.weight.data.to_local()[0, 0] = 0
    check_finite("here", model.named_parameters())


def test_an_embedding_that_is_the_head_too_is_not_divided():
    model = Checkpoint(TINY).load().model
    model.config.tie_word_embeddings = True
    with pytest.raises(UserError, match="are one tensor; use trainer=ddp"):
        shard(model, mesh=None)


def test_weights_in_four_bits_are_not_divided():
    model = Checkpoint(TINY, quantization="nf4").load().model
    with pytest.raises(UserError, match="four bits cannot be divided; use trainer=ddp"):
        shard(model, mesh=None)
