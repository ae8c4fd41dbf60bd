"""Phi-3-Vision itself: configuration, pictures, prompts, decoder, loading. No remote code, ever.

Importing this package makes transformers' Auto classes know "phi3_v".
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from phi3v.model.checkpoint import Checkpoint
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.loading import Loaded
from phi3v.model.modeling import Phi3VForCausalLM, Phi3VModel
from phi3v.model.processing import Phi3VProcessor
from phi3v.model.scratch import Scratch

__all__ = [
    "Checkpoint",
    "Loaded",
    "Phi3VConfig",
    "Phi3VForCausalLM",
    "Phi3VImageProcessor",
    "Phi3VModel",
    "Phi3VProcessor",
    "Scratch",
]

AutoConfig.register(Phi3VConfig.model_type, Phi3VConfig, exist_ok=True)
AutoModel.register(Phi3VConfig, Phi3VModel, exist_ok=True)
AutoModelForCausalLM.register(Phi3VConfig, Phi3VForCausalLM, exist_ok=True)
AutoModelForImageTextToText.register(Phi3VConfig, Phi3VForCausalLM, exist_ok=True)
AutoTokenizer.register(Phi3VConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)
AutoImageProcessor.register(
    Phi3VConfig,
    image_processor_classes={"pil": Phi3VImageProcessor, "torchvision": Phi3VImageProcessor},
    exist_ok=True,
)
AutoProcessor.register(Phi3VConfig, Phi3VProcessor, exist_ok=True)
