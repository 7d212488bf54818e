"""The curves of best-of-n as an SVG and as tables: the gold score of the choice over n, and its bounds.

`sdg select curve` and the dashboards' page show the same. Whiskers are 95 % intervals over prompts, drawn a little
aside where several verifiers would hide each other's; a ring is a verifier that is over-optimised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from typing import Any

from sdg_data.palette import SERIES, class_name
from sdg_data.words import decimal

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 420, 64, 20, 190, 50
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'
_GREY = "#5c636e"


def draw(result: Mapping[str, Any], gold: str) -> str:
    """Draw the curves of best-of-n, one for each verifier.

    Args:
        result: What `curve.curve` gives.
        gold: The name of the score that reports, for the axis.

    Returns:
        The SVG document.
    """
    verifiers = {name: facts["rows"] for name, facts in result.items()}
    some = next(iter(verifiers.values()))
    bounds = {"gold's own choice": [row["best"] for row in some], "chance": [row["random"] for row in some]}
    values = [value for line in bounds.values() for value in line]
    values += [value for rows in verifiers.values() for row in rows for value in (row["chosen"], *_whisker(row))]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    frame = _Frame([row["n"] for row in some], low - margin, high + margin)
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f'<rect {size} fill="#fff" class="paper"/>',
        *frame.grid(),
    ]
    ends: list[tuple[float, str, str]] = []
    for name, line in bounds.items():
        points = [frame.place(row["n"], value) for row, value in zip(some, line, strict=True)]
        parts.append(_path(points, f'stroke="{_GREY}" stroke-dasharray="5 4" class="bound"'))
        ends.append((points[-1][1], name, f'fill="{_GREY}" class="bound"'))
    for number, (name, rows) in enumerate(verifiers.items()):
        colour, kind = SERIES[number % len(SERIES)], class_name("", number)
        aside = 4 * (number - (len(verifiers) - 1) / 2)
        points = [frame.place(row["n"], row["chosen"]) for row in rows]
        parts.append(_path(points, f'stroke="{colour}" class="{kind}"'))
        for row, (x, y) in zip(rows, points, strict=True):
            parts += _point(frame, row, (x, y), aside, f'stroke="{colour}" class="{kind}"', name)
        ends.append((points[-1][1], name, f'fill="{colour}" class="{kind}"'))
    below = 0.0
    for y, name, style in sorted(ends):
        below = max(y + 4, below + 15)
        parts.append(f'<text x="{_WIDTH - _RIGHT + 14}" y="{below:.1f}" {_FONT} {style}>{escape(name)}</text>')
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 12}" {_FONT} text-anchor="middle">images a prompt, n '
        f"({some[0]['prompts']} prompts)</text>"
        f'<text x="14" y="{_HEIGHT / 2}" {_FONT} text-anchor="middle" transform="rotate(-90 14 {_HEIGHT / 2})">'
        f"{escape(gold)} of the chosen image (higher is better)</text></svg>\n"
    )
    return "".join(parts)


@dataclass(frozen=True)
class _Frame:
    """The axes: n by its logarithm, values from `low` to `high`."""

    numbers: Sequence[int]
    low: float
    high: float

    def place(self, n: float, value: float) -> tuple[float, float]:
        """Where a value of an n is drawn."""
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * log2(n) / max(1.0, log2(self.numbers[-1]))
        return x, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)

    def grid(self) -> list[str]:
        """The lines and their numbers."""
        parts = []
        for step in range(6):
            value = self.low + (self.high - self.low) * step / 5
            _, y = self.place(1, value)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd" class="grid"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" {_FONT} text-anchor="end">{value:.2f}</text>')
        for n in self.numbers:
            x, _ = self.place(n, self.low)
            parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" {_FONT} text-anchor="middle">{n}</text>')
        return parts


def _path(points: Sequence[tuple[float, float]], style: str) -> str:
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{line}" fill="none" stroke-width="2" {style}/>'


def _point(
    frame: _Frame, row: Mapping[str, Any], at: tuple[float, float], aside: float, style: str, name: str
) -> list[str]:
    """A verifier's point with its whisker, and a ring where the verifier is over-optimised."""
    x, y = at
    about = f"{name}, n = {row['n']}: {row['chosen']:.3f}{_ends(row.get('chosen_interval'))}"
    whisker = _whisker(row)
    parts = []
    if whisker:
        (_, top), (_, bottom) = frame.place(row["n"], whisker[1]), frame.place(row["n"], whisker[0])
        parts.append(f'<path d="M{x + aside:.1f} {top:.1f}V{bottom:.1f}" stroke-width="1" {style}/>')
    if row.get("over_optimised"):
        about += f"; over-optimised: gold fell since n = {row.get('peak')}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke-width="2" {style}/>')
    parts.append(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" stroke-width="3" fill="none" {style}>'
        f"<title>{escape(about)}</title></circle>"
    )
    return parts


def _whisker(row: Mapping[str, Any]) -> Sequence[float]:
    return row.get("chosen_interval") or ()


def curve_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The curves as a table for people: a row for each verifier and n."""
    return [
        {
            "verifier": name,
            "n": row["n"],
            "gold of the choice": f"{row['chosen']:.3f}{_ends(row.get('chosen_interval'))}",
            "chance": f"{row['random']:.3f}",
            "gold's best": f"{row['best']:.3f}",
            "regret": f"{row['regret']:.3f}{_ends(row.get('interval'))}",
            "gap closed": "–" if row.get("closed") is None else f"{100 * row['closed']:.0f} %",
            "own score": f"{row['own']:.3f}",
            "images, stopping at 0": decimal(row["images_with_stop"], 2),
            "": f"over-optimised: gold fell since n = {row['peak']}" if row.get("over_optimised") else "",
        }
        for name, facts in result.items()
        for row in facts["rows"]
    ]


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3f} to {interval[1]:.3f}]"


def pair_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far each verifier orders pairs of images as gold does, as a table for people."""
    return [
        {
            "verifier": name,
            "pairs in the order of gold": decimal(facts["pairs"]["accuracy"]),
            "decided": facts["pairs"]["right"] + facts["pairs"]["wrong"],
            "tied by the verifier": facts["pairs"]["ties"],
            "tied in gold": facts["pairs"]["gold_ties"] + facts["pairs"]["both_ties"],
            "Kendall's τ": decimal(facts["pairs"]["tau"]),
            "images not judged": facts["unjudged"],
        }
        for name, facts in result.items()
    ]
