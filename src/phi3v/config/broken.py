"""What is wrong with a file that YAML cannot read or that does not go together with the others.

unreadable(error, [Path("conf")])             # "conf/x.yaml line 3: found duplicate key seed"
conflict(loader, "train", ["experiment=x"])   # "conf/x.yaml: trainer: expected a mapping, ..."
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from phi3v.config.containers import some_keys


def unreadable(error: YAMLError | UnicodeDecodeError, folders: Iterable[Path]) -> str:
    """Put the reason why a file cannot be read into one line.

    Args:
        error: What reading it raised.
        folders: Where the file may lie; an error of decoding does not say which it was.
    """
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark, context = error.problem_mark, f" {error.context}" if error.context else ""
        reason = " ".join(f"{error.problem}{context}".split())
        return f"{_short(mark.name)} line {mark.line + 1}: {reason}"
    for file in (file for folder in folders for file in sorted(folder.rglob("*.yaml"))):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError as wrong:
            line = file.read_bytes()[: wrong.start].count(b"\n") + 1
            return f"{_short(file)} line {line}: not UTF-8; save the file in that encoding"
    return f"a file cannot be read: {' '.join(str(error).split())}"


def conflict(loader: ConfigLoaderImpl, name: str, overrides: Sequence[str]) -> str | None:
    """Find the key at which a list meets a mapping when the chosen files are put together.

    Args:
        loader: Hydra's, while it is set up.
        name: The primary configuration.
        overrides: The command line.

    Returns:
        The file, the key and what belongs there; None when the files go together.
    """
    _, repository = loader._parse_overrides_and_create_caching_repo(name, list(overrides))
    so_far = OmegaConf.create()
    for default in loader.compute_defaults_list(name, list(overrides), RunMode.RUN).defaults:
        result = loader._load_single_config(default, repository)
        loaded: Any = result.config
        try:
            so_far.merge_with(loaded)
        except OmegaConfBaseException:
            folder = Path(result.path).name
            in_file = result.path.startswith("file://")
            # Otherwise it is a run's, which is stored under the run directory as its provider.
            file = f"{folder}/{default.config_path}.yaml" if in_file else result.provider
            key = _clash(so_far, loaded)
            return None if key is None else f"{file}: {_told(so_far, loaded, key)}"
    return None


def _clash(before: DictConfig, after: object, path: str = "") -> str | None:
    """The innermost key with a list on one side and a mapping on the other; "" is the top."""
    if not isinstance(after, DictConfig):
        return path if isinstance(after, ListConfig) else None
    for name in after:
        # By node, since a value may be an interpolation that nothing answers yet.
        old, new = before._get_node(name), after._get_node(name)
        key = ".".join([path, str(name)]).lstrip(".")
        if isinstance(old, ListConfig) and isinstance(new, DictConfig):
            return key
        if isinstance(old, DictConfig) and (inner := _clash(old, new, key)) is not None:
            return inner
    return None


def _told(before: DictConfig, after: Any, key: str) -> str:
    if not key:
        return "expected a mapping of keys to values, found a list"
    old, new = OmegaConf.select(before, key), OmegaConf.select(after, key)
    mapping = isinstance(old, DictConfig)
    wanted = f"a mapping with keys like {some_keys(old)}" if mapping else "a list"
    return f"{key}={OmegaConf.to_container(new)}: expected {wanted}"


def _short(file: str | Path) -> str:
    """A file as it is named elsewhere: from conf/ on, where it lies there."""
    parts = Path(file).parts
    return "/".join(parts[-3:]) if parts[-3:-2] == ("conf",) else str(file)
