"""Where a model comes from: a published checkpoint, or nothing but a configuration and texts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from phi3v.errors import UserError
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.processing import Phi3VProcessor
from phi3v.model.tokenization import train_tokenizer

Texts = Callable[[], Iterable[str]]


@dataclass
class Loaded:
    """A model and the processor that belongs to it."""

    model: Phi3VForCausalLM
    processor: Phi3VProcessor


@dataclass
class Scratch:
    """A model with random weights and a tokenizer trained on the texts it is given."""

    config: dict[str, Any]
    vocab_size: int
    num_crops: int
    seed: int = 0
    dtype: str = "float32"
    attn_implementation: str = "sdpa"
    gradient_checkpointing: bool = False
    learning_rate: dict[str, float] = field(default_factory=dict)

    def load(self, texts: Texts | None = None) -> Loaded:
        """Trains the tokenizer, draws the weights."""
        if texts is None:
            raise UserError("model: Scratch trains a tokenizer and needs texts")
        values = dict(self.config)
        limit = values.get("max_position_embeddings", 4096)
        tokenizer = train_tokenizer(texts(), self.vocab_size, limit)
        config = Phi3VConfig(
            **values,
            vocab_size=self.vocab_size,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        image_processor = Phi3VImageProcessor(
            num_crops=self.num_crops,
            num_img_tokens=config.crop_grid**2,
            crop_size=config.vision_config.image_size,
        )
        processor = Phi3VProcessor(image_processor, tokenizer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            config._attn_implementation = self.attn_implementation
            model = Phi3VForCausalLM(config).to(getattr(torch, self.dtype))
        model.generation_config.eos_token_id = processor.end_of_turn_ids
        if self.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        return Loaded(model.eval(), processor)
