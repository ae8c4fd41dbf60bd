"""Answers about picture files, in the order in which they were named.

    predictor = Predictor(model, processor, task, batch_size=8, max_new_tokens=96)
    for answer in predictor([(Path("a.jpg"),), (Path("b.jpg"), Path("c.jpg"))], values={}):
        print(answer.name, answer.text or answer.error)

The prompt, the batches and the generation are those of evaluations.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from phi3v.data import Example, picture_size
from phi3v.data.collation import Collator
from phi3v.errors import UserError
from phi3v.model import Phi3VProcessor
from phi3v.run.answering import answer_batch
from phi3v.task import Task, Value
from phi3v.training.loss import base_of as model_inside

# Pictures whose prompts have similar lengths share a batch, out of so many batches at a time: what
# is found appears while the rest is still to come.
_BATCHES_AHEAD = 8
_WEB = re.compile(r"^(https?:)/(?=[^/])")
Pictures = tuple[Path, ...]


@dataclass(frozen=True)
class Answer:
    """What came of one picture, or of several that were asked about together.

    Attributes:
        pictures: Their files.
        text: What the model says; None where a picture could not be used.
        error: Why not; None where there is a text.
    """

    pictures: Pictures
    text: str | None
    error: str | None = None

    @property
    def names(self) -> list[str]:
        """What each is called."""
        return [_shown(picture) for picture in self.pictures]

    @property
    def name(self) -> str:
        """What they are called."""
        return _name(self.pictures)


class Predictor:
    """Asks a model its task's question about pictures."""

    def __init__(
        self,
        model: nn.Module,
        processor: Phi3VProcessor,
        task: Task,
        *,
        batch_size: int,
        max_new_tokens: int,
    ) -> None:
        """Prepares the prompts.

        Args:
            model: Phi-3-Vision, with or without adapter, on the device that it shall run on.
            processor: Its processor.
            task: Writes the question.
            batch_size: Prompts that are answered at a time.
            max_new_tokens: Longer answers are cut here.
        """
        self._model = model
        self._batch_size = batch_size
        self._max_new_tokens = max_new_tokens
        context = int(model_inside(model).config.max_position_embeddings)
        self._collate = Collator(processor, task, context, "prompt")

    def __call__(
        self,
        pictures: Sequence[Pictures],
        values: Mapping[str, Value] | None = None,
        done: Callable[[int], None] = lambda count: None,
    ) -> Iterator[Answer]:
        """Yields one answer for each prompt, in their order.

        Args:
            pictures: The files of each prompt; one that cannot be used gives an answer with an
                error.
            values: What the question needs to know besides, by column.
            done: Told after each batch how many more prompts are done; answers that wait for others
                to keep their order come later.

        Raises:
            UserError: When no picture could be asked this question.
        """
        self._collate.encode.check_question(values or {}, "question")
        ahead = _BATCHES_AHEAD * self._batch_size
        for start in range(0, len(pictures), ahead):
            yield from self._window(pictures[start : start + ahead], values or {}, done)

    def _window(
        self,
        pictures: Sequence[Pictures],
        values: Mapping[str, Value],
        done: Callable[[int], None],
    ) -> Iterator[Answer]:
        examples = [_example(files, values) for files in pictures]
        found: dict[int, Answer] = {}

        def refuse(place: int, error: UserError) -> None:
            found[place] = Answer(pictures[place], None, reason(error, pictures[place]))

        lengths: dict[int, int] = {}
        for place, example in enumerate(examples):
            try:
                lengths[place] = self._collate.encode.lengths(example).total
            except UserError as error:
                refuse(place, error)
        order = sorted(lengths, key=lengths.__getitem__)
        device = next(self._model.parameters()).device
        if told := len(found):
            done(told)
        for start in range(0, len(order), self._batch_size):
            texts = answer_batch(
                self._model, self._collate, examples, order[start : start + self._batch_size],
                self._max_new_tokens, device, refuse,
            )  # fmt: skip
            found |= {place: Answer(pictures[place], text) for place, text in texts.items()}
            done(len(found) - told)
            told = len(found)
        for place in range(len(pictures)):
            yield found[place]


def unreadable(pictures: Sequence[Pictures]) -> list[Answer]:
    """The prompts with files that are missing or do not even begin like a picture."""
    found = []
    for files in pictures:
        try:
            for file in files:
                picture_size(file, _name(files))
        except UserError as error:
            found.append(Answer(files, None, reason(error, files)))
    return found


def reason(error: UserError, pictures: Pictures) -> str:
    """What is wrong with a prompt, without its name, which stands beside it."""
    said = str(error).removeprefix(f"{_name(pictures)}: ")
    return said if len(pictures) > 1 else said.replace(f": {pictures[0]}", "")


def _name(pictures: Pictures) -> str:
    return ", ".join(map(_shown, pictures))


def _shown(picture: Path) -> str:
    """A file as the command line named it; of a web address a path loses a slash."""
    return _WEB.sub(r"\1//", str(picture))


def _example(pictures: Pictures, values: Mapping[str, Value]) -> Example:
    name = _name(pictures)
    return Example(id=name, images=pictures, values=values, group=name, origin=name)
