"""Pictures in, answers out: the one way in which evaluations and `phi3v predict` generate.

for place, text in answers(model, collate, examples, order, batch_size=8, max_new_tokens=96):
    texts[place] = text
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from phi3v.data import Encoded, Example
from phi3v.data.collation import Collator
from phi3v.errors import UserError
from phi3v.training import generate_answers

Refuse = Callable[[int, UserError], None]


def answers(
    model: nn.Module,
    collate: Collator,
    examples: Sequence[Example],
    order: Sequence[int],
    *,
    batch_size: int,
    max_new_tokens: int,
    refuse: Refuse | None = None,
) -> Iterator[tuple[int, str]]:
    """Generate one answer for each example.

    Args:
        model: Phi-3-Vision, with or without adapter, on the device that it shall run on.
        collate: In mode "prompt".
        examples: What is asked about.
        order: Places in `examples`, in the order in which they make up batches.
        batch_size: Examples of a batch.
        max_new_tokens: Longer answers are cut here.
        refuse: Told of an example that cannot be encoded, which then is left out of its batch.

    Yields:
        Places and their texts, batch by batch.

    Raises:
        UserError: For an example that cannot be encoded, where there is no `refuse`.
    """
    device = next(model.parameters()).device
    for start in range(0, len(order), batch_size):
        encoded: dict[int, Encoded] = {}
        for place in order[start : start + batch_size]:
            try:
                encoded[place] = collate.encode(examples[place])
            except UserError as error:
                if refuse is None:
                    raise
                refuse(place, error)
        if not encoded:
            continue
        batch = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in collate.stack(list(encoded.values())).items()
        }
        texts = generate_answers(model, collate.encode.processor, batch, max_new_tokens)
        yield from zip(encoded, texts, strict=True)
