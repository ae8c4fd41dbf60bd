"""Pictures that cannot help: the controls that show whether a model looks.

    collator = Collator(processor, task, max_length, mode="prompt", picture=blank_picture)
    strangers = shuffled_pictures(examples, seed=0)

A model that looks must answer worse on both than on the real pictures.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from phi3v.data import Example, picture_size
from phi3v.errors import UserError

MID_GRAY = (128, 128, 128)


def blank_picture(path: Path, origin: str) -> Image.Image:
    """A uniform gray picture of the original's size, so that the prompt keeps its length.

    Args:
        path: the original.
        origin: the row that names it, for the error message.

    Raises:
        UserError: the original is missing or not a picture.
    """
    return Image.new("RGB", picture_size(path, origin), MID_GRAY)


def shuffled_pictures(examples: Sequence[Example], seed: int) -> list[Example]:
    """Give every example the pictures of another one.

    Question and answer stay. Pictures are exchanged among examples with equally many of them, and
    come from another group wherever the groups' sizes allow it. An example that is the only one
    with its number of pictures gets as many from the others.

    Args:
        examples: at least two.
        seed: decides who gets whose; the order of the examples does not.

    Returns:
        Changed copies in the order of the originals.

    Raises:
        UserError: there is only one example.
    """
    if len(examples) < 2:
        raise UserError(
            "the shuffled-picture control needs at least two examples; enlarge the split or"
            " leave the control out"
        )
    given: dict[str, tuple[Path, ...]] = {}
    for count in sorted({len(example.images) for example in examples}):
        alike = [example for example in examples if len(example.images) == count]
        if len(alike) == 1:
            given[alike[0].id] = _borrowed(alike[0], examples, seed)
            continue
        circle = _by_group(alike, seed)
        # Groups lie side by side with the largest first, so a step of its size leaves every group
        # behind, unless it makes up more than half of the circle.
        step = max(Counter(example.group for example in circle).values()) % len(circle) or 1
        for place, example in enumerate(circle):
            given[example.id] = circle[(place + step) % len(circle)].images
    return [dataclasses.replace(example, images=given[example.id]) for example in examples]


def _by_group(examples: Sequence[Example], seed: int) -> list[Example]:
    """The examples group by group, the largest first; otherwise in an order drawn by the seed."""
    draw = random.Random(seed)
    ordered = sorted(examples, key=lambda example: example.id)
    draw.shuffle(ordered)
    groups = [example.group for example in ordered]
    sizes = Counter(groups)
    return sorted(ordered, key=lambda one: (-sizes[one.group], groups.index(one.group)))


def _borrowed(example: Example, examples: Sequence[Example], seed: int) -> tuple[Path, ...]:
    """As many pictures as the example has, of others and if possible of other groups."""
    others = [other for other in _by_group(examples, seed) if other.id != example.id]
    strangers = [other for other in others if other.group != example.group] or others
    pictures = [picture for other in strangers for picture in other.images]
    return tuple(pictures[place % len(pictures)] for place in range(len(example.images)))
