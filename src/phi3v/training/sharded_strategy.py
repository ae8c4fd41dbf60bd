"""Lightning's strategy for a divided model, with checkpoints that hold what trains and no base.

    trainer:
      strategy: {_target_: phi3v.training.ShardedStrategy}

Checkpoints are the same files that every other strategy writes and reads.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from phi3v.adapter import load_trained_state
from phi3v.model.divided import divided_like, on_cpu
from phi3v.model.slices import WeightFiles
from phi3v.training.module import FineTuning, weights_in
from phi3v.training.sharding import bring_buffers, shard


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all processes, with checkpoints that hold what trains and nothing else.

    Args:
        cpu_offload: Keeps weights, gradients and the optimizer's state in the memory of the CPU.
    """

    def __init__(self, cpu_offload: bool = False) -> None:
        # Gradients on the CPU are put together there, weights on the GPU.
        both = cpu_offload and torch.cuda.is_available()
        super().__init__(
            save_distributed_checkpoint=False,
            process_group_backend="cpu:gloo,cuda:nccl" if both else None,
        )
        self.cpu_offload = cpu_offload

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: checkpoints hold the optimizer's state as every other strategy's do."""
        return True

    def setup_environment(self) -> None:
        """Divide over all processes: Lightning's "auto" would not divide on one node at all."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def divide(self, model: nn.Module, weights: WeightFiles | None = None) -> None:
        """Divide a model over all processes, in place, and fill it; all of them have to call this.

        Args:
            model: Phi-3-Vision with its adapter, if it has one.
            weights: What is to be read into a model that was built without any.
        """
        if weights:
            weights.vacate(model)
        shard(model, self.device_mesh["data_parallel"], self.cpu_offload)
        if weights:
            weights.read_into(model, torch.device("cpu") if self.cpu_offload else self.root_device)
        elif not self.cpu_offload:
            model.to(self.root_device)  # what stands in no layer
        if self.cpu_offload:
            bring_buffers(model, self.root_device)

    def teardown(self) -> None:
        """Let go of what a training alone needs; the model stays divided, to be scored."""
        self._reset_optimizers_and_schedulers()
        if self.lightning_module is not None:
            self.lightning_module.zero_grad()
        super().teardown()

    def model_to_device(self) -> None:
        """Leave an offloaded model where it is."""
        if not self.cpu_offload:
            super().model_to_device()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Nothing: the module adds what trains; the stock strategy would put the base together."""
        return {}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's own state, put together for the process that writes it.

        One tensor after the other, and on the CPU: all of them are larger than a share of a model.
        """
        state = optimizer.state_dict()
        tensors: dict[int, dict[str, Any]] = {}
        for number, values in state["state"].items():
            for name, value in values.items():
                together = on_cpu(value)  # all processes have to take part
                if self.is_global_zero:
                    tensors.setdefault(number, {})[name] = together
        return {**state, "state": tensors}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> Any:
        """Read the file; every process takes its slices out of it afterwards."""
        return self.checkpoint_io.load_checkpoint(
            checkpoint_path, map_location="cpu", weights_only=weights_only
        )

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take up what trains; the module has held its names and shapes to the model's."""
        assert isinstance(self.lightning_module, FineTuning)
        load_trained_state(self.lightning_module.model, weights_in(checkpoint))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up the optimizer's state."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            tensors = {
                number: _sliced(values, parameters[number])
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": tensors})


def _sliced(values: Mapping[str, Any], parameter: Tensor) -> dict[str, Any]:
    return {
        name: divided_like(parameter, value)
        if isinstance(value, Tensor) and value.shape == parameter.shape
        else value
        for name, value in values.items()
    }
