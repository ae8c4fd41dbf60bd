"""A model from nothing but a configuration and texts.

loaded = Scratch(config={"hidden_size": 128, ...}, vocab_size=704, num_crops=4).load(texts)
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import copy
import difflib
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPVisionConfig, PreTrainedConfig, PreTrainedTokenizerFast

from phi3v.errors import UserError
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.loading import (
    Loaded,
    Texts,
    check_attention,
    check_crops,
    one_line,
    ready,
    torch_dtype,
)
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.processing import Phi3VProcessor
from phi3v.model.tokenization import train_tokenizer


@dataclass
class Scratch:
    """A model with random weights and a tokenizer trained on the texts it is given.

    Args:
        config: keys of `Phi3VConfig`, `vision_config` among them.
        vocab_size: rows of the embedding, and the most ids the tokenizer may have.
        num_crops: how many crops a picture may have.
        seed: of the weights.
        dtype: of the weights in memory.
        attn_implementation: "sdpa", "eager" or "flash_attention_2".
        gradient_checkpointing: trades time for memory in training.
        examples_at_once: how many examples a device holds, to "train" on and to "generate" for.
        learning_rate: what to train this model with, by kind of adapter ("lora", "full").
    """

    config: dict[str, Any]
    vocab_size: int
    num_crops: int
    seed: int = 0
    dtype: str = "float32"
    attn_implementation: str = "sdpa"
    gradient_checkpointing: bool = False
    examples_at_once: dict[str, int] = field(default_factory=dict)
    learning_rate: dict[str, float] = field(default_factory=dict)

    def load(
        self,
        texts: Texts | None = None,
        hollow: bool = False,
        device: torch.device | None = None,
    ) -> Loaded:
        """Trains the tokenizer and draws the weights.

        Args:
            texts: called once; what it yields is what the vocabulary is learnt from.
            hollow: not used: there are no files that could be read later.
            device: not used: the same seed has to draw the same weights everywhere.

        Raises:
            UserError: there are no texts, or the configuration is wrong.
        """
        if texts is None:
            raise UserError("model: a model from scratch trains its tokenizer and needs texts")
        dtype = torch_dtype(self.dtype)
        check_attention(self.attn_implementation)
        check_crops(self.num_crops)
        _check_keys("model.config", self.config, Phi3VConfig)
        _check_keys(
            "model.config.vision_config", self.config.get("vision_config"), CLIPVisionConfig
        )
        try:
            tokenizer = train_tokenizer(texts(), self.vocab_size)
            config = self._config(tokenizer)
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise UserError(f"model.config: {one_line(error)}") from error
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
        return ready(Loaded(model, processor), self.gradient_checkpointing)

    def _config(self, tokenizer: PreTrainedTokenizerFast) -> Phi3VConfig:
        values: dict[str, Any] = copy.deepcopy(self.config) | {
            "vocab_size": self.vocab_size,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "attn_implementation": self.attn_implementation,
        }
        return Phi3VConfig(**values)


def _check_keys(where: str, values: dict[str, Any] | None, kind: type[PreTrainedConfig]) -> None:
    # transformers takes any key and uses none that it does not know.
    known = {entry.name for entry in fields(kind)} | {"rope_scaling", "rope_theta"}
    for key in values or {}:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise UserError(f"{where}: there is no key {key}{hint}")
