"""Where a model comes from: a checkpoint, or nothing but a configuration and texts.

    loaded = Checkpoint("assets/tiny").load()
    loaded.model.generate(**loaded.processor(text=prompt, images=[picture]))

A checkpoint is what Microsoft publishes and what `save` writes: config.json, safetensors,
tokenizer.json and preprocessor_config.json or processor_config.json. No code in it is ever run.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPVisionConfig, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging

from phi3v.errors import UserError
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.processing import Phi3VProcessor
from phi3v.model.tokenization import CHAT_TOKENS, load_tokenizer, train_tokenizer

Texts = Callable[[], Iterable[str]]
DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flex_attention")


@dataclass
class Loaded:
    """A model and the processor that belongs to it."""

    model: Phi3VForCausalLM
    processor: Phi3VProcessor

    def save(self, folder: str | Path) -> None:
        """Writes a folder that `Checkpoint` loads, in the published layout."""
        with _quiet():
            self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)


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

    def load(self, texts: Texts | None = None) -> Loaded:
        """Loads model and processor; every weight must be there, and none may be left over.

        Args:
            texts: not used: a checkpoint brings its tokenizer.

        Raises:
            UserError: something is missing, damaged or does not fit together.
        """
        dtype = _dtype(self.dtype)
        _check_attention(self.attn_implementation)
        _check_crops(self.num_crops)
        where = self._where()
        config = _config(self.path, where)
        processor = self._processor(where)
        _check_fit(self.path, config, processor)
        model = self._model(where, config, dtype)
        return _ready(Loaded(model, processor), self.gradient_checkpointing)

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


@dataclass
class Scratch:
    """A model with random weights and a tokenizer trained on the texts it is given.

    Args:
        config: keys of `Phi3VConfig`, `vision_config` among them.
        vocab_size: rows of the embedding, and the most ids the tokenizer may have.
        num_crops: how many crops a picture may have.
        seed: of the weights.
        dtype: of the weights in memory.
        attn_implementation: "sdpa", "eager", "flash_attention_2" or "flex_attention".
        gradient_checkpointing: trades time for memory in training.
        learning_rate: what to train this model with, by kind of adapter ("lora", "full").
    """

    config: dict[str, Any]
    vocab_size: int
    num_crops: int
    seed: int = 0
    dtype: str = "float32"
    attn_implementation: str = "sdpa"
    gradient_checkpointing: bool = False
    learning_rate: dict[str, float] = field(default_factory=dict)

    def load(self, texts: Texts | None = None) -> Loaded:
        """Trains the tokenizer and draws the weights.

        Args:
            texts: called once; what it yields is what the vocabulary is learnt from.

        Raises:
            UserError: there are no texts, or the configuration is wrong.
        """
        if texts is None:
            raise UserError("model: a model from scratch trains its tokenizer and needs texts")
        dtype = _dtype(self.dtype)
        _check_attention(self.attn_implementation)
        _check_crops(self.num_crops)
        _check_keys("model.config", self.config, Phi3VConfig)
        _check_keys(
            "model.config.vision_config", self.config.get("vision_config"), CLIPVisionConfig
        )
        try:
            tokenizer = train_tokenizer(texts(), self.vocab_size)
            config = self._config(tokenizer)
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise UserError(f"model.config: {_one_line(error)}") from error
        tokenizer.model_max_length = config.max_position_embeddings
        image_processor = Phi3VImageProcessor(
            num_crops=self.num_crops,
            num_img_tokens=config.crop_grid**2,
            crop_size=config.crop_size,
        )
        processor = Phi3VProcessor(image_processor, tokenizer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            # Not converted afterwards: rope's frequencies stay in float32.
            model = Phi3VForCausalLM._from_config(config, dtype=dtype)
        return _ready(Loaded(model, processor), self.gradient_checkpointing)

    def _config(self, tokenizer: PreTrainedTokenizerFast) -> Phi3VConfig:
        values: dict[str, Any] = copy.deepcopy(self.config) | {
            "vocab_size": self.vocab_size,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "attn_implementation": self.attn_implementation,
        }
        return Phi3VConfig(**values)


def _ready(loaded: Loaded, gradient_checkpointing: bool) -> Loaded:
    # Published generation configs end at </s>, which the model never says.
    generation, tokenizer = loaded.model.generation_config, loaded.processor.tokenizer
    generation._from_model_config = False
    generation.eos_token_id = loaded.processor.end_of_turn_ids
    generation.bos_token_id = tokenizer.bos_token_id
    generation.pad_token_id = tokenizer.pad_token_id
    if gradient_checkpointing:
        loaded.model.activation_checkpointing_enable()
    loaded.model.eval()
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and tables off the terminal; errors say it in one line."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _load(loader: Callable[..., Any], where: dict[str, Any], what: str, **options: Any) -> Any:
    try:
        with _quiet():
            return loader(**where, **options)
    except Exception as error:  # the libraries agree on no class for a missing or damaged file
        raise UserError(f"{what} cannot be loaded: {_one_line(error)}") from error


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


def _check_keys(where: str, values: dict[str, Any] | None, kind: type[PreTrainedConfig]) -> None:
    # transformers takes any key and uses none that it does not know.
    known = {entry.name for entry in fields(kind)} | {"rope_scaling", "rope_theta"}
    for key in values or {}:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise UserError(f"{where}: there is no key {key}{hint}")


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise UserError(f"model.dtype: {name} is not one of {', '.join(DTYPES)}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _check_attention(name: str) -> None:
    if name not in ATTENTIONS:
        raise UserError(f"model.attn_implementation: {name} is not one of {', '.join(ATTENTIONS)}")


def _check_crops(number: int | None) -> None:
    if number is not None and number < 1:
        raise UserError(f"model.num_crops={number}: a picture has at least one crop")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
