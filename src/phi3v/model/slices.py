"""Weights that are read slice by slice, for a model that is divided over several processes.

    model = hollow(config, dtype)           # shapes without memory
    weights = WeightFiles(folder)
    weights.check(model)
    ...                                     # attach an adapter
    weights.vacate(model)                   # but for what the adapter has replaced
    ...                                     # divide the model
    weights.read_into(model, device)        # each process reads what it keeps, and nothing else

The whole model never exists in one place: neither while it is built nor while it is filled.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from phi3v.model.configuration import Phi3VConfig
from phi3v.model.finite import check_finite
from phi3v.model.headers import check_headers, read_headers
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.parts import published_name


def hollow(config: Phi3VConfig, dtype: torch.dtype) -> Phi3VForCausalLM:
    """A model whose weights take no memory: each is one number, repeated.

    They stand on the CPU and not on torch's meta device, so that adapters which are attached get a
    start of their own as they would on a true model.
    """
    with torch.device("meta"):
        model: Phi3VForCausalLM = Phi3VForCausalLM._from_config(config, dtype=dtype)
    for name, parameter in list(model.named_parameters()):
        _replace(model, name, torch.zeros((), dtype=parameter.dtype).expand(parameter.shape))
    # What stands in no checkpoint has to be computed.
    model.model.rotary_emb = Phi3RotaryEmbedding(config=config)
    embeddings = model.model.vision_embed_tokens.img_processor.vision_model.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions).unsqueeze(0)
    return model


def is_hollow(weight: torch.Tensor) -> bool:
    """Whether a weight is one number, repeated, until it is read."""
    return weight.ndim > 0 and not any(weight.stride())


class WeightFiles:
    """The safetensors of a checkpoint folder.

    Args:
        folder: Where they are; other safetensors may lie beside them.

    Raises:
        UserError: When a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = read_headers(folder)
        self.files = sorted({entry.file for entry in self.entries.values()})

    def check(self, model: nn.Module) -> None:
        """Hold names and shapes to those of a model without an adapter.

        Raises:
            UserError: When a weight is missing, left over or of another shape.
        """
        check_headers(self.folder, self.entries, model)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and weight, read whole and one after the other."""
        for file in self.files:
            with safe_open(self.folder / file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (no mapping)
                    yield name, opened.get_tensor(name)

    def vacate(self, model: nn.Module) -> None:
        """Take a hollow model's weights to the meta device, where a model can be divided.

        What an adapter's file has put in the place of the base's stays, and is not read.
        """
        for name, parameter in list(self._weights(model)):
            if is_hollow(parameter):
                _replace(
                    model, name, torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                )

    def read_into(self, model: nn.Module, device: torch.device) -> None:
        """Give the weights on the meta device memory, and read what this process keeps of them.

        Args:
            model: Vacated, divided or not, with or without a PEFT adapter. All processes that share
                it have to call this.
            device: Where model and adapter shall be.

        Raises:
            UserError: When a weight holds numbers that are not finite.
        """
        wanted = {name for name, weight in self._weights(model) if weight.is_meta}
        model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
        target = {
            published_name(name): weight.detach()
            for name, weight in self._weights(model) if name in wanted
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*assuming the intent is to load in a single"
            )
            load(target, storage_reader=_reader(self.folder, self.files))
        check_finite(self.folder, target.items())

    def _weights(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters of what stands in the files: all but an adapter's."""
        for name, parameter in model.named_parameters():
            if published_name(name) in self.entries:
                yield name, parameter


def _reader(folder: Path, files: Sequence[str]) -> HuggingFaceStorageReader:
    """Reads these files; by itself it would read all safetensors that are in the folder."""
    reader: Any = HuggingFaceStorageReader(str(folder))
    reader.fs.ls = lambda path: [str(folder / file) for file in files]
    return cast(HuggingFaceStorageReader, reader)


def _replace(model: nn.Module, name: str, value: torch.Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    trains = module.get_parameter(attribute).requires_grad
    setattr(module, attribute, nn.Parameter(value, requires_grad=trains))
