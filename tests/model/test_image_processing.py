"""The image processor: the published HD transform, and what transformers asks of one."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor

from phi3v.model import Phi3VImageProcessor
from phi3v.model.image_processing import cut_up, lay_out, resize_and_pad

FOLDER = Path(__file__).parent / "golden" / "image_processor"
GOLDEN = json.loads((FOLDER / "image_processor.json").read_text())
CASES = {case["key"]: case for case in GOLDEN["cases"]}


@pytest.fixture(scope="module")
def slices():
    return load_file(FOLDER / "slices.safetensors")


def raw_image(golden, case):
    width, height, seed = case["width"], case["height"], case["seed"]
    array = golden.make_image(width, height, seed)
    image = Image.fromarray(array)
    if case["mode"] == "P":
        return image.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    if case["mode"] == "RGBA":
        alpha = golden.make_image(width, height, seed + 1)[:, :, :1]
        return Image.fromarray(np.concatenate([array, alpha], axis=2))
    return image.convert(case["mode"])


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if "error" not in case])
def test_crops_are_those_of_the_published_processor(golden, slices, key):
    case = CASES[key]
    processor = Phi3VImageProcessor(num_crops=case["num_crops"])
    image = raw_image(golden, case)
    padded = resize_and_pad(image.convert("RGB"), lay_out(*image.size, case["num_crops"], 336))
    assert hashlib.sha256(padded.tobytes()).hexdigest() == case["hd_uint8_sha256"]
    out = processor(image, return_tensors="pt")
    pixels = out["pixel_values"]
    assert out["image_sizes"].tolist() == [case["image_sizes"]]
    assert out["num_img_tokens"].tolist() == [case["num_img_tokens"]]
    assert list(pixels.shape) == case["pixel_values_shape"]
    real = case["n_real_crops"] + 1
    assert not pixels[0, real:].any()
    if key in slices:
        assert (pixels[0, :real, :, ::48, ::48] - slices[key]).abs().max() < 2e-5
        overview = pixels[0, 0, :, ::12, ::12]
        assert (overview - slices[f"{key}.global"]).abs().max() < 2e-5
    means = pixels[0, :real].mean(dim=(1, 2, 3))
    assert torch.allclose(means, torch.tensor(case["crop_mean"])[:real], atol=2e-5)


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if "error" in case])
def test_a_picture_that_is_too_thin_is_refused(golden, key):
    case = CASES[key]
    with pytest.raises(ValueError, match="height and width must be > 0"):
        Phi3VImageProcessor(num_crops=case["num_crops"])(raw_image(golden, case))


@pytest.mark.parametrize("file", sorted(FOLDER.glob("full_*.npz")), ids=lambda path: path.stem)
def test_a_whole_picture_agrees_everywhere(golden, file):
    key = file.stem.removeprefix("full_")
    case = CASES[key]
    pixels = Phi3VImageProcessor(num_crops=case["num_crops"])(
        raw_image(golden, case), return_tensors="np"
    )["pixel_values"]
    expected = next(iter(np.load(file).values()))
    assert np.abs(pixels - expected.reshape(pixels.shape)).max() < 2e-5


def test_sizes_and_token_counts_are_known_without_pixels():
    assert GOLDEN["size_grid_columns"][:3] == ["width", "height", "num_crops"]
    for width, height, num_crops, padded_height, padded_width, tokens in GOLDEN["size_grid"]:
        processor = Phi3VImageProcessor(num_crops=num_crops)
        assert processor.hd_size(width, height) == (padded_height, padded_width)
        assert processor.num_image_tokens(width, height) == tokens


def test_published_token_counts_of_some_grids():
    counts = {(336, 336): 313, (336, 1344): 745, (1344, 336): 781, (672, 672): 757}
    processor = Phi3VImageProcessor(num_crops=4)
    found = {
        processor.hd_size(width, height): processor.num_image_tokens(width, height)
        for width, height in [(400, 100), (100, 400), (50, 50)]
    }
    assert all(counts[size] == count for size, count in found.items())
    assert len(found) == 3


def test_crops_and_overview_of_a_small_crop_size_are_laid_out_row_by_row():
    values = torch.arange(4 * 6, dtype=torch.float32).view(1, 4, 6)
    crops = cut_up(values, num_crops=7, crop_size=2)
    assert crops.shape == (8, 1, 2, 2)
    assert crops[1].flatten().tolist() == [0, 1, 6, 7]
    assert crops[3].flatten().tolist() == [4, 5, 10, 11]
    assert crops[4].flatten().tolist() == [12, 13, 18, 19]
    assert not crops[7].any()


@pytest.fixture
def small_processor():
    return Phi3VImageProcessor(num_crops=4, crop_size=24, num_img_tokens=9)


def test_pil_numpy_and_torch_pictures_give_the_same_crops(small_processor, picture):
    image = picture(50, 30)
    array = np.asarray(image)
    kinds = [
        image,
        array,
        array.transpose(2, 0, 1),
        torch.from_numpy(array.copy()),
        torch.from_numpy(array.transpose(2, 0, 1).copy()),
        array.astype(np.float32),
        array.astype(np.float32) / 255,
    ]
    first, *rest = [small_processor(kind, return_tensors="pt")["pixel_values"] for kind in kinds]
    assert all(torch.equal(first, other) for other in rest)


def test_grey_and_four_channel_arrays_are_taken(small_processor, picture):
    grey = np.asarray(picture(50, 30).convert("L"))
    expected = small_processor(Image.fromarray(grey), return_tensors="pt")["pixel_values"]
    for array in (grey[:, :, None], grey[None]):
        out = small_processor(array, return_tensors="pt")["pixel_values"]
        assert torch.equal(out, expected)
    four = np.dstack([np.asarray(picture(50, 30)), np.full((30, 50), 7, np.uint8)])
    without_alpha = small_processor(four[:, :, :3], return_tensors="pt")["pixel_values"]
    assert torch.equal(small_processor(four, return_tensors="pt")["pixel_values"], without_alpha)
    kept = small_processor(
        four, do_convert_rgb=False, image_mean=[0.0] * 4, image_std=[1.0] * 4, return_tensors="pt"
    )
    assert kept["pixel_values"].shape[2] == 4


def test_lists_and_lists_of_lists_are_flattened_in_order(small_processor, picture):
    images = [picture(50, 30, seed) for seed in range(3)]
    flat = small_processor(images, return_tensors="pt")
    nested = small_processor([[images[0]], [images[1], images[2]]], return_tensors="pt")
    assert torch.equal(flat["pixel_values"], nested["pixel_values"])
    assert flat["image_sizes"].dtype == torch.int64
    sizes = [tuple(size) for size in flat["image_sizes"].tolist()]
    assert small_processor(images)["image_sizes"] == sizes


def test_options_of_a_call_come_before_those_of_the_processor(small_processor, picture):
    image = picture(50, 30)
    plain = small_processor(image, return_tensors="pt")["pixel_values"]
    assert small_processor(image, num_crops=2, return_tensors="pt")["pixel_values"].shape[1] == 3
    unit = small_processor(image, image_mean=0.0, image_std=1.0, return_tensors="pt")
    crops = unit["pixel_values"][0, 1:]  # the bicubic overview overshoots at edges
    assert (crops.min(), crops.max()) == (0, 1)
    raw = small_processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")
    assert torch.allclose(raw["pixel_values"] / 255, unit["pixel_values"], atol=1e-6)
    again = small_processor(image, return_tensors="pt")["pixel_values"]
    assert torch.equal(plain, again)


def test_an_unknown_option_is_refused(small_processor, picture):
    with pytest.raises(Exception, match="do_resize"):
        small_processor(picture(), do_resize=True)


def test_a_token_count_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match="no square"):
        Phi3VImageProcessor(num_img_tokens=10)


def test_it_is_saved_and_loaded_by_its_class_and_by_auto(tmp_path, small_processor):
    small_processor.save_pretrained(tmp_path)
    for loader in (Phi3VImageProcessor, AutoImageProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is Phi3VImageProcessor
        assert loaded.to_dict() == small_processor.to_dict()


def test_a_published_file_that_names_remote_code_is_loaded_without_it(tmp_path):
    published = {
        "auto_map": {"AutoImageProcessor": "image_processing_phi3_v.Phi3VImageProcessor"},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Phi3VImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "num_crops": 16,
        "num_img_tokens": 144,
        "processor_class": "Phi3VProcessor",
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(loaded) is Phi3VImageProcessor
    assert loaded.num_crops == 16
    assert "auto_map" not in loaded.to_dict()


def test_floats_that_are_rescaled_already_may_say_so(small_processor, picture):
    array = np.asarray(picture(40, 24, 1))
    expected = small_processor(array, return_tensors="pt")["pixel_values"]
    scaled = small_processor(array / 255.0, do_rescale=False, return_tensors="pt")["pixel_values"]
    assert torch.equal(scaled, expected)


def test_sixteen_bits_are_scaled_and_not_cut(small_processor, picture):
    array = np.asarray(picture(40, 24, 1))
    expected = small_processor(array, return_tensors="pt")["pixel_values"]
    deep = small_processor(array.astype(np.uint16) * 257, return_tensors="pt")["pixel_values"]
    assert torch.equal(deep, expected)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [(np.nan, {}, "not finite"), (0.5, {"num_crops": 0}, "at least one crop")],
)
def test_what_makes_no_crops_is_refused(small_processor, change, options, message):
    with pytest.raises(ValueError, match=message):
        small_processor(np.full((24, 40, 3), change), **options)
