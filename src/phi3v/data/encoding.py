r"""One example -> token ids and pixels, exactly as the published processor makes them.

    encode = Encoder(processor, task, max_length=4096)
    encoded = encode(example)            # ids, where the answer begins, pixels
    encode.lengths(example).total        # the same length, from the pictures' headers alone

The prompt is the published template, one line for each picture:

    <|user|>\n<|image_1|>\n{question}<|end|>\n<|assistant|>\n{answer}<|end|>

The line break behind <|assistant|> is swallowed by that token, so prompts end in <|assistant|>
and the ids of a prompt are the beginning of the ids of prompt and answer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from phi3v.data.example import Example
from phi3v.data.pictures import open_picture, picture_size
from phi3v.errors import UserError
from phi3v.model import Phi3VProcessor
from phi3v.task import Task

END = "<|end|>"
Picture = Callable[[Path, str], Image.Image]
_REMEMBERED_PROMPTS = 256
_REMEMBERED_ANSWERS = 8192  # a few MB
_IMAGE_TOKEN = r"<\|image_\d+\|>"


@dataclass(frozen=True)
class Encoded:
    """One example as the model takes it.

    Attributes:
        id: The example's.
        values: The example's, for the metrics.
        input_ids: int64 (length,), prompt then answer then <|end|>; -k at positions of picture k.
        prompt_length: The answer begins here; before it nothing is learned.
        pixel_values: For each picture float32 (1 + real crops, 3, size, size), global crop first.
        image_sizes: int64 (pictures, 2), height and width after resizing and padding.
        supervised: False where nothing is to be learned from it, because it only fills up a rank.
    """

    id: str
    values: Mapping[str, str | float]
    input_ids: Tensor
    prompt_length: int
    pixel_values: tuple[Tensor, ...]
    image_sizes: Tensor
    supervised: bool = True


class Lengths(NamedTuple):
    """How many ids of an example are pictures, the rest of the prompt, and answer with <|end|>."""

    pictures: int
    question: int
    answer: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def prompt_text(question: str, pictures: int) -> str:
    """Returns the published prompt for a question about so many pictures."""
    tags = "".join(f"<|image_{number}|>\n" for number in range(1, pictures + 1))
    return f"<|user|>\n{tags}{question}{END}\n<|assistant|>\n"


class Encoder:
    """Encodes examples of one task with one processor."""

    def __init__(
        self,
        processor: Phi3VProcessor,
        task: Task,
        max_length: int,
        picture: Picture = open_picture,
        with_answer: bool = True,
    ) -> None:
        """Prepares the check for special tokens.

        Args:
            processor: The model's processor.
            task: Writes question and answer.
            max_length: Most tokens of prompt and answer together; the model's context or less.
            picture: Opens a picture file; the controls put in other pictures here.
            with_answer: False encodes the prompt alone, for examples whose answer is unknown.
        """
        self.processor = processor
        self.task = task
        self.max_length = max_length
        self.picture = picture
        self.with_answer = with_answer
        self._reserved = _reserved_tokens(processor)
        self._prompts: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        self._answers: dict[tuple[str, str, tuple[int, ...]], list[int] | None] = {}

    def __call__(self, example: Example) -> Encoded:
        """Encodes an example, its pictures decoded.

        Raises:
            UserError: As for `lengths`, and when a picture cannot be decoded.
        """
        pictures = [self.picture(path, example.origin) for path in example.images]
        counts = [self._count(example, number, *p.size) for number, p in enumerate(pictures)]
        prompt, answer = self._ids(example, counts)
        pixels, sizes = _crops(self.processor, pictures)
        return Encoded(
            id=example.id,
            values=example.values,
            input_ids=torch.tensor(prompt + answer),
            prompt_length=len(prompt),
            pixel_values=pixels,
            image_sizes=sizes,
        )

    def lengths(self, example: Example) -> Lengths:
        """Returns how many ids the example has, without decoding its pictures.

        Raises:
            UserError: When a picture is missing, the example has none, its text holds a special
                token, or it is longer than `max_length`.
        """
        sizes = [picture_size(path, example.origin) for path in example.images]
        counts = [self._count(example, number, *size) for number, size in enumerate(sizes)]
        prompt, answer = self._ids(example, counts)
        return Lengths(sum(counts), len(prompt) - sum(counts), len(answer))

    def check_question(self, values: Mapping[str, str | float], origin: str) -> str:
        """Returns the question about these values.

        Raises:
            UserError: When it holds a special token; the message begins with `origin`.
        """
        question = self.task.write_question(values)
        self._refuse_reserved(question, "question", origin)
        return question

    def _count(self, example: Example, number: int, width: int, height: int) -> int:
        """Returns the number of tokens of one picture."""
        image_processor = self.processor.image_processor
        if 0 in image_processor.hd_size(width, height):
            raise UserError(
                f"{example.origin}: picture of {width}x{height} pixels is too thin: resized for "
                f"the model, nothing is left of it: {example.images[number]}"
            )
        return int(image_processor.num_image_tokens(width, height))

    def _ids(self, example: Example, counts: Sequence[int]) -> tuple[list[int], list[int]]:
        """Returns the ids of the prompt and those of the answer with its <|end|>."""
        if not counts:
            raise UserError(f"{example.origin}: the example has no picture")
        question = self.check_question(example.values, example.origin)
        text = prompt_text(question, len(counts))
        prompt = self._prompt_ids(text, tuple(counts))
        if not self.with_answer:
            self._refuse_length(example, counts, len(prompt))
            return prompt, []
        answer = self.task.write_answer(example.values)
        self._refuse_reserved(answer, "answer", example.origin)
        ids = self._answer_ids(text, answer, tuple(counts), prompt)
        if ids is None:
            raise UserError(
                f"{example.origin}: this tokenizer joins the end of the prompt with the answer; "
                "use the tokenizer that belongs to the model"
            )
        self._refuse_length(example, counts, len(prompt) + len(ids))
        return prompt, ids

    def _answer_ids(
        self, text: str, answer: str, counts: tuple[int, ...], prompt: list[int]
    ) -> list[int] | None:
        """Returns the answer's ids behind that prompt; None where they cannot be told apart."""
        # Asked for twice, for the lengths before training and for the first batch.
        key = (text, answer, counts)
        if key in self._answers:
            return self._answers[key]
        whole = self.processor.encode_prompt(text + answer + END, list(counts))
        ids = whole[len(prompt) :] if whole[: len(prompt)] == prompt else None
        if len(self._answers) < _REMEMBERED_ANSWERS:
            self._answers[key] = ids
        return ids

    def _prompt_ids(self, text: str, counts: tuple[int, ...]) -> list[int]:
        # Most examples ask the same question about pictures of the same few sizes.
        if (text, counts) not in self._prompts:
            if len(self._prompts) == _REMEMBERED_PROMPTS:
                self._prompts.clear()
            self._prompts[text, counts] = self.processor.encode_prompt(text, list(counts))
        return self._prompts[text, counts]

    def _refuse_reserved(self, text: str, part: str, origin: str) -> None:
        found = self._reserved.search(text)
        if found:
            raise UserError(
                f"{origin}: the {part} contains {found.group()!r}, which the model reads as a "
                "control token; remove it from the text"
            )

    def _refuse_length(self, example: Example, counts: Sequence[int], length: int) -> None:
        if length > self.max_length:
            raise UserError(
                f"{example.origin}: {length} tokens ({sum(counts)} of them for the picture) are "
                f"more than the limit of {self.max_length}; use fewer num_crops, shorter text, "
                "or a larger max_length if the model's context allows it"
            )


def _reserved_tokens(processor: Phi3VProcessor) -> re.Pattern[str]:
    """Returns what a text must not contain, because it would not be read as text."""
    added = sorted(processor.tokenizer.get_added_vocab(), key=len, reverse=True)
    return re.compile("|".join([_IMAGE_TOKEN, *map(re.escape, added)]))


def _crops(
    processor: Phi3VProcessor, pictures: Sequence[Image.Image]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Returns the real crops of each picture and all sizes."""
    inputs = processor.image_processor(list(pictures), return_tensors="pt")
    sizes: Tensor = inputs["image_sizes"]
    size = processor.image_processor.crop_size
    real = [int(h) // size * (int(w) // size) + 1 for h, w in sizes.tolist()]
    pixels = inputs["pixel_values"]
    return tuple(p[:n].clone() for p, n in zip(pixels, real, strict=True)), sizes
