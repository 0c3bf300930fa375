"""Draw line charts as SVG by hand: two panels do not justify a plotting library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0b62c4", "#7a3fb5", "#5b9bd5", "#d1495b", "#e08e2b", "#6b7280", "#2a9d8f", "#8d6e63")
WIDTH, HEIGHT, GAP = 420, 300, 70
LEFT, TOP = 60, 40


@dataclass(frozen=True)
class Line:
    """One curve; its points are in ascending order of x."""

    title: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart; x is logarithmic to base 2."""

    title: str
    lines: Sequence[Line]
    logarithmic: bool = False


def svg(panels: Sequence[Panel]) -> str:
    """Return the panels beside each other, with one legend below."""
    titles = [(line.title, line.dashed) for line in panels[0].lines]
    width = LEFT + len(panels) * (WIDTH + GAP)
    height = TOP + HEIGHT + 60 + 20 * math.ceil(len(titles) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"',
        '  font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, LEFT + number * (WIDTH + GAP))
    for number, (title, dashed) in enumerate(titles):
        x, y = LEFT + number % 2 * (WIDTH + GAP), TOP + HEIGHT + 55 + 20 * (number // 2)
        parts.append(f'<path d="M{x} {y - 4}h30" {_stroke(number, dashed)}/>')
        parts.append(f'<text x="{x + 38}" y="{y}">{escape(title)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Return round values for an axis that holds `low` to `high`: from 0, or 1, 2 and 5 of every decade."""
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        first = max((step for step in steps if step <= low), default=steps[0])
        last = min((step for step in steps if step >= high and step > first), default=steps[-1])
        return [step for step in steps if first <= step <= last]
    size = 10 ** math.floor(math.log10(high))
    step = next(part * size for part in (0.1, 0.2, 0.5, 1, 2) if high / (part * size) <= 7)
    return [number * step for number in range(math.ceil(high / step) + 1)]


def _panel(panel: Panel, left: float) -> Iterator[str]:
    points = [point for line in panel.lines for point in line.points]
    if not points:
        return
    marks = ticks(min(y for _, y in points), max(y for _, y in points), panel.logarithmic)
    xs = sorted({x for x, _ in points})

    def across(x: float) -> float:
        span = math.log2(xs[-1] / xs[0]) or 1
        return left + 15 + (WIDTH - 30) * math.log2(x / xs[0]) / span

    def up(y: float) -> float:
        low, high, value = (math.log(v) if panel.logarithmic else v for v in (marks[0], marks[-1], y))
        return TOP + HEIGHT * (1 - (value - low) / (high - low))

    yield f'<text x="{left}" y="{TOP - 16}" font-weight="bold">{escape(panel.title)}</text>'
    for mark in marks:
        yield f'<path d="M{left} {up(mark):.1f}h{WIDTH}" stroke="#e5e7eb"/>'
        yield f'<text x="{left - 8}" y="{up(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>'
    for x in xs:
        yield f'<text x="{across(x):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{x:g}</text>'
    yield f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">concurrent requests</text>'
    for number, line in enumerate(panel.lines):
        if line.points:
            path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
            yield f'<path d="M{path}" {_stroke(number, line.dashed)}/>'
        for x, y in () if line.dashed else line.points:
            yield f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{COLOURS[number % len(COLOURS)]}"/>'


def _stroke(number: int, dashed: bool) -> str:
    colour = "#111827" if dashed else COLOURS[number % len(COLOURS)]
    return f'fill="none" stroke="{colour}" stroke-width="2"' + (' stroke-dasharray="5 4"' if dashed else "")
