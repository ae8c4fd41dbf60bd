"""LoRA and its kin (rsLoRA, DoRA, PiSSA) through PEFT, attached by scope.

    model = LoraAdapter(r=16, alpha=32, dropout=0.0, scope=["decoder"]).attach(model)

Only the adapter trains afterwards, and what is named in `whole`. Its matrices are fp32, also on a
bf16 base. The random start comes from torch's global generator, so `torch.manual_seed` before
`attach` makes it repeatable.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from phi3v.adapter.beside import check_whole, settings_of, train_whole
from phi3v.adapter.continuing import check_start, start_from
from phi3v.adapter.made_on import remember, sample
from phi3v.adapter.reading import changes_start
from phi3v.adapter.scope import (
    check_scope,
    linear_names,
    portable_targets,
    resolve_targets,
)
from phi3v.adapter.starts import repeatable_starts
from phi3v.errors import UserError
from phi3v.model import Phi3VForCausalLM
from phi3v.model.parts import PARTS

DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    "decoder": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "projector": ("img_projection.0", "img_projection.2"),
    "vision": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
}
# "default" starts A at Kaiming uniform and B at zero; all but the PiSSA kinds and OLoRA leave the
# base as it is, those subtract their start from it.
INITS = ("default", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_<n>")
_INIT = re.compile(r"default|gaussian|orthogonal|olora|pissa|pissa_niter_[1-9]\d*")


@dataclass(frozen=True)
class LoraAdapter:
    """Low-rank adapters on the linear modules of the parts in scope.

    Attributes:
        r: Rank.
        alpha: Scale; an adapter's output is multiplied by alpha / r (rsLoRA: alpha / sqrt(r)).
        dropout: Share of an adapter's inputs that is dropped in training.
        scope: Parts that get adapters: any of decoder, projector, vision.
        targets: Part -> module names, each a full name or the end of one. A part that is left out
            uses `DEFAULT_TARGETS`; parts that are not in scope are not looked at.
        use_dora: Learn each weight's magnitude apart from its direction (DoRA).
        use_rslora: Scale by the square root of the rank (rsLoRA).
        init: One of `INITS`.
        bias: "none", or "lora_only" to train the biases of adapted modules as well.
        whole: Parts that train whole beside the adapters: any of projector, vision.
        init_from: A PEFT folder, or a run: the adapter begins with the weights that it has there.
    """

    r: int
    alpha: float
    dropout: float = 0.0
    scope: Sequence[str] = ("decoder",)
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    use_dora: bool = False
    use_rslora: bool = False
    init: str = "default"
    bias: Literal["none", "lora_only"] = "none"
    whole: Sequence[str] = ()
    init_from: str | None = None
    kind: ClassVar[str] = "lora"

    def __post_init__(self) -> None:
        if self.r < 1:
            raise UserError(f"adapter r={self.r}: the rank must be at least 1")
        if self.alpha <= 0:
            raise UserError(f"adapter alpha={self.alpha}: must be above 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"adapter dropout={self.dropout}: must be from 0 to below 1")
        if not _INIT.fullmatch(self.init):
            raise UserError(f"adapter init='{self.init}': use one of {', '.join(INITS)}")
        if self.init == "orthogonal" and self.r % 2:
            raise UserError(f"adapter init=orthogonal: needs an even rank, r={self.r} is odd")
        if self.bias not in ("none", "lora_only"):
            raise UserError(f"adapter bias='{self.bias}': use none or lora_only")
        check_whole(self.whole, check_scope(self.scope))
        for part in self.targets:
            if part not in PARTS:
                raise UserError(
                    f"adapter targets: there is no part '{part}'; the parts are {', '.join(PARTS)}"
                )
        if self.init_from:
            compared = ("r", "alpha", "use_rslora", "use_dora", "bias", "whole")
            settings = {key: getattr(self, key) for key in compared}
            settings["scope"] = check_scope(self.scope)
            settings["init"] = self.init if self._subtracts else None
            settings["targets"] = {**DEFAULT_TARGETS, **self.targets}
            check_start(self.init_from, settings)

    @property
    def reads_weights(self) -> bool:
        """Whether the base's numbers decide the start."""
        return self.use_dora or self._subtracts

    @property
    def _subtracts(self) -> bool:
        """Whether the start is taken out of the base's weights."""
        return self.init.startswith(("olora", "pissa"))

    def attach(self, model: Phi3VForCausalLM) -> PeftModel:
        """Put the adapter on the model, in place, and freeze everything else.

        Raises:
            UserError: When a target matches nothing inside its part, biases would train that are
                not in float32, a start out of the weights is wanted of weights in four bits, or the
                adapter to begin with does not fit.
        """
        if getattr(model, "is_quantized", False) and self.init.startswith(("olora", "pissa")):
            raise UserError(
                f"adapter init={self.init}: takes its start out of the weights, which"
                " model.quantization keeps in four bits; use init=default"
            )
        targets = portable_targets(model, self._modules(model))
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.r,
            lora_alpha=cast(int, self.alpha),  # PEFT only divides it by the rank
            lora_dropout=self.dropout,
            target_modules=targets,
            bias=self.bias,
            use_dora=self.use_dora,
            use_rslora=self.use_rslora,
            init_lora_weights=cast(Any, True if self.init == "default" else self.init),
        )
        adapted = wrap(model, config)
        train_whole(adapted, model.config, check_whole(self.whole, self.scope))
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                raise UserError(
                    f"adapter bias={self.bias}: {name} is"
                    f" {str(parameter.dtype).removeprefix('torch.')}, in which small steps vanish;"
                    " give model.dtype=float32"
                )
        if self.init_from:
            start_from(adapted, self.init_from)
        return adapted

    def _modules(self, model: Phi3VForCausalLM) -> dict[str, list[str]]:
        """Target as configured -> full names of its modules, over all parts in scope."""
        wanted: dict[str, list[str]] = {}
        for part in check_scope(self.scope):
            names = linear_names(model, model.config, part)
            for target in self.targets.get(part, DEFAULT_TARGETS[part]):
                found = resolve_targets(names, target, part)
                wanted[target] = wanted.get(target, []) + found
        if not wanted:
            raise UserError("adapter targets: none given for any part in scope")
        return wanted


def wrap(model: Phi3VForCausalLM, config: LoraConfig) -> PeftModel:
    """Put the adapter that a PEFT configuration describes on the model, in place.

    Its `modules_to_save` are noted, and left as they are: see `phi3v.adapter.beside`.
    """
    modules, config.modules_to_save = config.modules_to_save, None
    numbers = sample(model) if changes_start(config) else {}
    with quiet_wrapping(), repeatable_starts():
        # PEFT is typed for transformers' own model classes; ours is one by inheritance.
        adapted = cast(PeftModel, get_peft_model(cast(PreTrainedModel, model), config))
    settings_of(adapted).modules_to_save = modules
    remember(adapted, numbers)
    return adapted


@contextmanager
def quiet_wrapping() -> Iterator[None]:
    """Keep to itself what PEFT causes when it puts an adapter on a model."""
    with warnings.catch_warnings():
        # PEFT reads the attribute by the name that transformers has deprecated.
        warnings.filterwarnings(
            "ignore", message=".*is_gradient_checkpointing", category=FutureWarning
        )
        yield
