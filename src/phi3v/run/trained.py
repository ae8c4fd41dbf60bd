"""The model that a run left behind, without the data that it was trained on.

trained = load_trained(read_run("runs/lora_r16/..."))
trained.model, trained.loaded.processor
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from phi3v.config import instantiate_source
from phi3v.data import Source
from phi3v.errors import UserError
from phi3v.model import Loaded
from phi3v.model.quantization import dequantised
from phi3v.run.assembly import load_base, restore, texts_of, trained_whole
from phi3v.run.numerics import repeatable
from phi3v.run.recorded import Recorded


@dataclass(frozen=True)
class Trained:
    """What a run left behind.

    Attributes:
        loaded: The base, into which an adapter has been put, and its processor.
        model: The base with the run's adapter, or the run's own model.
    """

    loaded: Loaded
    model: nn.Module


def load_trained(
    recorded: Recorded, settings: Mapping[str, Any] | None = None, whole: bool = False
) -> Trained:
    """Build a run's model as its evaluation does.

    Args:
        recorded: The run.
        settings: Values for the group `model` in the place of the run's own.
        whole: Takes a base in four bits as the numbers that those stand for.

    Raises:
        UserError: When the base or what was trained cannot be loaded.
    """
    # As an evaluation does: some adapters start from a random decomposition of the base.
    repeatable(recorded.config["seed"])
    loaded = base_of_run(recorded, settings)
    if whole:
        loaded = dequantised(loaded)
    return Trained(loaded, restore(recorded.directory, loaded))


def base_of_run(recorded: Recorded, settings: Mapping[str, Any] | None = None) -> Loaded:
    """Load what a run's adapter belongs on; of a run that trained whole weights, its own model."""
    config = recorded.config
    node = {**config["model"], **(settings or {})}
    if recorded.trained_whole:
        return trained_whole(node, recorded.directory)

    def texts() -> Iterator[str]:  # asked for by models that start from nothing alone
        source = cast(Source, instantiate_source(config["data"]))
        return texts_of(source, recorded.task)

    return load_base(node, texts)


def device_named(name: str | None) -> torch.device:
    """The device of that name; without one, the GPU where there is one.

    Raises:
        UserError: When there is no GPU and one is asked for.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("--device cuda: torch finds no GPU here; --device cpu runs on any machine")
    return torch.device(name or ("cuda" if there else "cpu"))
