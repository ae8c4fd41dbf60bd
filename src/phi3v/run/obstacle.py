"""Whether a directory is free for a run: it may hold another one, or the beginning of this one."""

from pathlib import Path

from omegaconf import DictConfig

from phi3v.config import load_config, public_config
from phi3v.config.resuming import first_difference
from phi3v.config.saving import FILE as CONFIG

RESULTS = ("metrics.csv", "metrics.json", "checkpoints")  # what a run leaves, soonest first


def obstacle(cfg: DictConfig, folder: Path, goes_on: bool) -> str | None:
    """Why nothing may be written into a directory: another run would get mixed with this one."""
    if not goes_on:
        left = next((name for name in RESULTS if (folder / name).exists()), None)
        return left and (
            f"{folder}: there is a run in it already ({left}); go on with it with resume=true, "
            "give another directory, or remove it"
        )
    if (folder / CONFIG).is_file():
        key = first_difference(load_config(folder), public_config(cfg))
        return key and (
            f"{folder}: this is another training, {key} differs; a training goes on as it was "
            "begun: leave the override out, or start a run of its own"
        )
    return None
