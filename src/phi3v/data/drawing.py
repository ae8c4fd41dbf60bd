"""Draws product pictures: every attribute that the catalogue speaks of can be seen in them.

`draw(Look(...), rng)` returns an RGB picture. The picture shows kind, material, pattern, colour and
size; the canvas, the background, the pose and the light vary and mean nothing. Lengths are shares
of the picture's longer side, so a size survives the HD transform, which scales that side to a fixed
number of pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Point = tuple[float, float]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Outlines in a unit square, x to the right and y downwards; several polygons are one silhouette.
OUTLINES: Mapping[str, tuple[tuple[Point, ...], ...]] = {
    "shirt": (
        ((0.3, 0.08), (0.42, 0.14), (0.58, 0.14), (0.7, 0.08), (1.0, 0.3), (0.88, 0.46),
         (0.75, 0.38), (0.75, 0.95), (0.25, 0.95), (0.25, 0.38), (0.12, 0.46), (0.0, 0.3)),
    ),
    "bag": (
        ((0.08, 0.4), (0.92, 0.4), (1.0, 0.95), (0.0, 0.95)),
        ((0.25, 0.42), (0.3, 0.14), (0.42, 0.04), (0.58, 0.04), (0.7, 0.14), (0.75, 0.42),
         (0.67, 0.42), (0.62, 0.2), (0.55, 0.12), (0.45, 0.12), (0.38, 0.2), (0.33, 0.42)),
    ),
    "scarf": (
        ((0.05, 0.05), (0.95, 0.05), (0.95, 0.27), (0.66, 0.3), (0.66, 0.98), (0.38, 0.98),
         (0.38, 0.3), (0.05, 0.27)),
    ),
    "shoe": (
        ((0.02, 0.25), (0.3, 0.25), (0.42, 0.5), (0.8, 0.58), (1.0, 0.72), (1.0, 0.82),
         (0.3, 0.82), (0.25, 0.78), (0.22, 0.95), (0.04, 0.95)),
    ),
    "dress": (
        ((0.34, 0.02), (0.42, 0.02), (0.5, 0.12), (0.58, 0.02), (0.66, 0.02), (0.68, 0.3),
         (0.62, 0.42), (0.92, 0.98), (0.08, 0.98), (0.38, 0.42), (0.32, 0.3)),
    ),
    "hat": (
        ((0.25, 0.68), (0.28, 0.3), (0.4, 0.2), (0.6, 0.2), (0.72, 0.3), (0.75, 0.68),
         (1.0, 0.72), (1.0, 0.82), (0.0, 0.82), (0.0, 0.72)),
    ),
    "trousers": (
        ((0.24, 0.02), (0.76, 0.02), (0.86, 0.98), (0.6, 0.98), (0.5, 0.36), (0.4, 0.98),
         (0.14, 0.98)),
    ),
    "umbrella": (
        ((0.0, 0.5), (0.08, 0.3), (0.26, 0.14), (0.5, 0.08), (0.74, 0.14), (0.92, 0.3),
         (1.0, 0.5), (0.83, 0.44), (0.67, 0.5), (0.5, 0.44), (0.33, 0.5), (0.17, 0.44)),
        ((0.47, 0.44), (0.53, 0.44), (0.53, 0.9), (0.66, 0.9), (0.66, 0.97), (0.47, 0.97)),
    ),
}  # fmt: skip
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (200, 40, 45),
    "blue": (40, 80, 190),
    "green": (45, 140, 70),
    "black": (42, 42, 48),
    "white": (238, 238, 234),
    "yellow": (235, 195, 50),
    "pink": (235, 130, 175),
    "brown": (125, 80, 45),
}
MATERIALS = ("cotton", "wool", "leather")
PATTERNS = ("plain", "striped", "dotted", "checked")
SIZES: Mapping[str, float] = {"small": 0.44, "medium": 0.58, "large": 0.76}
KINDS = tuple(OUTLINES)


@dataclass(frozen=True)
class Look:
    """What a picture shows; the names are keys of the tables above."""

    kind: str
    material: str
    pattern: str
    colour: str
    size: str


def draw(look: Look, rng: np.random.Generator) -> Image.Image:
    """An RGB picture of a product.

    Args:
        look: what it shows.
        rng: decides all that the look leaves open: canvas, background, pose, light.
    """
    width, height = _canvas(rng)
    longer = max(width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(longer)
    background = _background(x, y, rng)
    angle = float(rng.uniform(-0.15, 0.15))
    extent = SIZES[look.size] * float(rng.uniform(0.96, 1.04))
    mask, centre = _silhouette(look.kind, (width, height), extent, angle, rng)
    # Cloth coordinates turn with the product, so that a stripe follows its pose.
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    v = -(x - centre[0]) * np.sin(angle) + (y - centre[1]) * np.cos(angle)
    cloth = _material(look.material, _cloth(look, u, v, rng), u, v, extent, rng)
    cloth = _hem(look.material, cloth, mask, extent * longer)
    if look.material == "wool":
        mask, cloth = _fringe(cloth, mask, longer, rng)
    down, right = max(1, longer // 40), max(1, longer // 60)
    shadow = np.pad(mask, ((down, 0), (right, 0)))[:height, :width] * np.float32(0.25)
    picture = background * (1 - shadow[..., None])
    picture = picture * (1 - mask[..., None]) + cloth * mask[..., None]
    picture = picture * float(rng.uniform(0.92, 1.05))
    picture += rng.normal(0, 2.0, picture.shape).astype(np.float32)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _canvas(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height in pixels; the aspect stays at 1.25 or below, so that large products fit."""
    longer = int(rng.integers(96, 193))
    shorter = round(longer / float(rng.uniform(1.0, 1.3)))
    return (longer, shorter) if rng.random() < 0.5 else (shorter, longer)


def _background(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """A studio: plain, a gradient, a floor, or a mottled wall, always pale and hardly coloured."""
    base = rng.uniform(185, 245) + rng.uniform(-14, 14, size=3)
    picture: NDArray[np.floating[Any]] = np.broadcast_to(base, (*x.shape, 3)).astype(np.float32)
    style = rng.integers(4)
    if style == 1:
        slope = rng.uniform(-40, 40, size=2)
        picture = picture + (slope[0] * x + slope[1] * y)[..., None]
    elif style == 2:
        picture = picture - (y > rng.uniform(0.5, 0.8))[..., None] * rng.uniform(12, 35)
    elif style == 3:
        waves = np.sin(x * rng.uniform(8, 20) + rng.uniform(0, 6)) * np.sin(
            y * rng.uniform(8, 20) + rng.uniform(0, 6)
        )
        picture = picture + waves[..., None] * rng.uniform(5, 12)
    return picture.astype(np.float32)


def _silhouette(
    kind: str, size: tuple[int, int], extent: float, angle: float, rng: np.random.Generator
) -> tuple[Floats, Point]:
    """Coverage of the product, (height, width) in 0..1, and its centre in shares."""
    width, height = size
    longer = max(size)
    # Products stand near the middle, as in a shop's pictures.
    centre = tuple(float(side / longer / 2 + rng.uniform(-0.03, 0.03)) for side in size)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    canvas = Image.new("L", (2 * width, 2 * height))  # twice the size, then halved: soft edges
    pen = ImageDraw.Draw(canvas)
    for outline in OUTLINES[kind]:
        points = [
            (
                2 * longer * (centre[0] + extent * (flip * (px - 0.5) * cos - (py - 0.5) * sin)),
                2 * longer * (centre[1] + extent * (flip * (px - 0.5) * sin + (py - 0.5) * cos)),
            )
            for px, py in outline
        ]
        pen.polygon(points, fill=255)
    mask: Floats = np.asarray(canvas.resize(size, Image.Resampling.BOX), dtype=np.float32)
    mask = mask / np.float32(255)
    return mask, (centre[0], centre[1])


def _hem(material: str, cloth: Floats, mask: Floats, length: float) -> Floats:
    """The cloth with its edge: a thin dark line, on leather a broad black one.

    Its breadth is a share of the product's `length` in pixels: on a small product the edge of a
    large one would leave no room for the pattern.
    """
    share, colour, strength = {
        "cotton": (0.014, 0, 0.45),
        "wool": (0.014, 0, 0.45),
        "leather": (0.04, 15, 0.9),
    }[material]
    inner = _moved((mask * 255).astype(np.uint8), max(1, round(share * length)), np.minimum)
    edge = strength * (mask - inner.astype(np.float32) / 255)[..., None]
    return np.asarray(cloth * (1 - edge) + colour * edge, dtype=np.float32)


def _moved(shape: Bytes, pixels: int, pick: np.ufunc) -> Bytes:
    """A silhouette with its edge moved inwards (np.minimum) or outwards (np.maximum)."""
    for _ in range(pixels):
        wide = np.pad(shape, 1, mode="edge")
        rows = pick(pick(wide[:-2], wide[1:-1]), wide[2:])
        shape = pick(pick(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return shape


def _fringe(
    cloth: Floats, mask: Floats, longer: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Wool's tufts of gray hair around the product, which leave its pattern whole."""
    outer = _moved((mask * 255).astype(np.uint8), max(1, round(0.032 * longer)), np.maximum)
    block = max(1, round(longer / 48))
    height, width = mask.shape
    tufts = rng.choice((80.0, 150.0), (height // block + 1, width // block + 1))
    hair = np.kron(tufts, np.ones((block, block)))[:height, :width, None]
    covered = outer.astype(np.float32) / np.float32(255)
    inside = mask[..., None]
    return covered, np.asarray(cloth * inside + hair * (1 - inside), dtype=np.float32)


def _cloth(look: Look, u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Colour and pattern, (height, width, 3)."""
    colour = np.asarray(COLOURS[look.colour], dtype=np.float32) + rng.uniform(-12, 12, size=3)
    # The second colour is cream on dark cloth and navy on pale cloth.
    second = np.asarray((240, 232, 210) if colour.mean() < 150 else (50, 55, 95), dtype=np.float32)
    period = float(rng.uniform(0.1, 0.125))
    du, dv = rng.uniform(0, 1, size=2)
    if look.pattern == "plain":
        share = np.zeros_like(u)
    elif look.pattern == "striped":
        share = _band(v / period + dv)
    elif look.pattern == "dotted":
        step = 0.85 * period
        a, b = (u / step + du) % 1 - 0.5, (v / step + dv) % 1 - 0.5
        share = np.clip((0.34 - np.sqrt(a * a + b * b)) * 8, 0, 1)
    else:
        share = 0.5 * (_band(u / period / 1.15 + du) + _band(v / period / 1.15 + dv))
    mixed = colour * (1 - share[..., None]) + second * share[..., None]
    return np.asarray(mixed, dtype=np.float32)


def _band(phase: Floats) -> Floats:
    """A square wave with soft edges, 0..1, of period 1."""
    return np.asarray(np.clip(np.sin(2 * np.pi * phase) * 3 + 0.5, 0, 1), dtype=np.float32)


def _material(
    material: str, cloth: Floats, u: Floats, v: Floats, extent: float, rng: np.random.Generator
) -> Floats:
    """The cloth with the surface of its material: grain or gloss."""
    if material == "wool":
        grain = rng.normal(0, 1, (u.shape[0] // 3 + 1, u.shape[1] // 3 + 1))
        knit = np.kron(grain, np.ones((3, 3)))[: u.shape[0], : u.shape[1]]
        cloth = cloth + (knit * 22)[..., None]
    elif material == "leather":
        shine = np.exp(-((u + 0.12 * extent) ** 2 + (v + 0.02) ** 2) / (0.2 * extent) ** 2)
        cloth = cloth * 0.72 + (shine * 120)[..., None]
    return np.asarray(cloth, dtype=np.float32)
