"""Answers as the model writes them by itself: greedy, with the cache, until it ends its turn.

    texts = generate_answers(model, processor, batch, max_new_tokens=64)

Used by validation during training and by evaluation afterwards, so that both read the same text.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from transformers import GenerationConfig

from phi3v.model import Phi3VForCausalLM, Phi3VProcessor
from phi3v.training.loss import base_of
from phi3v.training.sharding import is_sharded


@torch.no_grad()
def generate_answers(
    model: nn.Module, processor: Phi3VProcessor, batch: Mapping[str, Any], max_new_tokens: int
) -> list[str]:
    """Generate one answer for each row of a batch of prompts.

    Args:
        model: Phi-3-Vision, with or without a PEFT adapter; its modules' modes come back as
            they were.
        processor: Decodes the tokens and knows which ones end a turn.
        batch: Prompts padded on the left, (rows, tokens): prompt_input_ids and
            prompt_attention_mask beside a batch with labels, input_ids and attention_mask in a
            batch of prompts alone; pixel_values and image_sizes where there are pictures.
        max_new_tokens: An answer that is longer is cut here.

    Returns:
        The answers in the order of the rows, without the token that ended them.

    Raises:
        ValueError: When the batch holds answers but no prompts.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # no dropout, and no recomputation, which would switch the cache off
    try:
        tokens = _greedy(model, processor, batch, max_new_tokens)
    finally:
        for module, training in modes:
            module.training = training
    texts: list[str] = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [text.strip() for text in texts]


def _greedy(
    model: nn.Module, processor: Phi3VProcessor, batch: Mapping[str, Any], max_new_tokens: int
) -> Tensor:
    """The new tokens, (rows, new tokens); rows that ended early are filled with padding."""
    prefix = "prompt_" if "labels" in batch else ""
    if f"{prefix}input_ids" not in batch:
        raise ValueError("the batch holds no prompts; collate it in mode 'eval' or 'prompt'")
    prompt = batch[f"{prefix}input_ids"]
    pictures = {
        name: batch[name] for name in ("pixel_values", "image_sizes") if batch.get(name) is not None
    }
    base = base_of(model)
    # Ranks that share the weights take the same number of passes, and all of them look at pictures
    # in the same ones.
    together = is_sharded(model)
    # transformers types `generate` for its own classes; ours has it by inheritance.
    generate: Callable[..., Tensor] = getattr(base, "generate")  # noqa: B009
    # What the model's folder says of how to generate would be taken for whatever is not said here,
    # and penalties, beams or a limit of time would change answers and figures unseen.
    stated, base.generation_config = base.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        out = generate(
            input_ids=prompt,
            attention_mask=batch[f"{prefix}attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=not (together and _outgrows_short_rope(base, prompt, max_new_tokens)),
            synced_gpus=together,
            eos_token_id=list(processor.end_of_turn_ids),
            pad_token_id=processor.tokenizer.pad_token_id,
            **pictures,
        )
    finally:
        base.generation_config = stated
    return out[:, prompt.shape[1] :]


def _outgrows_short_rope(base: Phi3VForCausalLM, prompt: Tensor, max_new_tokens: int) -> bool:
    """Whether the answer of any rank may pass the length at which a prompt runs once more.

    A rank that did so alone would look at its pictures while the others write on.
    """
    if not base.config.switches_rope:
        return False
    longest = torch.tensor(prompt.shape[1] + max_new_tokens, device=prompt.device)
    distributed.all_reduce(longest, distributed.ReduceOp.MAX)
    return bool(longest > base.config.original_max_position_embeddings)
