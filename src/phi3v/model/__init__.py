"""Phi-3-Vision itself: configuration, pictures, prompts, decoder, loading. No remote code."""

from phi3v.model.checkpoint import Loaded, Scratch
from phi3v.model.configuration import Phi3VConfig
from phi3v.model.image_processing import Phi3VImageProcessor
from phi3v.model.modeling import Phi3VForCausalLM
from phi3v.model.processing import Phi3VProcessor

__all__ = [
    "Loaded",
    "Phi3VConfig",
    "Phi3VForCausalLM",
    "Phi3VImageProcessor",
    "Phi3VProcessor",
    "Scratch",
]
