"""What the safetensors of a folder hold, read from their headers alone.

    entries = read_headers(folder)
    check_headers(folder, entries, model)

A checkpoint that does not fit is refused here, before any memory is taken for it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from phi3v.errors import UserError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_DTYPES = ("F64", "F32", "F16", "BF16")
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Entry:
    """A tensor in a file, its dtype in safetensors' words ("BF16")."""

    file: str
    shape: tuple[int, ...]
    dtype: str


def read_headers(folder: Path) -> dict[str, Entry]:
    """The tensors of a checkpoint by name: of model.safetensors, or of the files of its index.

    Raises:
        UserError: When a file is missing, damaged or cut off, or not what the index says.
    """
    index = folder / INDEX
    if not index.is_file():
        if not (folder / SINGLE).is_file():
            raise UserError(f"{folder}: weights are missing, there is neither {SINGLE} nor {INDEX}")
        return _read_header(folder / SINGLE)
    if (folder / SINGLE).is_file():  # of which one loader takes this and another that
        raise UserError(
            f"{folder}: there are {SINGLE} and {INDEX}, which need not be of one model; take one "
            "away"
        )
    try:
        places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({file for file in places.values() if Path(file).name == file})
        if not all(file in files for file in places.values()):
            raise ValueError("it names what is no file of this folder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: is damaged, it has no weight_map; fetch it again") from error
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(files)} files of weights are missing, the first is"
            f" {missing[0]}; fetch it again"
        )
    there = {file: _read_header(folder / file) for file in files}
    lost = [name for name, file in places.items() if name not in there[file]]
    if lost:
        raise UserError(
            f"{folder / places[lost[0]]}: lacks {lost[0]}, which {INDEX} says it holds; fetch both"
            " again"
        )
    return {name: there[file][name] for name, file in places.items()}


def _read_header(path: Path) -> dict[str, Entry]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: Entry(path.name, tuple(part.get_shape()), part.get_dtype())
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        with path.open("rb") as raw:
            if raw.read(len(_LFS)) == _LFS:
                raise UserError(
                    f"{path}: is a pointer of Git LFS and no weights; run git lfs pull"
                ) from error
        raise UserError(f"{path}: is damaged or cut off ({error}); fetch it again") from error


def check_headers(folder: Path, entries: Mapping[str, Entry], model: nn.Module) -> None:
    """Holds names, shapes and dtypes to those of a model without an adapter.

    Args:
        folder: Where they are, for the messages.
        entries: Of `read_headers`.
        model: Its weights may be on the meta device.

    Raises:
        UserError: When a weight is missing, left over, of another shape or no floating point.
    """
    own = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    for problem, names in (
        ("missing", own.keys() - entries.keys()),
        ("unexpected", entries.keys() - own.keys()),
    ):
        if names:
            raise UserError(f"{folder}: {len(names)} {problem} weights, the first is {min(names)}")
    for name, entry in sorted(entries.items()):
        if entry.shape != own[name]:
            raise UserError(
                f"{folder / entry.file}: {name} is {list(entry.shape)}, config.json wants"
                f" {list(own[name])}"
            )
        if entry.dtype not in _DTYPES:
            raise UserError(
                f"{folder / entry.file}: {name} is {entry.dtype}; weights that somebody has"
                f" quantised are not read, only {', '.join(_DTYPES)}"
            )
