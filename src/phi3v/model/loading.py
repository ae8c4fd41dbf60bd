"""What the ways to a model have in common, whether it comes from files or from nothing."""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils import logging

from phi3v.errors import UserError
from phi3v.files import as_open_as_folder
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.processing import Phi3VProcessor
from phi3v.model.slices import WeightFiles

Texts = Callable[[], Iterable[str]]
DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")


@dataclass
class Loaded:
    """A model and the processor that belongs to it.

    Attributes:
        weights: Where the model has none yet, what is to be read into it once it is divided.
    """

    model: Phi3VForCausalLM
    processor: Phi3VProcessor
    weights: WeightFiles | None = None

    def save(self, folder: str | Path) -> None:
        """Writes a folder that `Checkpoint` loads, in the published layout."""
        with quiet():
            self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)
        as_open_as_folder(folder)


def ready(loaded: Loaded, gradient_checkpointing: bool) -> Loaded:
    """The same, ready to be used: it ends its answers where a turn ends, and is in eval mode."""
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
def quiet() -> Iterator[None]:
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


def torch_dtype(name: str) -> torch.dtype:
    """The type of that name.

    Raises:
        UserError: when weights cannot be kept in it.
    """
    if name not in DTYPES:
        raise UserError(f"model.dtype: {name} is not one of {', '.join(DTYPES)}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def check_attention(name: str) -> None:
    """Refuses an implementation of attention that is not one of `ATTENTIONS`."""
    if name not in ATTENTIONS:
        raise UserError(f"model.attn_implementation: {name} is not one of {', '.join(ATTENTIONS)}")


def check_crops(number: int | None) -> None:
    """Refuses pictures without a crop; None is whatever the checkpoint says."""
    if number is not None and number < 1:
        raise UserError(f"model.num_crops={number}: a picture has at least one crop")


def one_line(error: BaseException) -> str:
    """The error's message, cut after 300 characters."""
    return " ".join(str(error).split())[:300]
