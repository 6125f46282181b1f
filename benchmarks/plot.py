"""A plot of seconds against profiles, both logarithmic, as a small SVG file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TypeAlias

Points: TypeAlias = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 250, 30, 50
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#7f7f7f", "#b3b3b3")  # apart for the colour-blind, too


def svg(title: str, lines: Mapping[str, Points]) -> str:
    """The lines, named at their right ends; every decade has a line of the grid."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    left, right = math.log10(min(xs)), math.log10(max(xs))
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def across(x: float) -> float:
        share = (math.log10(x) - left) / ((right - left) or 1)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        share = (math.log10(y) - low) / ((high - low) or 1)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def line(x1: float, y1: float, x2: float, y2: float) -> str:
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'

    def text(x: float, y: float, words: str, *, anchor: str = "start", fill: str = "#333") -> str:
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">'
            f"{escape(words)}</text>"
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        text(_LEFT, 18, title),
        text(_LEFT, _HEIGHT - 12, "profiles"),
    ]
    for decade in range(low, high + 1):
        y = down(10.0**decade)
        parts.append(line(_LEFT, y, _WIDTH - _RIGHT, y))
        parts.append(text(_LEFT - 8, y + 4, f"{10.0**decade:g} s", anchor="end"))
    for x in sorted(set(xs)):
        parts.append(line(across(x), _TOP, across(x), _HEIGHT - _BOTTOM))
        parts.append(text(across(x), _HEIGHT - _BOTTOM + 18, f"{x:,.0f}", anchor="middle"))
    ends = sorted((down(points[-1][1]), name) for name, points in lines.items())
    free, places = 0.0, {}
    for y, name in ends:  # names do not overlap
        places[name] = free = max(y + 4, free + 14)
    for (name, points), color in zip(lines.items(), _COLORS * len(lines), strict=False):
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{color}"/>'
            for x, y in points
        ]
        parts.append(text(_WIDTH - _RIGHT + 10, places[name], name, fill=color))
    return "\n".join([*parts, "</svg>"]) + "\n"
