"""The drawn catalogue: repeatable, in the columns of the Burberry set, with a known optimum."""

import csv
import math
import re

import numpy as np
import pytest
from PIL import Image

from phi3v.data.catalogue import ASSORTMENT, COLUMNS, Catalogue, rule, title
from phi3v.data.drawing import COLOURS, KINDS, MATERIALS, PATTERNS, SIZES, Look, draw
from phi3v.errors import UserError
from phi3v.task import Task


@pytest.fixture(scope="module")
def product() -> Task:
    return Task(
        name="product",
        question="What is shown in this image?",
        answer="Product: {title}, Category: {category3_code}, Full Price: {full_price}",
        fields={"title": "text", "category3_code": "label", "full_price": "number"},
        objective="full_price/mape",
    )


def rows_of(catalogue: Catalogue) -> list[dict[str, str]]:
    with (catalogue.folder / "catalogue.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def large(tmp_path_factory, product):
    catalogue = Catalogue(cache_dir=str(tmp_path_factory.mktemp("cache")), rows=600, seed=3)
    catalogue.load(product)
    return catalogue


def look_of(row: dict[str, str]) -> Look:
    size, colour, pattern, material, kind = row["title"].lower().split()
    return Look(kind=kind, material=material, pattern=pattern, colour=colour, size=size)


def test_its_columns_are_those_of_the_burberry_sample(large) -> None:
    rows = rows_of(large)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 600
    assert len({row["product_code"] for row in rows}) == 600


def test_row_n_is_the_same_in_a_shorter_catalogue(large, tmp_path, product) -> None:
    short = Catalogue(cache_dir=str(tmp_path), rows=5, seed=3)
    short.load(product)
    assert rows_of(short) == rows_of(large)[:5]
    for row in rows_of(short):
        name = row["local_image_path"]
        assert (short.folder / name).read_bytes() == (large.folder / name).read_bytes()


def test_another_seed_is_another_catalogue(large, tmp_path, product) -> None:
    other = Catalogue(cache_dir=str(tmp_path), rows=20, seed=4)
    other.load(product)
    assert [row["title"] for row in rows_of(other)] != [row["title"] for row in rows_of(large)[:20]]


def test_it_is_drawn_once(large, product) -> None:
    before = (large.folder / "catalogue.csv").stat().st_mtime_ns
    examples = large.load(product)
    assert (large.folder / "catalogue.csv").stat().st_mtime_ns == before
    assert len(examples) == 600


def test_a_drawing_that_fails_leaves_no_folder_that_looks_complete(
    tmp_path, product, monkeypatch
) -> None:
    catalogue = Catalogue(cache_dir=str(tmp_path), rows=5)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("phi3v.data.catalogue.write_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        catalogue.load(product)
    assert list(tmp_path.iterdir()) == []


def test_prices_scatter_around_the_rule_by_the_noise(large) -> None:
    logs = [math.log(float(row["full_price"]) / rule(look_of(row))) for row in rows_of(large)]
    assert np.std(logs) == pytest.approx(large.noise, rel=0.1)
    assert np.mean(logs) == pytest.approx(0, abs=0.02)


def test_the_optimum_is_what_the_best_guess_reaches(product) -> None:
    noise = 0.2
    optimum = Catalogue(cache_dir="unused", noise=noise).optimum(product)
    price = np.exp(noise * np.random.default_rng(0).standard_normal(400_000))
    guesses = np.exp(np.linspace(-0.15, 0.15, 61))
    errors = [np.mean(np.abs(guess - price) / price) for guess in guesses]
    hits = [np.mean(np.abs(guess - price) / price <= 0.1) for guess in guesses]
    assert min(errors) == pytest.approx(optimum["full_price/mape"], rel=5e-3)
    assert max(hits) == pytest.approx(optimum["full_price/within_10_percent"], rel=5e-3)


def test_categories_have_a_long_tail(large) -> None:
    counts = [
        sum(row["category3_code"] == category for row in rows_of(large))
        for category, _, _ in ASSORTMENT.values()
    ]
    assert counts[0] > 3 * counts[-1] > 0


def test_one_title_is_one_group(large, product) -> None:
    groups: dict[str, set[str]] = {}
    for example in large.load(product):
        groups.setdefault(str(example.values["title"]), set()).add(example.group)
    assert all(len(group) == 1 for group in groups.values())
    assert len({next(iter(group)) for group in groups.values()}) == len(groups)


def test_titles_name_everything_that_is_seen() -> None:
    look = Look(kind="bag", material="wool", pattern="dotted", colour="red", size="small")
    assert title(look) == "Small Red Dotted Wool Bag"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_look_can_be_drawn(kind: str, material: str, pattern: str) -> None:
    picture = draw(Look(kind, material, pattern, "red", "medium"), np.random.default_rng(0))
    assert picture.mode == "RGB"
    assert 1 <= max(picture.size) / min(picture.size) < 1.35


def reddish(picture: Image.Image) -> float:
    """The share of the picture that is red, of a square of its longer side."""
    pixels = np.asarray(picture, dtype=float)
    red = (pixels[..., 0] > 130) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)
    return float(red.sum()) / max(picture.size) ** 2


def test_a_larger_size_covers_more_of_the_picture() -> None:
    shares = {
        size: [
            reddish(draw(Look("shirt", "cotton", "plain", "red", size), np.random.default_rng(n)))
            for n in range(12)
        ]
        for size in SIZES
    }
    assert max(shares["small"]) < min(shares["medium"])
    assert max(shares["medium"]) < min(shares["large"])


def test_colours_differ_where_the_product_is() -> None:
    def mean(colour: str) -> np.ndarray:
        look = Look("shirt", "cotton", "plain", colour, "large")
        return np.asarray(draw(look, np.random.default_rng(1)), dtype=float).mean((0, 1))

    means = {colour: mean(colour) for colour in COLOURS}
    pairs = [(a, b) for a in means for b in means if a < b]
    assert all(np.abs(means[a] - means[b]).max() > 4 for a, b in pairs)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rows": 2}, "data.rows=2"),
        ({"noise": 0.0}, "noise"),
        ({"seed": -1}, "data.source.seed=-1"),
    ],
)
def test_impossible_catalogues_are_refused(change: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        Catalogue(cache_dir="unused", **change)
