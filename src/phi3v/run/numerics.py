"""Makes a run repeat itself to the last bit, as far as the hardware allows."""

import lightning
import torch


def repeatable(seed: int) -> None:
    """Seeds every generator, and keeps a CPU from slowing down on numbers next to zero.

    Adam's averages of rarely used weights sink below 1e-38, where each operation takes a CPU a
    hundred times as long; such numbers count as zero here. Measured on pretrain_tiny: a step took
    2.5 times as long without.
    """
    lightning.seed_everything(seed, workers=True, verbose=False)
    torch.set_flush_denormal(True)
    # What is new in memory is written before it is read, so it need not be filled first.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
