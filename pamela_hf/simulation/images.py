"""Procedural images of the simulated world: traits in, a small picture out, with numpy and PIL alone.

No diffusion model is involved; the drawings are plain on purpose, so that each trait can be read from the
pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .shapes import BACKDROPS, PROPS, SHAPES, Shape
from .traits import Traits, traits_from_prompt

# Colours of each role at warmth 0, .5 and 1; the middle is not a mixture of the ends, which would be grey.
_COLD = {
    "sky": (58, 110, 190), "haze": (170, 205, 235), "ground": (62, 106, 118), "far": (88, 122, 168),
    "a": (52, 84, 176), "b": (64, 170, 190), "c": (120, 96, 190), "g": (38, 120, 104), "n": (86, 108, 140),
}  # fmt: skip
_MILD = {
    "sky": (112, 160, 204), "haze": (226, 226, 214), "ground": (124, 144, 88), "far": (118, 138, 140),
    "a": (200, 80, 66), "b": (234, 188, 84), "c": (92, 110, 176), "g": (66, 140, 72), "n": (156, 134, 112),
}  # fmt: skip
_WARM = {
    "sky": (222, 112, 84), "haze": (255, 206, 130), "ground": (176, 122, 66), "far": (176, 106, 92),
    "a": (206, 58, 44), "b": (246, 170, 52), "c": (150, 70, 120), "g": (140, 138, 50), "n": (164, 112, 80),
}  # fmt: skip
_FIXED = {
    "d": (40, 38, 46),
    "l": (244, 238, 226),
    "s": (226, 176, 144),
    "m": (150, 150, 156),
    "w": (255, 226, 150),
}


def _mix(a: tuple, b: tuple, t: float) -> tuple[int, int, int]:
    return tuple(int(u + (v - u) * t) for u, v in zip(a, b))


def _palette(traits: Traits, rng: np.random.Generator) -> dict[str, tuple[int, int, int]]:
    palette = dict(_FIXED)
    for role in _MILD:
        t = min(max(traits.warmth + 0.06 * rng.standard_normal(), 0.0), 1.0) * 2.0 - 1.0
        color = _mix(_MILD[role], _WARM[role] if t > 0 else _COLD[role], abs(t) * (2.0 - abs(t)))
        palette[role] = tuple(min(max(c + j, 0), 255) for c, j in zip(color, rng.integers(-14, 15, 3).tolist()))
    if traits.brightness > 0.3:  # windows glow at night only
        palette["w"] = _mix(palette["haze"], palette["far"], 0.5)
    return palette


def _stamp(
    draw: ImageDraw.ImageDraw,
    shape: Shape,
    x: float,
    base: float,
    scale: float,
    palette: dict,
    mirror: bool,
    squash: float,
) -> None:
    """Draws one shape (units: its own height is 1) with its foot at (`x`, `base`) pixels and `scale` pixels
    high."""
    sign = -scale if mirror else scale
    for kind, points, role, *width in shape:
        flat = [(x + px * sign, base - py * scale * (squash if kind == "disc" else 1.0)) for px, py in points]
        color = palette[role]
        if kind == "poly":
            draw.polygon(flat, fill=color)
        elif kind == "line":
            draw.line(flat, fill=color, width=max(1, round(width[0] * scale)), joint="curve")
        else:
            (x0, y0), (x1, y1) = flat
            draw.ellipse((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=color)


def _ground(
    draw: ImageDraw.ImageDraw,
    pattern: str,
    horizon: float,
    middle: float,
    side: int,
    ink: tuple,
    light: tuple,
) -> None:
    """The floor's pattern, in perspective towards (`middle`, `horizon`); each group has its own."""
    depth = side - horizon
    rows = [horizon + depth * t for t in (0.0, 0.07, 0.18, 0.34, 0.58, 1.0)]

    def at(column: float, y: float) -> tuple[float, float]:
        return middle + column * side * (0.1 + 0.5 * (y - horizon) / max(depth, 1.0)), y

    if pattern in ("checks", "stripes"):
        for column in range(-6, 6):
            for k, (top, low) in enumerate(itertools.pairwise(rows)):
                if (column + (k if pattern == "checks" else 0)) % 2 == 0:
                    draw.polygon(
                        [
                            at(column / 2, top),
                            at(column / 2 + 0.5, top),
                            at(column / 2 + 0.5, low),
                            at(column / 2, low),
                        ],
                        fill=ink,
                    )
    elif pattern == "planks":
        for column in np.linspace(-3.0, 3.0, 9):
            draw.line([at(column, horizon), at(column, side)], fill=ink, width=max(1, side // 64))
    elif pattern == "waves":
        for k in range(22):
            y = horizon + depth * (k + 0.5) / 22
            x, half = side * (k * 0.5698 % 1.0), side * (0.04 + 0.1 * (k + 1) / 22)
            draw.line([(x - half, y), (x + half, y)], fill=light, width=max(1, side // 64))
    elif pattern == "tufts":
        for k in range(40):
            y, x = horizon + depth * (k * 0.7549 % 1.0), side * (k * 0.5698 % 1.0)
            reach = side * (0.01 + 0.03 * (y - horizon) / max(depth, 1.0))
            draw.line(
                [(x - reach, y - 2 * reach), (x, y), (x + reach, y - 2 * reach)],
                fill=ink,
                width=max(1, side // 64),
            )
    elif pattern == "dots":
        for k in range(36):
            y, x = horizon + depth * (k * 0.7549 % 1.0), side * (k * 0.5698 % 1.0)
            reach = side * (0.006 + 0.016 * (y - horizon) / max(depth, 1.0))
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=light)
    elif pattern == "lane":
        draw.polygon([at(-1.7, horizon), at(1.7, horizon), at(1.7, side), at(-1.7, side)], fill=ink)
        for top, low in zip(rows[::2], rows[1::2]):
            draw.polygon([at(-0.07, top), at(0.07, top), at(0.07, low), at(-0.07, low)], fill=light)
    elif pattern == "runway":
        draw.polygon([at(-0.8, horizon), at(0.8, horizon), at(0.8, side), at(-0.8, side)], fill=light)
    elif pattern == "streaks":
        for k in range(18):
            x, y = side * (k + 0.5) / 18, horizon + depth * 0.9 * (k * 0.5698 % 1.0)
            draw.line([(x, horizon), (x, y)], fill=light if k % 2 else ink, width=max(1, side // 40))


def _wall(draw: ImageDraw.ImageDraw, pattern: str, horizon: float, side: int, palette: dict) -> None:
    """What hangs behind the subject: wallpaper, shelves, a window, stars; nothing under an open sky."""
    thin = max(1, side // 64)
    if pattern == "stripes":
        for k in range(0, 12, 2):
            draw.rectangle(
                (side * k / 12, 0, side * (k + 1) / 12, horizon),
                fill=_mix(palette["haze"], palette["c"], 0.3),
            )
    elif pattern == "window" and horizon > side * 0.15:
        for x in (0.08, 0.68):
            draw.rectangle((side * x, horizon * 0.12, side * (x + 0.24), horizon * 0.7), fill=palette["l"])
            draw.rectangle(
                (
                    side * x + 2 * thin,
                    horizon * 0.12 + 2 * thin,
                    side * (x + 0.24) - 2 * thin,
                    horizon * 0.7 - 2 * thin,
                ),
                fill=palette["sky"],
            )
            draw.line(
                [(side * (x + 0.12), horizon * 0.12), (side * (x + 0.12), horizon * 0.7)],
                fill=palette["l"],
                width=2 * thin,
            )
    elif pattern == "shelves":
        for t in (0.3, 0.62, 0.94):
            draw.line(
                [(0, horizon * t), (side, horizon * t)],
                fill=_mix(palette["d"], palette["n"], 0.4),
                width=2 * thin,
            )
    elif pattern == "dots":
        for k in range(30):
            x, y = side * ((k % 6) + 0.5 * (k // 6 % 2) + 0.25) / 6, side * (k // 6 + 0.5) / 6
            if y < horizon - 2 * thin:
                draw.ellipse((x - 2 * thin, y - 2 * thin, x + 2 * thin, y + 2 * thin), fill=palette["b"])
    elif pattern == "stars":
        for k in range(40):
            x, y = side * (k * 0.5698 % 1.0), side * (k * 0.7549 % 1.0)
            draw.rectangle((x, y, x + thin - 1, y + thin - 1), fill=palette["l"])
    elif pattern == "bands":
        for k, role in enumerate(("b", "l", "c")):
            draw.rectangle(
                (0, horizon * k / 4, side, horizon * (k + 0.5) / 4),
                fill=_mix(palette["haze"], palette[role], 0.55),
            )
    elif pattern == "lights":
        for k in range(5):
            x = side * (k + 0.5) / 5
            draw.polygon(
                [(x, 0), (x - side * 0.09, horizon), (x + side * 0.09, horizon)],
                fill=_mix(palette["d"], palette["haze"], 0.4),
            )
            draw.ellipse((x - 3 * thin, -3 * thin, x + 3 * thin, 3 * thin), fill=palette["l"])


@dataclass
class _View:
    """Where things stand on a canvas of `side` x `side` pixels, in pixels."""

    side: int
    horizon: float
    middle: float  # of the subject
    light: tuple[float, float]  # in [0, 1]
    near: float  # all grows as the camera comes close
    squash: float  # of discs, seen from above
    scale: float  # the subject's height
    base: float  # where the subject stands

    @classmethod
    def of(cls, traits: Traits, side: int) -> _View:
        horizon = side * (0.9 - 0.84 * traits.elevation)
        # An asymmetrical picture has its subject to the right and its light to the left, as many painters place
        # them.
        aside = 1.0 - traits.symmetry
        scale = side * (0.16 + 0.94 * traits.closeness**1.2)
        base = horizon + (side - horizon) * (0.35 + 0.3 * traits.closeness) + 0.3 * scale * traits.closeness
        return cls(
            side=side,
            horizon=horizon,
            middle=side * (0.5 + 0.27 * max(aside - 0.06, 0.0)),
            light=(0.5 - 0.42 * aside, max(0.08, horizon / side * (0.12 + 0.5 * (1 - traits.brightness)))),
            near=0.55 + 0.9 * traits.closeness,
            squash=0.35 + 0.6 * traits.elevation,
            scale=scale,
            base=max(min(base, side * (0.96 + 0.2 * traits.closeness)), side * (0.5 + 0.25 * traits.closeness)),
        )


def _compose(traits: Traits, rng: np.random.Generator, side: int) -> tuple[Image.Image, tuple[float, float]]:
    """Backdrop, crowd and subject on a `side` x `side` canvas; and the light's place, x and y in [0, 1]."""
    palette = _palette(traits, rng)
    view = _View.of(traits, side)
    canvas, floor = _backdrop(traits, rng, view, palette)
    draw = ImageDraw.Draw(canvas)
    shapes, prop = SHAPES[traits.group], PROPS[traits.group]
    places = _crowd(traits, rng, side)
    for depth, x, mirror in places:
        if depth <= 0.8:
            y = view.horizon + (side - view.horizon) * (0.05 + 0.75 * depth)
            _stamp(draw, prop, x, y, side * (0.15 + 0.14 * depth) * view.near, palette, mirror, view.squash)
    # What fills the air of a crowded picture: birds, petals, sparks, behind its subject.
    specks = rng.random((round(190 * max(traits.density - 0.15, 0.0)), 3)) * (side, side, 3)
    reach = max(1.0, side / 58)
    for x, y, role in specks.tolist():
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=palette["blc"[int(role)]])
    middle, base, scale = view.middle, view.base, view.scale
    stretch = (0.5 + 0.35 * traits.contrast) * scale
    offset = -(view.light[0] - 0.5) * scale * 0.6
    shadow = (middle - stretch + offset, base - scale * 0.07, middle + stretch + offset, base + scale * 0.06)
    draw.ellipse(shadow, fill=_mix(floor, palette["d"], 0.65))
    _stamp(draw, shapes[int(rng.integers(len(shapes)))], middle, base, scale, palette, False, view.squash)
    for depth, x, mirror in places:
        if depth > 0.8:
            _stamp(draw, prop, x, side * 1.02, side * 0.26 * view.near, palette, mirror, view.squash)
    return canvas, view.light


def _backdrop(traits: Traits, rng: np.random.Generator, view: _View, palette: dict) -> tuple[Image.Image, tuple]:
    """A canvas with wall and ground, and the floor's colour."""
    (top, low, floor), wall, ground = BACKDROPS[traits.group]
    top, low, floor = (_mix(palette[a], palette[b], t) for a, b, t in (top, low, floor))
    side, horizon = view.side, view.horizon
    rows = np.linspace(0.0, side, side)[:, None]
    above = np.clip(rows / max(horizon, 1.0), 0, 1) ** 1.4
    below = np.clip((rows - horizon) / max(side - horizon, 1.0), 0, 1)
    column = np.where(
        rows < horizon,
        np.array(top) + (np.array(low) - np.array(top)) * above,
        np.array(floor) * (0.86 - 0.3 * below),
    )
    canvas = Image.fromarray(np.repeat(column[:, None, :].astype(np.uint8), side, axis=1))
    draw = ImageDraw.Draw(canvas)
    if wall == "sky":
        radius = side * (0.05 + 0.04 * traits.contrast) * view.near
        cx, cy = view.light[0] * side, view.light[1] * side
        disc = _mix(palette["haze"], (255, 250, 230), 0.7)
        around = tuple(column[int(min(max(cy, 0), side - 1))])
        for k, t in ((1.9, 0.22), (1.4, 0.45), (1.0, 1.0)):
            draw.ellipse(
                (cx - k * radius, cy - k * radius, cx + k * radius, cy + k * radius),
                fill=_mix(around, disc, t),
            )
        for k in range(6):  # far hills or roofs, so that the horizon is more than a line
            fx, fw = side * (k / 5.0), side * (0.12 + 0.1 * rng.random())
            fh = side * (0.03 + 0.06 * rng.random()) * (0.3 + 1.4 * traits.density)
            draw.pieslice((fx - fw, horizon - fh, fx + fw, horizon + fh), 180, 360, fill=_mix(palette["far"], low, 0.4))
    starry = wall == "sky" and traits.brightness < 0.3
    _wall(draw, "stars" if starry else wall, horizon, side, palette)
    # A minimal picture has a plain floor.
    ink = _mix(floor, palette["d"], 0.05 + 0.5 * traits.density)
    light = _mix(floor, palette["l"], 0.1 + 0.7 * traits.density)
    _ground(draw, ground, horizon, view.middle, side, ink, light)
    draw.line([(0, horizon), (side, horizon)], fill=_mix(floor, palette["d"], 0.6), width=max(1, side // 64))
    return canvas, floor


def _crowd(traits: Traits, rng: np.random.Generator, side: int) -> list[tuple[float, float, bool]]:
    """What stands around the subject, from far to near: depth in [0, 1], x in pixels, whether it is mirrored."""
    aside = 1.0 - traits.symmetry
    places = []
    for _ in range(round(21 * max(traits.density - 0.1, 0.0))):
        depth, reach = rng.random() ** 0.8, rng.uniform(0.1, 0.5)
        drop = min(max(depth + aside * rng.uniform(-0.4, 0.4), 0.0), 1.0)
        places.append((0.3 * depth if traits.group == "cinematic" else depth, side * (0.5 + reach), False))
        left = side * (0.5 - reach - aside * rng.uniform(-0.3, 0.3))
        places.append((0.3 * drop if traits.group == "cinematic" else drop, left, True))
    places.sort()
    return places


def _displace(pixels: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    size = len(pixels)
    rows, columns = np.mgrid[0:size, 0:size]
    return pixels[np.clip(rows + dy, 0, size - 1), np.clip(columns + dx, 0, size - 1)]


def _strokes(rng: np.random.Generator, size: int, height: int, width: int) -> np.ndarray:
    """Noise that is constant over strokes of `height` x `width` pixels, staggered by row, shape (size, size,
    3)."""
    noise = rng.standard_normal((-(-size // height), size // width + 2, 3)).astype(np.float32)
    rows, columns = np.mgrid[0:size, 0:size]
    stagger = rng.integers(0, width, len(noise))[rows // height]
    return noise[rows // height, (columns + stagger) // width]


def _brush(pixels: np.ndarray, traits: Traits, rng: np.random.Generator) -> np.ndarray:
    """The style's treatment of float pixels (size, size, 3) in [0, 1]; one per style family."""
    size = len(pixels)
    unit = size / 64.0
    family, rough = traits.family, traits.roughness
    if family == "geometric":
        facets = 18 + int(24 * rough)
        seeds = rng.random((facets, 2)).astype(np.float32) * size
        grid = np.mgrid[0:size, 0:size].astype(np.float32)
        nearest = ((grid[0][..., None] - seeds[:, 0]) ** 2 + (grid[1][..., None] - seeds[:, 1]) ** 2).argmin(-1)
        moves = (rng.standard_normal((facets, 2)) * 5.0 * unit).astype(int)[nearest]
        pixels = _displace(pixels, moves[..., 0], moves[..., 1])
        pixels = pixels * (1.0 + 0.16 * rng.standard_normal(facets)[nearest][..., None])
        edge = (nearest != np.roll(nearest, 1, 0)) | (nearest != np.roll(nearest, 1, 1))
        pixels = np.where(edge[..., None], pixels * 0.62, pixels)
    elif family in ("impressionist", "expressionist"):
        thick = 1.0 if family == "impressionist" else 1.6
        moves = _strokes(rng, size, max(1, round(thick * unit)), max(2, round(3 * thick * unit)))
        if family == "expressionist":  # upright strokes
            moves = moves.transpose(1, 0, 2)
        moves = (moves * unit * (1.0 + 1.6 * rough)).astype(int)
        pixels = _displace(pixels, moves[..., 0], moves[..., 1])
        if traits.style == "Pointillism":
            rows, columns = np.mgrid[0:size, 0:size] % max(3, round(3 * unit))
            gap = ((rows == 0) | (columns == 0))[..., None]
            pixels = np.where(gap, pixels * 0.6 + 0.4 * pixels.mean((0, 1)), pixels)
    elif family == "graphic":
        ink = np.abs(np.diff(pixels.mean(-1), axis=1, prepend=pixels[:, :1].mean(-1))) > 0.1
        pixels = np.round(pixels * 4.0) / 4.0
        pixels = np.where(ink[..., None], pixels * 0.25, pixels)
    elif family == "field":
        coarse = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        coarse = coarse.resize((size // 3, size // 3), Image.Resampling.BOX)
        coarse = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255.0
        pixels = np.round((0.75 * coarse + 0.25 * pixels) * 5.0) / 5.0
    elif family == "classical":
        moves = (_strokes(rng, size, max(1, round(unit)), max(2, round(2 * unit))) * unit * 0.8).astype(int)
        pixels = _displace(pixels, moves[..., 0], moves[..., 1])
        pixels = pixels * np.array([1.03, 0.98, 0.9], np.float32)
    if rough > 0.1:
        thin = max(1, round(unit))
        grain = _strokes(rng, size, thin, thin if family == "photo" else 3 * thin)
        pixels = pixels + 0.1 * (rough - 0.1) * (1.3 * grain[..., :1] + 0.3 * grain)
    return pixels


def render(prompt: str | Traits, seed: int = 0, size: int = 64) -> Image.Image:
    """Paints `prompt` (free text, or traits themselves) as a `size` x `size` RGB image; same arguments, same
    pixels.

    The traits are those of `traits_from_prompt(prompt, seed)`; the seed also places whatever the traits leave
    open.

    Raises:
        ValueError: `size` below 16.
    """
    if size < 16:
        raise ValueError(f"size={size}: a simulated image needs at least 16 pixels a side")
    traits = prompt if isinstance(prompt, Traits) else traits_from_prompt(prompt, seed)
    rng = np.random.default_rng([int(seed) % 2**63, 77])
    canvas, (light_x, light_y) = _compose(traits, rng, 2 * size)
    pixels = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255.0

    pixels = _brush(pixels, traits, rng)
    gray = pixels.mean(-1, keepdims=True)
    pixels = gray + (pixels - gray) * (0.1 + 1.75 * traits.saturation)
    # A tint in proportion to the warmth keeps it visible where little colour is left (sepia, cyanotype).
    tint = (traits.warmth - 0.5) * (0.16 + 0.12 * traits.saturation)
    pixels = pixels * np.array([1.0 + tint, 1.0, 1.0 - 1.3 * tint], np.float32)

    grid = np.linspace(0.0, 1.0, size, dtype=np.float32)
    away = np.hypot(grid[None, :] - light_x, grid[:, None] - light_y)[..., None]
    hard = max(traits.contrast - 0.35, 0.0)
    # Light from the side falls off across an asymmetrical picture.
    pixels = pixels * (1.0 + 0.55 * (1.0 - traits.symmetry) * (0.5 - grid[None, :, None]))
    pixels = pixels * (1.0 + hard * (0.75 - 1.25 * away))
    pivot = float(pixels.mean())
    pixels = pivot + (pixels - pivot) * (0.36 + 1.15 * traits.contrast)
    target = 0.16 + 0.62 * traits.brightness
    pixels = pixels * (0.35 + 0.65 * target / max(pivot, 0.05)) if target < pivot else pixels + 0.75 * (target - pivot)
    # A frame around an old master, a paper margin around a print.
    margin = {"classical": (0.62, 0.47, 0.22), "graphic": (0.93, 0.9, 0.82)}.get(traits.family)
    if margin is not None:
        edge = max(1, round(size / 32))
        pixels[:edge] = pixels[-edge:] = pixels[:, :edge] = pixels[:, -edge:] = margin
    if traits.group == "cinematic":
        band = round(size * 0.11)
        pixels[:band] = pixels[size - band :] = 0.03
    return Image.fromarray((np.clip(pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
