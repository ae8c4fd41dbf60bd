"""Every kind of adapter on every selection of parts, and what of a model it declares to train.

for name, scope, adapter in EVERY: ...
"""

from itertools import combinations

from phi3v.adapter import FullFineTuning, LoraAdapter
from phi3v.adapter.lora import DEFAULT_TARGETS
from phi3v.model.parts import PARTS, has_no_gradient, part_of

SCOPES = [list(parts) for count in (1, 2, 3) for parts in combinations(PARTS, count)]
SETTINGS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init": "pissa"},
    "fast pissa": {"init": "pissa_niter_2"},
    "olora": {"init": "olora"},
    "bias": {"bias": "lora_only"},
}


def whole_beside(scope):
    """The parts that can train whole beside a LoRA on this scope."""
    return [part for part in ("projector", "vision") if part not in scope]


EVERY = [
    *((name, scope, LoraAdapter(r=2, alpha=4, scope=scope, **settings))
      for name, settings in SETTINGS.items() for scope in SCOPES),
    *(("whole beside", scope, LoraAdapter(r=2, alpha=4, scope=scope, whole=whole_beside(scope)))
      for scope in SCOPES if whole_beside(scope)),
    *(("full", scope, FullFineTuning(scope=scope)) for scope in SCOPES),
]  # fmt: skip
NAMES = [f"{name}-{'+'.join(scope)}" for name, scope, _ in EVERY]


def declared(name, scope, model, config):
    """The names of what trains, from the names of the model's weights alone."""
    names = [one for one, _ in model.named_parameters() if not has_no_gradient(one, config)]
    if name == "full":
        return {one for one in names if part_of(one) in scope}
    suffixes = [f".{target}." for part in scope for target in DEFAULT_TARGETS[part]]
    found = {one for one in names if ".lora_" in one and part_of(one) in scope}
    if name == "bias":
        found |= {
            one for one in names
            if one.endswith(".bias") and part_of(one) in scope and any(s in one for s in suffixes)
        }  # fmt: skip
    if name == "whole beside":
        found |= {one for one in names if part_of(one) in whole_beside(scope)}
    return found
