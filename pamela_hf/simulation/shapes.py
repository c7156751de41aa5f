"""Shapes of the simulated world's subjects: one family for each group of the released ratings.

A `Shape` is a list of primitives in its own units: x to the right of its middle, y up from its foot, its
height about 1. `("poly", points, role)`, `("oval", (corner, corner), role)`, `("disc", …)` (an oval that
opens up as the camera rises: a plate), `("line", points, role, width)`. Roles are colours of the image's
palette: `a b c` subject colours, `g` leaves, `n` furniture, `far` distance, `d` dark, `l` light, `s` skin,
`m` metal, `w` windows.
"""

from __future__ import annotations

from math import cos, pi, sin

Shape = list[tuple]


def _box(x0: float, y0: float, x1: float, y1: float, role: str) -> tuple:
    return ("poly", [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], role)


def _oval(x: float, y: float, rx: float, ry: float, role: str, kind: str = "oval") -> tuple:
    return (kind, ((x - rx, y - ry), (x + rx, y + ry)), role)


def _star(x: float, y: float, r: float, arms: int, role: str, inner: float = 0.4) -> tuple:
    turns = [(pi * k / arms, r if k % 2 == 0 else r * inner) for k in range(2 * arms)]
    return ("poly", [(x + q * sin(t), y + q * cos(t)) for t, q in turns], role)


def _bloom(x: float, y: float, r: float, role: str, heart: str = "b") -> Shape:
    petals = [
        _oval(x + r * cos(2 * pi * k / 6), y + r * sin(2 * pi * k / 6), r * 0.62, r * 0.62, role) for k in range(6)
    ]
    return [*petals, _oval(x, y, r * 0.5, r * 0.5, heart)]


def _tower(x: float, width: float, height: float, role: str) -> Shape:
    lit = [
        _box(x + width * (0.14 + 0.44 * i), y, x + width * (0.14 + 0.44 * i) + width * 0.26, y + 0.045, "w")
        for i in range(2)
        for y in (height * k / 6 for k in range(1, 6))
    ]
    return [_box(x, 0, x + width, height, role), *lit]


def _pine(x: float, y: float, h: float) -> Shape:
    return [
        _box(x - h * 0.05, y, x + h * 0.05, y + h * 0.2, "d"),
        ("poly", [(x - h * 0.3, y + h * 0.15), (x, y + h), (x + h * 0.3, y + h * 0.15)], "g"),
    ]


def _person(x: float, h: float, top: str, legs: str = "d") -> Shape:
    return [
        _box(x - h * 0.1, 0, x - h * 0.01, h * 0.45, legs),
        _box(x + h * 0.01, 0, x + h * 0.1, h * 0.45, legs),
        (
            "poly",
            [
                (x - h * 0.14, h * 0.4),
                (x + h * 0.14, h * 0.4),
                (x + h * 0.16, h * 0.8),
                (x - h * 0.16, h * 0.8),
            ],
            top,
        ),
        _oval(x, h * 0.9, h * 0.1, h * 0.11, "s"),
    ]


_CAT: Shape = [
    ("line", [(-0.28, 0.35), (-0.45, 0.5), (-0.42, 0.8)], "a", 0.07),
    *[_box(x, 0, x + 0.08, 0.35, "a") for x in (-0.28, -0.14, 0.06, 0.2)],
    _oval(0, 0.42, 0.33, 0.2, "a"),
    ("poly", [(0.14, 0.76), (0.17, 0.98), (0.29, 0.8)], "a"),
    ("poly", [(0.33, 0.8), (0.46, 0.98), (0.47, 0.74)], "a"),
    _oval(0.3, 0.66, 0.19, 0.18, "a"),
    _oval(0.36, 0.58, 0.09, 0.06, "l"),
    _oval(0.24, 0.69, 0.035, 0.045, "d"),
    _oval(0.39, 0.69, 0.035, 0.045, "d"),
    _oval(0.05, 0.33, 0.18, 0.09, "l"),
]
_BIRD: Shape = [
    ("line", [(-0.04, 0.22), (-0.04, 0)], "d", 0.04),
    ("line", [(0.08, 0.22), (0.08, 0)], "d", 0.04),
    ("poly", [(-0.5, 0.3), (-0.1, 0.62), (-0.15, 0.3)], "d"),
    _oval(0, 0.46, 0.3, 0.26, "a"),
    _oval(0.2, 0.76, 0.19, 0.18, "a"),
    ("poly", [(0.36, 0.82), (0.56, 0.74), (0.36, 0.68)], "b"),
    _oval(-0.08, 0.48, 0.19, 0.13, "c"),
    _oval(0.25, 0.8, 0.045, 0.05, "d"),
]
_TEMPLE: Shape = [
    _box(-0.6, 0, 0.6, 0.1, "n"),
    _box(-0.54, 0.1, 0.54, 0.66, "d"),
    *[_box(x - 0.055, 0.1, x + 0.055, 0.66, "l") for x in (-0.46, -0.23, 0, 0.23, 0.46)],
    _box(-0.58, 0.64, 0.58, 0.74, "l"),
    ("poly", [(-0.62, 0.74), (0, 1.0), (0.62, 0.74)], "n"),
]
_DOME: Shape = [
    _box(-0.55, 0, 0.55, 0.46, "l"),
    *[_oval(x, 0.3, 0.08, 0.1, "d") for x in (-0.36, 0, 0.36)],
    *[_box(x - 0.08, 0, x + 0.08, 0.3, "d") for x in (-0.36, 0, 0.36)],
    _oval(0, 0.5, 0.34, 0.36, "n"),
    _box(-0.4, 0.44, 0.4, 0.52, "l"),
    _box(-0.025, 0.82, 0.025, 1.0, "b"),
    *[_box(x - 0.06, 0, x + 0.06, 0.72, "n") for x in (-0.6, 0.6)],
]
_CAR: Shape = [
    ("poly", [(-0.44, 0.36), (-0.26, 0.64), (0.2, 0.64), (0.42, 0.36)], "a"),
    ("poly", [(-0.35, 0.38), (-0.23, 0.58), (-0.04, 0.58), (-0.04, 0.38)], "w"),
    ("poly", [(0.01, 0.38), (0.01, 0.58), (0.17, 0.58), (0.32, 0.38)], "w"),
    ("poly", [(-0.72, 0.12), (-0.72, 0.36), (-0.6, 0.42), (0.56, 0.4), (0.74, 0.3), (0.74, 0.12)], "a"),
    _box(-0.72, 0.2, 0.74, 0.23, "l"),
    *[_oval(x, 0.13, 0.16, 0.15, "d") for x in (-0.42, 0.44)],
    *[_oval(x, 0.13, 0.075, 0.07, "m") for x in (-0.42, 0.44)],
    _oval(0.7, 0.3, 0.05, 0.05, "b"),
]
_STRANGER: Shape = [
    ("poly", [(-0.22, 0), (0.22, 0), (0.14, 0.66), (-0.14, 0.66)], "d"),
    _oval(0, 0.72, 0.1, 0.11, "d"),
    ("line", [(0.16, 0.4), (0.16, 0.95)], "d", 0.03),
    ("poly", [(-0.26, 0.84), (-0.1, 1.0), (0.16, 1.06), (0.42, 1.0), (0.58, 0.84)], "a"),
]
_MODEL: Shape = [
    ("poly", [(-0.34, 0), (0.34, 0), (0.08, 0.52), (-0.08, 0.52)], "a"),
    ("poly", [(-0.2, 0), (0.02, 0), (0.02, 0.5)], "c"),
    ("line", [(-0.1, 0.72), (-0.24, 0.5), (-0.1, 0.44)], "s", 0.05),
    ("line", [(0.1, 0.72), (0.26, 0.56), (0.34, 0.72)], "s", 0.05),
    ("poly", [(-0.07, 0.48), (0.07, 0.48), (0.13, 0.76), (-0.13, 0.76)], "a"),
    _box(-0.03, 0.74, 0.03, 0.82, "s"),
    _oval(0, 0.88, 0.085, 0.1, "s"),
    _oval(0, 0.955, 0.26, 0.035, "d"),
    _box(-0.09, 0.94, 0.09, 1.02, "d"),
]
_VASE: Shape = [
    *[
        ("line", [(0, 0.3), (x, y)], "g", 0.025)
        for x, y in ((-0.3, 0.66), (0, 0.82), (0.3, 0.66), (-0.16, 0.5), (0.17, 0.5))
    ],
    _oval(-0.34, 0.5, 0.12, 0.05, "g"),
    _oval(0.34, 0.5, 0.12, 0.05, "g"),
    ("poly", [(-0.12, 0), (0.12, 0), (0.2, 0.2), (0.1, 0.4), (-0.1, 0.4), (-0.2, 0.2)], "n"),
    *_bloom(-0.3, 0.68, 0.12, "c"),
    *_bloom(0.3, 0.68, 0.12, "c"),
    *_bloom(-0.02, 0.86, 0.14, "a"),
    *_bloom(-0.12, 0.54, 0.1, "a"),
    *_bloom(0.15, 0.52, 0.1, "l"),
]
_PIZZA: Shape = [
    _oval(0, 0.42, 0.62, 0.42, "l", "disc"),
    _oval(0, 0.42, 0.5, 0.34, "n", "disc"),
    _oval(0, 0.42, 0.44, 0.29, "b", "disc"),
    *[_oval(0.27 * cos(t), 0.42 + 0.17 * sin(t), 0.075, 0.06, "a", "disc") for t in (0.3, 1.5, 2.6, 3.9, 5.2)],
    *[_oval(0.16 * cos(t), 0.42 + 0.1 * sin(t), 0.04, 0.03, "g", "disc") for t in (0.9, 3.1, 4.6)],
]
_BOWL: Shape = [
    _oval(0, 0.16, 0.5, 0.12, "l", "disc"),
    ("poly", [(-0.2, 0.06), (0.2, 0.06), (0.5, 0.42), (-0.5, 0.42)], "c"),
    _oval(0, 0.44, 0.5, 0.16, "l", "disc"),
    _oval(0, 0.44, 0.43, 0.13, "b", "disc"),
    _oval(-0.14, 0.46, 0.13, 0.07, "l", "disc"),
    _oval(-0.14, 0.46, 0.06, 0.04, "a", "disc"),
    _oval(0.18, 0.44, 0.12, 0.05, "g", "disc"),
    ("line", [(0.1, 0.5), (0.55, 0.9)], "d", 0.03),
    ("line", [(0.18, 0.48), (0.64, 0.84)], "d", 0.03),
]
_MOUNTAINS: Shape = [
    ("poly", [(-0.9, 0), (-0.42, 0.72), (0.06, 0)], "far"),
    ("poly", [(0.02, 0), (0.5, 0.78), (1.0, 0)], "far"),
    ("poly", [(-0.52, 0), (0.02, 1.0), (0.58, 0)], "n"),
    ("poly", [(-0.16, 0.67), (0.02, 1.0), (0.2, 0.67), (0.09, 0.73), (0.02, 0.64), (-0.07, 0.74)], "l"),
    ("poly", [(-0.53, 0.56), (-0.42, 0.72), (-0.31, 0.56), (-0.42, 0.6)], "l"),
    ("poly", [(0.38, 0.59), (0.5, 0.78), (0.62, 0.59), (0.5, 0.63)], "l"),
    *_pine(-0.5, -0.04, 0.34),
    *_pine(-0.34, -0.06, 0.26),
    *_pine(0.46, -0.04, 0.32),
]
_SOFA: Shape = [
    _box(-0.62, 0.06, 0.62, 0.62, "a"),
    _oval(-0.12, 0.78, 0.1, 0.11, "s"),
    ("poly", [(-0.28, 0.3), (0.04, 0.3), (0.0, 0.68), (-0.24, 0.68)], "l"),
    ("line", [(-0.06, 0.34), (0.2, 0.34), (0.22, 0.05)], "d", 0.1),
    _box(-0.7, 0.04, -0.54, 0.46, "c"),
    _box(0.54, 0.04, 0.7, 0.46, "c"),
    _box(-0.56, 0.16, 0.56, 0.28, "c"),
    ("line", [(0.86, 0), (0.86, 0.84)], "d", 0.03),
    ("poly", [(0.72, 0.8), (1.0, 0.8), (0.92, 1.02), (0.8, 1.02)], "b"),
]
_FACE: Shape = [
    _oval(0, 0.64, 0.31, 0.36, "d"),
    _box(-0.3, 0.3, 0.3, 0.62, "d"),
    ("poly", [(-0.56, 0), (-0.46, 0.2), (-0.12, 0.32), (0.12, 0.32), (0.46, 0.2), (0.56, 0)], "a"),
    _box(-0.1, 0.24, 0.1, 0.42, "s"),
    _oval(0, 0.58, 0.22, 0.28, "s"),
    ("poly", [(-0.24, 0.66), (-0.18, 0.9), (0.18, 0.9), (0.24, 0.66), (0.06, 0.78)], "d"),
    _oval(-0.09, 0.6, 0.038, 0.03, "d"),
    _oval(0.09, 0.6, 0.038, 0.03, "d"),
    _oval(0, 0.42, 0.075, 0.025, "a"),
]
_BOTTLE: Shape = [
    _oval(0, 0.08, 0.5, 0.1, "n", "disc"),
    _box(-0.24, 0.1, 0.24, 0.68, "a"),
    _box(-0.2, 0.22, 0.2, 0.48, "l"),
    _box(-0.13, 0.33, 0.13, 0.37, "d"),
    _box(-0.09, 0.68, 0.09, 0.78, "m"),
    _box(-0.13, 0.78, 0.13, 1.0, "d"),
    _box(-0.21, 0.14, -0.16, 0.64, "l"),
]
_HOUSE: Shape = [
    _box(0.3, 0.66, 0.42, 0.98, "n"),
    _box(-0.46, 0, 0.46, 0.5, "l"),
    ("poly", [(-0.58, 0.48), (-0.2, 0.94), (0.2, 0.94), (0.58, 0.48)], "a"),
    _box(-0.1, 0, 0.1, 0.32, "d"),
    _box(-0.36, 0.2, -0.18, 0.38, "w"),
    _box(0.18, 0.2, 0.36, 0.38, "w"),
    ("poly", [(-0.1, 0), (0.1, 0), (0.3, -0.3), (-0.14, -0.3)], "b"),
    _oval(-0.72, 0.4, 0.2, 0.28, "g"),
    _box(-0.75, 0, -0.69, 0.2, "d"),
]
_PLANET: Shape = [
    _star(-0.5, 0.86, 0.14, 4, "l", 0.25),
    _star(0.56, 0.2, 0.12, 4, "l", 0.25),
    _oval(0, 0.52, 0.36, 0.36, "a"),
    _oval(-0.08, 0.6, 0.25, 0.24, "c"),
    _oval(-0.14, 0.66, 0.1, 0.1, "b"),
    ("line", [(-0.66, 0.36), (-0.3, 0.38), (0.3, 0.56), (0.66, 0.72)], "b", 0.06),
]
_ORB: Shape = [
    _star(0, 0.55, 0.62, 8, "b", 0.5),
    _star(0, 0.55, 0.46, 8, "l", 0.6),
    _oval(0, 0.55, 0.27, 0.27, "c"),
    _oval(-0.07, 0.63, 0.1, 0.1, "l"),
]
_ATHLETE: Shape = [
    ("line", [(0, 0.5), (-0.16, 0.26), (-0.36, 0.2)], "d", 0.09),
    ("line", [(0, 0.5), (0.2, 0.3), (0.16, 0.02), (0.26, 0.02)], "d", 0.09),
    ("line", [(-0.02, 0.78), (-0.26, 0.66), (-0.34, 0.82)], "s", 0.06),
    ("line", [(0.06, 0.78), (0.26, 0.84), (0.36, 1.02)], "s", 0.06),
    ("poly", [(-0.12, 0.46), (0.1, 0.46), (0.16, 0.82), (-0.1, 0.82)], "a"),
    _oval(0.06, 0.93, 0.09, 0.1, "s"),
    _oval(0.5, 0.12, 0.12, 0.12, "l"),
    _oval(0.5, 0.12, 0.05, 0.05, "d"),
]
_FRUIT: Shape = [
    _box(-0.8, -0.04, 0.8, 0.06, "n"),
    (
        "poly",
        [
            (-0.6, 0.06),
            (-0.3, 0.06),
            (-0.24, 0.4),
            (-0.36, 0.62),
            (-0.34, 0.8),
            (-0.56, 0.8),
            (-0.54, 0.62),
            (-0.66, 0.4),
        ],
        "c",
    ),
    ("line", [(-0.34, 0.72), (-0.18, 0.6), (-0.26, 0.36)], "c", 0.05),
    *[_oval(x, y, 0.13, 0.13, role) for x, y, role in ((0.1, 0.38, "a"), (0.34, 0.4, "b"), (0.22, 0.52, "a"))],
    ("poly", [(-0.06, 0.34), (0.52, 0.34), (0.38, 0.06), (0.08, 0.06)], "l"),
    _oval(-0.1, 0.15, 0.11, 0.11, "g"),
    _oval(0.66, 0.15, 0.12, 0.11, "b"),
]
_STREET: Shape = [
    ("poly", [(-0.95, -0.1), (-0.95, 1.0), (-0.16, 0.6), (-0.16, 0.24)], "a"),
    ("poly", [(0.95, -0.1), (0.95, 1.0), (0.16, 0.6), (0.16, 0.24)], "n"),
    *[("poly", [(s * 0.84, y), (s * 0.62, y * 0.86 + 0.05), (s * 0.62, y * 0.86 + 0.2), (s * 0.84,
    y + 0.18)], "w") for s in (-1, 1) for y in (0.18, 0.54)],
    *[("poly", [(s * 0.5, y), (s * 0.36, y * 0.9 + 0.03), (s * 0.36, y * 0.9 + 0.13), (s * 0.5, y + 0.13)],
    "w") for s in (-1, 1) for y in (0.28, 0.5)],
    ("poly", [(-0.62, -0.35), (0.62, -0.35), (0.07, 0.26), (-0.07, 0.26)], "d"),
    ("line", [(0, -0.34), (0, 0.22)], "l", 0.025),
    *[("line", [(s * 0.44, -0.04), (s * 0.44, 0.72), (s * 0.3, 0.76)], "d", 0.03) for s in (-1, 1)],
    *[_oval(s * 0.3, 0.73, 0.06, 0.05, "b") for s in (-1, 1)],
]  # fmt: skip
_BOAT: Shape = [
    ("poly", [(-0.5, 0.2), (0.5, 0.2), (0.34, 0), (-0.36, 0)], "a"),
    ("line", [(0, 0.2), (0, 1.0)], "d", 0.03),
    ("poly", [(0.04, 0.28), (0.04, 0.98), (0.46, 0.28)], "l"),
    ("poly", [(-0.04, 0.28), (-0.04, 0.84), (-0.36, 0.28)], "b"),
    ("line", [(-0.7, -0.02), (0.7, -0.02)], "l", 0.025),
]
_BALLOON: Shape = [
    _oval(0, 0.66, 0.34, 0.36, "a"),
    _oval(0, 0.66, 0.2, 0.36, "b"),
    _oval(0, 0.66, 0.08, 0.36, "l"),
    ("line", [(-0.2, 0.38), (-0.08, 0.16)], "d", 0.02),
    ("line", [(0.2, 0.38), (0.08, 0.16)], "d", 0.02),
    _box(-0.1, 0.02, 0.1, 0.17, "n"),
]
_FORMS: list[Shape] = [
    [
        _oval(-0.2, 0.62, 0.36, 0.36, "a"),
        ("poly", [(-0.1, 0.05), (0.62, 0.2), (0.2, 0.8)], "b"),
        _box(-0.6, 0.2, -0.1, 0.32, "d"),
        _oval(0.36, 0.74, 0.16, 0.16, "c"),
        ("line", [(-0.6, 0.05), (0.6, 0.96)], "l", 0.05),
    ],
    [
        _box(-0.5, 0.08, -0.14, 0.94, "a"),
        _box(-0.06, 0.3, 0.5, 0.62, "c"),
        ("poly", [(0.1, 0.66), (0.5, 0.66), (0.3, 1.0)], "b"),
        _oval(0.22, 0.16, 0.15, 0.15, "d"),
        ("line", [(-0.62, 0.7), (0.6, 0.7)], "d", 0.04),
    ],
]

SHAPES: dict[str, list[Shape]] = {
    "abstract": _FORMS,
    "animal": [_CAT, _CAT, _BIRD],
    "architecture": [_TEMPLE, _DOME],
    "automotive": [_CAR],
    "cinematic": [_STRANGER],
    "cityscape": [
        [
            *_tower(-0.66, 0.24, 0.6, "c"), *_tower(-0.38, 0.22, 0.86, "n"), *_tower(0.24, 0.22, 0.74, "a"),
            *_tower(0.48, 0.22, 0.5, "c"), *_tower(-0.12, 0.32, 1.0, "d"), ("line", [(0.04, 1.0), (0.04,
            1.14)], "d", 0.02),
        ]
    ],
    "fashion": [_MODEL],
    "flower painting": [_VASE],
    "food": [_PIZZA, _BOWL],
    "landscape": [_MOUNTAINS],
    "lifestyle": [_SOFA],
    "portrait": [_FACE],
    "product": [_BOTTLE],
    "scene": [_HOUSE],
    "special": [_PLANET, _ORB],
    "sports": [_ATHLETE],
    "still life": [_FRUIT],
    "street": [_STREET],
    "travel": [_BOAT, _BOAT, _BALLOON],
}  # fmt: skip
"""Group -> the shapes of its main subject, one of which the seed picks."""

PROPS: dict[str, Shape] = {
    "abstract": [_star(0, 0.5, 0.5, 3, "c", 0.5), _oval(0.2, 0.7, 0.3, 0.3, "b")],
    "animal": [(kind, points, "n", *width) for kind, points, _, *width in _CAT[:9]],
    "architecture": _pine(0, 0, 1.2),
    "automotive": [_CAR[0], _CAR[3], *_CAR[5:7]],
    "cinematic": _tower(-0.3, 0.6, 1.8, "d"),
    "cityscape": _tower(-0.28, 0.56, 1.7, "far"),
    "fashion": _person(0, 1.1, "n"),
    "flower painting": [*_bloom(0, 0.6, 0.3, "c"), ("line", [(0, 0.3), (0, 0)], "g", 0.08)],
    "food": [_oval(0, 0.3, 0.5, 0.3, "l", "disc"), _oval(0, 0.32, 0.32, 0.19, "a", "disc")],
    "landscape": _pine(0, 0, 1.3),
    "lifestyle": [
        ("poly", [(-0.2, 0), (0.2, 0), (0.26, 0.34), (-0.26, 0.34)], "n"), _oval(-0.2, 0.62, 0.14, 0.32, "g"),
        _oval(0.2, 0.62, 0.14, 0.32, "g"), _oval(0, 0.74, 0.14, 0.36, "g"),
    ],
    "portrait": _person(0, 1.2, "c", "n"),
    "product": [_box(-0.3, 0, 0.3, 0.5, "b"), _box(-0.3, 0.5, 0.3, 0.62, "d")],
    "scene": [_oval(0, 0.62, 0.38, 0.46, "g"), _box(-0.06, 0, 0.06, 0.24, "d")],
    "special": [_star(0, 0.5, 0.6, 4, "l", 0.25), _oval(0, 0.5, 0.16, 0.16, "b")],
    "sports": _person(0, 1.15, "b"),
    "still life": [_oval(0, 0.34, 0.34, 0.34, "a"), ("line", [(0, 0.64), (0.08, 0.84)], "g", 0.08)],
    "street": _person(0, 1.1, "c"),
    "travel": [("line", [(0, 0), (0.08, 0.9)], "n", 0.1), *[_oval(0.08 + dx, 0.92, 0.3, 0.12,
    "g") for dx in (-0.25, 0.25)]],
}  # fmt: skip
"""Group -> the small shape that fills a dense image of it."""

Blend = tuple[str, str, float]
BACKDROPS: dict[str, tuple[tuple[Blend, Blend, Blend], str, str]] = {
    "abstract": ((("haze", "a", 0.3), ("haze", "c", 0.2), ("b", "haze", 0.5)), "bands", "stripes"),
    "animal": ((("sky", "haze", 0.0), ("haze", "sky", 0.0), ("g", "ground", 0.4)), "sky", "tufts"),
    "architecture": ((("sky", "haze", 0.2), ("haze", "sky", 0.1), ("haze", "n", 0.5)), "sky", "checks"),
    "automotive": ((("sky", "far", 0.3), ("haze", "far", 0.2), ("ground", "n", 0.3)), "sky", "lane"),
    "cinematic": ((("sky", "d", 0.5), ("haze", "far", 0.4), ("d", "far", 0.4)), "sky", "waves"),
    "cityscape": ((("sky", "c", 0.25), ("haze", "c", 0.2), ("sky", "d", 0.35)), "sky", "streaks"),
    "fashion": ((("d", "c", 0.2), ("d", "c", 0.4), ("d", "n", 0.2)), "lights", "runway"),
    "flower painting": ((("haze", "n", 0.2), ("haze", "n", 0.1), ("n", "d", 0.2)), "stripes", "none"),
    "food": ((("n", "haze", 0.4), ("haze", "n", 0.3), ("l", "haze", 0.3)), "none", "checks"),
    "landscape": ((("sky", "haze", 0.0), ("haze", "sky", 0.0), ("g", "haze", 0.25)), "sky", "none"),
    "lifestyle": ((("haze", "b", 0.35), ("haze", "b", 0.25), ("n", "haze", 0.3)), "window", "planks"),
    "portrait": ((("d", "n", 0.5), ("n", "haze", 0.2), ("d", "n", 0.4)), "none", "none"),
    "product": ((("l", "haze", 0.5), ("l", "haze", 0.2), ("l", "haze", 0.1)), "none", "none"),
    "scene": ((("sky", "haze", 0.2), ("haze", "b", 0.2), ("g", "b", 0.2)), "sky", "dots"),
    "special": ((("d", "c", 0.4), ("c", "sky", 0.4), ("d", "c", 0.6)), "stars", "streaks"),
    "sports": ((("sky", "haze", 0.4), ("haze", "sky", 0.2), ("g", "haze", 0.1)), "sky", "stripes"),
    "still life": ((("n", "d", 0.55), ("n", "d", 0.3), ("n", "ground", 0.3)), "shelves", "planks"),
    "street": ((("sky", "haze", 0.4), ("haze", "far", 0.1), ("m", "far", 0.4)), "sky", "checks"),
    "travel": ((("sky", "haze", 0.1), ("haze", "b", 0.25), ("sky", "g", 0.4)), "sky", "waves"),
}  # fmt: skip
"""Group -> (colours of top, low sky or wall, and floor, each a blend of two roles), what hangs behind, what
lies below."""
