"""The functions that configuration files may call: first, accumulation, repository.

    name: ${first:${hydra:runtime.choices.experiment},default}

Few on purpose, and none that evaluates code. `register()` may be called any number of times.
"""

from pathlib import Path

from omegaconf import OmegaConf

import phi3v
from phi3v.errors import UserError


def register() -> None:
    """Make the resolvers known to OmegaConf."""
    for name, function in (
        ("first", first),
        ("accumulation", accumulation),
        ("repository", repository),
    ):
        OmegaConf.register_new_resolver(name, function, replace=True)


def first(*values: object) -> object:
    """The first value that is not null; null when there is none."""
    return next((value for value in values if value is not None), None)


def accumulation(total: int, at_once: int, devices: object, nodes: int) -> int:
    """Micro-batches that make up one step of the optimizer.

    Args:
        total: Examples per step over all devices.
        at_once: Examples that one device takes at once.
        devices: Number of devices of one node, or a list of them.
        nodes: Number of nodes.

    Raises:
        UserError: When the numbers do not go into each other, or the devices are not a number.
    """
    per_node = len(devices) if isinstance(devices, list) else devices
    if not isinstance(per_node, int) or per_node < 1:
        raise UserError(
            f"trainer.devices={devices}: give a number of devices, since the batch of the "
            "optimizer is divided over them"
        )
    together = at_once * per_node * nodes
    if together < 1 or total % together:
        raise UserError(
            f"batch_size={total} cannot be made of steps of {together} examples "
            f"(data.batch_size={at_once} x {per_node} devices x {nodes} nodes); "
            "choose numbers that divide it"
        )
    return total // together


def repository() -> str:
    """The folder that holds train.py, conf/ and assets/."""
    return str(Path(phi3v.__file__).resolve().parents[2])
