"""How fast a training is and what holds it up, as metrics by step.

speed/examples_per_s, speed/tokens_per_s    over all devices, padding not counted
speed/tflops                                operations of the model, by second and device
speed/mfu                                   the same as a share of what the device can do
speed/data_wait                             share of the time that was spent waiting for data
memory/peak_gib                             of this device; of this process on a CPU
"""

import resource
import sys
import time
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer

from phi3v.errors import UserError
from phi3v.training.module import FineTuning
from phi3v.training.step_sums import TERA, StepTotal

GIB = 2**30
H200_BF16 = 989e12  # NVIDIA, H200 data sheet: 1,979 TFLOP/s with sparsity, half of it without


class Throughput(Callback):
    """Measures from step to step, validations and checkpoints left out.

    Args:
        seconds: Over so much time at least, for single short steps tell little; the first step is
            measured alone, and steps in between repeat the latest figures.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        if seconds < 0:
            raise UserError(f"callbacks.throughput.seconds={seconds}: at least 0")
        self.seconds = seconds
        self._step = 0
        self._first = True
        self._done = StepTotal()
        self._since = 0.0
        self._waited = 0.0
        self._peak: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
        dtype = torch.float16 if str(trainer.precision).startswith("16") else dtype
        self._peak = peak_flops(pl_module.device, dtype)
        self._step, self._first = trainer.global_step, True
        self._start(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock anew."""
        self._start(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Start the clock anew: saving is no part of a step, though the write itself is left in."""
        self._start(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the steps since the last time, when it is time."""
        if trainer.global_step == self._step:
            return
        assert isinstance(pl_module, FineTuning)
        self._step = trainer.global_step
        self._done += pl_module.last_step
        seconds = max(time.perf_counter() - self._since, 1e-9)
        if seconds < self.seconds and not self._first:
            return
        self._first = False
        tflops = self._done.tflop / seconds / trainer.world_size
        speed = {
            "speed/examples_per_s": self._done.examples / seconds,
            "speed/tokens_per_s": self._done.tokens / seconds,
            "speed/tflops": tflops,
            "speed/data_wait": min(1.0, (_waited(trainer) - self._waited) / seconds),
            "memory/peak_gib": peak_memory(pl_module.device) / GIB,
        }
        if self._peak:
            speed["speed/mfu"] = tflops * TERA / self._peak
        pl_module.log_dict(speed)
        self._start(trainer)

    def _start(self, trainer: Trainer) -> None:
        self._done = StepTotal()
        self._since, self._waited = time.perf_counter(), _waited(trainer)


def _waited(trainer: Trainer) -> float:
    """Seconds that this rank's training loader has let wait so far; 0 of a loader of others."""
    return float(getattr(trainer.train_dataloader, "waited", 0.0))


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Operations a second that the device can do at best, dense; None for what is not known.

    Lightning knows NVIDIA's cards, but looks for an H200 under a name that its driver does not say.
    """
    if device.type != "cuda":
        return None
    if dtype == torch.bfloat16 and torch.cuda.get_device_name(device) == "NVIDIA H200":
        return H200_BF16
    return get_available_flops(device, dtype)


def peak_memory(device: torch.device) -> int:
    """Bytes that were in use at most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # which counts in KiB elsewhere
