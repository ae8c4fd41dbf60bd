"""Divides a model over the processes of a training, layer by layer (FSDP2).

shard(model, mesh["data_parallel"])

Each process keeps a slice of every weight, frozen or not. The weights of a layer come together
while it computes, and part again.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

from phi3v.errors import UserError
from phi3v.training.loss import base_of


def shard(model: nn.Module, mesh: DeviceMesh, cpu_offload: bool = False) -> None:
    """Divide a model over the processes of a mesh, in place.

    Args:
        model: Phi-3-Vision with its adapter attached, on the mesh's device or the meta device.
        mesh: One dimension of processes.
        cpu_offload: Keeps the slices in the memory of the CPU.

    Raises:
        UserError: When the embedding and the language head are one tensor, or weights are kept in
            four bits.
    """
    base = base_of(model)
    if getattr(base, "is_quantized", False):
        raise UserError("trainer=fsdp: weights in four bits cannot be divided; use trainer=ddp")
    if base.config.tie_word_embeddings:
        raise UserError("trainer=fsdp: embedding and language head are one tensor; use trainer=ddp")
    pinned = torch.cuda.is_available()  # memory that a GPU reads faster
    policy = CPUOffloadPolicy(pin_memory=pinned) if cpu_offload else OffloadPolicy()
    tower = base.model.vision_embed_tokens.img_processor.vision_model
    units = [*tower.encoder.layers, base.model.embed_tokens, *base.model.layers, base.model]
    for unit in [*units, base.lm_head]:
        # True also for the outermost: what stays together between passes has other parameters
        # than the ones that the optimizer knows.
        fully_shard(unit, mesh=mesh, reshard_after_forward=True, offload_policy=policy)
    base.model.always_looks = True  # a layer comes together only where all of them go through it


def is_sharded(model: nn.Module) -> bool:
    """Whether a model is divided already."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def bring_buffers(model: nn.Module, device: torch.device) -> None:
    """Bring to a device what is no weight: of an offloaded model only weights come by themselves.

    Args:
        model: Divided, its slices in the memory of the CPU.
        device: Where it computes.
    """
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
