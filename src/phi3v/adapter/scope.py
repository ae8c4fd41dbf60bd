"""Which modules of Phi-3-Vision an adapter may touch, by part.

A scope is any selection of the parts "decoder", "projector" and "vision". Names of target modules
are looked up inside their own part only: "q_proj" exists in CLIP and not in the decoder (which has
a fused "qkv_proj"), so a name that is searched in the whole model trains the wrong tower without a
word. Modules whose output nothing reads (CLIP's last layer, its final norm) never count.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from torch import nn

from phi3v.errors import UserError
from phi3v.model import Phi3VConfig, Phi3VForCausalLM
from phi3v.model.parts import PARTS, has_no_gradient, part_of


def check_scope(scope: Iterable[str], key: str = "adapter scope") -> tuple[str, ...]:
    """Return the scope in the order of the model's parts.

    Args:
        scope: Names of parts.
        key: What the list is called in messages.

    Raises:
        UserError: When it is empty or names a part that does not exist.
    """
    wanted = (scope,) if isinstance(scope, str) else tuple(scope)
    for part in wanted:
        if part not in PARTS:
            near = get_close_matches(part, PARTS, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"the parts are {', '.join(PARTS)}"
            raise UserError(f"{key}: there is no part '{part}'; {hint}")
    if not wanted:
        raise UserError(f"{key}: empty, name at least one of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in wanted)


def linear_names(model: nn.Module, config: Phi3VConfig, part: str) -> list[str]:
    """Full names of the linear modules of one part that can get a gradient, in model order."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and part_of(f"{name}.weight") == part
        and not has_no_gradient(f"{name}.weight", config)
    ]


def linear_short_names(model: Phi3VForCausalLM) -> list[str]:
    """What a target can be called, over all parts, also where an adapter is attached already."""
    names = (name for part in PARTS for name in linear_names(model, model.config, part))
    own = (name.removesuffix(".base_layer") for name in names if ".lora_" not in name)
    return list(dict.fromkeys(short_name(name) for name in own))


def resolve_targets(names: Sequence[str], target: str, part: str) -> list[str]:
    """The modules among `names` that `target` means: a full name or the end of one.

    Raises:
        UserError: When there is none; the message lists the short names there are.
    """
    found = [name for name in names if ends_with(name, target)]
    if not found:
        there = ", ".join(dict.fromkeys(short_name(name) for name in names))
        raise UserError(f"adapter target '{target}' matches nothing in the {part}; it has: {there}")
    return found


def portable_targets(model: nn.Module, wanted: dict[str, list[str]]) -> list[str]:
    """The shortest list of names for adapter_config.json that means exactly the wanted modules.

    Readers of PEFT folders match names by their end over the whole model. A short name stays
    short where that finds the same modules, otherwise its full names are written out.

    Args:
        model: The base model.
        wanted: Target as configured -> full names of the modules that it stands for.
    """
    everything = [name for name, _ in model.named_modules()]
    chosen = {name for names in wanted.values() for name in names}
    written: set[str] = set()
    for target, names in wanted.items():
        hits = {name for name in everything if ends_with(name, target)}
        written.update([target] if hits <= chosen else names)
    return sorted(written)


def short_name(name: str) -> str:
    """The last word of a module name, with the word before it where the last is a number."""
    words = name.split(".")
    return ".".join(words[-2:]) if words[-1].isdigit() else words[-1]


def ends_with(name: str, target: str) -> bool:
    """Whether a target means a module: it is its name, or the end of that from a dot on."""
    return name == target or name.endswith(f".{target}")
