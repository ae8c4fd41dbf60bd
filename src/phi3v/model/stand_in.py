"""Checkpoints of the published layout with random weights, to measure what real ones would take.

    make_checkpoint("phi3_vision", Path("big"))     # 8.3 GB: train.py model.path=big

Loading, memory and speed do not depend on what the weights say. They are drawn and written file by
file: the model is never whole in memory.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import json
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from phi3v.errors import UserError
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.headers import INDEX
from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.loading import one_line, quiet
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.tokenization import name_known_class, stand_in_tokenizer

PUBLISHED = ("phi3_vision", "phi35_vision")
# What a checkpoint folder holds beside its weights and the code that is never read.
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        parameters: Numbers in all tensors together.
        size: Bytes of them.
        files: Names of the files that hold them.
    """

    parameters: int
    size: int
    files: tuple[str, ...]


def make_checkpoint(
    like: str | Path,
    out: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_size: str = "1GB",
    said: Callable[[str], None] = lambda line: None,
) -> Made:
    """Writes a folder that `Checkpoint` loads.

    Args:
        like: One of `PUBLISHED`, whose tokenizer is then a stand-in with the published ids; or the
            folder of a checkpoint, with or without weights, whose other files are copied.
        out: The folder, new or empty.
        seed: The same one draws the same weights, however they are divided into files.
        dtype: Of the weights.
        max_shard_size: What one file holds at most ("1GB"), and about what memory it takes.
        said: Is told of each file that was written.

    Raises:
        UserError: `like` is nothing of the kind, something is in `out`, or the disk is too full.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise UserError(f"{out}: there is something in it already; give an empty or a new folder")
    _write_small_files(like, out)
    return _write_weights(_hollow(like, out, dtype), out, seed, max_shard_size, said)


def _write_small_files(like: str | Path, folder: Path) -> None:
    if str(like) in PUBLISHED:
        file = resources.files("phi3v.model") / "published" / f"{like}.json"
        published: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        config = json.dumps(published["config"], indent=2)
        (folder / "config.json").write_text(config + "\n", encoding="utf-8")
        Phi3VImageProcessor(num_crops=published["num_crops"]).save_pretrained(folder)
        tokenizer = stand_in_tokenizer()
        tokenizer.model_max_length = published["config"]["max_position_embeddings"]
        tokenizer.save_pretrained(folder)
        name_known_class(folder)
        return
    source = Path(like)
    if not (source / "config.json").is_file():
        raise UserError(
            f"--like {like}: neither {' nor '.join(PUBLISHED)} nor a folder with a config.json"
        )
    for name in _SMALL_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _hollow(like: str | Path, folder: Path, dtype: torch.dtype) -> Phi3VForCausalLM:
    """The model that the folder's config.json describes, without memory for its weights."""
    what = f"--like {like}: its config.json"
    try:
        with quiet():
            kind = Phi3VConfig.get_config_dict(folder)[0].get("model_type")
            if kind != Phi3VConfig.model_type:
                raise UserError(f"{what} is of model type {kind}, not {Phi3VConfig.model_type}")
            config = Phi3VConfig.from_pretrained(folder)
            with torch.device("meta"):
                model: Phi3VForCausalLM = Phi3VForCausalLM._from_config(config, dtype=dtype)
    except UserError:
        raise
    except Exception as error:  # the libraries agree on no class for a damaged file
        raise UserError(f"{what} describes no Phi-3-Vision ({one_line(error)})") from error
    return model


def _write_weights(
    model: Phi3VForCausalLM,
    folder: Path,
    seed: int,
    max_shard_size: str,
    said: Callable[[str], None],
) -> Made:
    config, dtype = model.config, model.dtype
    shapes = dict(model.named_parameters())
    size, free = sum(weight.nbytes for weight in shapes.values()), shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{folder.parent}: {size / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB free"
        )
    plan = split_torch_state_dict_into_shards(
        {name: weight.data for name, weight in shapes.items()}, max_shard_size=max_shard_size
    )

    def draw(name: str) -> Tensor:
        return _drawn(name, shapes[name].shape, seed, config.initializer_range).to(dtype)

    for number, (file, names) in enumerate(plan.filename_to_tensors.items(), start=1):
        with ThreadPoolExecutor() as pool:  # torch draws a tensor on one core
            weights = dict(zip(names, pool.map(draw, names), strict=True))
        save_file(weights, folder / file, metadata={"format": "pt"})
        said(f"{file} ({number} of {len(plan.filename_to_tensors)})")
    if plan.is_sharded:
        index = {"metadata": {"total_size": size}, "weight_map": plan.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    count = sum(weight.numel() for weight in shapes.values())
    return Made(count, size, tuple(plan.filename_to_tensors))


def _drawn(name: str, shape: torch.Size, seed: int, spread: float) -> Tensor:
    """A weight as a model starts with: norms are one, biases zero, the rest is normal."""
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if "norm" in name:
        return torch.ones(shape)
    own = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    return torch.empty(shape).normal_(std=spread, generator=own)
