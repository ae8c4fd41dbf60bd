"""A composed configuration, and what Hydra composed it with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra


@dataclass(frozen=True)
class Composed:
    """A configuration as Hydra composes it.

    Attributes:
        plain: Resolved as far as that goes, without Hydra's node.
        written: The same with its interpolations.
        hydra: Hydra's node, as it is written.
        choices: Group -> what was chosen.
        unresolved: Why an interpolation failed; None when all values are in place.
    """

    plain: dict[str, Any]
    written: dict[str, Any]
    hydra: dict[str, Any]
    choices: dict[str, str | None]
    unresolved: str | None = None


def loader() -> ConfigLoaderImpl:
    """The loader of the configuration that Hydra is at work on."""
    found = GlobalHydra.instance().config_loader()
    assert isinstance(found, ConfigLoaderImpl)
    return found


def folders() -> list[Path]:
    """The folders of files that it composes from."""
    sources = loader().get_sources()
    return [Path(source.path) for source in sources if source.scheme() == "file"]
