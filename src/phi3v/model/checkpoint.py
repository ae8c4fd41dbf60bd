"""A model from a checkpoint.

    loaded = Checkpoint("assets/tiny").load()
    loaded.model.generate(**loaded.processor(text=prompt, images=[picture]))

A checkpoint is what Microsoft publishes and what `Loaded.save` writes: config.json, safetensors,
tokenizer.json and preprocessor_config.json or processor_config.json. No code in it is ever run, and
no pickle is ever read.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RevisionNotFoundError
from transformers import GenerationConfig

from phi3v.errors import UserError
from phi3v.model.belonging import check_crops_fit, check_tokenizer_fits
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.finite import check_finite
from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.loading import (
    Loaded,
    Texts,
    check_attention,
    check_crops,
    one_line,
    quiet,
    ready,
    torch_dtype,
)
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.processing import Phi3VProcessor
from phi3v.model.quantization import (
    bitsandbytes_config,
    check_quantization,
    check_widths,
    import_bitsandbytes,
    keep_numbers,
)
from phi3v.model.slices import WeightFiles
from phi3v.model.slices import hollow as hollow_model
from phi3v.model.tokenization import load_tokenizer

SMALL_FILES = ["*.json", "*.jinja"]
WEIGHTS = ["*.safetensors"]
ADAPTER = "adapter_config.json"


@dataclass
class Checkpoint:
    """A checkpoint in the published layout.

    Args:
        path: a folder, or a hub id such as "microsoft/Phi-3.5-vision-instruct".
        revision: branch, tag or commit of a hub id; pin one to get the same weights tomorrow.
        num_crops: overrides how many crops a picture may have.
        dtype: of the weights in memory.
        quantization: "nf4" keeps the decoder's linear layers in four bits (QLoRA); None for none.
        attn_implementation: "sdpa", "eager" or "flash_attention_2".
        gradient_checkpointing: trades time for memory in training.
        examples_at_once: how many examples a device holds, to "train" on and to "generate" for.
        learning_rate: what to train this model with, by kind of adapter ("lora", "full").
        vision_cache_gib: memory in GiB for the tokens of pictures, which a run uses where nothing
            of the picture side is trained.
        merge: folders of adapters that a run adds to the weights, in this order, before anything
            else; `load` leaves them alone.
    """

    path: str
    revision: str | None = None
    num_crops: int | None = None
    dtype: str = "float32"
    quantization: str | None = None
    attn_implementation: str = "sdpa"
    gradient_checkpointing: bool = False
    examples_at_once: dict[str, int] = field(default_factory=dict)
    learning_rate: dict[str, float] = field(default_factory=dict)
    vision_cache_gib: float = 0
    merge: list[str] = field(default_factory=list)

    def load(
        self,
        texts: Texts | None = None,
        hollow: bool = False,
        device: torch.device | None = None,
    ) -> Loaded:
        """Loads model and processor; every weight must be there, and none may be left over.

        What does not fit together is refused before memory is taken for any weight.

        Args:
            texts: not used: a checkpoint brings its tokenizer.
            hollow: leaves the weights in their files, see `phi3v.model.slices`.
            device: where the weights are read to; the CPU by default.

        Raises:
            UserError: something is missing, damaged or does not fit together, or a weight holds
                numbers that are not finite; of a hollow model that is told when it is read.
        """
        dtype = torch_dtype(self.dtype)
        check_attention(self.attn_implementation)
        check_crops(self.num_crops)
        check_quantization(self.quantization, hollow)
        folder = self._fetched(SMALL_FILES)
        config = _config(self.path, folder)
        if self.quantization:
            check_widths(self.path, config)
        processor = self._processor(folder)
        check_crops_fit(self.path, config, processor)
        check_tokenizer_fits(self.path, folder, config, processor)
        weights = WeightFiles(self._fetched(SMALL_FILES + WEIGHTS))
        config._attn_implementation = self.attn_implementation
        if hollow:
            model = hollow_model(config, dtype)
            weights.check(model)
            model.generation_config = GenerationConfig.from_model_config(config)
            loaded = Loaded(model, processor, weights)
        else:
            with torch.device("meta"):
                weights.check(Phi3VForCausalLM._from_config(copy.deepcopy(config), dtype=dtype))
            loaded = Loaded(self._model(folder, config, dtype, device), processor)
            check_finite(self.path, loaded.model.named_parameters())
        # Adapters write down what they were trained on: a hub id, not where its files lie here.
        here = Path(self.path).expanduser().is_dir()
        name = str(folder) if here else self.path
        loaded.model.name_or_path = loaded.model.config.name_or_path = name
        return ready(loaded, self.gradient_checkpointing)

    def _fetched(self, files: list[str]) -> Path:
        """The folder with those files in it; of a hub id, what was fetched of it."""
        folder = self._folder(files)
        if (folder / ADAPTER).is_file():  # transformers would put it on the model without a word
            raise UserError(
                f"{self.path}: there is an adapter in it ({ADAPTER}) beside the model; take it"
                f" away, or name its folder as an adapter: model.merge=[...]"
            )
        return folder

    def _folder(self, files: list[str]) -> Path:
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            if not (folder / "config.json").is_file():
                raise UserError(f"{self.path}: this folder is no checkpoint, it has no config.json")
            return folder
        if folder.exists() or self.path.count("/") != 1 or self.path.startswith((".", "/", "~")):
            raise UserError(
                f"{self.path}: no such checkpoint folder, and no hub id (those look like "
                "microsoft/Phi-3.5-vision-instruct)"
            )
        revision = self.revision or "main"
        try:
            with quiet():
                return Path(
                    snapshot_download(
                        self.path,
                        revision=revision,
                        allow_patterns=files,
                        ignore_patterns=["adapter_*"],
                    )
                )
        except RevisionNotFoundError as error:
            raise UserError(
                f"{self.path} has no revision {revision}; set model.revision to one of its own, or"
                " to null for its newest"
            ) from error
        except Exception as error:  # of the hub, of the network, of the disk
            raise UserError(
                f"{self.path}: no such folder here, and at revision {revision[:7]} it can"
                f" neither be fetched from the hub nor is it in its cache ({one_line(error)})"
            ) from error

    def _processor(self, folder: Path) -> Phi3VProcessor:
        if not (folder / "tokenizer.json").is_file():
            raise UserError(
                f"{self.path}: it has no tokenizer.json, and nobody else's would do; copy that of "
                "the model that this one was made from"
            )
        tokenizer = _load(
            load_tokenizer,
            f"{self.path}: tokenizer.json",
            pretrained_model_name_or_path=str(folder),
        )
        image_processor = _load(
            Phi3VImageProcessor.from_pretrained,
            f"{self.path}: preprocessor_config.json",
            pretrained_model_name_or_path=str(folder),
        )
        if self.num_crops is not None:
            image_processor.num_crops = self.num_crops
        return Phi3VProcessor(image_processor, tokenizer)

    def _model(
        self, folder: Path, config: Phi3VConfig, dtype: torch.dtype, device: torch.device | None
    ) -> Phi3VForCausalLM:
        options: dict[str, Any] = {}
        if device is not None and device.type != "cpu":
            options["device_map"] = {"": device}
        if self.quantization:
            import_bitsandbytes()
            options["quantization_config"] = bitsandbytes_config(dtype)
        model: Phi3VForCausalLM = _load(
            Phi3VForCausalLM.from_pretrained,
            f"{self.path}: weights",
            pretrained_model_name_or_path=str(folder),
            config=config,
            dtype=dtype,
            attn_implementation=self.attn_implementation,
            use_safetensors=True,
            **options,
        )
        if self.quantization:
            keep_numbers(model)
        return model


def _load(loader: Callable[..., Any], what: str, **options: Any) -> Any:
    try:
        with quiet():
            return loader(**options)
    except Exception as error:  # the libraries agree on no class for a missing or damaged file
        raise UserError(f"{what} cannot be loaded: {one_line(error)}") from error


def _config(path: str, folder: Path) -> Phi3VConfig:
    what, where = f"{path}: config.json", {"pretrained_model_name_or_path": str(folder)}
    values, _ = _load(Phi3VConfig.get_config_dict, what, **where)
    kind = values.get("model_type")
    if kind != Phi3VConfig.model_type:
        raise UserError(f"{what} is of model type {kind}, not {Phi3VConfig.model_type}")
    config: Phi3VConfig = _load(Phi3VConfig.from_pretrained, what, **where)
    return config
