"""What a model answers on a split, by itself and under the controls; on all processes together.

    answers = answer(model, task, data, split="test", base=base, max_new_tokens=96, device=device)
    answers.own         # one text for every example, equal on all processes

Everything is generated: cached, greedy, one answer for every example. Batches are dealt out to the
processes whole, so what stands in one does not depend on how many processes there are.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from phi3v.data import Encoded, Example, ImageTextDataModule
from phi3v.data.collation import Collator
from phi3v.data.encoding import Picture
from phi3v.data.pictures import open_picture
from phi3v.errors import UserError
from phi3v.evaluation.controls import blank_picture, shuffled_pictures
from phi3v.run.ranks import gathered, group, shares
from phi3v.task import Task
from phi3v.training import generate_answers
from phi3v.training.loss import base_of as model_inside
from phi3v.training.sharding import is_sharded

log = logging.getLogger(__name__)

# Enters the base that was there before training, and leaves it again.
Base = Callable[[], AbstractContextManager[nn.Module]]
# Told what is done next.
Note = Callable[[str], None]
Refuse = Callable[[int, UserError], None]


@dataclass(frozen=True)
class Answers:
    """All that was generated for one split; texts are in the order of the examples.

    Attributes:
        split: "train", "val" or "test".
        examples: What was asked.
        own: The model's answers.
        controls: Its answers to other pictures, by name of the control.
        before: The answers before training; None where nothing was trained.
        compared: The answers of other models, by the names that they have in tables.
    """

    split: str
    examples: Sequence[Example]
    own: list[str]
    controls: dict[str, list[str]]
    before: list[str] | None
    compared: Mapping[str, list[str]]


def answer(
    model: nn.Module,
    task: Task,
    data: ImageTextDataModule,
    *,
    split: str,
    max_new_tokens: int,
    base: Base | None,
    device: torch.device,
    subject: str = "Fine-tuned",
    limit: int | float = 1.0,
    others: Mapping[str, Callable[[], nn.Module]] | None = None,
    note: Note = lambda doing: None,
) -> Answers:
    """Lets a model answer a split, and the same examples with no picture or a stranger's.

    Args:
        model: Phi-3-Vision, with or without adapter, divided or not. All processes have to call
            this.
        task: What is asked and answered.
        data: After `setup`.
        split: Which examples: "train", "val" or "test".
        max_new_tokens: Longer answers are cut here.
        base: Gives the model as it was before training; None where nothing was trained.
        device: Where the model computes.
        subject: What the model is called in messages.
        limit: Takes only so many batches (int) or this share of them (float), as Lightning's
            limit_test_batches does.
        others: By the name that it has in tables, what gives another model that answers the same
            examples; each is asked for when its turn comes.
        note: Told what is done next, batch by batch.

    Raises:
        UserError: When the split is missing or empty, or there is no training split for the
            constant answers that these are compared with.
    """
    for name in (split, "train"):
        if not data.examples.get(name):
            raise UserError(
                f"split={name}: it has no examples, and scoring {split} needs it; there are"
                f" {', '.join(key for key, rows in data.examples.items() if rows)}"
            )
    examples = limited(data.examples[split], limit, data.eval_batch_size)
    if len(examples) < len(data.examples[split]):
        log.info(
            "%s: only the first %d of %d examples, as trainer.limit_test_batches=%s says",
            split, len(examples), len(data.examples[split]), limit,
        )  # fmt: skip

    def texts(of: nn.Module, what: str, shown: Sequence[Example], picture: Picture) -> list[str]:
        log.info("%s: %d examples, %s", split, len(shown), what)

        def noted(doing: str) -> None:
            note(f"{doing}, {what}")

        return answer_all(of, task, data, shown, max_new_tokens, device, picture, noted)

    own = texts(model, subject.lower(), examples, open_picture)
    controls = {"blank": texts(model, "blank pictures", examples, blank_picture)}
    if len(examples) > 1:
        strangers = shuffled_pictures(examples, seed=0)
        controls["shuffled"] = texts(model, "shuffled pictures", strangers, open_picture)
    before = None
    if base is not None:
        with base() as untrained:
            before = texts(untrained, "before training", examples, open_picture)
    compared = {
        name: texts(give(), name, examples, open_picture) for name, give in (others or {}).items()
    }
    return Answers(split, examples, own, controls, before, compared)


def limited(examples: Sequence[Example], limit: int | float, batch: int) -> Sequence[Example]:
    """The first `limit` batches (int) or the first share of all (float); at least one example."""
    count = limit * batch if isinstance(limit, int) else round(limit * len(examples))
    return examples[: max(1, int(count))]


def answer_all(
    model: nn.Module,
    task: Task,
    data: ImageTextDataModule,
    examples: Sequence[Example],
    max_new_tokens: int,
    device: torch.device,
    picture: Picture = open_picture,
    note: Note = lambda doing: None,
) -> list[str]:
    """The model's answers in the order of the examples; batches hold prompts of similar length."""
    # With another example's picture a prompt may be longer than any of the data's own.
    context = max(data.max_length, int(model_inside(model).config.max_position_embeddings))
    collate = Collator(data.processor, task, context, "prompt", picture)
    order = sorted(range(len(examples)), key=lambda place: data.lengths[examples[place].id].total)
    size = data.eval_batch_size
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    found: dict[int, str] = {}
    # Processes that share the weights have to go through the layers together, to the last batch.
    for number, counts in shares(len(batches), *group(), lockstep=is_sharded(model)):
        note(f"in batch {number + 1} of {len(batches)}")
        texts = answer_batch(model, collate, examples, batches[number], max_new_tokens, device)
        if counts:
            found |= texts
    note("after the last batch of this process")
    everywhere = gathered(found)
    return [everywhere[place] for place in range(len(examples))]


def answer_batch(
    model: nn.Module,
    collate: Collator,
    examples: Sequence[Example],
    places: Sequence[int],
    max_new_tokens: int,
    device: torch.device,
    refuse: Refuse | None = None,
) -> dict[int, str]:
    """Generates the answers to some examples at once: the one way, also of `phi3v predict`.

    Args:
        model: Phi-3-Vision, with or without adapter, divided or not.
        collate: In mode "prompt".
        examples: What may be asked about.
        places: Which of them are.
        max_new_tokens: Longer answers are cut here.
        device: Where the model computes.
        refuse: Told of an example that cannot be encoded, which then is left out.

    Returns:
        The texts by place.

    Raises:
        UserError: For an example that cannot be encoded, where there is no `refuse`.
    """
    encoded: dict[int, Encoded] = {}
    for place in places:
        try:
            encoded[place] = collate.encode(examples[place])
        except UserError as error:
            if refuse is None:
                raise
            refuse(place, error)
    if not encoded:
        return {}
    batch = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in collate.stack(list(encoded.values())).items()
    }
    texts = generate_answers(model, collate.encode.processor, batch, max_new_tokens)
    return dict(zip(encoded, texts, strict=True))
