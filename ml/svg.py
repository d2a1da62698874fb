"""Charts as inline SVG: colours come from the page's own style, so that they follow light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

COLOURS = 10
_LABEL, _WIDTH, _ROW = 130, 460, 24


@dataclass(frozen=True)
class Spread:
    """The 5th, 25th, 50th, 75th and 95th percentile of something."""

    low: float
    quarter: float
    median: float
    three_quarters: float
    high: float


def bars(rows: Sequence[tuple[str, float, float]], title: str) -> Markup:
    """A bar for each (label, value, of which is drawn paler), in the colours of the labels' order."""
    most = max([value for _, value, _ in rows], default=0) or 1
    parts: list[Markup] = []
    for number, (label, value, pale) in enumerate(rows):
        top = number * _ROW
        full, colour = _WIDTH * value / most, number % COLOURS
        solid = _WIDTH * (value - pale) / most
        parts += [
            _text(_LABEL - 8, top + 16, label, "end"),
            Markup('<rect class="f{}" x="{}" y="{}" width="{:.1f}" height="16" opacity=".45"></rect>').format(
                colour, _LABEL, top + 4, full
            ),
            Markup('<rect class="f{}" x="{}" y="{}" width="{:.1f}" height="16"></rect>').format(
                colour, _LABEL, top + 4, solid
            ),
            _text(_LABEL + full + 6, top + 16, f"{value:g}"),
        ]
    return _svg(_LABEL + _WIDTH + 60, len(rows) * _ROW + 4, title, parts)


def spreads(rows: Sequence[tuple[str, Spread | None]], title: str) -> Markup:
    """A line from the 5th to the 95th percentile, a box over the middle half and a mark at the median; log scale."""
    most = max([spread.high for _, spread in rows if spread is not None], default=1.0)
    scale = _WIDTH / np.log1p(max(most, 1.0))
    parts: list[Markup] = []
    bottom = len(rows) * _ROW + 4
    for tick in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000):
        if tick <= most:
            x = _LABEL + scale * np.log1p(tick)
            parts.append(Markup('<path class="axis" d="M{:.1f} 0V{}"></path>').format(x, bottom))
            parts.append(_text(x, bottom + 14, str(tick), "middle", "quiet"))
    for number, (label, spread) in enumerate(rows):
        top = number * _ROW
        parts.append(_text(_LABEL - 8, top + 16, label, "end"))
        if spread is None:
            parts.append(_text(_LABEL + 6, top + 16, "none", kind="quiet"))
            continue
        low, quarter, median, three, high = (
            _LABEL + scale * float(np.log1p(value))
            for value in (spread.low, spread.quarter, spread.median, spread.three_quarters, spread.high)
        )
        colour = number % COLOURS
        parts += [
            Markup('<path class="s{}" stroke-width="2" d="M{:.1f} {}H{:.1f}"></path>').format(
                colour, low, top + 12, high
            ),
            Markup('<rect class="f{}" x="{:.1f}" y="{}" width="{:.1f}" height="14" opacity=".6"></rect>').format(
                colour, quarter, top + 5, max(three - quarter, 1)
            ),
            Markup('<path class="s{}" stroke-width="3" d="M{:.1f} {}v18"></path>').format(colour, median, top + 3),
            Markup("<title>{}: median {:g} words</title>").format(label, spread.median),
        ]
    return _svg(_LABEL + _WIDTH + 20, bottom + 20, title, parts)


def intervals(rows: Sequence[tuple[str, float, float, int]], title: str, label_width: int = 250) -> Markup:
    """A dot at the mean and a line over one spread to each side, for each (label, mean, spread, colour)."""
    low = min((mean - spread for _, mean, spread, _ in rows), default=0.0)
    high = max((mean + spread for _, mean, spread, _ in rows), default=1.0)
    # Marks at round values: a hundredth or the fewest hundredths that leave no more than eight of them.
    step = next(one for one in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / one <= 7 or one == 0.2)
    first, last = int(np.floor(low / step)), max(int(np.ceil(high / step)), int(np.floor(low / step)) + 1)
    scale = _WIDTH / ((last - first) * step)
    bottom = len(rows) * _ROW + 4
    parts: list[Markup] = []
    for tick in range(first, last + 1):
        x = label_width + scale * (tick - first) * step
        parts.append(Markup('<path class="axis" d="M{:.1f} 0V{}"></path>').format(x, bottom))
        parts.append(_text(x, bottom + 14, f"{tick * step:.2f}", "middle", "quiet"))
    for number, (label, mean, spread, colour) in enumerate(rows):
        y = number * _ROW + 12
        left, middle, right = (
            label_width + scale * (value - first * step) for value in (mean - spread, mean, mean + spread)
        )
        parts += [
            _text(label_width - 8, y + 4, label, "end"),
            Markup('<path class="s{}" stroke-width="2" d="M{:.1f} {}H{:.1f}"></path>').format(
                colour % COLOURS, left, y, right
            ),
            Markup('<circle class="f{}" cx="{:.1f}" cy="{}" r="5"><title>{}: {:.3f} ± {:.3f}</title></circle>').format(
                colour % COLOURS, middle, y, label, mean, spread
            ),
        ]
    return _svg(label_width + _WIDTH + 20, bottom + 20, title, parts)


def lines(steps: Sequence[int], curves: Sequence[tuple[str, Sequence[float]]], title: str) -> Markup:
    """A curve from 0 to 1 over whole steps for each (label, values), named at its end; values above 1 are cut there."""
    height, left = 260, 40
    across = (_WIDTH - left) / max(1, len(steps) - 1)
    parts: list[Markup] = []
    for tick in range(0, 11, 2):
        y = 10 + height * (1 - tick / 10)
        parts.append(Markup('<path class="axis" d="M{} {:.1f}h{}"/>').format(left, y, _WIDTH - left))
        parts.append(_text(left - 6, y + 4, f"{tick / 10:.1f}", "end"))
    parts += [_text(left + place * across, height + 28, str(step), "middle") for place, step in enumerate(steps)]
    ends: list[tuple[float, int, str]] = []
    for number, (label, values) in enumerate(curves):
        points = [(left + place * across, 10 + height * (1 - min(1.0, one))) for place, one in enumerate(values)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(Markup('<path class="line s{}" d="M{}h.01"/>').format(number % COLOURS, path))
        ends.append((points[-1][1] if points else 10.0, number, label))
    lowest = float("-inf")
    for y, number, label in sorted(ends):
        # Names of curves that end close together stand below each other.
        lowest = max(y + 4, lowest + 15)
        parts.append(_text(_WIDTH + 14, lowest, label))
        parts.append(
            Markup('<rect class="f{}" x="{}" y="{:.1f}" width="7" height="7"/>').format(
                number % COLOURS, _WIDTH + 4, lowest - 8
            )
        )
    return _svg(_WIDTH + 190, max(height + 40, lowest + 12), title, parts)


def unit_curves(
    curves: Sequence[tuple[str, Sequence[tuple[float, float]], int]],
    title: str,
    axes: tuple[str, str],
    *,
    diagonal: bool = False,
    dots: bool = False,
) -> Markup:
    """A curve through the points of each (label, points, colour) in the square from 0 to 1, named below.

    Args:
        axes: names of the horizontal and the vertical one.
        diagonal: draw the line on which both are equal.
        dots: mark each point too.
    """
    size, left, top = 240.0, 44.0, 26.0
    foot = top + size
    parts = [_text(left, top - 10, axes[1], "start", "quiet"), _text(left + size, foot + 34, axes[0], "end", "quiet")]
    for tick in range(0, 11, 2):
        at = size * tick / 10
        parts += [
            Markup('<path class="axis" d="M{:.1f} {}v{}"/>').format(left + at, top, size),
            Markup('<path class="axis" d="M{} {:.1f}h{}"/>').format(left, top + at, size),
            _text(left + at, foot + 16, f"{tick / 10:.1f}", "middle", "quiet"),
            _text(left - 6, foot + 4 - at, f"{tick / 10:.1f}", "end", "quiet"),
        ]
    if diagonal:
        line = Markup('<path class="axis" stroke-width="2" stroke-dasharray="5 4" d="M{} {}L{} {}"/>')
        parts.append(line.format(left, foot, left + size, top))
    for number, (label, points, colour) in enumerate(curves):
        places = [(left + size * x, foot - size * y) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(Markup('<path class="line s{}" d="M{}"/>').format(colour % COLOURS, path or "0 0"))
        if dots:
            dot = Markup('<circle class="f{}" cx="{:.1f}" cy="{:.1f}" r="3"/>')
            parts += [dot.format(colour % COLOURS, x, y) for x, y in places]
        x, y = left + 140 * (number % 2), foot + 44 + 17 * (number // 2)
        parts.append(Markup('<rect class="f{}" x="{}" y="{}" width="9" height="9"/>').format(colour % COLOURS, x, y))
        parts.append(_text(x + 14, y + 9, label))
    return _svg(left + size + 40, foot + 48 + 17 * ((len(curves) + 1) // 2), title, parts)


def heatmap(rows: Sequence[str], columns: Sequence[str], values: npt.NDArray[np.float64], title: str) -> Markup:
    """A square for each value of (rows, columns), 0 to 1, with the value in percent."""
    size = 58
    parts = [_text(_LABEL - 8, 30 + row * 32 + 21, label, "end") for row, label in enumerate(rows)]
    parts += [_text(_LABEL + column * size + size / 2, 18, label[:9], "middle") for column, label in enumerate(columns)]
    for row in range(len(rows)):
        for column in range(len(columns)):
            value = float(values[row, column])
            x, y = _LABEL + column * size, 30 + row * 32
            parts.append(
                Markup(
                    '<rect class="heat" x="{}" y="{}" width="{}" height="30" opacity="{:.3f}">'
                    "<title>{}, {}: {:.1f} %</title></rect>"
                ).format(x, y, size - 2, 0.08 + 0.67 * min(value, 1.0), rows[row], columns[column], 100 * value)
            )
            parts.append(_text(x + size / 2 - 1, y + 20, f"{100 * value:.0f}", "middle"))
    return _svg(_LABEL + len(columns) * size, 34 + len(rows) * 32, title, parts)


def scatters(points: npt.NDArray[np.float32], panels: Sequence[tuple[str, npt.NDArray[np.int64], int]]) -> list[Markup]:
    """A small map for each (title, rows of its points, colour): its own points over all the others in grey.

    All points are drawn once, in the first map; the others refer to them.
    """
    size = 300.0
    drawn = [f"M{x * (size - 12) + 6:.1f} {y * (size - 12) + 6:.1f}h0" for x, y in points.tolist()]
    # The colour is on what surrounds the points: rules of the page do not reach into what `use` shows.
    ground = Markup('<g class="background" stroke-width="2" stroke-linecap="round">{}</g>')
    common = Markup('<path id="all-points" d="{}"></path>').format("".join(drawn))
    again = Markup('<use href="#all-points"></use>')
    result = []
    for number, (title, rows, colour) in enumerate(panels):
        own = "".join(drawn[row] for row in rows.tolist())
        front = Markup('<path class="s{}" stroke-width="3" stroke-linecap="round" opacity=".75" d="{}"></path>')
        result.append(
            _svg(size, size, title, [ground.format(again if number else common), front.format(colour % COLOURS, own)])
        )
    return result


def _svg(width: float, height: float, title: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg role="img" aria-label="{}" viewBox="0 0 {:g} {:g}" width="{:g}" fill="none">').format(
        title, width, height, width
    )
    return Markup("").join([head, *parts, Markup("</svg>")])


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, escape(text)
    )
