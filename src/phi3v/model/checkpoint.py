"""A model from a checkpoint.

    loaded = Checkpoint("assets/tiny").load()
    loaded.model.generate(**loaded.processor(text=prompt, images=[picture]))

A checkpoint is what Microsoft publishes and what `Loaded.save` writes: config.json, safetensors,
tokenizer.json and preprocessor_config.json or processor_config.json. No code in it is ever run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import GenerationConfig

from phi3v.errors import UserError
from phi3v.model.configuration import Phi3VConfig
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
from phi3v.model.slices import WeightFiles
from phi3v.model.slices import hollow as hollow_model
from phi3v.model.tokenization import CHAT_TOKENS, load_tokenizer


@dataclass
class Checkpoint:
    """A checkpoint in the published layout.

    Args:
        path: a folder, or a hub id such as "microsoft/Phi-3.5-vision-instruct".
        revision: branch, tag or commit of a hub id; pin one to get the same weights tomorrow.
        num_crops: overrides how many crops a picture may have.
        dtype: of the weights in memory.
        attn_implementation: "sdpa", "eager", "flash_attention_2" or "flex_attention".
        gradient_checkpointing: trades time for memory in training.
        learning_rate: what to train this model with, by kind of adapter ("lora", "full").
        vision_cache_gib: memory in GiB for the tokens of pictures, which a run uses where nothing
            of the picture side is trained.
    """

    path: str
    revision: str | None = None
    num_crops: int | None = None
    dtype: str = "float32"
    attn_implementation: str = "sdpa"
    gradient_checkpointing: bool = False
    learning_rate: dict[str, float] = field(default_factory=dict)
    vision_cache_gib: float = 0

    def load(self, texts: Texts | None = None, hollow: bool = False) -> Loaded:
        """Loads model and processor; every weight must be there, and none may be left over.

        Args:
            texts: not used: a checkpoint brings its tokenizer.
            hollow: leaves the weights in their files, see `phi3v.model.slices`.

        Raises:
            UserError: something is missing, damaged or does not fit together.
        """
        dtype = torch_dtype(self.dtype)
        check_attention(self.attn_implementation)
        check_crops(self.num_crops)
        where = self._where()
        config = _config(self.path, where)
        processor = self._processor(where)
        _check_fit(self.path, config, processor)
        if hollow:
            loaded = self._hollow(where, config, dtype, processor)
        else:
            loaded = Loaded(self._model(where, config, dtype), processor)
        return ready(loaded, self.gradient_checkpointing)

    def _where(self) -> dict[str, Any]:
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            if not (folder / "config.json").is_file():
                raise UserError(f"{self.path}: this folder is no checkpoint, it has no config.json")
            return {"pretrained_model_name_or_path": str(folder)}
        if folder.exists() or self.path.count("/") != 1 or self.path.startswith((".", "/", "~")):
            raise UserError(
                f"{self.path}: no such checkpoint folder, and no hub id (those look like "
                "microsoft/Phi-3.5-vision-instruct)"
            )
        return {
            "pretrained_model_name_or_path": self.path,
            "revision": self.revision or "main",
        }

    def _processor(self, where: dict[str, Any]) -> Phi3VProcessor:
        tokenizer = _load(load_tokenizer, where, f"{self.path}: tokenizer.json")
        image_processor = _load(
            Phi3VImageProcessor.from_pretrained, where, f"{self.path}: preprocessor_config.json"
        )
        if self.num_crops is not None:
            image_processor.num_crops = self.num_crops
        missing = [token for token in CHAT_TOKENS if token not in tokenizer.get_vocab()]
        if missing:
            raise UserError(f"{self.path}: tokenizer.json lacks {missing[0]}")
        return Phi3VProcessor(image_processor, tokenizer)

    def _model(
        self, where: dict[str, Any], config: Phi3VConfig, dtype: torch.dtype
    ) -> Phi3VForCausalLM:
        loaded: tuple[Phi3VForCausalLM, dict[str, Any]] = _load(
            Phi3VForCausalLM.from_pretrained,
            where,
            f"{self.path}: weights",
            config=config,
            dtype=dtype,
            attn_implementation=self.attn_implementation,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below
            output_loading_info=True,
        )
        model, report = loaded
        for problem in ("missing", "unexpected", "mismatched"):
            keys = sorted(str(key) for key in report[f"{problem}_keys"])
            if keys:
                raise UserError(
                    f"{self.path}: {len(keys)} {problem} weights, the first is {keys[0]}"
                )
        return model

    def _hollow(
        self,
        where: dict[str, Any],
        config: Phi3VConfig,
        dtype: torch.dtype,
        processor: Phi3VProcessor,
    ) -> Loaded:
        what = f"{self.path}: weights"
        folder = where["pretrained_model_name_or_path"]
        if "revision" in where:  # of a hub id
            folder = _load(
                snapshot_download, {}, what,
                repo_id=folder, revision=where["revision"], allow_patterns=["*.safetensors"],
            )  # fmt: skip
        weights: WeightFiles = _load(WeightFiles, {"folder": Path(folder)}, what)
        config._attn_implementation = self.attn_implementation
        model = hollow_model(config, dtype)
        weights.check(model)
        model.generation_config = GenerationConfig.from_model_config(config)
        return Loaded(model, processor, weights)


def _load(loader: Callable[..., Any], where: dict[str, Any], what: str, **options: Any) -> Any:
    try:
        with quiet():
            return loader(**where, **options)
    except Exception as error:  # the libraries agree on no class for a missing or damaged file
        raise UserError(f"{what} cannot be loaded: {one_line(error)}") from error


def _config(path: str, where: dict[str, Any]) -> Phi3VConfig:
    what = f"{path}: config.json"
    values, _ = _load(Phi3VConfig.get_config_dict, where, what)
    kind = values.get("model_type")
    if kind != Phi3VConfig.model_type:
        raise UserError(f"{what} is of model type {kind}, not {Phi3VConfig.model_type}")
    config: Phi3VConfig = _load(Phi3VConfig.from_pretrained, where, what)
    return config


def _check_fit(path: str, config: Phi3VConfig, processor: Phi3VProcessor) -> None:
    side, tokens = config.crop_size, config.crop_grid**2
    image_processor, words = processor.image_processor, len(processor.tokenizer)
    if (image_processor.crop_size, image_processor.num_img_tokens) != (side, tokens):
        raise UserError(
            f"{path}: preprocessor_config.json makes crops of {image_processor.crop_size} pixels "
            f"and {image_processor.num_img_tokens} tokens, config.json wants {side} and {tokens}"
        )
    if words > config.vocab_size:
        raise UserError(
            f"{path}: tokenizer.json has {words} ids, config.json has a vocab_size of "
            f"{config.vocab_size}"
        )
