"""The functions that configuration files may call: names, numbers of examples, places.

    name: ${experiment:default}

Few on purpose, and none that evaluates code. `register()` may be called any number of times.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

import phi3v
from phi3v.config.launchers import launched_job, launched_processes
from phi3v.config.sweeps import job_folder
from phi3v.errors import UserError
from phi3v.task import direction


def register() -> None:
    """Make the resolvers known to OmegaConf."""
    for name, function in (
        ("experiment", experiment),
        ("first", first),
        ("fitting_rate", fitting_rate),
        ("rate_beside", rate_beside),
        ("per_device", per_device),
        ("accumulation", accumulation),
        ("repository", repository),
        ("launched_job", lambda otherwise: launched_job() or otherwise),
        ("launched_together", launched_together),
        ("is_launched", lambda: launched_job() is not None),
        ("job_folder", folder_of_job),
        ("optuna_direction", lambda objective: f"{direction(objective)}imize"),
    ):
        OmegaConf.register_new_resolver(name, function, replace=True)


def experiment(otherwise: str, *, _root_: BaseContainer) -> str:
    """The name of the chosen experiment.

    Hydra asks for it in two states: while it still composes, its own node is a part of the
    configuration, and when the program runs it is not.
    """
    inside = OmegaConf.select(_root_, "hydra.runtime.choices")
    choices = inside if inside is not None else HydraConfig.get().runtime.choices
    return str(choices.get("experiment") or otherwise)


def launched_together(otherwise: str) -> str:
    """A name that several launched processes share; a process by itself may have any."""
    return (launched_processes() > 1 and launched_job()) or otherwise


def folder_of_job(sweep: str, number: int, *, _root_: BaseContainer) -> str:
    """The name of the directory of one job of a sweep."""
    return job_folder(Path(sweep), number, list(OmegaConf.select(_root_, "hydra.overrides.task")))


def first(*values: object) -> object:
    """The first value that is not null; null when there is none."""
    return next((value for value in values if value is not None), None)


def fitting_rate(rates: Mapping[str, float], adapter: str) -> float:
    """The model's learning rate for what trains: whole weights take smaller steps than adapters.

    Args:
        rates: By kind, "lora" and "full".
        adapter: The adapter's class.
    """
    return float(rates["full" if adapter.endswith("FullFineTuning") else "lora"])


def rate_beside(part: str, lr: float, *, _root_: BaseContainer) -> float:
    """The learning rate of a part: the model's for whole weights where it trains whole.

    Args:
        part: "projector" or "vision".
        lr: The rate of everything else.
    """
    whole = OmegaConf.select(_root_, "adapter.whole")  # only a LoRA has it
    if not isinstance(whole, Sequence) or part not in whole:
        return lr
    return float(OmegaConf.select(_root_, "model.learning_rate.full"))


def per_device(total: int, most: int, devices: object, nodes: int) -> int:
    """Examples that a device takes at once, so that steps of the optimizer come out even.

    Args:
        total: Examples per step of the optimizer, over all devices.
        most: What a device can hold.
        devices: Number of devices of one node, or a list of them.
        nodes: Number of nodes.

    Returns:
        The largest number up to `most` that divides a device's share of `total`.

    Raises:
        UserError: When the total cannot be divided over the devices.
    """
    together = count_devices(devices) * _positive("trainer.num_nodes", nodes)
    if _positive("batch_size", total) % together:
        raise UserError(
            f"batch_size={total} cannot be divided over {together} devices; choose a multiple"
        )
    share = total // together
    return max(size for size in range(1, max(1, most) + 1) if share % size == 0)


def accumulation(total: int, at_once: int, devices: object, nodes: int) -> int:
    """Micro-batches that make up one step of the optimizer; the arguments as in `per_device`.

    Raises:
        UserError: When the numbers do not go into each other.
    """
    at_once = _positive("data.batch_size", at_once)
    together = at_once * count_devices(devices) * _positive("trainer.num_nodes", nodes)
    if _positive("batch_size", total) % together:
        raise UserError(
            f"batch_size={total} cannot be made of steps of {together} examples "
            f"(data.batch_size={at_once} x {count_devices(devices)} devices x {nodes} nodes); "
            "choose numbers that divide it"
        )
    return total // together


def _positive(key: str, number: int) -> int:
    if number < 1:
        raise UserError(f"{key}={number}: give a whole number of at least 1")
    return number


def count_devices(devices: object) -> int:
    """How many devices `trainer.devices` means: a number, or a list of them.

    Raises:
        UserError: When it is neither.
    """
    number = (
        len(devices) if isinstance(devices, Sequence) and not isinstance(devices, str) else devices
    )
    if not isinstance(number, int) or number < 1:
        raise UserError(
            f"trainer.devices={devices}: give a number of devices, since the batch of the "
            "optimizer is divided over them"
        )
    return number


def repository() -> str:
    """The folder that holds train.py, conf/ and assets/."""
    return str(Path(phi3v.__file__).resolve().parents[2])


# A launcher's process that only unpickles a job has to know them as well.
register()
