"""The curves of best-of-n as an SVG: the gold score of the choice over n, a line for each verifier, and its bounds."""

from collections.abc import Mapping
from html import escape
from math import log2
from typing import Any

from sdg_data.palette import SERIES

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
    lines = {name: [(row["n"], row["chosen"]) for row in facts["rows"]] for name, facts in result.items()}
    some = next(iter(result.values()))["rows"]
    bounds = {
        "gold's own choice": [(row["n"], row["best"]) for row in some],
        "chance": [(row["n"], row["random"]) for row in some],
    }
    values = [value for points in (*lines.values(), *bounds.values()) for _, value in points]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    low, high = low - margin, high + margin
    last = max(1.0, log2(some[-1]["n"]))
    prompts = some[0]["prompts"]

    def place(n: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * log2(n) / last
        return x, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f'<rect {size} fill="#fff"/>',
    ]
    for step in range(6):
        value = low + (high - low) * step / 5
        _, y = place(1, value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" {_FONT} text-anchor="end">{value:.2f}</text>')
    for row in some:
        x, _ = place(row["n"], low)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" {_FONT} text-anchor="middle">{row["n"]}</text>')
    ends: list[tuple[float, str, str]] = []
    for number, (name, points) in enumerate([*bounds.items(), *lines.items()]):
        bound = number < len(bounds)
        colour = _GREY if bound else SERIES[(number - len(bounds)) % len(SERIES)]
        path = "L".join("{:.1f} {:.1f}".format(*place(n, value)) for n, value in points)
        dash = ' stroke-dasharray="5 4"' if bound else ""
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            for x, y in (place(n, value) for n, value in points)
            if not bound
        ]
        ends.append((place(*points[-1])[1], name, colour))
    below = 0.0
    for y, name, colour in sorted(ends):
        below = max(y + 4, below + 15)
        parts.append(f'<text x="{_WIDTH - _RIGHT + 8}" y="{below:.1f}" {_FONT} fill="{colour}">{escape(name)}</text>')
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 12}" {_FONT} text-anchor="middle">images a prompt, n '
        f"({prompts} prompts)</text>"
        f'<text x="14" y="{_HEIGHT / 2}" {_FONT} text-anchor="middle" transform="rotate(-90 14 {_HEIGHT / 2})">'
        f"{escape(gold)} of the chosen image (higher is better)</text></svg>\n"
    )
    return "".join(parts)
