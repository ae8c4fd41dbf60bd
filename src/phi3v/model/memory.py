"""A memory for the tokens of pictures, for a model whose picture side stays as it is.

    model.model.vision_embed_tokens.memory = PictureMemory(limit=2**28)

A LoRA on the decoder sees the same pictures in every epoch, every validation and every control; the
way from pixels to tokens is then gone once for each. Only its owner knows whether weights or
adapters on that way will change: nothing here notices.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


class PictureMemory:
    """Keeps what became of the first pictures, found again by their pixels.

    Tokens that are found are the very ones that were computed, so results do not depend on the
    limit as long as `compute` works on one picture at a time.

    Args:
        limit: bytes of tokens that are kept at most.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._kept: dict[tuple[bytes, bool], Tensor] = {}

    def recall(self, crops: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """The tokens of a picture, computed where they are not known yet.

        Args:
            crops: (crops, 3, side, side), the real ones of one picture.
            compute: makes its tokens.
        """
        # Autocast makes other numbers of the same pixels.
        key = _digest(crops), torch.is_autocast_enabled(crops.device.type)
        tokens = self._kept.get(key)
        if tokens is None:
            with torch.inference_mode(False), torch.no_grad():  # training may use them later
                tokens = compute()
            if tokens.nbytes <= self._left:
                self._left -= tokens.nbytes
                self._kept[key] = tokens
        return tokens


def _digest(crops: Tensor) -> bytes:
    data = crops.detach().contiguous().cpu()
    content = hashlib.blake2b(repr((tuple(data.shape), data.dtype)).encode(), digest_size=16)
    content.update(data.view(torch.uint8).numpy().data)
    return content.digest()
