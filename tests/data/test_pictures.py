"""Every picture is opened upright in RGB, and its size is known from the header."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from phi3v.data import open_picture, picture_size
from phi3v.errors import UserError


def pixels(image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_whatever_its_exif_orientation(
    tmp_path, draw, suffix, orientation
):
    plain = Image.open(draw(tmp_path / "plain.png", (60, 40)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0}
    plain.save(path, exif=exif, **(options if suffix in ("jpg", "webp") else {}))
    marked = Image.new("RGB", plain.size)
    marked.paste(plain)
    marked.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(marked)

    opened = open_picture(path, "row 2")

    assert opened.size == expected.size == picture_size(path, "row 2")
    assert np.abs(pixels(opened) - pixels(expected)).max() <= (12 if suffix == "jpg" else 0)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("exif", [b"Exif\0\0" + bytes(8), b"Exif\0\0II*\0", b"XX"])
def test_damaged_metadata_do_not_spoil_a_picture_that_can_be_read(tmp_path, exif, kind):
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "a", kind, exif=exif)

    assert picture_size(tmp_path / "a", "row 2") == (30, 20)
    assert open_picture(tmp_path / "a", "row 2").size == (30, 20)


def test_an_orientation_that_is_no_number_turns_nothing(tmp_path):
    # One directory with one entry: tag Orientation, type text, "up".
    entry = struct.pack("<HHI4s", 0x0112, 2, 3, b"up")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)

    assert picture_size(tmp_path / "a.jpg", "row 2") == (30, 20)
    assert open_picture(tmp_path / "a.jpg", "row 2").size == (30, 20)


def test_transparent_parts_become_white(tmp_path):
    image = Image.new("RGBA", (20, 10), (10, 20, 30, 255))
    image.paste((10, 20, 30, 0), (0, 0, 10, 10))
    image.paste((10, 20, 30, 128), (15, 0, 20, 10))
    image.save(tmp_path / "logo.png")

    opened = open_picture(tmp_path / "logo.png", "row 2")

    assert opened.mode == "RGB"
    assert opened.getpixel((2, 2)) == (255, 255, 255)
    assert opened.getpixel((12, 2)) == (10, 20, 30)
    assert opened.getpixel((17, 2)) == pytest.approx((132, 137, 142), abs=1)


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "p.png", transparency=0)

    opened = open_picture(tmp_path / "p.png", "row 2")

    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((3, 3)) == (200, 10, 10)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_is_read_as_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode).save(path)

    opened = open_picture(path, "row 2")

    assert opened.mode == "RGB"
    assert opened.getpixel((8, 8)) == pytest.approx((255, 255, 255), abs=2)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "deep.png")

    assert open_picture(tmp_path / "deep.png", "row 2").getpixel((0, 0)) == (128, 128, 128)


def test_a_missing_picture_is_named_with_its_row(tmp_path):
    for function in (open_picture, picture_size):
        with pytest.raises(UserError, match=r"^shop.csv row 7: picture not found: .*gone.png$"):
            function(tmp_path / "gone.png", "shop.csv row 7")


def test_a_picture_cut_short_is_named_with_its_row(tmp_path, draw):
    whole = draw(tmp_path / "whole.jpg", (300, 300)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])

    assert picture_size(tmp_path / "cut.jpg", "row 7") == (300, 300)
    with pytest.raises(UserError, match=r"^row 7: picture cannot be read: .*cut.jpg \(.*truncated"):
        open_picture(tmp_path / "cut.jpg", "row 7")


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8"]
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "page.jpg").write_bytes(content)

    with pytest.raises(UserError) as refused:
        open_picture(tmp_path / "page.jpg", "row 7")

    assert str(refused.value).startswith("row 7: picture cannot be read: ")
    assert "page.jpg" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sixteen_bits_read_alike_in_either_byte_order(tmp_path):
    shades = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    opened = []
    for order in ("<", ">"):
        path = tmp_path / f"{ord(order)}.tiff"
        image = Image.frombytes(
            "I;16B" if order == ">" else "I;16", (16, 16), shades.astype(f"{order}u2").tobytes()
        )
        image.save(path)
        opened.append(np.asarray(open_picture(path, "row 2"))[..., 0])
    assert np.array_equal(opened[0], shades // 256)
    assert np.array_equal(opened[1], opened[0])


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    for kind in ("gif", "webp", "png"):
        file = tmp_path / f"a.{kind}"
        frames[0].save(file, save_all=True, append_images=frames[1:], lossless=True)
        assert Image.open(file).n_frames == 3
        assert picture_size(file, "row 2") == (20, 10)
        assert (pixels(open_picture(file, "row 2")) == [255, 0, 0]).all()


def png_of(size) -> bytes:
    """The beginning of a PNG, which says how large it is."""
    content = b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    header = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("size", "free", "told"),
    [
        ((10_000, 10_000), 1_999_000_000, "100 million pixels take about 2.0 GB"),
        ((20_000, 10_000), 3_000_000_000, "200 million pixels take about 4.0 GB"),
        ((8_000, 8_000), 0, "it is decoded"),
        ((20_000, 10_000), 5_000_000_000, "it is decoded"),
        ((20_000, 10_000), None, "it is decoded"),
    ],
)  # fmt: skip
def test_a_large_photo_is_refused_only_where_memory_does_not_hold_it(
    tmp_path, monkeypatch, size, free, told
):
    def load(self):
        raise OSError("it is decoded")

    file = tmp_path / "a.png"
    file.write_bytes(png_of(size))
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr("phi3v.data.pictures.free_memory", lambda: free)
    assert picture_size(file, "row 2") == size
    with pytest.raises(UserError, match=f"row 2: picture cannot be read: {file} .*{told}"):
        open_picture(file, "row 2")


def test_a_web_address_is_told_from_a_missing_file():
    with pytest.raises(UserError, match="row 2: a web address: download it first"):
        open_picture(Path("https://shop.example/a.jpg?width=9"), "row 2")
