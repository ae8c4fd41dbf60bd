"""What the tests of the model room share: the golden data and small models to try things on."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from phi3v.model import (
    Loaded,
    Phi3VConfig,
    Phi3VForCausalLM,
    Phi3VImageProcessor,
    Scratch,
)

GOLDEN = Path(__file__).parent / "golden"
# `PHI3V_TEST_DEVICE=cuda pytest tests/model/test_golden.py` holds a GPU to the same data.
DEVICE = os.environ.get("PHI3V_TEST_DEVICE", "cpu")
CROP = 336


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def noise_pixels(seed: int, image_sizes: list[list[int]], max_crops: int) -> np.ndarray:
    """(pictures, crops + 1, 3, 336, 336): noise in the real crops, zeros in the padding crops."""
    pixels = np.zeros((len(image_sizes), max_crops + 1, 3, CROP, CROP), dtype=np.float32)
    for index, (height, width) in enumerate(image_sizes):
        real = (height // CROP) * (width // CROP) + 1
        noise = np.random.RandomState(seed + index).standard_normal((real, 3, CROP, CROP))
        pixels[index, :real] = noise.astype(np.float32)
    return pixels


def make_image(width: int, height: int, seed: int) -> np.ndarray:
    """(height, width, 3) uint8: gradients and rectangles out of integer arithmetic alone."""
    random = np.random.RandomState(seed)
    a, b, c, d, e = (int(value) for value in random.randint(3, 29, size=5))
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    red = (x * a + y * b) // 4
    green = (x * c + (x * y) // (17 + d)) // 3
    blue = (y * e + (x * x) // 257) // 2
    picture = np.stack([red, green, blue], axis=-1) % 256
    for _ in range(6):
        top, left = int(random.randint(0, height)), int(random.randint(0, width))
        bottom = int(random.randint(top, height)) + 1
        right = int(random.randint(left, width)) + 1
        picture[top:bottom, left:right] = random.randint(0, 256, size=3)
    return picture.astype(np.uint8)


@dataclass
class Case:
    """One golden case: what it says of itself, what goes in, what must come out."""

    meta: dict[str, Any]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]

    @property
    def config_file(self) -> str:
        return str(self.meta["config"])


INPUTS = ("input_ids", "attention_mask", "position_ids", "labels")


def load_case(name: str) -> Case:
    meta = read_json(GOLDEN / "cases" / f"{name}.json")
    tensors = load_file(GOLDEN / "cases" / f"{name}.safetensors")
    inputs = {key: tensors.pop(key) for key in INPUTS if key in tensors}
    pixels = meta.get("pixels")
    if pixels and pixels["kind"] == "noise":
        values = noise_pixels(pixels["seed"], pixels["image_sizes"], pixels["max_crops"])
        assert sha256(values) == pixels["sha256"]
        inputs["pixel_values"] = torch.from_numpy(values)
        inputs["image_sizes"] = torch.tensor(pixels["image_sizes"])
    elif pixels:
        arrays = [make_image(s["width"], s["height"], s["seed"]) for s in pixels["images"]]
        for array, spec in zip(arrays, pixels["images"], strict=True):
            assert sha256(array) == spec["sha256"]
        processor = Phi3VImageProcessor(num_crops=pixels["max_crops"])
        out = processor([Image.fromarray(array) for array in arrays], return_tensors="pt")
        assert out["image_sizes"].tolist() == pixels["image_sizes"]
        inputs |= {key: out[key] for key in ("pixel_values", "image_sizes")}
    there = [{k: v.to(DEVICE) for k, v in part.items()} for part in (inputs, tensors)]
    return Case(meta, *there)


def golden_config(config_file: str = "config.json", attention: str = "sdpa") -> Phi3VConfig:
    values = read_json(GOLDEN / "tiny_a" / config_file)
    clip = read_json(GOLDEN / "tiny_a" / "clip_config.json")
    return Phi3VConfig(**values, vision_config=clip, attn_implementation=attention)


def golden_model(config_file: str = "config.json", attention: str = "sdpa") -> Phi3VForCausalLM:
    model = Phi3VForCausalLM(golden_config(config_file, attention))
    model.load_state_dict(load_file(GOLDEN / "tiny_a" / "model.safetensors"), strict=True)
    return model.eval().to(DEVICE)


@dataclass(frozen=True)
class Golden:
    """The golden data, handed to tests as the fixture `golden`."""

    folder: Path
    case: Callable[[str], Case]
    model: Callable[..., Phi3VForCausalLM]
    config: Callable[..., Phi3VConfig]
    make_image: Callable[[int, int, int], np.ndarray]


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden(GOLDEN, load_case, golden_model, golden_config, make_image)


TEXTS = (
    "What is shown in this image?",
    "Product: striped shirt, Category: shirts, Full Price: 129.5",
    "A red jacket with two pockets and a long zip, seen from the front.",
)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "original_max_position_embeddings": 512,
    "rope_scaling": {"type": "su", "short_factor": [1.0] * 4, "long_factor": [1.5, 2.0, 4.0, 8.0]},
    "vision_config": {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 24,
        "patch_size": 4,
    },
}


def scratch(**changes: Any) -> Scratch:
    options = {"config": SMALL, "vocab_size": 420, "num_crops": 4, "seed": 1} | changes
    return Scratch(**options)


def lively(loaded: Loaded) -> Loaded:
    """Larger weights than a fresh model has, so that a wrong computation shows in the logits."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in loaded.model.named_parameters():
            if value.ndim > 1 and "embed_tokens.weight" not in name:
                value.normal_(std=0.25)
    return loaded


@pytest.fixture
def small() -> Loaded:
    """A small model with a tokenizer of its own; made anew for every test."""
    return lively(scratch().load(lambda: TEXTS))


@pytest.fixture(scope="session")
def scratch_model() -> Loaded:
    """The same small model for tests that leave it as it is."""
    return lively(scratch().load(lambda: TEXTS))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory, scratch_model: Loaded) -> Path:
    """The small model as a checkpoint folder, to be read only."""
    folder = tmp_path_factory.mktemp("checkpoint")
    scratch_model.save(folder)
    return folder


@pytest.fixture(scope="session")
def wide() -> Loaded:
    """A small model of which the rows are whole numbers of blocks of 64 numbers."""
    heads = {"num_attention_heads": 8, "hidden_size": 64, "intermediate_size": 128}
    return lively(scratch(config=SMALL | heads).load(lambda: TEXTS))


@pytest.fixture(scope="session")
def saved_wide(tmp_path_factory: pytest.TempPathFactory, wide: Loaded) -> Path:
    """That model as a checkpoint folder, to be read only."""
    folder = tmp_path_factory.mktemp("wide")
    wide.save(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, saved: Path) -> Path:
    """A copy of a good checkpoint, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def make_scratch() -> Callable[..., Scratch]:
    return scratch


@pytest.fixture
def texts() -> tuple[str, ...]:
    return TEXTS


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    def draw(width: int = 40, height: int = 24, seed: int = 0) -> Image.Image:
        return Image.fromarray(make_image(width, height, seed))

    return draw
