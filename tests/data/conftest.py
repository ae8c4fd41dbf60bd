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
COLUMNS = ["product_code", "title", "category3_code", "full_price", "local_image_path"]


@pytest.fixture(scope="session")
def processor() -> Phi3VProcessor:
    image_processor = Phi3VImageProcessor(num_crops=4, num_img_tokens=9, crop_size=48)
    return Phi3VProcessor(image_processor, train_tokenizer(WORDS * 5, 460, 4096))


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


def draw(path: Path, size: tuple[int, int] = (60, 40), seed: int = 0) -> Path:
    """A picture that is different for every seed, top and bottom, left and right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (seed % 256, seed // 256 % 256, 90))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1] // 3), fill=(250, 20, 30))
    image.save(path)
    return path


def shop_rows(count: int) -> list[dict[str, str]]:
    return [
        {
            "product_code": f"p{number:03d}",
            "title": f"Scarf number {number}" + " long" * (number % 7),
            "category3_code": ["Scarves", "Boots"][number % 2],
            "full_price": f"{100 + number}.50",
            "local_image_path": f"images/{number}.png",
        }
        for number in range(count)
    ]


def write_shop(folder: Path, rows: Sequence[dict[str, str]]) -> Path:
    """Writes a CSV file, and every picture that a row names and that is not there yet."""
    for number, row in enumerate(rows):
        path = folder / row["local_image_path"]
        if not path.exists() and path.suffix == ".png":
            draw(path, size=(60 + 8 * (number % 9), 40 + 10 * (number % 4)), seed=number)
    table = folder / "products.csv"
    write_table(table, list(rows[0]), rows)
    return table


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[int], Path]:
    return lambda count: write_shop(tmp_path, shop_rows(count))


@pytest.fixture
def example(tmp_path: Path) -> Callable[..., Example]:
    """Makes one example whose pictures have the given sizes."""

    def make(id: str = "a", sizes: Sequence[tuple[int, int]] = ((60, 40),), **values) -> Example:
        images = tuple(
            draw(tmp_path / f"{id}-{number}.png", size, seed=number + len(id))
            for number, size in enumerate(sizes)
        )
        fields = {"title": "red scarf", "category3_code": "Scarves", "full_price": 470.0}
        return Example(id, images, fields | values, group=id, origin=f"shop.csv row {len(id) + 6}")

    return make
