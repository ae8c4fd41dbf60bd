"""The three parts of Phi-3-Vision that are adapted, optimised and counted separately."""

from phi3v.model.configuration import Phi3VConfig

PARTS = ("decoder", "projector", "vision")
_VISION = "model.vision_embed_tokens."


def published_name(parameter_name: str) -> str:
    """The name that a weight of the base has in a published checkpoint.

    Args:
        parameter_name: dotted name, as it is or in a model with a PEFT adapter.
    """
    return parameter_name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def part_of(parameter_name: str) -> str:
    """The part a parameter or module belongs to: "decoder", "projector" or "vision".

    Args:
        parameter_name: dotted name, with or without PEFT's prefix "base_model.model.".
    """
    name = "model." + parameter_name.removeprefix("base_model.model.").removeprefix("model.")
    if name.startswith(_VISION + "img_processor."):
        return "vision"
    return "projector" if name.startswith(_VISION) else "decoder"


def has_no_gradient(name: str, config: Phi3VConfig) -> bool:
    """Whether a parameter can never influence the output: CLIP above the layer that is read.

    Args:
        name: dotted name, with or without PEFT's prefix.
        config: says which layer is read.
    """
    tower = ".img_processor.vision_model."
    if tower not in name:
        return False
    inner = name.split(tower, 1)[1].split(".")
    if inner[0] == "post_layernorm":
        return True
    return inner[:2] == ["encoder", "layers"] and int(inner[2]) >= config.vision_depth
