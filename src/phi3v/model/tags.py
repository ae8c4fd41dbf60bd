"""The tags of a prompt, <|image_1|>, <|image_2|>, ..., and the pictures that they name."""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import re
from collections.abc import Sequence
from typing import Any

from transformers.image_utils import is_valid_image

IMAGE_TAG = re.compile(r"<\|image_(\d+)\|>")


def check_tags(tags: Sequence[int], pictures: int) -> None:
    """Makes sure that a prompt names each of its pictures once.

    Raises:
        ValueError: it does not.
    """
    if sorted(tags) == list(range(1, pictures + 1)):
        return
    named = ", ".join(f"<|image_{tag}|>" for tag in tags) or "no picture"
    raise ValueError(
        f"the prompt names {named}, and {pictures} came with it: every picture is named once, "
        "counting from <|image_1|>"
    )


def pictures_by_prompt(prompts: Sequence[str], images: Any) -> list[list[Any]]:
    """Deals pictures out to prompts.

    Args:
        prompts: texts with tags.
        images: None, one picture, a list of pictures for all prompts, or a list for each.

    Returns:
        One list for each prompt.

    Raises:
        ValueError: there are more or fewer pictures than tags.
    """
    if images is None:
        images = []
    several = getattr(images, "ndim", 0) == 4  # an array or tensor of several pictures
    if not several and (is_valid_image(images) or isinstance(images, str)):
        images = [images]
    images = list(images)
    if images and all(isinstance(own, list | tuple) for own in images):
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} lists of pictures came with {len(prompts)} texts")
        return [list(own) for own in images]
    named = [len(IMAGE_TAG.findall(prompt)) for prompt in prompts]
    if sum(named) != len(images):
        raise ValueError(
            f"the text names {sum(named)} pictures, and {len(images)} came with it: tags are "
            "written <|image_1|>, <|image_2|>, ... in each text"
        )
    rest = iter(images)
    return [[next(rest) for _ in range(count)] for count in named]
