"""A memory for the tokens of pictures, for a model whose picture side stays as it is.

    model.model.vision_embed_tokens.memory = PictureMemory(limit=2**28)

A LoRA on the decoder sees the same pictures in every epoch, every validation and every control; the
way from pixels to tokens is then gone once for each. Only its owner knows whether weights or
adapters on that way will change: nothing here notices.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Key = tuple[bytes, bool]


class PictureMemory:
    """Keeps what became of the first pictures, found again by their pixels.

    Tokens that are found are the very ones that were computed. Pictures are computed together with
    whichever others are new; that a picture's tokens do not depend on those, to the last bit, is a
    property of the CPU's kernels that a test holds them to.

    Args:
        limit: bytes of tokens that are kept at most.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._kept: dict[Key, Tensor] = {}

    def recall(
        self, pictures: Sequence[Tensor], compute: Callable[[list[int]], list[Tensor]]
    ) -> list[Tensor]:
        """The tokens of pictures, computed where they are not known yet.

        Args:
            pictures: the real crops of each, (crops, 3, side, side).
            compute: makes the tokens of those with the given numbers, each number once.
        """
        keys = [_key(crops) for crops in pictures]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: number for number, key in enumerate(keys) if key not in found}
        if new:
            with torch.inference_mode(False), torch.no_grad():  # training may use them later
                computed = compute(list(new.values()))
            for key, tokens in zip(new, computed, strict=True):
                found[key] = tokens
                self._keep(key, tokens)
        return [found[key] for key in keys]

    def _keep(self, key: Key, tokens: Tensor) -> None:
        if tokens.nbytes <= self._left:
            self._left -= tokens.nbytes
            self._kept[key] = tokens.clone()  # a part of a batch would keep all of the batch alive


def _key(crops: Tensor) -> Key:
    # Autocast makes other numbers of the same pixels.
    return _digest(crops), torch.is_autocast_enabled(crops.device.type)


def _digest(crops: Tensor) -> bytes:
    data = crops.detach().contiguous().cpu()
    content = hashlib.blake2b(repr((tuple(data.shape), data.dtype)).encode(), digest_size=16)
    content.update(data.view(torch.uint8).numpy().data)
    return content.digest()
