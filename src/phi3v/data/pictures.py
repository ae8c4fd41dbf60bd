"""Opening pictures: always upright RGB, and always an error that names the row and the file.

    image = open_picture(Path("images/7.webp"), origin="products.csv row 7")
    width, height = picture_size(Path("images/7.webp"), origin="products.csv row 7")

`picture_size` reads the header only, so the lengths of a large data set are known without
decoding it; both functions agree on the size because both ask `_orientation` before any pixel
is decoded.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from phi3v.errors import UserError
from phi3v.machine import free_memory

# A large photo is no attack; whether it fits is asked when it is opened.
Image.MAX_IMAGE_PIXELS = None
# Beyond what Pillow itself takes without a word. Its pixels have four bytes, and at the most five
# copies are held at a time: what is decoded, and what becomes of transparency.
_LARGE = 89_000_000
_BYTES_A_PIXEL = 20
_EXIF_ORIENTATION = 0x0112
# EXIF 2.32, tag Orientation: how to turn the stored picture so that it stands upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}
_PNG_ORIENTATION_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}


def open_picture(path: Path, origin: str) -> Image.Image:
    """Decodes a picture as an upright RGB image; transparency becomes white.

    Args:
        path: The picture file, in any format that Pillow reads. Of an animation, the first frame.
        origin: The row that names the picture, for the error message.

    Raises:
        UserError: When the file is missing, cut short, not a picture, or too large for the memory.
    """
    with _naming(path, origin), Image.open(path) as image:
        _check_memory(image)
        orientation = _orientation(image)
        image.load()
        rgb = _to_rgb(image)
        return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def picture_size(path: Path, origin: str) -> tuple[int, int]:
    """Returns (width, height) of the upright picture from its header, without decoding it.

    Raises:
        UserError: When the file is missing or does not begin like a picture.
    """
    with _naming(path, origin), Image.open(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


@contextmanager
def _naming(path: Path, origin: str) -> Iterator[None]:
    """Turns whatever a decoder raises into one line that names the row and the file."""
    try:
        yield
    except FileNotFoundError:
        if str(path).startswith(("http:/", "https:/")):
            raise UserError(f"{origin}: a web address: download it first") from None
        raise UserError(f"{origin}: picture not found: {path}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every type there is
        if isinstance(error, UnidentifiedImageError):
            reason = "not a picture"
        else:
            system = error.strerror if isinstance(error, OSError) else None
            reason = " ".join((system or str(error)).split())
        raise UserError(f"{origin}: picture cannot be read: {path} ({reason})") from error


def _check_memory(image: Image.Image) -> None:
    """Refuses a picture that would take all there is; not for one that anybody has."""
    pixels = image.width * image.height
    if pixels <= _LARGE or (free := free_memory()) is None or free > pixels * _BYTES_A_PIXEL:
        return
    raise ValueError(
        f"{pixels / 1e6:.0f} million pixels take about {pixels * _BYTES_A_PIXEL / 1e9:.1f} GB of "
        f"memory, and {free / 1e9:.1f} GB are free; make it smaller"
    )


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns these itself, and its size is already that of the result
    if image.format == "PNG" and not _PNG_ORIENTATION_KEYS & image.info.keys():
        return 1  # Pillow would decode the whole file to look for EXIF behind the pixels
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, struct.error, ValueError, KeyError, TypeError, OSError):
        return 1  # Damaged metadata say nothing about pixels that can be read.
    return orientation if isinstance(orientation, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no fixed white; save it with 8 bits a channel")
    if image.mode.startswith("I;16"):
        shades = np.asarray(image.convert("I")) // 256
        image = Image.fromarray(shades.astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(white, colours).convert("RGB")
