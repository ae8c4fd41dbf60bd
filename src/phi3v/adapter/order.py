"""Whether an adapter may be put onto a base that has others merged into it.

    check_base("runs/pissa/2026-...", before=["runs/lora_r16/2026-..."])   # model.merge
    check_base("runs/pissa/2026-...", before=[], key="adapter.init_from")

A start that was taken out of the weights (PiSSA, OLoRA) is taken out of them again when the adapter
is loaded. On another base that is another start, and the sum would be wrong without a sign of it.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from phi3v.adapter.reading import CONFIG, adapter_folder, changes_start, read_settings
from phi3v.errors import UserError

KEY = "model.merge"


def check_base(path: str | Path, before: Sequence[str | Path], key: str = KEY) -> None:
    """Hold what has been merged to what was merged where the adapter was trained.

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
        return
    recorded = _recorded(folder, key)
    if [_place(one) for one in before] == [_place(one) for one in recorded or ()]:
        return
    merged = key == KEY
    if recorded is None:
        where = "put it first" if merged else f"leave out {KEY}"
        advice = f"no config.yaml of a run beside it says which that was; {where}"
    elif not merged:
        advice = f"give {KEY}=[{','.join(recorded)}]"
    elif recorded:
        advice = f"right before it put [{','.join(recorded)}] and nothing else"
    else:
        advice = f"put it first, or take it as phi3v export {folder.parent} --adapter OUT writes it"
    raise UserError(
        f"{key}={folder}: its start ({config.init_lora_weights}) was taken out of the base that it "
        f"was trained on, and only onto that one can it be {'merged' if merged else 'put'}; "
        f"{advice}"
    )


def _recorded(folder: Path, key: str) -> list[str] | None:
    """What was merged where the adapter was trained; None where no run records it."""
    file = folder.parent / "config.yaml"
    if folder.name != "adapter" or not file.is_file():
        return None
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{key}={folder}: {file} cannot be read ({reason})") from error
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict):
        return None
    return [str(path) for path in model.get("merge") or ()]


def _place(path: str | Path) -> Path:
    """One name for a run and its adapter's folder; the folder need not be there any more."""
    path = Path(path).expanduser().resolve()
    return path if path.name == "adapter" or (path / CONFIG).is_file() else path / "adapter"
