"""Encoded examples -> one batch, padded no further than its longest row and most crops.

    collate = Collator(processor, task, max_length=4096)                 # mode "train"
    batch = collate(examples)                                            # dict of tensors
    prompts = Collator(processor, task, 4096, mode="prompt")(examples)   # for generate()

Batches for training are padded on the right and carry labels; prompts are padded on the left.
Mode "eval" gives both from one decoding of the pictures.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import torch
from torch import Tensor

from phi3v.data.encoding import Encoded, Encoder, Picture
from phi3v.data.example import Example
from phi3v.data.pictures import open_picture
from phi3v.errors import UserError
from phi3v.model import Phi3VProcessor
from phi3v.task import Task

IGNORED = -100
Mode = Literal["train", "prompt", "eval"]


class Batch(TypedDict, total=False):
    """What a step gets; R rows, L ids in the longest, P pictures in all rows, C crops.

    Attributes:
        ids: The examples' ids.
        truths: The examples' values.
        input_ids: int64 (R, L); in mode "prompt" the prompts alone, padded on the left.
        attention_mask: int64 (R, L), 0 on padding.
        labels: int64 (R, L), -100 everywhere but on the answer and its <|end|>; not shifted.
        prompt_input_ids: int64 (R, longest prompt), left padded; mode "eval" only.
        prompt_attention_mask: int64, like prompt_input_ids.
        pixel_values: float32 (P, C, 3, size, size), row by row; C is 1 + the most real crops.
        image_sizes: int64 (P, 2), height and width after resizing and padding.
    """

    ids: list[str]
    truths: list[Mapping[str, str | float]]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    prompt_input_ids: Tensor
    prompt_attention_mask: Tensor
    pixel_values: Tensor
    image_sizes: Tensor


class Collator:
    """Makes batches of examples, or of what an `Encoder` made of them."""

    def __init__(
        self,
        processor: Phi3VProcessor,
        task: Task,
        max_length: int,
        mode: Mode = "train",
        picture: Picture = open_picture,
    ) -> None:
        """Builds the encoder that fits the mode.

        Args:
            processor: The model's processor.
            task: Writes question and answer; in mode "prompt" only the question.
            max_length: Most tokens of one example; the model's context or less.
            mode: "train", "prompt" or "eval".
            picture: Opens a picture file; the controls put in other pictures here.
        """
        if mode not in ("train", "prompt", "eval"):
            raise UserError(f"collation mode must be 'train', 'prompt' or 'eval', got {mode!r}")
        self.mode = mode
        self.pad_id: int = processor.tokenizer.pad_token_id
        self.encode = Encoder(processor, task, max_length, picture, with_answer=mode != "prompt")

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Encodes examples and stacks them.

        Raises:
            UserError: Names the row of the first example that cannot be encoded.
        """
        return self.stack([self.encode(example) for example in examples])

    def stack(self, encoded: Sequence[Encoded]) -> Batch:
        """Pads and stacks encoded examples; a row's own ids and pixels stay as they were."""
        batch = Batch(
            ids=[row.id for row in encoded],
            truths=[row.values for row in encoded],
            pixel_values=_stack_pixels([crops for row in encoded for crops in row.pixel_values]),
            image_sizes=torch.cat([row.image_sizes for row in encoded]),
        )
        prompts, mask = _pad(
            [row.input_ids[: row.prompt_length] for row in encoded], "left", self.pad_id
        )
        if self.mode == "prompt":
            batch["input_ids"], batch["attention_mask"] = prompts, mask
            return batch
        if self.mode == "eval":
            batch["prompt_input_ids"], batch["prompt_attention_mask"] = prompts, mask
        whole = [row.input_ids for row in encoded]
        batch["input_ids"], batch["attention_mask"] = _pad(whole, "right", self.pad_id)
        batch["labels"] = batch["input_ids"].clone()
        for labels, row in zip(batch["labels"], encoded, strict=True):
            labels[: row.prompt_length if row.supervised else None] = IGNORED
            labels[len(row.input_ids) :] = IGNORED
        return batch


def _pad(
    rows: Sequence[Tensor], side: Literal["left", "right"], pad_id: int
) -> tuple[Tensor, Tensor]:
    """Returns ids and attention mask, both (rows, longest)."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), None) if side == "left" else slice(len(row))
        ids[number, place] = row
        mask[number, place] = 1
    return ids, mask


def _stack_pixels(pictures: Sequence[Tensor]) -> Tensor:
    """Returns (pictures, most crops, 3, size, size), zero where a picture has fewer crops."""
    most = max(len(crops) for crops in pictures)
    stacked = pictures[0].new_zeros(len(pictures), most, *pictures[0].shape[1:])
    for place, crops in zip(stacked, pictures, strict=True):
        place[: len(crops)] = crops
    return stacked
