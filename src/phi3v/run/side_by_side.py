"""Other runs beside the one that is evaluated: the same examples, and one base for all of them.

    others = Beside(compared_runs(cfg, run), model, pieces, trainer.strategy.root_device)
    score(..., others=others.models())

Adapters that leave the base alone are on it together, each under a name, and one of them is
switched on. What changed its base (whole weights, biases, a start like PiSSA's) gets a base of its
own when its turn comes.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from phi3v.adapter import PeftModel, add_adapter, load_adapter
from phi3v.adapter.reading import leaves_base_alone, read_settings
from phi3v.config import load_config
from phi3v.config.comparing import first_other
from phi3v.config.containers import to_plain
from phi3v.data.splits import read_splits
from phi3v.errors import UserError
from phi3v.run.assembly import Pieces, remember_pictures, trained_whole
from phi3v.run.assembly import leaves_base_alone as is_host
from phi3v.run.directory import RunDirectory
from phi3v.run.recorded import check_finished

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Other:
    """A run that is compared.

    Attributes:
        run: Its directory.
        config: Its configuration.
        title: What it is called in tables.
    """

    run: RunDirectory
    config: Mapping[str, Any]
    title: str


def compared_runs(cfg: DictConfig, run: RunDirectory | None) -> tuple[str, list[Other]]:
    """The runs that `compare` names, held to the one that is evaluated; loads nothing.

    Returns:
        What that one is called among them, and the others.

    Raises:
        UserError: When one has another base, task or data, or has not come to its end.
    """
    if run is None:
        raise UserError("compare: runs are compared with a run; give run=... as well")
    plain = to_plain(cfg)
    found: list[tuple[RunDirectory, Mapping[str, Any]]] = []
    for path in cfg.compare:
        config, directory = load_config(path, "compare"), RunDirectory(path)
        place = Path(path).resolve()
        if place == run.path.resolve():
            raise UserError(f"compare={path}: that is the run it would be compared with")
        if any(place == other.path.resolve() for other, _ in found):
            raise UserError(f"compare={path}: named twice")
        if different := first_other(config, plain):
            key, theirs, ours = different
            raise UserError(
                f"compare={path}: {key} is {theirs} there and {ours} here; only runs with the same "
                "base, task and data can be compared"
            )
        check_finished(directory, "compare")
        found.append((directory, config))
    titles = _titles([(run, plain), *found])
    others = [Other(*pair, title) for pair, title in zip(found, titles[1:], strict=True)]
    return titles[0], others


def _titles(runs: list[tuple[RunDirectory, Mapping[str, Any]]]) -> list[str]:
    """The names of the experiments; where two are equal, with the directory or its whole path."""
    names = [str(config.get("name", run.path.name)) for run, config in runs]
    longer = [f"{name} {run.path.name}" for name, (run, _) in zip(names, runs, strict=True)]
    paths = [str(run.path) for run, _ in runs]
    often, still = Counter(names), Counter(longer)
    return [
        name if often[name] == 1 else more if still[more] == 1 else path
        for name, more, path in zip(names, longer, paths, strict=True)
    ]


def check_examples(others: Iterable[Other], split: str, ids: Iterable[str]) -> None:
    """Refuse runs that have other examples in the split, for they may have trained on these.

    Args:
        others: The runs.
        split: The split that is scored.
        ids: Its examples.

    Raises:
        UserError: When a run knows some of the examples and has others in this split.
    """
    scored = set(ids)
    for other in others:
        splits = read_splits(other.run.splits)
        known = {name for names in splits.values() for name in names}
        differ = scored ^ set(splits.get(split, ()))
        if scored & known and differ:
            raise UserError(
                f"compare={other.run.path}: its {split} split is another one, {len(differ)} "
                "examples are in one of the two alone; compare runs with the same data.seed and "
                "data.splits"
            )


class Beside:
    """Gives the models of the other runs, one after the other.

    Args:
        others: The runs.
        model: The run that is evaluated, on its device.
        pieces: The base, to be loaded again where one is needed.
        gib: Memory for the tokens of pictures.
    """

    def __init__(self, others: list[Other], model: nn.Module, pieces: Pieces, gib: float) -> None:
        self._others = others
        self._device: torch.device = next(model.parameters()).device
        self._host = model if isinstance(model, PeftModel) and is_host(model) else None
        self._pieces = pieces
        self._gib = gib

    def models(self) -> dict[str, Callable[[], nn.Module]]:
        """Title -> what gives the run's model, ready to answer; the one before is then gone."""

        def giver(number: int, other: Other) -> Callable[[], nn.Module]:
            return lambda: self._model(f"compared_{number}", other)

        return {other.title: giver(n, other) for n, other in enumerate(self._others)}

    def _model(self, name: str, other: Other) -> nn.Module:
        model = self._restored(name, other).eval().to(self._device)
        remember_pictures(model, self._gib)
        return model

    def _restored(self, name: str, other: Other) -> nn.Module:
        run = other.run
        if run.model.is_dir():
            return trained_whole(other.config["model"], run).model
        if not leaves_base_alone(read_settings(run.adapter)):
            return load_adapter(self._pieces.reload(False).model, run.adapter)
        if self._host is None:
            model = load_adapter(self._pieces.reload(False).model, run.adapter)
            assert isinstance(model, PeftModel)
            self._host = model
        else:
            add_adapter(self._host, run.adapter, name)
        return self._host
