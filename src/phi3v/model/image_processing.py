"""Phi-3-Vision's image processor: the HD transform, in Pillow and torch.

A picture is resized so that as many crops as allowed are used, padded with white to whole crops,
normalised and cut up. An overview of the whole picture, squeezed into one crop, comes first.
"""

# The libraries are typed in part.
# mypy: disable-error-code="no-untyped-call"

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format
from transformers.utils.generic import TensorType
from typing_extensions import TypedDict

from phi3v.model.vision import count_image_tokens

WHITE = 255
_UNIT = "phi3v_unit"  # notes on a picture that it came as floats of 0..1
# CLIP's, on values of 0..1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class HDLayout:
    """How a picture is placed: `resized` and `padded` are (height, width) in pixels."""

    resized: tuple[int, int]
    padded: tuple[int, int]


def lay_out(width: int, height: int, num_crops: int, crop_size: int) -> HDLayout:
    """The HD transform's arithmetic, without touching a pixel.

    A tall picture is treated as the wide one that it is on its side. Its longer side gets the
    largest number of crops for which all crops together are at most `num_crops`.

    Args:
        width: in pixels.
        height: in pixels.
        num_crops: the most crops there may be, without the overview.
        crop_size: side of a crop in pixels.

    Returns:
        The sizes; a picture so thin that nothing is left of it has a `resized` side of 0.
    """
    if width < height:
        lying = lay_out(height, width, num_crops, crop_size)
        return HDLayout(lying.resized[::-1], lying.padded[::-1])
    ratio = width / height
    columns = 1
    while (columns + 1) * math.ceil((columns + 1) / ratio) <= num_crops:
        columns += 1
    new_width = columns * crop_size
    new_height = int(new_width / ratio)
    padded_height = math.ceil(new_height / crop_size) * crop_size
    return HDLayout((new_height, new_width), (padded_height, new_width))


def resize_and_pad(image: Image.Image, layout: HDLayout) -> Image.Image:
    """The picture resized (bilinear, antialiased) and centred on white.

    Raises:
        ValueError: the picture is so thin that nothing would be left of it.
    """
    if 0 in layout.resized:
        raise ValueError(
            f"a picture of {image.width}x{image.height} pixels is too thin: height and width must "
            f"be > 0 after its longer side is resized to {max(layout.resized)} pixels"
        )
    tall = image.width < image.height
    if tall:  # on its side, so that an odd pixel of padding falls where it does when published
        image = image.transpose(Image.Transpose.TRANSPOSE)
    height, width = sorted(layout.resized)
    padded_height, padded_width = sorted(layout.padded)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    canvas = Image.new(image.mode, (padded_width, padded_height), (WHITE,) * len(image.getbands()))
    canvas.paste(image, (0, (padded_height - height) // 2))
    return canvas.transpose(Image.Transpose.TRANSPOSE) if tall else canvas


class Phi3VImageProcessorKwargs(TypedDict, total=False):
    """What can be given to the constructor and, over it, to a single call."""

    num_crops: int | None
    num_img_tokens: int | None
    crop_size: int | dict[str, int] | None
    image_mean: float | int | list[float] | tuple[float, ...] | None
    image_std: float | int | list[float] | tuple[float, ...] | None
    do_convert_rgb: bool | None
    do_rescale: bool | None
    rescale_factor: float | int | None
    do_normalize: bool | None
    input_data_format: str | ChannelDimension | None
    return_tensors: str | TensorType | None


class Phi3VImageProcessor(BaseImageProcessor):
    """Turns pictures into crops for `Phi3VForCausalLM`.

    Pictures may be PIL images, numpy arrays or tensors, alone, in a list, or in lists of lists.
    Arrays of floats hold 0..1 or 0..255, those of 16 bits 0..65535; they are brought to 8 bits,
    because the published resize works on those. Whoever has floats of 0..1 may say so as usual in
    transformers, with `do_rescale=False`: what is normalised is then 0..1 all the same.

    Args:
        num_crops: the most crops of a picture, without the overview.
        image_mean: per channel, on the rescaled values.
        image_std: per channel, on the rescaled values.
        num_img_tokens: tokens of one crop, a square number.
        crop_size: side of a crop in pixels.
        do_convert_rgb: whether to drop alpha and to give grey pictures three channels.
        do_rescale: whether 0..255 becomes 0..255 times `rescale_factor`.
        rescale_factor: 1/255 brings values to 0..1.
        do_normalize: whether to subtract the mean and divide by the standard deviation.
    """

    model_input_names = ["pixel_values", "image_sizes"]
    valid_kwargs = Phi3VImageProcessorKwargs  # type: ignore[assignment]

    num_crops = 16
    num_img_tokens = 144
    crop_size = 336
    image_mean = CLIP_MEAN
    image_std = CLIP_STD
    do_convert_rgb = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("auto_map", None)  # published files name remote code there; it is never run
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)

    @property
    def backend(self) -> str:
        """Pillow does the resizing, on any machine alike."""
        return "pil"

    def hd_size(self, width: int, height: int, num_crops: int | None = None) -> tuple[int, int]:
        """Padded (height, width) in pixels of a picture of `width` x `height` pixels."""
        return lay_out(width, height, num_crops or self.num_crops, self.crop_size).padded

    def num_image_tokens(self, width: int, height: int, num_crops: int | None = None) -> int:
        """How many tokens a picture of `width` x `height` pixels becomes; no pixel is needed."""
        padded = self.hd_size(width, height, num_crops)
        return count_image_tokens(*padded, self.crop_size, math.isqrt(self.num_img_tokens))

    def process_image(
        self,
        image: Any,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        **kwargs: Any,
    ) -> Image.Image:
        """One picture of any kind as a PIL image."""
        if not isinstance(image, Image.Image):
            image = _from_array(np.asarray(image), input_data_format)
        picture: Image.Image = image
        if picture.mode not in ("RGB", "RGBA", "L") or (do_convert_rgb and picture.mode != "RGB"):
            picture = picture.convert("RGB")
        return picture

    def _preprocess(
        self,
        images: list[Image.Image],
        num_crops: int,
        num_img_tokens: int,
        crop_size: int,
        return_tensors: str | TensorType | None,
        **kwargs: Any,
    ) -> BatchFeature:
        grid = math.isqrt(num_img_tokens)
        pixels, sizes, counts = [], [], []
        for image in images:
            layout = lay_out(*image.size, num_crops, crop_size)
            options = kwargs | {"do_rescale": kwargs["do_rescale"] or _UNIT in image.info}
            values = self._values(resize_and_pad(image, layout), **options)
            pixels.append(cut_up(values, num_crops, crop_size).numpy())
            sizes.append(layout.padded)
            counts.append(count_image_tokens(*layout.padded, crop_size, grid))
        data = {"pixel_values": pixels, "image_sizes": sizes, "num_img_tokens": counts}
        return BatchFeature(data, tensor_type=return_tensors)

    def _values(
        self,
        image: Image.Image,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | Sequence[float],
        image_std: float | Sequence[float],
        **kwargs: Any,
    ) -> Tensor:
        array = np.asarray(image)
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        values = torch.from_numpy(array.astype(np.float32))
        if do_rescale:  # dividing by 255 rounds as the published code does
            values = values / (1 / rescale_factor)
        if do_normalize:
            mean, std = torch.tensor(image_mean).float(), torch.tensor(image_std).float()
            values = (values - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
        return values

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        # transformers would make a dictionary of the crop size; a crop is a square.
        size = kwargs.pop("crop_size", None)
        if isinstance(size, dict):
            if size["height"] != size["width"]:
                raise ValueError(f"crop_size {size} is no square")
            size = size["height"]
        if (crops := kwargs.get("num_crops")) is not None and crops < 1:
            raise ValueError(f"num_crops {crops}: a picture has at least one crop")
        tokens = kwargs.get("num_img_tokens")
        if tokens is not None and math.isqrt(tokens) ** 2 != tokens:
            raise ValueError(f"num_img_tokens {tokens} is no square number")
        standard = super()._standardize_kwargs(**kwargs)
        names = self.valid_kwargs.__annotations__
        return {k: v for k, v in standard.items() if k in names} | {"crop_size": size}

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:  # type: ignore[override]
        kwargs.pop("crop_size", None)
        super()._validate_preprocess_kwargs(**kwargs)


def cut_up(values: Tensor, num_crops: int, crop_size: int) -> Tensor:
    """The overview, the crops row by row, and zeros up to `num_crops` crops.

    Args:
        values: (channels, height, width), both sides multiples of `crop_size`.
        num_crops: how many crops there are room for, without the overview.
        crop_size: side of a crop in pixels.

    Returns:
        (num_crops + 1, channels, crop_size, crop_size).
    """
    channels, height, width = values.shape
    rows, columns = height // crop_size, width // crop_size
    overview = torch.nn.functional.interpolate(
        values[None], size=(crop_size, crop_size), mode="bicubic", align_corners=False
    )
    tiles = values.view(channels, rows, crop_size, columns, crop_size).permute(1, 3, 0, 2, 4)
    crops = tiles.reshape(rows * columns, channels, crop_size, crop_size)
    empty = values.new_zeros(num_crops - rows * columns, channels, crop_size, crop_size)
    return torch.cat([overview, crops, empty])


def _from_array(array: np.ndarray, data_format: str | ChannelDimension | None) -> Image.Image:
    """(height, width[, channels]) or (channels, height, width), integers or floats, as 8 bits."""
    if array.ndim == 3:
        found = data_format or infer_channel_dimension_format(array, num_channels=(1, 3, 4))
        if ChannelDimension(found) == ChannelDimension.FIRST:
            array = array.transpose(1, 2, 0)
        if array.shape[2] == 1:
            array = array[:, :, 0]
    unit = False
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ValueError("a picture holds values that are not finite")
        unit = array.size > 0 and array.max() <= 1
        array = array * WHITE if unit else array
    elif array.dtype == np.uint16:
        array = array / 257  # 65535 is white
    image = Image.fromarray(np.clip(np.rint(array), 0, WHITE).astype(np.uint8))
    if unit:
        image.info[_UNIT] = True
    return image
