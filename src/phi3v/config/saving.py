"""A run's configuration in its directory: written resolved and without secrets, read for eval.py.

save_config(cfg, run_dir)                       # <run>/config.yaml
name = base_on_run("runs/lora_r16/...", {"trainer"}, "eval")   # a primary configuration for Hydra
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from phi3v.config.broken import unreadable
from phi3v.config.containers import to_plain
from phi3v.config.secrets import Secrets
from phi3v.config.spelling import nearest
from phi3v.errors import UserError
from phi3v.files import write_whole

FILE = "config.yaml"
# What eval.yaml chooses too and a run brings along.
GROUPS_OF_RUN = ("model", "adapter", "task", "data", "trainer", "paths")
# What train.yaml chooses besides.
GROUPS_OF_TRAINING = ("optimizer", "scheduler", "callbacks", "logger")
_PATH_KEYS = ("path", "root", "folder", "_dir", "_file", "init_from", "merge", "compare")


def save_config(cfg: DictConfig, folder: Path) -> Path:
    """Write the configuration that a run was made with, in one go.

    Returns:
        The file: every value in place, secrets hidden, paths absolute.
    """
    file = folder / FILE
    write_whole(file, OmegaConf.to_yaml(OmegaConf.create(public_config(cfg))))
    return file


def public_config(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, fit to be shown to others.

    Values under keys like `api_key`, however deep below them, and values that come from environment
    variables of such names are hidden, also where they arrive over other keys; of addresses the
    login is. Relative paths of things that exist become absolute.
    """
    written, resolved = to_plain(cfg, resolve=False), to_plain(cfg)
    public = Secrets(written, resolved).hidden()
    return {key: completed(value, key) for key, value in public.items()}


def load_config(run: str | Path, key: str = "run") -> dict[str, Any]:
    """The configuration in a run directory.

    Args:
        run: The directory.
        key: What the command line named it by.

    Raises:
        UserError: When there is none, or it is not what train.py writes.
    """
    file = Path(run) / FILE
    if not file.is_file():
        siblings = [path.name for path in Path(run).parent.glob("*") if (path / FILE).is_file()]
        near = nearest(Path(run).name, siblings)
        hint = f" (did you mean '{Path(run).parent / near}'?)" if near else ""
        raise UserError(
            f"{key}={run}: there is no {FILE} in it; give a directory of train.py{hint}"
        )
    try:
        loaded = OmegaConf.load(file)
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{key}={run}: {unreadable(error, [file.parent])}") from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}={run}: {file}: {error.full_key}: {reason}") from None
    plain = to_plain(loaded, resolve=False) if isinstance(loaded, DictConfig) else {}
    # Whatever was not there, eval.yaml would silently fill in: another model than the run's.
    for group in GROUPS_OF_RUN:
        if not isinstance(plain.get(group), dict):
            raise UserError(
                f"{key}={run}: {file} has no mapping '{group}', so it is not the configuration of "
                "a run; give a directory of train.py, or restore the file"
            )
    return plain


def base_on_run(run: str | Path, replaced: Collection[str], program: str) -> str:
    """Make a run's configuration the one that Hydra applies this command line to.

    Paths below the folders that the run knew by name (`paths.assets`, `paths.cache`, ...) follow
    those of this machine, so a run directory may be moved or given away.

    Args:
        run: The run directory.
        replaced: Groups that the command line chooses anew; the run's own are left out.
        program: "train" or "eval".

    Returns:
        The name of a primary configuration, to be used instead of the program's own.
    """
    saved, file = load_config(run), str(Path(run) / FILE)
    if strange := {"hydra", "defaults"} & saved.keys():
        raise UserError(f"{file} has a key '{min(strange)}', which no run has")
    places = named_places(saved.pop("paths"))
    ours = {key: saved[key] for key in saved if key not in ("run", "resume", *replaced)}
    kept = {key: relocated(value, places) for key, value in ours.items()}
    _share_again(kept)
    known = {*GROUPS_OF_RUN, *GROUPS_OF_TRAINING} if program == "train" else {*GROUPS_OF_RUN}
    groups = [key for key in kept if key in known and key != "paths"]
    defaults = [program, *({f"override /{group}": None} for group in groups), "_self_"]
    name = f"{program}_of_run"
    ConfigStore.instance().store(name, {"defaults": defaults, **kept}, provider=file)
    return name


def _share_again(kept: dict[str, Any]) -> None:
    """Let the shares of a step follow the devices again: they are saved as numbers."""
    data, trainer = kept.get("data"), kept.get("trainer")
    devices = "${trainer.devices},${trainer.num_nodes}"
    if data and "batch_size" in data and "batch_size" in kept:
        data["batch_size"] = f"${{per_device:${{batch_size}},{data['batch_size']},{devices}}}"
    if trainer and "accumulate_grad_batches" in trainer and "batch_size" in kept:
        share = f"${{accumulation:${{batch_size}},${{data.batch_size}},{devices}}}"
        trainer["accumulate_grad_batches"] = share


def named_places(paths: Mapping[str, Any]) -> dict[str, str]:
    """The folders of the group `paths` that a machine knows by name: {folder: "${paths.name}"}."""
    return {
        value: f"${{paths.{key}}}"
        for key, value in paths.items()
        if isinstance(value, str) and Path(value).is_absolute()
    }


def completed(value: Any, key: str) -> Any:
    """A value as it is saved: relative paths of things that exist are absolute."""
    if isinstance(value, Mapping):
        return {name: completed(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [completed(item, key) for item in value]
    return _absolute(value) if isinstance(value, str) and key.endswith(_PATH_KEYS) else value


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def relocated(value: Any, places: Mapping[str, str]) -> Any:
    """A value in which folders that have a name are called by it."""
    if isinstance(value, Mapping):
        return {key: relocated(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [relocated(item, places) for item in value]
    if not isinstance(value, str):
        return value
    literal = value.replace("${", "\\${")  # nothing in a saved file is an interpolation
    for place in sorted(places, key=len, reverse=True):
        if value == place or value.startswith(f"{place}/"):
            return places[place] + literal[len(place) :]
    return literal
