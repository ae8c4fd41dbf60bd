"""A run's configuration in its directory: written resolved and without secrets, read for eval.py.

save_config(cfg, run_dir)                       # <run>/config.yaml
name = base_on_run("runs/lora_r16/...", {"trainer"})   # a primary configuration for Hydra
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from phi3v.config.containers import to_plain
from phi3v.config.spelling import nearest
from phi3v.errors import UserError

FILE = "config.yaml"
HIDDEN = "<hidden>"
EVAL_OF_RUN = "eval_of_run"
_SECRET = re.compile(
    r"(?:^|_)(?:token|password|passwd|secret|credentials?|(?:api|access|private)_?key)(?:_|$)", re.I
)
_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([^,}]+)")
_PATH_KEYS = ("path", "root", "folder", "_dir", "_file")


def save_config(cfg: DictConfig, folder: Path) -> Path:
    """Write the configuration that a run was made with.

    Returns:
        The file: every value in place, secrets hidden, paths absolute.
    """
    file = folder / FILE
    OmegaConf.save(OmegaConf.create(public_config(cfg)), file)
    return file


def public_config(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values, fit to be shown to others.

    Values under keys like `api_key` and values that come from environment variables of such names
    are hidden. Relative paths of things that exist become absolute.
    """
    written, resolved = to_plain(cfg, resolve=False), to_plain(cfg)
    return {key: _public(written[key], value, key) for key, value in resolved.items()}


def load_config(run: str | Path) -> dict[str, Any]:
    """The configuration in a run directory.

    Raises:
        UserError: When there is none.
    """
    file = Path(run) / FILE
    if not file.is_file():
        siblings = [path.name for path in Path(run).parent.glob("*") if (path / FILE).is_file()]
        near = nearest(Path(run).name, siblings)
        hint = f" (did you mean '{Path(run).parent / near}'?)" if near else ""
        raise UserError(f"run={run}: there is no {FILE} in it; give a directory of train.py{hint}")
    loaded = OmegaConf.load(file)
    if not isinstance(loaded, DictConfig):
        raise UserError(f"{file} is not the configuration of a run")
    return to_plain(loaded, resolve=False)


def base_on_run(run: str | Path, replaced: Collection[str]) -> str:
    """Make a run's configuration the one that Hydra applies this command line to.

    Paths below the folders that the run knew by name (`paths.assets`, `paths.cache`, ...) follow
    those of this machine, so a run directory may be moved or given away.

    Args:
        run: The run directory.
        replaced: Groups that the command line chooses anew; the run's own are left out.

    Returns:
        The name of a primary configuration, to be used instead of `eval`.
    """
    saved = load_config(run)
    if strange := {"hydra", "defaults"} & saved.keys():
        raise UserError(f"{Path(run) / FILE} has a key '{min(strange)}', which no run has")
    paths = saved.pop("paths", {})
    places = {
        value: f"${{paths.{key}}}" for key, value in paths.items() if Path(value).is_absolute()
    }
    kept = {key: _relocated(value, places) for key, value in saved.items() if key not in replaced}
    groups = [key for key in kept if key in ("model", "adapter", "task", "data", "trainer")]
    defaults = ["eval", *({f"override /{group}": None} for group in groups), "_self_"]
    ConfigStore.instance().store(EVAL_OF_RUN, {"defaults": defaults, **kept}, provider=str(run))
    return EVAL_OF_RUN


def _public(written: Any, resolved: Any, key: str) -> Any:
    """Hide or complete one value; `written` is where it came from, possibly an interpolation."""
    if isinstance(resolved, Mapping):
        sources = written if isinstance(written, Mapping) else resolved
        return {name: _public(sources[name], item, str(name)) for name, item in resolved.items()}
    if isinstance(resolved, list):
        origins = written if isinstance(written, list) else resolved
        return [_public(*pair, key) for pair in zip(origins, resolved, strict=True)]
    if not isinstance(resolved, str) or not resolved:
        return resolved
    variables = _ENVIRONMENT.findall(written) if isinstance(written, str) else []
    if any(_SECRET.search(name) for name in (key, *variables)):
        return HIDDEN
    return _absolute(resolved) if key.endswith(_PATH_KEYS) else resolved


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path


def _relocated(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _relocated(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_relocated(item, places) for item in value]
    if not isinstance(value, str):
        return value
    literal = value.replace("${", "\\${")  # nothing in a saved file is an interpolation
    for place in sorted(places, key=len, reverse=True):
        if value == place or value.startswith(f"{place}/"):
            return places[place] + literal[len(place) :]
    return literal
