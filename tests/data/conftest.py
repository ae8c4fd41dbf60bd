"""A small shop, drawn here, and a processor with the published structure."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from phi3v.data.csv_table import write_table
from phi3v.data.example import Example
from phi3v.model import Phi3VImageProcessor, Phi3VProcessor
from phi3v.model.tokenization import train_tokenizer
from phi3v.task import Task

WORDS = [
    "What is shown in this image?",
    "Product: red scarf, Category: Scarves, Full Price: 470.00",
    "Product: Blue Hiking Boots, Category: Footwear, Full Price: 1290.50",
]


@pytest.fixture(scope="session")
def processor() -> Phi3VProcessor:
    image_processor = Phi3VImageProcessor(num_crops=4, num_img_tokens=9, crop_size=48)
    return Phi3VProcessor(image_processor, train_tokenizer(WORDS * 5, 460))


@pytest.fixture(scope="session")
def task() -> Task:
    return Task(
        name="products",
        question="What is shown in this image?",
        answer="Product: {title}, Category: {category3_code}, Full Price: {full_price}",
        fields={
            "title": "text",
            "category3_code": "label",
            "full_price": {"kind": "number", "format": ".2f"},
        },
        objective="full_price/mape",
    )


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """Draws a picture that differs for every seed, top from bottom and left from right."""

    def draw(path: Path, size: tuple[int, int] = (60, 40), seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", size, (seed % 256, seed // 256 % 256, 90))
        ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1] // 3), fill=(250, 20, 30))
        image.save(path)
        return path

    return draw


@pytest.fixture(scope="session")
def shop_rows() -> Callable[[int], list[dict[str, str]]]:
    """Makes rows with answers and pictures of different lengths."""
    return lambda count: [
        {
            "product_code": f"p{number:03d}",
            "title": f"Scarf number {number}" + " long" * (number % 7),
            "category3_code": ["Scarves", "Boots"][number % 2],
            "full_price": f"{100 + number}.50",
            "local_image_path": f"images/{number}.png",
        }
        for number in range(count)
    ]


@pytest.fixture
def write_shop(tmp_path: Path, draw: Callable[..., Path]) -> Callable[..., Path]:
    """Writes products.csv, and every PNG that a row names and that is not there yet."""

    def write(rows: Sequence[dict[str, str]], columns: Sequence[str] | None = None) -> Path:
        for number, row in enumerate(rows):
            path = tmp_path / row["local_image_path"]
            if path.suffix == ".png" and not path.exists():
                draw(path, size=(60 + 8 * (number % 9), 40 + 10 * (number % 4)), seed=number)
        write_table(tmp_path / "products.csv", list(columns or rows[0]), rows)
        return tmp_path / "products.csv"

    return write


@pytest.fixture
def shop(write_shop, shop_rows) -> Callable[[int], Path]:
    """Writes a shop of so many products."""
    return lambda count: write_shop(shop_rows(count))


@pytest.fixture
def example(tmp_path: Path, draw: Callable[..., Path]) -> Callable[..., Example]:
    """Makes one example whose pictures have the given sizes."""

    def make(
        own_id: str = "a", sizes: Sequence[tuple[int, int]] = ((60, 40),), **values: str | float
    ) -> Example:
        images = tuple(
            draw(tmp_path / f"{own_id}-{number}.png", size, seed=number + len(own_id))
            for number, size in enumerate(sizes)
        )
        fields = {"title": "red scarf", "category3_code": "Scarves", "full_price": 470.0} | values
        return Example(own_id, images, fields, own_id, f"shop.csv row {len(own_id) + 6}")

    return make
