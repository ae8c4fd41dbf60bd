"""Phi-3-Vision's processor: a prompt with <|image_k|> tags and its pictures -> model inputs."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from phi3v.model.image_processing import Phi3VImageProcessor

IMAGE_TAG = re.compile(r"<\|image_(\d+)\|>")
END_OF_TURN = ("<|end|>", "<|endoftext|>")


class Phi3VProcessor(ProcessorMixin):  # type: ignore[misc]
    """Joins `Phi3VImageProcessor` and the tokenizer."""

    def __init__(
        self,
        image_processor: Phi3VImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @property
    def end_of_turn_ids(self) -> list[int]:
        """Ids at which generation stops: <|end|> and <|endoftext|>."""
        return [self.tokenizer.convert_tokens_to_ids(token) for token in END_OF_TURN]

    def encode_prompt(self, text: str, image_token_counts: Sequence[int]) -> list[int]:
        """Token ids of one prompt, -k repeated where it says <|image_k|>.

        The published rule: the text between tags is tokenised piece by piece, each piece with its
        own <s>.

        Args:
            text: the prompt.
            image_token_counts: tokens of each picture of this prompt, in the order of their k.

        Raises:
            ValueError: tags and pictures do not match.
        """
        chunks = IMAGE_TAG.split(text)
        tags = [int(tag) for tag in chunks[1::2]]
        if sorted(tags) != list(range(1, len(image_token_counts) + 1)):
            raise ValueError(
                f"the prompt names the pictures {tags}, and {len(image_token_counts)} came with it"
            )
        pieces: list[list[int]] = self.tokenizer(chunks[::2])["input_ids"]
        ids = list(pieces[0])
        for tag, piece in zip(tags, pieces[1:], strict=True):
            ids += [-tag] * image_token_counts[tag - 1]
            ids += piece
        return ids

    def __call__(
        self,
        text: str | list[str] | None = None,
        images: Any = None,
        padding: Any = False,
        padding_side: str | None = None,
        return_tensors: Any = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """See the class."""
        if text is None:
            raise ValueError("text is missing")
        texts = [text] if isinstance(text, str) else list(text)
        images = [] if images is None else images if isinstance(images, list) else [images]
        vision = self.image_processor(images) if images else None
        counts = list(vision["num_img_tokens"]) if vision else []
        rows, used = [], 0
        for prompt in texts:
            own = len(IMAGE_TAG.findall(prompt))
            rows.append(self.encode_prompt(prompt, counts[used : used + own]))
            used += own
        longest = max(len(row) for row in rows)
        side = padding_side or self.tokenizer.padding_side
        ids = torch.full((len(rows), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            where = slice(longest - len(row), None) if side == "left" else slice(0, len(row))
            ids[i, where] = torch.tensor(row)
            mask[i, where] = 1
        data = {"input_ids": ids, "attention_mask": mask}
        if vision:
            data["pixel_values"] = vision["pixel_values"]
            data["image_sizes"] = vision["image_sizes"]
        return BatchFeature(data)
