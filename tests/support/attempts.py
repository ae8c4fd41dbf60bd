"""A process as torchrun starts it, of its first attempt or a later one: it counts the others."""

import os
import time

import torch
from lightning.pytorch import Trainer
from torch import distributed

from phi3v.run.ranks import begin


def count_all(attempt: int, rank: int, port: int, seconds: float) -> None:
    """Leaves with as many as there are, and without a word to the store.

    Args:
        attempt: From 0.
        rank: Of two.
        port: Of the agent's store, on this machine.
        seconds: Comes so much later.
    """
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
        **{"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "some"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        "TORCHELASTIC_RESTART_COUNT": str(attempt),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    time.sleep(seconds)
    begin(Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False))
    total = torch.ones(1)
    distributed.all_reduce(total)
    os._exit(int(total))
