"""The sample catalogue: product pictures drawn on the spot, with titles, categories and prices.

It stands in for the Burberry sample set (3,040 rows, the same columns) wherever real data must not
or cannot be used, and it does what real data never can: its price rule is known, so the best
achievable error is known in closed form.

    price = base(kind) * material * pattern * size * exp(noise * z),   z ~ N(0, 1)

Every factor of the rule can be seen in the picture; the noise cannot. `phi3v.data.drawing` draws,
`phi3v.data.csv_source` reads what is written here, exactly as it reads anybody's CSV.
"""

import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from phi3v.data.cache import write_once
from phi3v.data.csv_source import CsvSource
from phi3v.data.drawing import COLOURS, KINDS, MATERIALS, PATTERNS, SIZES, Look, draw
from phi3v.data.example import Example
from phi3v.errors import UserError
from phi3v.task import Task

T = TypeVar("T")
COLUMNS = ("product_code", "title", "category3_code", "full_price", "imageurl", "local_image_path")
# kind: (category, base price, share of the catalogue). The shares fall like 1 / rank: a long tail.
ASSORTMENT: Mapping[str, tuple[str, float, float]] = {
    "shirt": ("Shirts", 190.0, 1 / 1),
    "bag": ("Bags", 450.0, 1 / 2),
    "shoe": ("Shoes", 320.0, 1 / 3),
    "scarf": ("Scarves", 130.0, 1 / 4),
    "dress": ("Dresses", 560.0, 1 / 5),
    "trousers": ("Trousers", 240.0, 1 / 6),
    "hat": ("Hats", 100.0, 1 / 7),
    "umbrella": ("Umbrellas", 75.0, 1 / 8),
}
MATERIAL_FACTOR = {"cotton": 1.0, "wool": 1.5, "leather": 2.2}
PATTERN_FACTOR = {"plain": 1.0, "striped": 1.15, "dotted": 1.3, "checked": 1.5}
SIZE_FACTOR = {"small": 0.7, "medium": 1.0, "large": 1.4}
PRICE_STEP = 5  # prices in a shop end in 0 or 5
VERSION = 5  # part of the cache's name: raise it when pictures, texts or prices change


@dataclass(frozen=True)
class Catalogue:
    """A catalogue of `rows` products, drawn once into `cache_dir` and then read from there.

    Attributes:
        rows: number of products. Row n is the same whatever the number of rows.
        seed: decides everything that is drawn.
        cache_dir: where catalogues are kept, each in a folder named after what decides it.
        noise: standard deviation of log(price) around the rule; above 0, below 1.
    """

    cache_dir: str
    rows: int = 3040
    seed: int = 0
    noise: float = 0.15

    def __post_init__(self) -> None:
        if self.rows < 3:
            raise UserError(f"data.rows={self.rows}: a catalogue needs at least 3 rows")
        if self.seed < 0:
            raise UserError(f"data.source.seed={self.seed}: must not be below 0")
        if not 0 < self.noise < 1:
            raise UserError(f"noise={self.noise}: must lie above 0 and below 1")

    @property
    def folder(self) -> Path:
        """Where this catalogue lies once it has been drawn."""
        name = f"catalogue-v{VERSION}-rows{self.rows}-seed{self.seed}-noise{self.noise:g}"
        return Path(self.cache_dir) / name

    def load(self, task: Task) -> list[Example]:
        """The examples; draws the catalogue first where it does not lie in the cache."""
        write_once(self.folder, self._write, f"drawing {self.rows:,} product pictures")
        # Its pictures were written by this program: they need not be decoded to be believed.
        table = str(self.folder / "catalogue.csv")
        return CsvSource(path=table, group_by=["title"], verify_up_to=0).load(task)

    def describe(self) -> str:
        """One line for the terminal and the report."""
        return f"drawn catalogue, {self.rows:,} products, seed {self.seed}, noise {self.noise:g}"

    def optimum(self, task: Task) -> dict[str, float]:
        """The best expected figures of any model that sees the pictures, by metric name.

        Prices scatter around the rule like exp(noise * z). E|c * exp(-noise * z) - 1| is least at
        c = exp(-noise^2) and is then 2 * Phi(noise) - 1; a guess is right within 10 % most often
        when the interval [c / 1.1, c / 0.9] is centred on the density of log(price).
        """
        best: dict[str, float] = {"parse_rate": 1.0}
        for name in task.field_names:
            if name == "title":
                best["title/exact_match"] = best["title/token_f1"] = 1.0
                best["title/edit_similarity"] = 1.0
            elif name == "category3_code":
                best["category3_code/accuracy"] = best["category3_code/macro_f1"] = 1.0
            elif name == "full_price":
                best["full_price/mape"] = _share_within(self.noise)
                best["full_price/within_10_percent"] = _share_within(
                    math.log(1.1 / 0.9) / 2 / self.noise
                )
        return best

    def _write(self, folder: Path) -> None:
        (folder / "images").mkdir()
        rows = draw_rows(partial(_product, self.seed, self.noise, str(folder)), self.rows)
        write_csv(folder / "catalogue.csv", COLUMNS, rows)


def draw_rows(one: Callable[[int], T], rows: int, processes: int | None = None) -> Iterable[T]:
    """one(0), one(1), ... in order, on all cores.

    The workers draw with Pillow and NumPy only: they may be forked from a process that has loaded
    torch, since they never call it.
    """
    processes = processes or min(os.cpu_count() or 1, 8)
    if processes == 1 or rows < 200 or "fork" not in _start_methods():
        return [one(index) for index in range(rows)]
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        return list(pool.map(one, range(rows), chunksize=64))


def _start_methods() -> list[str]:
    from multiprocessing import get_all_start_methods

    return get_all_start_methods()


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Writes rows under a header, UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def rule(look: Look) -> float:
    """The price without its noise: the median of the prices of all products that look so."""
    base = ASSORTMENT[look.kind][1]
    return (
        base
        * MATERIAL_FACTOR[look.material]
        * PATTERN_FACTOR[look.pattern]
        * SIZE_FACTOR[look.size]
    )


def title(look: Look) -> str:
    """All that the picture shows, in the fixed order of a shop's titles."""
    words = (look.size, look.colour, look.pattern, look.material, look.kind)
    return " ".join(words).title()


def _product(seed: int, noise: float, folder: str, index: int) -> dict[str, object]:
    """Draws and saves one product; its row of the CSV."""
    rng = np.random.default_rng([seed, VERSION, index])
    shares = np.asarray([share for _, _, share in ASSORTMENT.values()])
    look = Look(
        kind=str(rng.choice(list(ASSORTMENT), p=shares / shares.sum())),
        material=str(rng.choice(MATERIALS)),
        pattern=str(rng.choice(PATTERNS)),
        colour=str(rng.choice(list(COLOURS))),
        size=str(rng.choice(list(SIZES))),
    )
    price = rule(look) * math.exp(noise * float(rng.standard_normal()))
    code = f"{80_000_000 + index}"
    draw(look, rng).save(Path(folder) / "images" / f"{code}.jpg", quality=92)
    values = (
        code,
        title(look),
        ASSORTMENT[look.kind][0],
        float(max(PRICE_STEP, PRICE_STEP * round(price / PRICE_STEP))),
        f"https://catalogue.example/{code}.jpg",
        f"images/{code}.jpg",
    )
    return dict(zip(COLUMNS, values, strict=True))


def random_look(rng: np.random.Generator) -> Look:
    """A look out of all there are, each as likely as any other."""
    choices = {"kind": KINDS, "material": MATERIALS, "pattern": PATTERNS}
    picked = {name: str(rng.choice(list(values))) for name, values in choices.items()}
    return Look(colour=str(rng.choice(list(COLOURS))), size=str(rng.choice(list(SIZES))), **picked)


def look_words(look: Look) -> dict[str, str]:
    """The look by attribute name."""
    return dict(asdict(look))


def _share_within(deviations: float) -> float:
    """The share of a normal distribution that lies within so many standard deviations."""
    return math.erf(deviations / math.sqrt(2))
