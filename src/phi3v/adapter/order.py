"""Whether an adapter may be put onto a base: onto any, or onto the one that it was made on alone.

    check_base("runs/pissa/2026-...", before=["runs/lora_r16/2026-..."])   # before there is a model
    check_base("runs/pissa/2026-...", before=[], key="adapter.init_from")
    check_weights(folder, config, model)                                  # where there is one

A start that was taken out of the weights (PiSSA, OLoRA) is taken out of them again when the adapter
is loaded. On another base that is another start, and the sum would be wrong without a sign of it.
What was there then is known by its numbers; where an adapter has none, by the paths of its run.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from peft import LoraConfig, PeftModel
from torch import nn

from phi3v.adapter.made_on import is_other, read_sample, remembered, sample
from phi3v.adapter.reading import CONFIG, adapter_folder, changes_start, read_settings
from phi3v.errors import UserError

log = logging.getLogger(__name__)

KEY = "model.merge"


@dataclass(frozen=True)
class _Record:
    """What a run's configuration says of its base; an empty path where there was none."""

    path: str
    merge: list[str]


def check_base(path: str | Path, before: Sequence[str | Path], key: str = KEY) -> None:
    """Hold what has been merged to what was merged where the adapter was trained.

    An adapter that knows the weights that it was made on is left to `check_weights`. One that only
    adds to weights may be put onto any; where its run says that it learned on others, that is told.

    Args:
        path: A PEFT folder, or a run that trained an adapter.
        before: What has been merged already, in this order.
        key: What the path was given for: to be merged as well, or to be trained on.

    Raises:
        UserError: When the adapter takes its start out of the base and this is not known to be the
            base that it was trained on.
    """
    folder = adapter_folder(path, key)
    config = read_settings(folder)
    if not changes_start(config):
        _warn_of_another_base(folder, before)
        return
    if read_sample(folder):
        return
    if not _same_places(before, _recorded(folder)):
        _refuse(folder, config, key, before)


def _warn_of_another_base(folder: Path, before: Sequence[str | Path]) -> None:
    try:
        record = _recorded(folder)
    except UserError as error:  # which nothing but this would have needed
        log.warning("%s; on which base it was trained is not known", error)
        return
    if record is None or _same_places(before, record):
        return
    there = f"[{','.join(record.merge)}]" if record.merge else "nothing"
    here = f"[{','.join(map(str, before))}]" if before else "nothing"
    log.warning(
        "%s: it was trained on a base with %s merged in, and is put onto one with %s merged in:"
        " that is another model than the one that was scored there", folder, there, here,
    )  # fmt: skip


def check_weights(
    folder: Path, config: LoraConfig, model: nn.Module, key: str = "", before: Sequence[str] = ()
) -> None:
    """Hold the weights of a base to those that an adapter's start was taken out of.

    Where the adapter does not know them, a warning says so unless it names this base. So does one
    of any adapter that names another model of the hub: those of one family have the same shapes.

    Args:
        folder: Of the adapter.
        config: Its settings.
        model: The base, or that with an adapter attached that has remembered it.
        key: What the folder was given for.
        before: What has been merged into the base already.

    Raises:
        UserError: When the adapter takes its start out of the base and this is another one.
    """
    named, name = config.base_model_name_or_path, getattr(model, "name_or_path", "")
    if not changes_start(config):
        if _is_hub_id(named) and _is_hub_id(name) and named != name:
            log.warning(
                "%s: this adapter was trained on %s, and this base is %s; that it fits says only"
                " that both have the same shapes", folder, named, name,
            )  # fmt: skip
        return
    recorded = read_sample(folder)
    if recorded:
        here = remembered(model) if isinstance(model, PeftModel) else sample(model)
        if is_other(recorded, here):
            _refuse(folder, config, key, before)
        return
    if not named or not name or _whole_path(named) != _whole_path(name):
        log.warning(
            "%s: its start (%s) was taken out of %s, and nothing in it tells whether this base (%s)"
            " is that one; on another it is another model",
            folder, config.init_lora_weights, named or "a base without a name", name or "no name",
        )  # fmt: skip


def _refuse(folder: Path, config: LoraConfig, key: str, before: Sequence[str | Path]) -> None:
    merged = key == KEY
    given = f"{key}={folder}" if key else str(folder)
    raise UserError(
        f"{given}: its start ({config.init_lora_weights}) was taken out of the base that it was "
        f"trained on, and only onto that one can it be {'merged' if merged else 'put'}; "
        f"{_advice(folder, config, merged, before)}"
    )


def _advice(folder: Path, config: LoraConfig, merged: bool, before: Sequence[str | Path]) -> str:
    """What to type, as far as the run beside the folder tells."""
    record = _recorded(folder)
    unknown = "no config.yaml of a run beside it says which that was"
    if record is None and before:
        return f"{unknown}; {'put it first' if merged else f'leave out {KEY}'}"
    if record and merged and not _same_places(before, record):
        if record.merge:
            return f"right before it put [{','.join(record.merge)}] and nothing else"
        return f"put it first, or take it as phi3v export {folder.parent} --adapter OUT writes it"
    path = record.path if record else config.base_model_name_or_path
    words = [f"model.path={path}"] if path else []
    words += [f"{KEY}=[{','.join(record.merge)}]"] if record else []
    return f"give {' '.join(words)}, with the weights that were there then" if words else unknown


def _recorded(folder: Path) -> _Record | None:
    """The base that the adapter was trained on; None where no run records it."""
    file = folder.parent / "config.yaml"
    if folder.name != "adapter" or not file.is_file():
        return None
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: {file} cannot be read ({reason})") from error
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict):
        return None
    return _Record(str(model.get("path") or ""), [str(one) for one in model.get("merge") or ()])


def _same_places(before: Sequence[str | Path], record: _Record | None) -> bool:
    merged = record.merge if record else ()
    return [_place(one) for one in before] == [_place(one) for one in merged]


def _place(path: str | Path) -> Path:
    """One name for a run and its adapter's folder; the folder need not be there any more."""
    path = Path(path).expanduser().resolve()
    return path if path.name == "adapter" or (path / CONFIG).is_file() else path / "adapter"


def _is_hub_id(name: str | None) -> bool:
    """Whether a model is named as on the hub, and no folder here is meant."""
    there = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name or "")
    return there is not None and not Path(there.string).is_dir()


def _whole_path(name: str) -> str:
    """A folder's path from the root; a hub id as it is."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name
