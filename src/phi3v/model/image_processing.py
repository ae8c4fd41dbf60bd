"""Phi-3-Vision's image processor: the HD transform, in Pillow and torch.

A picture is resized so that as many crops as allowed are used, padded with white to whole crops,
normalised and cut. An overview of the whole picture, squeezed into one crop, comes first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.processing_utils import ImagesKwargs, Unpack

from phi3v.model.vision import count_image_tokens


@dataclass(frozen=True)
class HDLayout:
    """How a picture is placed: `resized` and `padded` are (height, width) in pixels."""

    resized: tuple[int, int]
    padded: tuple[int, int]


def lay_out(width: int, height: int, num_crops: int, crop_size: int) -> HDLayout:
    """The HD transform's arithmetic, without touching a pixel.

    A tall picture is treated as the wide one that it is on its side. The longer side gets the
    largest number of crops for which all crops together are at most `num_crops`.

    Raises:
        ValueError: the picture is so thin that nothing would be left of it.
    """
    long, short = max(width, height), min(width, height)
    ratio = long / short
    scale = 1
    while (scale + 1) * math.ceil((scale + 1) / ratio) <= num_crops:
        scale += 1
    new_long = scale * crop_size
    new_short = int(new_long / ratio)
    if new_short == 0:
        raise ValueError(
            f"a picture of {width}x{height} pixels is too thin: height and width must be > 0 "
            f"after it is resized to {new_long} pixels on its longer side"
        )
    padded_short = math.ceil(new_short / crop_size) * crop_size
    if width < height:
        return HDLayout((new_long, new_short), (new_long, padded_short))
    return HDLayout((new_short, new_long), (padded_short, new_long))


def resize_and_pad(image: Image.Image, layout: HDLayout) -> Image.Image:
    """The picture resized (bilinear, antialiased) and centred on white."""
    tall = image.width < image.height
    if tall:  # on its side, so that both passes of the resize run in the published order
        image = image.transpose(Image.Transpose.TRANSPOSE)
    height, width = sorted(layout.resized)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    padded_height, padded_width = sorted(layout.padded)
    canvas = Image.new("RGB", (padded_width, padded_height), (255, 255, 255))
    canvas.paste(image, (0, (padded_height - height) // 2))
    return canvas.transpose(Image.Transpose.TRANSPOSE) if tall else canvas


class Phi3VImagesKwargs(ImagesKwargs, total=False):
    """Options of a call beyond transformers' own."""

    num_crops: int
    num_img_tokens: int


class Phi3VImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Turns pictures into crops for `Phi3VForCausalLM`."""

    model_input_names = ["pixel_values", "image_sizes"]
    valid_kwargs = Phi3VImagesKwargs

    def __init__(
        self,
        num_crops: int = 16,
        image_mean: Iterable[float] = OPENAI_CLIP_MEAN,
        image_std: Iterable[float] = OPENAI_CLIP_STD,
        num_img_tokens: int = 144,
        crop_size: int = 336,
        do_convert_rgb: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_crops = num_crops
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.num_img_tokens = num_img_tokens
        self.crop_size = crop_size
        self.do_convert_rgb = do_convert_rgb

    def hd_size(self, width: int, height: int, num_crops: int | None = None) -> tuple[int, int]:
        """Padded (height, width) in pixels of a picture of `width` x `height` pixels."""
        return lay_out(width, height, num_crops or self.num_crops, self.crop_size).padded

    def num_image_tokens(self, width: int, height: int, num_crops: int | None = None) -> int:
        """How many tokens a picture of `width` x `height` pixels becomes."""
        padded = self.hd_size(width, height, num_crops)
        return count_image_tokens(*padded, self.crop_size, math.isqrt(self.num_img_tokens))

    def preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        num_crops = kwargs.get("num_crops") or self.num_crops
        images = images if isinstance(images, list | tuple) else [images]
        pixels, sizes = [], []
        for image in images:
            image = image.convert("RGB")
            layout = lay_out(*image.size, num_crops, self.crop_size)
            padded = resize_and_pad(image, layout)
            pixels.append(self._crops(padded, num_crops))
            sizes.append(layout.padded)
        counts = [
            count_image_tokens(*s, self.crop_size, math.isqrt(self.num_img_tokens)) for s in sizes
        ]
        return BatchFeature(
            {
                "pixel_values": torch.stack(pixels),
                "image_sizes": torch.tensor(sizes),
                "num_img_tokens": counts,
            }
        )

    def _crops(self, padded: Image.Image, num_crops: int) -> Tensor:
        side = self.crop_size
        values = torch.from_numpy(np.array(padded)).permute(2, 0, 1).contiguous().float() / 255
        mean, std = torch.tensor(self.image_mean), torch.tensor(self.image_std)
        values = (values - mean[:, None, None]) / std[:, None, None]
        overview = torch.nn.functional.interpolate(
            values[None], size=(side, side), mode="bicubic", align_corners=False
        )
        rows, columns = values.shape[1] // side, values.shape[2] // side
        crops = values.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4)
        crops = crops.reshape(rows * columns, 3, side, side)
        padding = values.new_zeros(num_crops - rows * columns, 3, side, side)
        return torch.cat([overview, crops, padding])
