"""The loss on the supervised tokens alone.

Only where the next token is supervised does the hidden state go through the language head: with a
vocabulary of 32,064 the logits of a picture's 2,000 tokens would be most of a step's memory, and
none of them would count.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from phi3v.adapter import PeftModel
from phi3v.model import Phi3VForCausalLM

IGNORED = -100  # label of a token that is not supervised


def base_of(model: nn.Module) -> Phi3VForCausalLM:
    """The Phi-3-Vision inside a PEFT wrapper, or the model itself; adapters stay in place."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, Phi3VForCausalLM):
        raise TypeError(f"expected a Phi-3-Vision model, got {type(base).__name__}")
    return base


def supervised_loss(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, int]:
    """Cross entropy of the supervised tokens, in float32.

    Args:
        model: Phi-3-Vision, with or without a PEFT adapter.
        batch: input_ids, attention_mask and labels, (rows, tokens) each; pixel_values and
            image_sizes where the prompts have pictures. Labels are -100 where not supervised.

    Returns:
        The summed cross entropy and the number of supervised tokens; their quotient is the loss
        that `model(..., labels=...)` gives. Both are 0 where nothing is supervised, and the sum
        still has a gradient of zeros then.
    """
    base = base_of(model)
    targets = batch["labels"][:, 1:]
    wanted = targets != IGNORED
    count = int(wanted.sum())
    hidden = base.model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        pixel_values=batch.get("pixel_values"),
        image_sizes=batch.get("image_sizes"),
        use_cache=False,
    ).last_hidden_state
    logits = base.lm_head(hidden[:, :-1][wanted])
    total: Tensor = functional.cross_entropy(logits.float(), targets[wanted], reduction="sum")
    return total, count
