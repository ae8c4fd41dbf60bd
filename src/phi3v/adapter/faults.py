"""What PEFT reads in adapter_config.json without a word and cannot compute with.

problem = first_fault(config)     # None: nothing of that kind
"""

import math

from peft import LoraConfig

_BIASES = ("none", "all", "lora_only")


def first_fault(config: LoraConfig) -> str | None:
    """The first setting that no adapter can have; what PEFT checks itself is left to it."""
    if not _is_number(config.r, (int,)) or config.r < 1:
        return f"its r is {config.r!r}, which has to be a whole number above 0"
    if not _is_number(config.lora_alpha, (int, float)) or not math.isfinite(config.lora_alpha):
        return f"its lora_alpha is {config.lora_alpha!r}, which has to be a number"
    if not _is_number(config.lora_dropout, (int, float)):
        return f"its lora_dropout is {config.lora_dropout!r}, which has to be a number"
    if not _are_targets(config.target_modules):
        return f"its target_modules is {config.target_modules!r}, which must be names or a pattern"
    if _names_embeddings(config.target_modules):
        return (
            f"its target_modules are {config.target_modules!r}: an adapter on the embeddings of "
            "tokens is not read here; train it without"
        )
    if config.bias not in _BIASES:
        return f"its bias is {config.bias!r}, which has to be one of {', '.join(_BIASES)}"
    if not isinstance(config.init_lora_weights, bool | str | None):
        return f"its init_lora_weights is {config.init_lora_weights!r}, which has to be a name"
    if not isinstance(config.modules_to_save, list | None):
        return f"its modules_to_save is {config.modules_to_save!r}, which has to be a list"
    return None


def _are_targets(value: object) -> bool:
    if isinstance(value, list | set):
        return all(isinstance(name, str) for name in value)
    return isinstance(value, str | None)


def _names_embeddings(targets: object) -> bool:
    """Whether PEFT would put an adapter on what is no linear module."""
    names = targets if isinstance(targets, list | set) else [targets]
    return any(str(name).split(".")[-1] == "embed_tokens" for name in names)


def _is_number(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
